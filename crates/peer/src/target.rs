//! One node that this node dials, again and again until it is told to stop.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chronik_base::{CallError, NodeId};
use tokio::sync::{Notify, watch};

use crate::dial::{Dialled, dial};
use crate::error::{DialError, LinkEnd, SendError};
use crate::handler::PeerEvent;
use crate::hello::Hello;
use crate::link::{Link, Role};
use crate::link_shared::LinkShared;
use crate::peers::Inner;
use crate::status::{PeerState, PeerStatus};

/// How long a call waits for a dial that began just now: 200 ms.
const DIAL_WAIT: Duration = Duration::from_millis(200);

/// A connection that held for so long was a success: the next dial follows at once, and the back-off begins anew: 1 s.
const SUCCESS: Duration = Duration::from_secs(1);

/// One node that is dialled.
pub(crate) struct Target {
    node: NodeId,
    address: String,
    state: Mutex<State>,
    /// Counts changes of the link's state.
    changes: watch::Sender<u64>,
    /// Cuts a wait short.
    nudge: Notify,
    is_stopped: AtomicBool,
}

struct State {
    state: PeerState,
    link: Option<Arc<LinkShared>>,
    since: Instant,
    dial_began: Instant,
    problem: Option<String>,
    dial_error: Option<DialError>,
    failed_dials: u64,
    hello: Option<Hello>,
    /// Of connections that are over.
    received_bytes: u64,
    sent_bytes: u64,
}

impl Target {
    pub(crate) fn new(node: NodeId, address: String) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            node,
            address,
            state: Mutex::new(State {
                state: PeerState::Dialling,
                link: None,
                since: now,
                dial_began: now,
                problem: None,
                dial_error: None,
                failed_dials: 0,
                hello: None,
                received_bytes: 0,
                sent_bytes: 0,
            }),
            changes: watch::Sender::new(0),
            nudge: Notify::new(),
            is_stopped: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link, if it is open.
    pub(crate) fn open_link(&self) -> Option<Arc<LinkShared>> {
        self.lock().link.clone()
    }

    /// The link; a dial that began just now is waited for until `deadline` at the latest.
    pub(crate) async fn link(&self, deadline: Instant) -> Result<Arc<LinkShared>, CallError> {
        let mut changes = self.changes.subscribe();
        loop {
            let wait_until = {
                let state = self.lock();
                match (&state.link, state.state) {
                    (Some(link), _) => return Ok(link.clone()),
                    (None, PeerState::Dialling) => deadline.min(state.dial_began + DIAL_WAIT),
                    (None, _) => return Err(self.disconnected(&state)),
                }
            };
            let change = tokio::time::timeout_at(wait_until.into(), changes.changed()).await;
            if !matches!(change, Ok(Ok(()))) {
                return self.open_link().ok_or_else(|| self.disconnected(&self.lock()));
            }
        }
    }

    /// The link, without waiting.
    pub(crate) fn link_now(&self) -> Result<Arc<LinkShared>, SendError> {
        let state = self.lock();
        state
            .link
            .clone()
            .ok_or_else(|| SendError::Disconnected { node: self.node, problem: problem(&state) })
    }

    fn disconnected(&self, state: &State) -> CallError {
        CallError::Disconnected { node: self.node, problem: problem(state) }
    }

    /// Dials at once if it is waiting.
    pub(crate) fn nudge(&self) {
        if self.lock().state == PeerState::Waiting {
            self.nudge.notify_one();
        }
    }

    /// Ends the connection and dials no more.
    pub(crate) fn stop(&self, why: &'static str) {
        self.is_stopped.store(true, Ordering::Release);
        self.close(why);
        self.nudge.notify_one();
    }

