//! The metadata of the cluster as this node has it. Once a change is durable, the topics that it touches are brought up to
//! date, and only then is it answered: whoever hears of a new topic can use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use chronik_base::{Clock, NodeId, TopicId, Uuid};
use chronik_log::{LogError, PartitionKey};
use chronik_meta::{
    Command, Endpoint, Identity, IdentityError, Image, MetaError, MetaHandle, MetaStore, Results, Role,
    StoreError, StoreOptions,
};
use chronik_protocol::Str;
use chronik_replica::{Leader, LeaderStart};
use tokio::sync::oneshot;

use crate::assignment::automatic;
use crate::partition::Partition;
use crate::produce_wait::Wakers;
use crate::topic_settings::TopicSettings;
use crate::topics::{Topic, is_internal};
use crate::{Broker, BrokerError, ConnectionContext, random};

/// Why the metadata can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Its files can't be read or written, or hold what nobody wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory is another node's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node can't make itself known in it.
    #[error("the node can't be registered: {0}")]
    Register(#[from] MetaError),
    /// No thread could be started.
    #[error("the metadata thread can't be started: {0}; see ulimit -u")]
    Thread(#[from] std::io::Error),
}

/// The metadata, read by everyone and changed through [`Metadata::commit`].
pub(crate) struct Metadata {
    handle: MetaHandle,
    /// Whose topics follow the changes; set once the broker is made.
    broker: Arc<OnceLock<Weak<Broker>>>,
}

/// Who this node is, for its registration.
pub(crate) struct Registration<'a> {
    pub(crate) node_id: NodeId,
    pub(crate) rack: Option<String>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    /// Whether anything is to survive the process.
    pub(crate) durable: bool,
}

impl Metadata {
    /// Reads what the last run left in `data_dir`; a new directory gets a cluster id.
    pub(crate) fn open(data_dir: &Path, registration: Registration<'_>) -> Result<Self, MetadataError> {
        let Registration { node_id, rack, clock, durable } = registration;
        let identity = Identity::read(data_dir, node_id)?;
        let options =
            StoreOptions { flush: durable, existing: identity.is_some(), ..StoreOptions::default() };
        let (mut store, recovery) = MetaStore::open(&data_dir.join("meta"), options)?;
        if let Some(cut) = recovery.cut {
            tracing::warn!(
                path = %cut.path.display(),
                position = cut.position,
                bytes = cut.bytes,
                "cut an unfinished metadata change: {}",
                cut.reason
            );
        }
        let mut own = identity.clone().unwrap_or_else(|| Identity {
            node_id,
            cluster_id: None,
            created: clock.wall_ms(),
            directory: Uuid::ZERO,
            role: Role::Standalone,
        });
        if own.directory.is_zero() {
            own.directory = random::uuid();
        }
        let mut commands = Vec::new();
        if store.image().cluster_id().is_zero() {
            commands.push(Command::SetClusterId { id: own.cluster_id.unwrap_or_else(random::uuid) });
        }
        // The epoch of a registration is its number, so the node can let itself in with the same commit.
        let epoch = i64::try_from(store.image().offset()).unwrap_or(i64::MAX) + commands.len() as i64 + 1;
        commands.push(Command::RegisterBroker {
            id: node_id,
            rack,
            endpoints: Vec::new(),
            incarnation: random::uuid(),
            directory: own.directory,
        });
        commands.push(Command::UnfenceBroker { id: node_id, epoch });
        for result in store.commit(&commands) {
            result?;
        }
        own.cluster_id = Some(store.image().cluster_id());
        if identity.as_ref() != Some(&own) {
            own.write(data_dir, durable)?;
        }
        let broker: Arc<OnceLock<Weak<Broker>>> = Arc::default();
        let follower = broker.clone();
        let handle = MetaHandle::start(store, move |change| {
            if let Some(broker) = follower.get().and_then(Weak::upgrade) {
                change.commands.iter().for_each(|command| broker.bring_up_to_date(&Touched::of(command)));
            }
        })?;
        Ok(Self { handle, broker })
    }

    /// The topics of `broker` follow the metadata from now on.
    pub(crate) fn follow(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
    }

    /// The metadata as it is now.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.handle.image()
    }

    /// Makes commands durable and applies them; each has its own answer. Once this ends, the node serves accordingly.
    pub(crate) async fn commit(&self, commands: Vec<Command>) -> Results {
        let count = commands.len();
        let (answer, answered) = oneshot::channel();
        self.handle.submit(commands, move |results| {
            // Whoever asked may have gone; what they asked for is done all the same.
            let _ = answer.send(results);
        });
        answered.await.unwrap_or_else(|_| vec![Err(MetaError::Closed); count])
    }

    /// Takes no more commands.
    pub(crate) fn stop(&self) {
        self.handle.close();
    }
}

/// What of the running node a command concerns.
enum Touched {
    Topic(TopicId),
    Deleted(TopicId),
    TopicSettings(TopicId),
    NodeSettings,
    Nothing,
}

impl Touched {
    fn of(command: &Command) -> Self {
        match command {
            Command::CreateTopic { id, .. } => Touched::Topic(*id),
            Command::CreatePartitions { topic, .. } => Touched::Topic(*topic),
            Command::DeleteTopic { id } => Touched::Deleted(*id),
            Command::AlterTopicConfigs { topic, .. } => Touched::TopicSettings(*topic),
            Command::AlterBrokerConfigs { .. } => Touched::NodeSettings,
            Command::SetClusterId { .. }
            | Command::RegisterBroker { .. }
            | Command::UnfenceBroker { .. }
            | Command::FenceBroker { .. }
            | Command::BeginShutdown { .. }
            | Command::UnregisterBroker { .. }
            | Command::AllocateProducerIds { .. }
            | Command::AlterPartition(_)
            | Command::ElectLeader { .. }
            | Command::Reassign { .. }
            | Command::ChangePartition(_) => Touched::Nothing,
        }
    }
}

