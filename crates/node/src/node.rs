//! Start and stop of a node.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_base::Uuid;
use chronik_broker::{Broker, BrokerOptions, Membership, PeerEar};
use chronik_config::{Flush, NodeConfig, Settings, Source};
use chronik_log::{DataDir, RecoverySummary};
use chronik_meta::Identity;
use chronik_peer::{Hello, PeerSettings, Peers, PeersOptions};
use chronik_quorum::{Mode, Registration, Restart};
use chronik_search::Search;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::SystemClock;
use crate::descriptors;
use crate::join;
use crate::listener::{self, Shared};
use crate::membership::{IdentityFile, Place, endpoints, random_uuid};
use crate::metrics;
use crate::otlp::Export;
use crate::search;
use crate::start_error::{SPARE_DESCRIPTORS, StartError};

/// How long a node that stops waits for what is in flight: 5 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a node of a new cluster looks whether the cluster has an id by now.
const CLUSTER_ID_INTERVAL: Duration = Duration::from_millis(200);

/// A node that serves, until [`RunningNode::stop`].
pub struct RunningNode {
    address: SocketAddr,
    broker: Arc<Broker>,
    search: Arc<Search>,
    shared: Arc<Shared>,
    accept: Vec<JoinHandle<()>>,
    /// Tasks that end with the node.
    tasks: Vec<JoinHandle<()>>,
    identity: Arc<IdentityFile>,
    restart: mpsc::UnboundedReceiver<Restart>,
    export: Option<Export>,
    /// Goes with the node, if its data were only lent to it.
    temp_dir: Option<TempDir>,
}

/// Starts nodes.
pub struct Node;

impl Node {
    /// Starts a node with these settings; when this returns, it serves. Must be called within a tokio runtime.
    ///
    /// A node that is to join a cluster waits here until it has a place in it.
    ///
    /// # Errors
    /// Each says in one line what to do, and has an exit code.
    pub async fn start(settings: Settings) -> Result<RunningNode, StartError> {
        let started_at = Instant::now();
        metrics::started_at();
        let mut config = NodeConfig::from_settings(&settings);
        excludes_data_dir(&settings, &config)?;
        let advertised = config.advertise.as_deref().map(host_and_port).transpose()?;
        let descriptors = enough_descriptors(&config)?;
        let listeners = listen(&config.listen)?;
        let address = first_address(&listeners)
            .map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
        let temp_dir = config.ephemeral.then(temp_dir).transpose()?;
        let path =
            temp_dir.as_ref().map_or_else(|| PathBuf::from(&config.data_dir), |dir| dir.path().to_owned());
        let data_dir = DataDir::open(&path)?;
        let clock = Arc::new(SystemClock::new());
        let durable = !config.ephemeral;
        for warning in settings.warnings() {
            tracing::warn!("{warning}");
        }
        let mut place = Place::find(&settings, &config, &path, &*clock)?;
        let ear = Arc::new(PeerEar::default());
        let incarnation = random_uuid();
        let peers = Peers::start(PeersOptions {
            me: Hello {
                cluster_id: place.identity.cluster_id.filter(|_| place.is_bound()).unwrap_or(Uuid::ZERO),
                node_id: place.identity.node_id,
                incarnation,
                directory: place.identity.directory,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                has_metadata: place.identity.cluster_id.is_some(),
            },
            handler: ear.clone(),
            runtime: tokio::runtime::Handle::current(),
            settings: PeerSettings::default(),
        });
        let others: Vec<String> =
            config.join.iter().chain(&config.replication_followers).map(ToString::to_string).collect();
        let towards =
            others.first().cloned().or_else(|| place.peers.first().map(|(_, address)| address.clone()));
        let endpoints = |node| endpoints(&config, node, address, advertised.as_ref(), towards.as_deref());
        if place.join.is_some() {
            let wanted = (*settings.source("node.id") != Source::Default).then_some(config.node_id);
            let addresses: Vec<String> = config.join.iter().map(ToString::to_string).collect();
            let own = endpoints(place.identity.node_id);
            let rack = config.broker_rack.clone();
            let joined = join::join(&peers, &addresses, &place, wanted, rack, own, incarnation).await;
            place.joined(joined);
            peers.update_hello(|hello| hello.node_id = place.identity.node_id);
            peers.set_cluster_id(place.identity.cluster_id.unwrap_or(Uuid::ZERO));
        }
        place.save(&path, durable)?;
        let (restarts, restart) = mpsc::unbounded_channel();
        let followers: Vec<String> = config.replication_followers.iter().map(ToString::to_string).collect();
        let (broker, recovery) = Broker::start(BrokerOptions {
            settings,
            data_dir,
            address,
            advertised: advertised.clone(),
            clock,
            membership: Membership {
                mode: place.mode.clone(),
                cluster_id: place.identity.cluster_id,
                registration: Registration {
                    node_id: place.identity.node_id,
                    rack: config.broker_rack.clone(),
                    endpoints: endpoints(place.identity.node_id),
                    incarnation,
                    directory: place.identity.directory,
                },
                replicate_everything: place.mode == Mode::Single,
                is_bound: place.mode != Mode::Single || !followers.is_empty(),
                on_restart: Box::new(move |how| {
                    // Without a receiver the node is stopping anyway.
                    let _ = restarts.send(how);
                }),
            },
            peers: peers.clone(),
            ear: ear.clone(),
            first_peers: place.peers.clone(),
        })
        .await?;

        let wanted = config.max_connections;
        let room = descriptors.saturating_sub(config.max_open_files as u64 + SPARE_DESCRIPTORS / 2);
        config.max_connections = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        log_start(&config, &place.identity, address, &path, &recovery, started_at.elapsed());
        if config.max_connections < wanted {
            tracing::info!(
                "`ulimit -n` of {descriptors} leaves room for {} connections (max.connections = {wanted})",
                config.max_connections
            );
        }

        let search = search::start(&broker, &config, &path, &ear)
            .map_err(|error| StartError::System(format!("search can't be started: {error}")))?;
        let shared = Arc::new(Shared::new(broker.clone(), peers.clone(), search.clone(), &config));
        let export = Export::start(&config, &broker, &shared.status)?;
        let mut tasks = vec![listener::spawn_sweep(shared.clone())];
        for follower in followers {
            tasks.push(tokio::spawn(join::keep_follower(broker.clone(), peers.clone(), follower, address)));
        }
        let identity = Arc::new(IdentityFile::new(place.identity, path, durable));
        tasks.push(tokio::spawn(remember_cluster(broker.clone(), identity.clone())));
        let accept = listeners
            .into_iter()
            .map(|listener| tokio::spawn(listener::accept(listener, shared.clone())))
            .collect();
        Ok(RunningNode {
            address,
            broker,
            search,
            shared,
            accept,
            tasks,
            identity,
            restart,
            export,
            temp_dir,
        })
    }
}