    /// Ends the connection; another follows.
    pub(crate) fn close(&self, why: &'static str) {
        if let Some(link) = self.open_link() {
            link.close(LinkEnd::Ours(why));
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let state = self.lock();
        let (received, sent) = state.link.as_ref().map_or((0, 0), |link| link.counted());
        PeerStatus {
            node: self.node,
            address: self.address.clone(),
            state: state.state,
            state_for: state.since.elapsed(),
            problem: state.problem.clone(),
            dial_error: state.dial_error.clone(),
            failed_dials: state.failed_dials,
            hello: state.hello.clone(),
            received_bytes: state.received_bytes + received,
            sent_bytes: state.sent_bytes + sent,
            inbound: None,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Dials until it is stopped.
    pub(crate) async fn run(self: Arc<Self>, peers: Arc<Inner>) {
        let settings = peers.settings;
        let mut delay = settings.backoff_min;
        while !self.is_stopped() {
            self.change(|state| {
                state.state = PeerState::Dialling;
                state.dial_began = Instant::now();
            });
            let greeting = peers.greeting(Some(self.node));
            let dialled = tokio::select! {
                dialled = dial(&self.address, &greeting, settings.dial_times()) => dialled,
                () = self.stopped() => break,
            };
            match dialled {
                Ok(dialled) => {
                    let began = Instant::now();
                    self.serve(dialled, greeting.hello, &peers).await;
                    if began.elapsed() >= SUCCESS {
                        delay = settings.backoff_min;
                        continue;
                    }
                }
                Err(error) => self.failed(error, &peers),
            }
            let _ = tokio::time::timeout(with_jitter(delay), self.nudge.notified()).await;
            delay = (2 * delay).min(settings.backoff_max);
        }
        self.change(|state| state.state = PeerState::Waiting);
    }

    async fn stopped(&self) {
        while !self.is_stopped() {
            self.nudge.notified().await;
        }
    }

    /// Serves a connection to its end.
    async fn serve(&self, dialled: Dialled, me: Hello, peers: &Arc<Inner>) {
        let Dialled { socket, reader, address, hello } = dialled;
        let link = peers.new_link(hello.clone(), address);
        let future = Link::new(
            (socket, reader),
            link.clone(),
            peers.handler.clone(),
            Role::Dialler,
            me.clone(),
            peers.settings.link_settings(None),
        );
        self.change(|state| {
            state.state = PeerState::Connected;
            state.link = Some(link.clone());
            state.since = Instant::now();
            state.problem = None;
            state.dial_error = None;
            state.failed_dials = 0;
            state.hello = Some(hello);
        });
        peers.log.forget(&self.no_connection());
        tracing::info!("connected to node {} at {}", self.node, self.address);
        peers.handler.event(self.node, PeerEvent::Connected);
        if self.is_stopped() || peers.contradicts(&me, &link.peer.hello) {
            link.close(LinkEnd::Ours("it greets anew"));
        }
        // A task of its own, so that a handler that panics ends the connection and not the dialling.
        let end = peers.runtime.spawn(future).await.unwrap_or(LinkEnd::Stopped);
        link.end(end.clone());
        let (received, sent) = link.counted();
        self.change(|state| {
            state.state = PeerState::Waiting;
            state.link = None;
            state.since = Instant::now();
            state.problem = Some(end.to_string());
            state.received_bytes += received;
            state.sent_bytes += sent;
        });
        if !self.is_stopped() {
            peers.log.warn(&format!("lost node {} at {}", self.node, self.address), &end.to_string());
        }
        peers.handler.event(self.node, PeerEvent::Disconnected);
    }

    /// The subject of log lines about dials that fail.
    fn no_connection(&self) -> String {
        format!("no connection to node {}", self.node)
    }

    fn failed(&self, error: DialError, peers: &Inner) {
        let is_refused = matches!(error, DialError::Refused { .. });
        peers.log.warn(&self.no_connection(), &error.to_string());
        self.change(|state| {
            state.state = PeerState::Waiting;
            state.problem = Some(error.to_string());
            state.dial_error = Some(error);
            state.failed_dials += 1;
        });
        if is_refused {
            peers.handler.event(self.node, PeerEvent::Refused);
        }
    }
}

fn problem(state: &State) -> String {
    state.problem.clone().unwrap_or_else(|| "a connection is being made".to_owned())
}

/// Between a half and the whole of `delay`, so that nodes that lost each other at once don't meet again at once.
fn with_jitter(delay: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let thousandth = u32::try_from(random % 500).unwrap_or(0) + 500;
    delay * thousandth / 1000
}
