//! All connections of a node to other nodes.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, Chunk, NodeId, Transport, Uuid};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::accept;
use crate::by_address::Addresses;
use crate::dial::DialTimes;
use crate::error::{AddressCallError, SendError};
use crate::handler::{Handler, PeerInfo};
use crate::hello::{Greeting, Hello, RefusalCode};
use crate::inbound::InboundLink;
use crate::link::LinkSettings;
use crate::link_shared::LinkShared;
use crate::log_limit::LogLimit;
use crate::out_frame::OutFrame;
use crate::status::{InboundStatus, PeerStatus, TurnedAway};
use crate::target::Target;

/// Connections that were turned away and are remembered.
const TURNED_AWAY_MAX: usize = 16;

/// What connections between nodes need to know.
#[derive(Clone)]
pub struct PeersOptions {
    /// Who this node is.
    pub me: Hello,
    /// Who is asked and told.
    pub handler: Arc<dyn Handler>,
    /// Where the tasks run.
    pub runtime: Handle,
    /// Times and sizes.
    pub settings: PeerSettings,
}

/// Times and sizes of connections between nodes.
#[derive(Clone, Copy, Debug)]
pub struct PeerSettings {
    /// Bytes of calls and messages that may wait on one link; what comes then is refused (16 MiB). Bulk from a
    /// [`Source`](crate::Source) never waits here.
    pub queued_bytes_max: usize,
    /// A link that sent nothing for so long sends a sign of life (400 ms).
    pub heartbeat: Duration,
    /// A link that heard nothing for so long ends (1.5 s).
    pub silence_max: Duration,
    /// How long a connection may take to come about, and finding the host's address before it (2 s each).
    pub connect_timeout: Duration,
    /// How long the other side's greeting may take (5 s).
    pub greeting_timeout: Duration,
    /// The wait after the first dial that failed (50 ms); each further one doubles it.
    pub backoff_min: Duration,
    /// The longest wait (2 s).
    pub backoff_max: Duration,
    /// A connection to an address without a known node ends when nobody used it for so long (10 s).
    pub address_idle_max: Duration,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            queued_bytes_max: 16 << 20,
            heartbeat: Duration::from_millis(400),
            silence_max: Duration::from_millis(1_500),
            connect_timeout: Duration::from_secs(2),
            greeting_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            address_idle_max: Duration::from_secs(10),
        }
    }
}

impl PeerSettings {
    pub(crate) fn dial_times(&self) -> DialTimes {
        DialTimes { connect: self.connect_timeout, greeting: self.greeting_timeout }
    }

    pub(crate) fn link_settings(&self, idle_max: Option<Duration>) -> LinkSettings {
        LinkSettings { heartbeat: self.heartbeat, silence_max: self.silence_max, idle_max }
    }
}

/// The connections of a node to others. Copies are handles of the same connections.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) runtime: Handle,
    pub(crate) settings: PeerSettings,
    pub(crate) log: LogLimit,
    /// Told when an inbound link is gone.
    pub(crate) inbound_changed: Notify,
    me: Mutex<Hello>,
    targets: Mutex<HashMap<NodeId, Arc<Target>>>,
    inbound: Mutex<Inbound>,
    addresses: Addresses,
    turned_away: Mutex<VecDeque<(SocketAddr, String, Instant)>>,
    links: AtomicU64,
    dials: AtomicU64,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Inbound {
    /// The one link of each node, with the number of its dial.
    lasting: HashMap<NodeId, (InboundLink, u64)>,
    /// Links of nodes that know only the address, by their numbers.
    passing: HashMap<u64, InboundLink>,
}

impl Peers {
    /// Begins without anyone to dial.
    pub fn start(options: PeersOptions) -> Self {
        let PeersOptions { me, handler, runtime, settings } = options;
        Self {
            inner: Arc::new(Inner {
                handler,
                runtime,
                settings,
                log: LogLimit::default(),
                inbound_changed: Notify::new(),
                me: Mutex::new(me),
                targets: Mutex::default(),
                inbound: Mutex::default(),
                addresses: Addresses::default(),
                turned_away: Mutex::default(),
                links: AtomicU64::new(0),
                dials: AtomicU64::new(0),
                is_closed: AtomicBool::new(false),
            }),
        }
    }