impl RunningNode {
    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's broker.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The temporary directory of the data, if they go with the node.
    pub fn temp_dir(&self) -> Option<&Path> {
        self.temp_dir.as_ref().map(TempDir::path)
    }

    /// Ends when the node has to be stopped and started anew with the same settings, because its place in the cluster is another
    /// one: it was invited to follow, or became a voter, or is none any more. What it is to be is written down by then.
    ///
    /// # Errors
    /// That could not be written.
    pub async fn restart_wanted(&mut self) -> Result<(), StartError> {
        match self.restart.recv().await {
            Some(how) => {
                tracing::info!("starting anew: {}", in_words(&how));
                let (identity, cluster_id) =
                    (self.identity.clone(), self.broker.quorum().image().cluster_id());
                let written = tokio::task::spawn_blocking(move || identity.become_other(&how, cluster_id));
                written.await.map_err(|error| StartError::System(error.to_string()))?
            }
            None => std::future::pending().await,
        }
    }

    /// Stops: leaderships move to other nodes first, where there are any; then the node takes no more connections and requests, answers what is in flight (for five seconds at most), then flushes
    /// and checkpoints the log.
    pub async fn stop(self) {
        self.broker.leave().await;
        self.accept.iter().for_each(JoinHandle::abort);
        self.broker.begin_shutdown();
        self.shared.registry.drain();
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while !self.shared.registry.is_free_of_clients() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let unanswered = self.shared.registry.abort();
        if unanswered > 0 {
            tracing::warn!(
                "{unanswered} connections still waited for answers after {DRAIN_TIMEOUT:?}; they were closed"
            );
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(export) = self.export {
            // How it goes is logged there.
            let _ = tokio::task::spawn_blocking(move || export.stop()).await;
        }
        // It reads the log: it ends before that.
        let search = self.search;
        if let Err(error) = tokio::task::spawn_blocking(move || search.stop()).await {
            tracing::error!("search was not stopped: {error}");
        }
        self.broker.shutdown().await;
    }
}

/// Writes down which cluster the node belongs to, once that is known: it may take a while until other nodes are there.
async fn remember_cluster(broker: Arc<Broker>, identity: Arc<IdentityFile>) {
    loop {
        let id = broker.quorum().image().cluster_id();
        if !id.is_zero() {
            let written = tokio::task::spawn_blocking(move || identity.remember_cluster(id)).await;
            if let Ok(Err(error)) = written {
                tracing::error!("the cluster's id can't be written down: {error}");
            }
            return;
        }
        tokio::time::sleep(CLUSTER_ID_INTERVAL).await;
    }
}

fn in_words(restart: &Restart) -> &'static str {
    match restart {
        Restart::Follow(_) => "this node was empty and follows another one from now on",
        Restart::Vote { .. } => "this node becomes a voter",
        Restart::Observe { .. } => "this node is no voter any more",
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), StartError> {
    text.rsplit_once(':')
        .and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            (!host.is_empty()).then(|| (host.to_owned(), port))
        })
        .ok_or_else(|| {
            StartError::Config(format!(
                "advertise = {text:?}: expected HOST:PORT, such as kafka.example.com:9092"
            ))
        })
}

