//! Nodes with a listener each on loopback, and a handler that records what it hears.
#![allow(dead_code, clippy::unwrap_used)]

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, Chunk, NodeId, Uuid};
use chronik_peer::{Handler, Hello, InboundLink, PeerEvent, PeerInfo, PeerSettings, Peers, PeersOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Answers with the payload.
pub const ECHO: u8 = 1;
/// Answers when the test allows it.
pub const WAIT: u8 = 2;
/// Never answers.
pub const NEVER: u8 = 3;
/// Panics.
pub const PANIC: u8 = 4;
/// A message that waits until the test lets it through.
pub const HELD: u8 = 9;
/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Recorder {
    pub messages: Mutex<Vec<(NodeId, u8, Bytes)>>,
    pub replies: Mutex<Vec<(NodeId, u8, Bytes)>>,
    pub events: Mutex<Vec<(NodeId, PeerEvent)>>,
    pub links: Mutex<Vec<(&'static str, InboundLink)>>,
    pub release: Notify,
    pub is_held: AtomicBool,
    pub waker: Mutex<Option<Waker>>,
    pub reads: AtomicUsize,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: Mutex::default(),
            replies: Mutex::default(),
            events: Mutex::default(),
            links: Mutex::default(),
            release: Notify::new(),
            is_held: AtomicBool::new(false),
            waker: Mutex::default(),
            reads: AtomicUsize::new(0),
        })
    }

    pub fn let_through(&self) {
        self.is_held.store(false, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }

    pub fn events_of(&self, node: NodeId, event: PeerEvent) -> usize {
        self.events.lock().unwrap().iter().filter(|e| **e == (node, event)).count()
    }
}

/// What a test's handler does is in a separate type, so that calls can hold it.
pub struct TestHandler(pub Arc<Recorder>);

impl Handler for TestHandler {
    fn call(&self, _from: &PeerInfo, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let recorder = self.0.clone();
        match kind {
            ECHO => Box::pin(async move { Ok(payload) }),
            WAIT => Box::pin(async move {
                recorder.release.notified().await;
                Ok(payload)
            }),
            NEVER => Box::pin(std::future::pending()),
            PANIC => Box::pin(async move {
                tokio::task::yield_now().await;
                panic!("a handler that panics, as the test wants");
            }),
            _ => Box::pin(async move { Err(format!("calls of kind {kind} are unknown")) }),
        }
    }

    fn message(&self, link: &InboundLink, kind: u8, payload: Bytes) {
        self.0.messages.lock().unwrap().push((link.peer().node(), kind, payload));
    }

    fn reply_message(&self, from: &PeerInfo, kind: u8, payload: Bytes) {
        self.0.replies.lock().unwrap().push((from.node(), kind, payload));
    }

    fn poll_ready(&self, _from: &PeerInfo, kind: u8, cx: &mut Context<'_>) -> Poll<()> {
        if kind != HELD {
            return Poll::Ready(());
        }
        *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.0.is_held.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn end_of_read(&self, _from: &PeerInfo) {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
    }

    fn accepted(&self, link: &InboundLink) {
        self.0.links.lock().unwrap().push(("accepted", link.clone()));
    }

    fn closed(&self, link: &InboundLink) {
        self.0.links.lock().unwrap().push(("closed", link.clone()));
    }

    fn event(&self, node: NodeId, event: PeerEvent) {
        self.0.events.lock().unwrap().push((node, event));
    }
}

pub struct Node {
    pub peers: Peers,
    pub recorder: Arc<Recorder>,
    pub address: String,
    pub listener: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.peers.close();
        self.listener.abort();
    }
}

pub fn hello(node_id: NodeId) -> Hello {
    let unique = unique();
    Hello {
        cluster_id: Uuid::ZERO,
        node_id,
        incarnation: unique,
        directory: unique,
        version: "test".to_owned(),
        has_metadata: false,
    }
}

/// An id that no other call in this process gives.
pub fn unique() -> Uuid {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    Uuid((COUNT.fetch_add(1, Ordering::SeqCst) as u128).to_be_bytes())
}

pub fn settings() -> PeerSettings {
    PeerSettings { backoff_max: Duration::from_millis(200), ..PeerSettings::default() }
}

pub async fn node(node_id: NodeId) -> Node {
    node_with(hello(node_id), settings()).await
}

pub async fn node_with(me: Hello, settings: PeerSettings) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    node_on(listener, me, settings)
}

pub fn node_on(listener: TcpListener, me: Hello, settings: PeerSettings) -> Node {
    let recorder = Recorder::new();
    let handler = Arc::new(TestHandler(recorder.clone()));
    let peers = Peers::start(PeersOptions { me, handler, runtime: Handle::current(), settings });
    let address = listener.local_addr().unwrap().to_string();
    let serving = peers.clone();
    let listener = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let peers = serving.clone();
            tokio::spawn(async move { peers.serve(socket, Bytes::new()).await });
        }
    });
    Node { peers, recorder, address, listener }
}

/// Waits until `condition` holds; fails after [`SOON`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "this did not come about in {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not come about in {SOON:?}: {what}"),
    }
}

pub async fn connected(from: &Node, to: NodeId) {
    until("a connection", || from.peers.is_connected(to)).await;
}

pub fn chunk(bytes: &[u8]) -> Vec<Chunk> {
    vec![Chunk::Bytes(Bytes::copy_from_slice(bytes))]
}

pub async fn raw_connection(node: &Node) -> TcpStream {
    TcpStream::connect(&node.address).await.unwrap()
}