    /// Sets whom to dial, and where (`HOST:PORT`; the host is resolved at each try). A node that is no longer named, or has
    /// another address, is disconnected; this node's own id is passed over.
    pub fn set_addresses(&self, addresses: Vec<(NodeId, String)>) {
        let inner = &self.inner;
        let me = inner.hello().node_id;
        let wanted: HashMap<NodeId, String> = addresses.into_iter().filter(|(node, _)| *node != me).collect();
        let mut targets = lock(&inner.targets);
        targets.retain(|node, target| {
            let stays = wanted.get(node).is_some_and(|address| address == target.address());
            if !stays {
                target.stop("its address was taken away or changed");
            }
            stays
        });
        if inner.is_closed() {
            return;
        }
        for (node, address) in wanted {
            targets.entry(node).or_insert_with(|| {
                let target = Target::new(node, address);
                inner.runtime.spawn(target.clone().run(inner.clone()));
                target
            });
        }
    }

    /// Where the node is dialled, if it is.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        lock(&self.inner.targets).get(&node).map(|target| target.address().to_owned())
    }

    /// Says from now on that this node belongs to the cluster. See [`Peers::update_hello`].
    pub fn set_cluster_id(&self, cluster_id: Uuid) {
        self.update_hello(|hello| hello.cluster_id = cluster_id);
    }

    /// What this node says of itself now.
    pub fn hello(&self) -> Hello {
        self.inner.hello()
    }

    /// Changes what this node says of itself. Where that changes who the node is (its id, or its cluster unless it had none),
    /// the lasting links end, so that both sides greet anew. A node that joins a cluster keeps its links, save those to
    /// nodes of other clusters.
    pub fn update_hello(&self, change: impl FnOnce(&mut Hello)) {
        let inner = &self.inner;
        let (before, after) = {
            let mut me = lock(&inner.me);
            let before = me.clone();
            change(&mut me);
            (before, me.clone())
        };
        for target in lock(&inner.targets).values() {
            if target.open_link().is_some_and(|link| contradicts(&before, &after, &link.peer.hello)) {
                target.close("it greets anew");
            }
        }
        for (link, _) in lock(&inner.inbound).lasting.values() {
            if contradicts(&before, &after, &link.peer().hello) {
                link.close("it greets anew");
            }
        }
    }

    /// Serves a connection to its end, after the node's listener has seen by its first bytes, `read`, that it is a peer's
    /// ([`MAGIC`](crate::MAGIC)).
    pub async fn serve(&self, socket: TcpStream, read: Bytes) {
        accept::serve(self.inner.clone(), socket, read).await;
    }

    /// Sends a message one way on the link that this node dials. Messages to one node keep their order.
    ///
    /// # Errors
    /// See [`SendError`]. That there is none does not mean that it arrived.
    pub fn send(&self, node: NodeId, kind: u8, chunks: Vec<Chunk>) -> Result<(), SendError> {
        let target = self.target(node);
        let target = target.ok_or_else(|| {
            let problem = "it is not known here: no address was given for it".to_owned();
            SendError::Disconnected { node, problem }
        })?;
        target.link_now()?.send(OutFrame::new(kind, chunks).into_outgoing())
    }

    /// Whether there is a connection that this node dialled.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.target(node).is_some_and(|target| target.open_link().is_some())
    }

    /// Calls whoever listens at `address` (`HOST:PORT`), for where the node's id is not known. The connection stays for calls
    /// that follow soon. Gives the answer, and what the node said of itself when the connection came about.
    ///
    /// # Errors
    /// See [`AddressCallError`].
    pub async fn call_address(
        &self,
        address: &str,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<(Bytes, Hello), AddressCallError> {
        let deadline = Instant::now() + timeout;
        let link = match self.known_link(address) {
            Some(link) => link,
            None => self.link_at(address, timeout, false).await?,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = link.call(kind, payload, left).await?;
        Ok((answer, link.peer.hello.clone()))
    }

    /// Asks whoever listens at `address` (`HOST:PORT`) who it is now, on a new connection. Calls that follow soon use that one.
    ///
    /// # Errors
    /// See [`AddressCallError`].
    pub async fn hello_at(&self, address: &str, timeout: Duration) -> Result<Hello, AddressCallError> {
        Ok(self.link_at(address, timeout, true).await?.peer.hello.clone())
    }

    /// The link to a node that is dialled at this address anyway.
    fn known_link(&self, address: &str) -> Option<Arc<LinkShared>> {
        let target = lock(&self.inner.targets).values().find(|target| target.address() == address).cloned();
        target?.open_link()
    }

    async fn link_at(
        &self,
        address: &str,
        timeout: Duration,
        fresh: bool,
    ) -> Result<Arc<LinkShared>, AddressCallError> {
        let inner = &self.inner;
        tokio::time::timeout(timeout, inner.addresses.link(inner, address, fresh)).await.unwrap_or_else(
            |_| {
                let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(AddressCallError::TimedOut { address: address.to_owned(), waited_ms })
            },
        )
    }

    /// The nodes that this node dials, by id, with the links that they dial to this node.
    pub fn status(&self) -> Vec<PeerStatus> {
        let targets: Vec<_> = lock(&self.inner.targets).values().cloned().collect();
        let inbound = lock(&self.inner.inbound);
        let mut list: Vec<_> = targets
            .iter()
            .map(|target| {
                let mut status = target.status();
                status.inbound = inbound.lasting.get(&status.node).map(|(link, _)| inbound_status(link));
                status
            })
            .collect();
        list.sort_by_key(|status| status.node);
        list
    }

    /// Every link that other nodes dialled.
    pub fn inbound_links(&self) -> Vec<InboundLink> {
        let inbound = lock(&self.inner.inbound);
        let lasting = inbound.lasting.values().map(|(link, _)| link);
        lasting.chain(inbound.passing.values()).cloned().collect()
    }

    /// The lasting link that `node` dialled.
    pub fn inbound_link(&self, node: NodeId) -> Option<InboundLink> {
        lock(&self.inner.inbound).lasting.get(&node).map(|(link, _)| link.clone())
    }

    /// The connections that were turned away last, the latest first.
    pub fn turned_away(&self) -> Vec<TurnedAway> {
        let list = lock(&self.inner.turned_away);
        let turned_away = |(address, problem, at): &(SocketAddr, String, Instant)| TurnedAway {
            address: *address,
            problem: problem.clone(),
            ago: at.elapsed(),
        };
        list.iter().rev().map(turned_away).collect()
    }

    /// Ends every connection, telling the other sides that the node stops; no other follows.
    pub fn close(&self) {
        let inner = &self.inner;
        inner.is_closed.store(true, Ordering::SeqCst);
        for (_, target) in lock(&inner.targets).drain() {
            target.stop(STOPS);
        }
        for link in self.inbound_links() {
            link.close(STOPS);
        }
        inner.addresses.close(STOPS);
    }

    fn target(&self, node: NodeId) -> Option<Arc<Target>> {
        lock(&self.inner.targets).get(&node).cloned()
    }
}

/// What others are told when the node stops.
const STOPS: &str = "the node stops";

impl Transport for Peers {
    fn call(
        &self,
        to: NodeId,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let target = self.target(to);
        Box::pin(async move {
            let target = target.ok_or(CallError::UnknownNode(to))?;
            if let Some(link) = target.open_link() {
                return link.call(kind, payload, timeout).await;
            }
            let deadline = Instant::now() + timeout;
            let link = target.link(deadline).await?;
            link.call(kind, payload, deadline.saturating_duration_since(Instant::now())).await
        })
    }
}

impl Inner {
    pub(crate) fn hello(&self) -> Hello {
        lock(&self.me).clone()
    }

    /// The greeting of the next dial.
    pub(crate) fn greeting(&self, expected: Option<NodeId>) -> Greeting {
        let dial = self.dials.fetch_add(1, Ordering::Relaxed) + 1;
        Greeting { hello: self.hello(), expected, dial }
    }

    /// Whether a link on which this node said `said` must end because of what it would say now.
    pub(crate) fn contradicts(&self, said: &Hello, theirs: &Hello) -> bool {
        contradicts(said, &self.hello(), theirs)
    }

    pub(crate) fn new_link(&self, hello: Hello, address: SocketAddr) -> Arc<LinkShared> {
        let link = self.links.fetch_add(1, Ordering::Relaxed) + 1;
        LinkShared::new(PeerInfo { hello, address, link }, self.settings.queued_bytes_max)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Makes an inbound link known. Gives the earlier link of the same node, if that has to end first; an error if this link must not
    /// be.
    pub(crate) fn register_inbound(
        &self,
        link: &InboundLink,
        dial: u64,
    ) -> Result<Option<InboundLink>, RefusalCode> {
        let mut inbound = lock(&self.inbound);
        if self.is_closed() {
            return Err(RefusalCode::Stopping);
        }
        if !link.is_lasting() {
            inbound.passing.insert(link.id(), link.clone());
            return Ok(None);
        }
        let hello = &link.peer().hello;
        if let Some((earlier, earlier_dial)) = inbound.lasting.get(&hello.node_id) {
            if earlier.peer().hello.incarnation == hello.incarnation && *earlier_dial > dial {
                return Err(RefusalCode::Superseded);
            }
            return Ok(Some(earlier.clone()));
        }
        inbound.lasting.insert(hello.node_id, (link.clone(), dial));
        Ok(None)
    }

    pub(crate) fn unregister_inbound(&self, link: &InboundLink) {
        {
            let mut inbound = lock(&self.inbound);
            inbound.passing.remove(&link.id());
            let node = link.peer().node();
            if inbound.lasting.get(&node).is_some_and(|(registered, _)| registered.id() == link.id()) {
                inbound.lasting.remove(&node);
            }
        }
        self.inbound_changed.notify_waiters();
    }

    /// A node has connected: dialling it is worth a try now.
    pub(crate) fn nudge(&self, node: NodeId) {
        if let Some(target) = lock(&self.targets).get(&node) {
            target.nudge();
        }
    }

    /// A link to an address has ended.
    pub(crate) async fn forget_address(&self, address: &str, link: &Arc<LinkShared>) {
        self.addresses.forget(address, link).await;
    }

    pub(crate) fn turned_away(&self, address: SocketAddr, problem: &str) {
        self.log.warn(&format!("turned away a connection from {}", address.ip()), problem);
        let mut list = lock(&self.turned_away);
        list.retain(|(other, line, _)| other.ip() != address.ip() || line != problem);
        if list.len() >= TURNED_AWAY_MAX {
            list.pop_front();
        }
        list.push_back((address, problem.to_owned(), Instant::now()));
    }
}

/// Whether a link to `theirs` that was greeted as `said` must end, now that this node is `now`: it became someone else, or a node of
/// another cluster.
fn contradicts(said: &Hello, now: &Hello, theirs: &Hello) -> bool {
    let is_another = said.node_id != now.node_id || said.directory != now.directory;
    let left_cluster = !said.cluster_id.is_zero() && said.cluster_id != now.cluster_id;
    is_another || left_cluster || now.is_of_another_cluster(theirs)
}

fn inbound_status(link: &InboundLink) -> InboundStatus {
    let (received_bytes, sent_bytes) = link.counted_bytes();
    InboundStatus {
        hello: link.peer().hello.clone(),
        address: link.peer().address,
        open_for: link.shared().opened_at.elapsed(),
        received_bytes,
        sent_bytes,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
