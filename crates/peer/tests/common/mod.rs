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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// Types of frames, as `docs/peer-protocol.md` numbers them.
pub const HELLO: u8 = 1;
pub const REFUSED: u8 = 2;
pub const HEARTBEAT: u8 = 3;
pub const CALL: u8 = 4;
pub const ANSWER: u8 = 5;
pub const CALL_REFUSED: u8 = 6;
pub const MESSAGE: u8 = 7;

/// A frame's bytes, made by the page and not by the crate.
pub fn raw_frame(frame_type: u8, kind: u8, request: u64, payload: &[u8]) -> Vec<u8> {
    raw_header(frame_type, kind, request, payload.len() as u32, payload)
        .into_iter()
        .chain(payload.to_vec())
        .collect()
}

/// A header that claims `length` and checks `checked`.
pub fn raw_header(frame_type: u8, kind: u8, request: u64, length: u32, checked: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xC7, b'C', b'H', b'K', 1, frame_type, kind, 0];
    bytes.extend(request.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend((checked.len() as u32).to_be_bytes());
    bytes.extend(crc32c::crc32c(checked).to_be_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

/// The greeting of a node that dials.
pub fn raw_greeting(hello: &Hello, expected: NodeId, dial: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in [hello.cluster_id, hello.incarnation, hello.directory] {
        bytes.extend(id.0);
    }
    bytes.extend(hello.node_id.to_be_bytes());
    bytes.extend([u8::from(hello.has_metadata), hello.version.len() as u8]);
    bytes.extend(hello.version.as_bytes());
    bytes.extend(expected.to_be_bytes());
    bytes.extend(dial.to_be_bytes());
    raw_frame(HELLO, 0, 0, &bytes)
}

/// The next frame's type, kind, request id and payload; `None` at the end of the stream.
pub async fn read_raw(socket: &mut TcpStream) -> Option<(u8, u8, u64, Vec<u8>)> {
    let mut header = [0; 32];
    socket.read_exact(&mut header).await.ok()?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut payload = vec![0; number(16) as usize];
    socket.read_exact(&mut payload).await.ok()?;
    assert_eq!(crc32c::crc32c(&payload[..number(20) as usize]), number(24));
    Some((header[5], header[6], (u64::from(number(8)) << 32) | u64::from(number(12)), payload))
}

/// A connection to `node` of someone who greets as `hello`, after both have greeted.
pub async fn raw_peer(node: &Node, hello: &Hello, dial: u64) -> TcpStream {
    let mut socket = raw_connection(node).await;
    socket.write_all(&raw_greeting(hello, node.peers.hello().node_id, dial)).await.unwrap();
    let answer = soon("the greeting", read_raw(&mut socket)).await.unwrap();
    assert_eq!(answer.0, HELLO);
    socket
}
