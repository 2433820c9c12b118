//! A cluster as the client sees it: brokers, topics, leaders, and a way to each of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chronik_base::{ErrorCode, NodeId, TopicId};
use chronik_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use chronik_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use chronik_protocol::{Request, Str};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::{ClientError, Unreachable, address};

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers to begin with, `HOST:PORT[,HOST:PORT...]`.
    pub bootstrap: String,
    /// The name that the client gives itself.
    pub client_id: String,
    /// How long to wait for a connection and for the first answer on it.
    pub connect_timeout: Duration,
    /// How long to wait for an answer, and how long what may pass (an election, a coordinator that loads) is tried
    /// again.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".into(),
            client_id: "chronik".into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Who should get a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// Whichever broker answers.
    Any,
    /// The broker for administration.
    Controller,
    /// One broker.
    Broker(NodeId),
    /// The broker that keeps the group of this id.
    Group(&'a str),
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id, zero where the broker has none.
    pub id: TopicId,
    /// Its partitions by index.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// A partition as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its leader; `None` while there is none.
    pub leader: Option<NodeId>,
    /// Its leader epoch, -1 if unknown.
    pub leader_epoch: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Its in-sync replicas.
    pub isr: Vec<NodeId>,
}

/// A client of one cluster. Clones share connections and what is known of the cluster.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    bootstrap: Vec<String>,
    connections: AsyncMutex<HashMap<String, Arc<AsyncMutex<Connection>>>>,
    known: Mutex<Known>,
}

/// What the last metadata said.
#[derive(Default)]
struct Known {
    brokers: BTreeMap<NodeId, String>,
    controller: Option<NodeId>,
    topics: HashMap<String, TopicMetadata>,
}

/// The wait before the first repetition of what may pass; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);

/// The longest wait between repetitions.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Repeats what may pass, with growing pauses, until a deadline.
pub(crate) struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { deadline: Instant::now() + limit, pause: PAUSE }
    }

    /// Waits; false once the deadline has passed.
    pub(crate) async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause > self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// True for errors that pass by themselves, and for which nothing was done.
pub(crate) fn passes(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        Some(
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::NotController
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
        )
    )
}

