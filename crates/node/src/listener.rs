//! Takes connections, and ends those that were silent for too long.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_search::Search;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::connection::ConnectionLimits;
use crate::control::{CoarseClock, Control};
use crate::gate::Gate;
use crate::http;
use crate::log_limit::LogLimit;
use crate::registry::{ConnectionCounts, Registry};
use crate::serve;
use crate::status::Status;

/// Connections that the operating system keeps until they are taken. It caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;

/// How long to wait when no connection can be taken for want of descriptors or memory: 100 ms.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How long the gate is closed before a request that does not arrive is given up: 5 s.
const STUCK_MS_MIN: u64 = 5_000;

/// What the connections of a listener share.
pub(crate) struct Shared {
    pub(crate) broker: Arc<chronik_broker::Broker>,
    pub(crate) peers: chronik_peer::Peers,
    pub(crate) routes: chronik_http::Router,
    pub(crate) status: Arc<Status>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) clock: Arc<CoarseClock>,
    pub(crate) log_limit: LogLimit,
    pub(crate) idle_ms_max: u64,
    /// A place for each HTTP connection.
    pub(crate) http_places: Semaphore,
    pub(crate) http_connections_max: usize,
}

/// Binds `listen` (HOST:PORT): every address that the name has on this machine, on one port.
pub(crate) fn bind(listen: &str) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut not_here = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for mut address in listen.to_socket_addrs()? {
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match bind_address(address) {
            Ok(listener) => listeners.push(listener),
            // `localhost` often has an IPv6 address on a machine that speaks none.
            Err(error) if is_not_here(&error) => not_here = error,
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() { Err(not_here) } else { Ok(listeners) }
}

fn is_not_here(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that was just stopped leaves connections behind in TIME_WAIT; they must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Shared {
    /// What connections share, by the settings.
    pub(crate) fn new(
        broker: Arc<chronik_broker::Broker>,
        peers: chronik_peer::Peers,
        search: Arc<Search>,
        config: &chronik_config::NodeConfig,
    ) -> Self {
        let registry = Arc::new(Registry::new(ConnectionCounts {
            max: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
        }));
        let gate = Arc::new(Gate::new(config.queued_max_request_bytes));
        let status = Arc::new(Status {
            broker: broker.clone(),
            registry: registry.clone(),
            gate: gate.clone(),
            search: search.clone(),
        });
        Self {
            routes: chronik_http::router(
                status.clone(),
                http::options(config),
                vec![chronik_search::http::routes(search)],
            ),
            status,
            broker,
            peers,
            registry,
            gate,
            limits: ConnectionLimits {
                request_bytes_max: config.socket_request_max_bytes,
                waiting_bytes_max: config.connection_queued_max_bytes,
            },
            clock: Arc::new(CoarseClock::default()),
            log_limit: LogLimit::default(),
            idle_ms_max: config.connections_max_idle_ms,
            http_places: Semaphore::new(config.http_max_connections.min(Semaphore::MAX_PERMITS)),
            http_connections_max: config.http_max_connections,
        }
    }

    /// Writes a warning about `reason`, unless one was written just before.
    pub(crate) fn warn(&self, reason: &'static str, text: impl FnOnce() -> String) {
        self.log_limit.warn(reason, self.clock.now_ms(), text);
    }
}

/// Takes connections until the task is aborted.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(stream, peer, &shared, is_local),
            Err(error) => refused(&error, &shared).await,
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, is_local: bool) {
    let control = Arc::new(Control::new(serve::canonical(peer), shared.clock.clone()));
    match shared.registry.admit(&control) {
        Ok(place) => {
            let task = tokio::spawn(serve::serve(stream, control.clone(), place, shared.clone(), is_local));
            control.set_task(task.abort_handle());
        }
        Err(error) => shared.warn("connection limit", || error.to_string()),
    }
}

async fn refused(error: &io::Error, shared: &Shared) {
    // The peer was gone before its connection was taken: nothing to wait for.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    shared.warn("accept failed", || match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => format!(
            "no connection can be taken: {error}; {} are open and go on (raise `ulimit -n` and start again)",
            shared.registry.count()
        ),
        _ => format!("no connection can be taken: {error}; trying again"),
    });
    tokio::time::sleep(ACCEPT_BACK_OFF).await;
}

/// Moves the coarse clock on and ends connections that were silent for too long, until it is aborted.
pub(crate) fn spawn_sweep(shared: Arc<Shared>) -> JoinHandle<()> {
    let period = Duration::from_millis((shared.idle_ms_max / 4).clamp(50, 1_000));
    let started_at = Instant::now();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut closed_since_ms = None;
        loop {
            ticks.tick().await;
            let now_ms = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            shared.clock.set(now_ms);
            for swept in shared.registry.sweep(shared.idle_ms_max) {
                tracing::debug!(
                    "closed {}: silent for {} ms ({:?})",
                    swept.peer,
                    swept.silent_ms,
                    swept.phase
                );
            }
            closed_since_ms = shared.gate.is_closed().then(|| closed_since_ms.unwrap_or(now_ms));
            if closed_since_ms.is_some_and(|since| now_ms - since >= STUCK_MS_MIN) {
                relieve(&shared);
            }
        }
    })
}

fn relieve(shared: &Shared) {
    if let Some(swept) = shared.registry.relieve(STUCK_MS_MIN) {
        shared.warn("queued.max.request.bytes", || {
            format!(
                "closed {}: it holds {} bytes of a request that does not arrive, while requests hold {} bytes, \
                 the limit (queued.max.request.bytes)",
                swept.peer,
                swept.held_bytes,
                shared.gate.limit()
            )
        });
    }
}