impl Broker {
    fn bring_up_to_date(&self, touched: &Touched) {
        let image = self.metadata.image();
        match touched {
            Touched::Topic(id) => {
                if let Some(topic) = image.topic_by_id(id)
                    && let Err(error) = self.serve_topic(topic)
                {
                    tracing::error!(topic = %topic.name, "partitions can't be opened: {error}");
                }
            }
            Touched::Deleted(id) => self.drop_topic(*id),
            Touched::TopicSettings(id) => {
                if let Some(topic) = image.topic_by_id(id) {
                    self.topics.set_settings(&topic.name, &self.settings_of(topic));
                }
            }
            Touched::NodeSettings => {
                self.refresh_dynamic();
                for topic in image.topics() {
                    self.topics.set_settings(&topic.name, &self.settings_of(topic));
                }
            }
            Touched::Nothing => {}
        }
    }

    /// Opens every topic of the metadata, and removes logs that no topic has any more: the node ended between the two halves
    /// of a deletion.
    pub(crate) fn load_topics(&self) -> Result<(), BrokerError> {
        let image = self.metadata.image();
        for topic in image.topics() {
            self.serve_topic(topic)?;
        }
        for log in self.log.partitions() {
            let key = log.key();
            if image.topic_by_id(&key.topic_id).is_none() {
                self.log.delete_partition(&key)?;
            }
        }
        Ok(())
    }

    fn settings_of(&self, topic: &chronik_meta::Topic) -> Arc<TopicSettings> {
        let dynamic = self.dynamic();
        TopicSettings::new(&topic.configs, &dynamic.settings, &dynamic.config)
    }

    /// Makes the partitions that the node doesn't serve yet.
    fn serve_topic(&self, topic: &chronik_meta::Topic) -> Result<(), LogError> {
        let settings = self.settings_of(topic);
        let known = self.topics.by_id(topic.id);
        let name = known.as_ref().map_or_else(|| Str::from(&*topic.name), |known| known.name.clone());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, partition) in topic.partitions.iter() {
            if let Some(served) = known.as_ref().and_then(|known| known.hosted(index)) {
                partitions.push(Some(served.clone()));
                continue;
            }
            let key = PartitionKey { topic_id: topic.id, partition: index };
            let log = self.log.create_partition(key, settings.log_options.clone())?;
            let leader = Leader::new(LeaderStart {
                node: self.node_id,
                epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                replicas: &partition.replicas,
                isr: &partition.isr,
                log_end: log.flushed_offset(),
                flushed_end: log.flushed_offset(),
                high_watermark: 0,
                min_insync_replicas: settings.min_insync_replicas,
                lag_time_max_ms: 30_000,
                now_ms: self.clock.monotonic_ms(),
            });
            partitions.push(Some(Partition::new(name.clone(), index, log, settings.clone(), leader)));
        }
        let is_internal = is_internal(&name);
        self.topics.put(Topic::new(name, topic.id, partitions));
        if is_internal {
            self.groups.refresh(self);
        }
        Ok(())
    }

    fn drop_topic(&self, id: TopicId) {
        let Some(topic) = self.topics.remove(id) else { return };
        let mut wakers = Wakers::default();
        for partition in topic.partitions() {
            if let Err(error) = self.log.delete_partition(&partition.log.key()) {
                tracing::error!(topic = %topic.name, partition = partition.index, "its space is not given back: {error}");
            }
            partition.on_deleted(&mut wakers);
        }
        wakers.wake_all();
        if topic.is_internal() {
            self.groups.refresh(self);
        }
        self.groups.topic_deleted(self, &topic.name);
    }

    /// Creates topics with the node's defaults; what can't be created stays missing, and is answered so.
    pub(crate) async fn create_missing_topics(&self, names: Vec<Str>) {
        let commands = names.iter().filter_map(|name| self.default_topic(name)).collect();
        self.metadata.commit(commands).await;
    }

    fn default_topic(&self, name: &str) -> Option<Command> {
        let image = self.metadata.image();
        image.check_name(name).ok()?;
        let dynamic = self.dynamic();
        let config = &dynamic.config;
        let count = usize::try_from(config.num_partitions).ok()?;
        if image.partition_count().saturating_add(count) > config.max_partitions_per_node {
            tracing::warn!(
                topic = name,
                "not created: max.partitions.per.node is {} and there are {} partitions",
                config.max_partitions_per_node,
                image.partition_count()
            );
            return None;
        }
        let replicas = dynamic.settings.default_replication_factor(image.brokers().count());
        let assignments = automatic(&image, 0, count, replicas)
            .inspect_err(|refusal| {
                tracing::warn!(
                    topic = name,
                    "not created with default.replication.factor: {}",
                    refusal.message
                );
            })
            .ok()?;
        Some(Command::CreateTopic {
            name: name.to_owned(),
            id: random::uuid(),
            created: self.clock.wall_ms(),
            assignments,
            configs: BTreeMap::new(),
        })
    }

    /// Where clients of `connection` reach `other`: this node by what it advertises or by the address that they used
    /// already, others by what they registered.
    pub(crate) fn address_of(
        &self,
        other: &chronik_meta::Broker,
        connection: &ConnectionContext,
    ) -> (String, u16) {
        if other.id == self.node_id {
            return match &self.advertised {
                Some((host, port)) => (host.clone(), *port),
                None => (connection.local.ip().to_canonical().to_string(), connection.local.port()),
            };
        }
        match other.endpoints.first() {
            Some(Endpoint { host, port, .. }) => (host.clone(), *port),
            None => (String::new(), 0),
        }
    }
}