impl Client {
    /// Connects to the first bootstrap server that answers.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`]; [`ClientError::NoBootstrap`] with the reason for each server.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let bootstrap = address::parse_list(&options.bootstrap)?;
        let shared =
            Shared { options, bootstrap, connections: AsyncMutex::default(), known: Mutex::default() };
        let client = Self { shared: Arc::new(shared) };
        client.any().await?;
        Ok(client)
    }

    /// How the client was set up.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Sends a request in the best version that both sides have.
    ///
    /// # Errors
    /// Why there is no answer. Error codes inside the answer are the caller's to read.
    pub async fn send<R: Request + Clone>(
        &self,
        to: To<'_>,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.send_up_to(to, i16::MAX, |_| request.clone()).await
    }

    /// The same with a request that depends on its version, which is at most `version_max`: later versions of some
    /// requests name topics by id, or have another shape.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_up_to<R: Request>(
        &self,
        to: To<'_>,
        version_max: i16,
        make: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        self.send_patiently(to, version_max, Duration::ZERO, make).await
    }

    /// The same, waiting `longer` than the usual time for the answer: for requests that wait at the broker.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_patiently<R: Request>(
        &self,
        to: To<'_>,
        version_max: i16,
        longer: Duration,
        make: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let connection = match to {
            To::Any => self.any().await?,
            To::Controller => self.controller().await?,
            To::Broker(id) => self.broker(id).await?,
            To::Group(group) => {
                let id = self.coordinator(group).await?;
                self.broker(id).await?
            }
        };
        connection.lock().await.call(version_max, longer, make).await
    }

    /// The connection to `address`, opened if there is none that can be used.
    async fn open(&self, address: &str) -> Result<Arc<AsyncMutex<Connection>>, String> {
        let mut connections = self.shared.connections.lock().await;
        if let Some(connection) = connections.get(address) {
            // One that is locked is at work, so it can be used.
            if connection.try_lock().map_or(true, |connection| connection.is_usable()) {
                return Ok(Arc::clone(connection));
            }
            connections.remove(address);
        }
        let connection = Arc::new(AsyncMutex::new(Connection::open(address, &self.shared.options).await?));
        connections.insert(address.to_owned(), Arc::clone(&connection));
        Ok(connection)
    }

    async fn any(&self) -> Result<Arc<AsyncMutex<Connection>>, ClientError> {
        let mut tried = Vec::new();
        let brokers: Vec<String> = self.known(|known| known.brokers.values().cloned().collect());
        for address in self.shared.bootstrap.iter().chain(&brokers) {
            match self.open(address).await {
                Ok(connection) => return Ok(connection),
                Err(reason) => tried.push((address.clone(), reason)),
            }
        }
        tried.dedup();
        Err(ClientError::NoBootstrap(Unreachable(tried)))
    }

    async fn controller(&self) -> Result<Arc<AsyncMutex<Connection>>, ClientError> {
        self.metadata(Some(&[]), false).await?;
        // Brokers without a controller to name pass requests on themselves.
        match self.known(|known| known.controller) {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    async fn broker(&self, id: NodeId) -> Result<Arc<AsyncMutex<Connection>>, ClientError> {
        let mut address = self.known(|known| known.brokers.get(&id).cloned());
        if address.is_none() {
            self.metadata(Some(&[]), false).await?;
            address = self.known(|known| known.brokers.get(&id).cloned());
        }
        let Some(address) = address else {
            return Err(ClientError::UnknownBroker {
                id,
                known: self.known(|known| known.brokers.keys().copied().collect()),
            });
        };
        self.open(&address).await.map_err(|reason| ClientError::BrokerUnreachable {
            id,
            tried: Unreachable(vec![(address.clone(), reason)]),
        })
    }

    /// The broker that keeps `group`, asked for again while the cluster is still looking for one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn coordinator(&self, group: &str) -> Result<NodeId, ClientError> {
        let mut patience = Patience::new(self.shared.options.request_timeout);
        loop {
            let found: FindCoordinatorResponse = {
                let connection = self.any().await?;
                let make = |version| FindCoordinatorRequest {
                    key: if version < 4 { Str::from(group) } else { Str::EMPTY },
                    coordinator_keys: if version < 4 { Vec::new() } else { vec![Str::from(group)] },
                    ..Default::default()
                };
                // Version 6 is about share groups only.
                connection.lock().await.call(5, Duration::ZERO, make).await?
            };
            let (code, message, id, host, port) = match found.coordinators.into_iter().next() {
                Some(one) => (one.error_code, one.error_message, one.node_id, one.host, one.port),
                None => (found.error_code, found.error_message, found.node_id, found.host, found.port),
            };
            if code == 0 {
                self.know(|known| known.brokers.insert(id, join(&host, port)));
                return Ok(id);
            }
            if !passes(code) || !patience.pause().await {
                ClientError::check(code, message.as_deref(), || format!("coordinator of group {group}"))?;
            }
        }
    }

    /// Asks the cluster about itself: about every topic for `None`, else about those that are named, which are
    /// created if `create` is true and the broker creates topics by itself. What comes back is remembered for finding
    /// leaders; error codes of single topics are the caller's to read.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let connection = self.any().await?;
        let make = |version| MetadataRequest {
            // Version 0 has no null: an empty list means every topic there.
            topics: topics.map(|names| {
                let named =
                    |name: &&str| MetadataRequestTopic { name: Some(Str::from(*name)), ..Default::default() };
                names.iter().map(named).collect()
            }),
            allow_auto_topic_creation: create && version >= 4,
            ..Default::default()
        };
        let answer: MetadataResponse = connection.lock().await.call(i16::MAX, Duration::ZERO, make).await?;
        self.know(|known| known.learn(&answer));
        Ok(answer)
    }

    /// A topic with its partitions, from memory or from the cluster. A topic that is about to come up (just created,
    /// electing its first leaders) is waited for.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the topic does not exist (any more).
    pub async fn topic(&self, name: &str, create: bool) -> Result<TopicMetadata, ClientError> {
        if let Some(topic) = self.known(|known| known.topics.get(name).cloned()) {
            return Ok(topic);
        }
        let mut patience = Patience::new(self.shared.options.request_timeout);
        loop {
            let answer = self.metadata(Some(&[name]), create).await?;
            let code =
                answer.topics.first().map_or(ErrorCode::UnknownTopicOrPartition.code(), |t| t.error_code);
            let topic = self.known(|known| known.topics.get(name).cloned());
            if let (0, Some(topic)) = (code, topic) {
                return Ok(topic);
            }
            // Without creation, a topic that is not there will not come by waiting.
            let waits = passes(code) && (create || code != ErrorCode::UnknownTopicOrPartition.code());
            if !waits || !patience.pause().await {
                ClientError::check(code, None, || format!("topic {name}"))?;
            }
        }
    }

    /// The leader of a partition.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such partition, or no leader in time.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<NodeId, ClientError> {
        let mut patience = Patience::new(self.shared.options.request_timeout);
        loop {
            let known = self.topic(topic, false).await?;
            let what = || format!("{topic}-{partition}");
            let Some(found) = known.partitions.get(&partition) else {
                let message = format!("the topic has {} partitions", known.partitions.len());
                let code = ErrorCode::UnknownTopicOrPartition.code();
                return Err(ClientError::Refused { what: what(), code, message: Some(message) });
            };
            if let Some(leader) = found.leader {
                return Ok(leader);
            }
            self.forget_topic(topic);
            if !patience.pause().await {
                ClientError::check(ErrorCode::LeaderNotAvailable.code(), None, what)?;
            }
        }
    }

    /// Forgets what is known about a topic, so that its leaders are asked for again.
    pub fn forget_topic(&self, topic: &str) {
        self.know(|known| known.topics.remove(topic));
    }

    fn known<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn know<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.shared.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An address that can be connected to.
fn join(host: &str, port: i32) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl Known {
    fn learn(&mut self, answer: &MetadataResponse) {
        self.brokers =
            answer.brokers.iter().map(|broker| (broker.node_id, join(&broker.host, broker.port))).collect();
        self.controller = (answer.controller_id >= 0).then_some(answer.controller_id);
        for topic in &answer.topics {
            let Some(name) = topic.name.as_ref().map(|name| name.to_string()) else { continue };
            if topic.error_code != 0 {
                self.topics.remove(&name);
                continue;
            }
            let partitions = topic.partitions.iter().map(|partition| {
                let leader = (partition.leader_id >= 0).then_some(partition.leader_id);
                let known = PartitionMetadata {
                    leader,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.clone(),
                    isr: partition.isr_nodes.clone(),
                };
                (partition.partition_index, known)
            });
            let known =
                TopicMetadata { name: name.clone(), id: topic.topic_id, partitions: partitions.collect() };
            self.topics.insert(name, known);
        }
    }
}