fn enough_descriptors(config: &NodeConfig) -> Result<u64, StartError> {
    let limit = descriptors::raise_limit();
    let files = config.max_open_files as u64;
    let needed = files + SPARE_DESCRIPTORS;
    if limit < needed { Err(StartError::TooFewDescriptors { limit, needed, files }) } else { Ok(limit) }
}

fn listen(address: &str) -> Result<Vec<TcpListener>, StartError> {
    listener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let owner =
                address.to_socket_addrs().ok().and_then(|mut all| all.find_map(descriptors::owner_of));
            StartError::AddressInUse {
                address: address.to_owned(),
                owner: owner.unwrap_or_else(|| "another process".to_owned()),
            }
        }
        io::ErrorKind::InvalidInput => {
            StartError::Config(format!("listen = {address:?}: expected HOST:PORT, such as 127.0.0.1:9092"))
        }
        _ => StartError::Listen { address: address.to_owned(), source: error },
    })
}

/// The address to name: an IPv4 one if there is one, as every client can use that.
fn first_address(listeners: &[TcpListener]) -> io::Result<SocketAddr> {
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied();
    first.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Who names a data directory means it to be used: it is an error with `ephemeral`, unless that is a flag and the directory
/// is only what the file or the environment says for other runs.
fn excludes_data_dir(settings: &Settings, config: &NodeConfig) -> Result<(), StartError> {
    let (dir, ephemeral) = (settings.source("data.dir"), settings.source("ephemeral"));
    let is_overridden = *ephemeral == Source::Flag && *dir != Source::Flag;
    if !config.ephemeral || *dir == Source::Default || is_overridden {
        return Ok(());
    }
    Err(StartError::Config(format!(
        "ephemeral = true ({ephemeral}) and data.dir = {:?} ({dir}) exclude each other: an ephemeral node keeps its data in \
         a temporary directory that goes when it ends; leave out one of the two",
        config.data_dir
    )))
}

fn temp_dir() -> Result<TempDir, StartError> {
    tempfile::Builder::new().prefix("chronik-").tempdir().map_err(|error| {
        StartError::NotWritable(format!(
            "can't make a temporary directory in {}: {error}",
            std::env::temp_dir().display()
        ))
    })
}

fn log_start(
    config: &NodeConfig,
    identity: &Identity,
    address: SocketAddr,
    path: &Path,
    recovery: &RecoverySummary,
    elapsed: Duration,
) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("chronik {version}, node {}, process {}", identity.node_id, std::process::id());
    let lent = if config.ephemeral { " (goes when the node ends)" } else { "" };
    tracing::info!("data directory {}{lent}", path.display());
    match config.flush {
        Flush::Disk => tracing::info!(
            "acks=all is answered after a flush to disk (flush = disk): it survives a power loss"
        ),
        Flush::Os => tracing::info!(
            "acks=all is answered without a flush (flush = os): a power loss loses what the operating system had not written"
        ),
    }
    log_recovery(recovery);
    let advertised =
        config.advertise.as_deref().map(|to| format!(", clients are told {to}")).unwrap_or_default();
    tracing::info!("serving Kafka and HTTP on {address}{advertised}, ready after {} ms", elapsed.as_millis());
}

fn log_recovery(recovery: &RecoverySummary) {
    let RecoverySummary { clean, partitions, journal_bytes, batches, rebuilt, cut, offline, elapsed_ms } =
        recovery;
    if *partitions == 0 && *journal_bytes == 0 {
        tracing::info!("no partitions yet");
    } else if *clean {
        tracing::info!("{partitions} partitions, closed cleanly");
    } else {
        tracing::info!(
            "{partitions} partitions, recovered in {elapsed_ms} ms: {journal_bytes} bytes of journal read, {batches} batches \
             kept, {rebuilt} partitions read from their start, {} places cut",
            cut.len()
        );
    }
    if let Some((key, reason)) = offline.first() {
        tracing::error!("{} partitions are offline, {key:?} among them: {reason}", offline.len());
    }
}
