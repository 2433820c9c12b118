//! The metadata of the cluster as this node has it. Once a change is decided, what it touches here is brought up to date, and
//! only then is it answered: whoever hears of a new topic can use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, Clock, ErrorCode, NodeId, TopicId, Transport, Uuid};
use chronik_log::{LogError, PartitionKey};
use chronik_meta::{Command, Endpoint, Image, Results};
use chronik_protocol::Str;
use chronik_quorum::{Mode, OnRestart, PeerEvent, Quorum, QuorumError, QuorumOptions, Registration, Timing};

use crate::assignment::automatic;
use crate::partition::Partition;
use crate::produce_wait::Wakers;
use crate::replication::role::{RoleChange, RoleContext};
use crate::sync::Hold;
use crate::topic_settings::TopicSettings;
use crate::topics::{Topic, is_internal};
use crate::{Broker, ConnectionContext, random};

/// The listener that clients are told of.
pub const KAFKA_LISTENER: &str = "kafka";
/// The listener that other nodes connect to.
pub const INTERNAL_LISTENER: &str = "INTERNAL";

/// Logs that no topic claims are removed once the metadata is known to be the cluster's; it is waited for so long.
const STRAY_WAIT: Duration = Duration::from_secs(3600);

/// How a node takes part in the metadata.
pub struct Membership {
    /// Alone, as a voter of several, or as an observer.
    pub mode: Mode,
    /// The cluster that the data directory belongs to, if it is not new.
    pub cluster_id: Option<Uuid>,
    /// How the node makes itself known.
    pub registration: Registration,
    /// Standalone: every partition on every node that follows.
    pub replicate_everything: bool,
    /// The node has others, or is to have: it does not follow an invitation to another cluster.
    pub is_bound: bool,
    /// Hears that the node must start anew in another mode.
    pub on_restart: OnRestart,
}

/// The metadata, read by everyone and changed through [`Metadata::commit`].
pub(crate) struct Metadata {
    quorum: Quorum,
    /// Whose topics follow the changes; set once the broker is made.
    broker: Arc<OnceLock<Weak<Broker>>>,
    /// What the broker's topics follow so far.
    followed: Arc<Mutex<Arc<Image>>>,
}

/// What the metadata needs beside the node's place in it.
pub(crate) struct MetadataOptions {
    pub(crate) data_path: PathBuf,
    pub(crate) membership: Membership,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether anything is to survive the process.
    pub(crate) durable: bool,
    pub(crate) timing: Timing,
    pub(crate) raft: chronik_quorum::RaftTiming,
    pub(crate) rebalance_leaders: bool,
}

impl Metadata {
    /// Takes part in the metadata, with what the last run left in the data directory.
    pub(crate) async fn open(options: MetadataOptions) -> Result<Self, QuorumError> {
        let broker: Arc<OnceLock<Weak<Broker>>> = Arc::default();
        let followed: Arc<Mutex<Arc<Image>>> = Arc::default();
        let (follower, upto) = (broker.clone(), followed.clone());
        let quorum = Quorum::start(QuorumOptions {
            data_dir: options.data_path,
            mode: options.membership.mode,
            registration: options.membership.registration,
            cluster_id: options.membership.cluster_id,
            new_cluster_id: random::uuid(),
            transport: options.transport,
            clock: options.clock,
            durable: options.durable,
            timing: options.timing,
            raft: options.raft,
            ready: false,
            replicate_everything: options.membership.replicate_everything,
            rebalance_leaders: options.rebalance_leaders,
            on_change: Box::new(move |change| {
                if let Some(broker) = follower.get().and_then(Weak::upgrade) {
                    // Without commands it is an image of somebody else's, which may be behind: a deposed voter takes one.
                    follow(&broker, &upto, change.after, change.commands.is_empty());
                }
            }),
            on_restart: options.membership.on_restart,
        })
        .await?;
        Ok(Self { quorum, broker, followed })
    }

    /// The topics of `broker` follow the metadata from now on; when this returns they have.
    pub(crate) fn follow(&self, broker: &Arc<Broker>) {
        let _ = self.broker.set(Arc::downgrade(broker));
        follow(broker, &self.followed, &self.image(), false);
    }

    /// The metadata as it is now.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.quorum.image()
    }

    /// Makes commands durable and applies them; each has its own answer. Once this ends, the node serves accordingly.
    pub(crate) async fn commit(&self, commands: Vec<Command>) -> Results {
        self.quorum.commit(commands).await
    }

    /// Everything else of the quorum.
    pub(crate) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Answers a call of another node.
    pub(crate) fn handle(&self, from: NodeId, kind: u8, payload: Bytes) -> BoxFuture<Result<Bytes, String>> {
        self.quorum.handle(from, kind, payload)
    }

    /// The connection to a node changed.
    pub(crate) fn on_peer(&self, node: NodeId, event: chronik_peer::PeerEvent) {
        self.quorum.on_peer(
            node,
            match event {
                chronik_peer::PeerEvent::Connected => PeerEvent::Connected,
                chronik_peer::PeerEvent::Disconnected => PeerEvent::Disconnected,
                chronik_peer::PeerEvent::Refused => PeerEvent::Refused,
            },
        );
    }

    /// The epoch of this process's registration, once it is known here.
    pub(crate) fn broker_epoch(&self) -> Option<i64> {
        self.quorum.broker_epoch()
    }

    /// The node that takes commands, as far as this one knows.
    pub(crate) fn controller(&self) -> NodeId {
        self.quorum.leader().unwrap_or(-1)
    }

    /// Takes no more commands.
    pub(crate) async fn stop(&self) {
        self.quorum.close().await;
    }
}

/// Brings the broker's topics from the image that they followed so far to `after`, unless they are further already; with `is_other`,
/// in any case.
fn follow(broker: &Arc<Broker>, followed: &Mutex<Arc<Image>>, after: &Arc<Image>, is_other: bool) {
    let mut followed = followed.hold();
    if is_other || after.offset() > followed.offset() {
        broker.bring_up_to_date(&followed, after);
        *followed = after.clone();
    }
}

impl Broker {
    fn bring_up_to_date(self: &Arc<Self>, before: &Image, after: &Arc<Image>) {
        let own = |image: &Image| image.broker_configs(self.node_id).cloned();
        if **before.default_broker_configs() != **after.default_broker_configs() || own(before) != own(after)
        {
            self.refresh_dynamic(after);
            for topic in self.topics.all() {
                if let Some(known) = after.topic_by_id(&topic.id) {
                    self.topics.set_settings(&topic.name, &self.settings_of(known));
                }
            }
        }
        self.tell_cluster(after);
        if !before.brokers().eq(after.brokers()) {
            self.gone.on_image(before, after, self.clock.monotonic_ms());
            self.dial(after);
        }
        let mut offsets_topic_changed = false;
        for change in Image::changed_partitions(before, after) {
            offsets_topic_changed |=
                change.before.iter().chain(&change.after).any(|topic| is_internal(&topic.name));
            let Some(topic) = &change.after else {
                self.drop_topic(change.id);
                continue;
            };
            self.count_isr_changes(&change);
            if change.configs_changed() {
                self.topics.set_settings(&topic.name, &self.settings_of(topic));
            }
            if let Err(error) = self.serve_topic(after, topic, &change.partitions) {
                tracing::error!(topic = %topic.name, "partitions can't be opened: {error}");
            }
        }
        if offsets_topic_changed {
            self.groups.refresh(self);
        }
    }

    /// Tells other nodes which cluster this one belongs to. A node alone that holds nothing does not say so: it may be invited to
    /// another one.
    pub(crate) fn tell_cluster(&self, image: &Image) {
        let is_bound = self.is_bound || image.topic_count() > 0;
        if is_bound && !image.cluster_id().is_zero() && !self.cluster_told.swap(true, Ordering::AcqRel) {
            self.peers.set_cluster_id(image.cluster_id());
        }
    }

    /// Tells the connections which nodes there are, and where.
    pub(crate) fn dial(&self, image: &Image) {
        let mut addresses = self.first_peers.clone();
        for broker in image.brokers() {
            if let Some(Endpoint { host, port, .. }) = broker.endpoint(INTERNAL_LISTENER) {
                addresses.retain(|(id, _)| *id != broker.id);
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                addresses.push((broker.id, format!("{host}:{port}")));
            }
        }
        addresses.retain(|(id, _)| *id != self.node_id);
        self.peers.set_addresses(addresses);
    }

    /// Removes logs that no topic has any more, or not on this node: it ended between the two halves of a deletion, or was not
    /// there. Only metadata that is known to be up to date may say so.
    pub(crate) async fn remove_strays(self: Arc<Self>) {
        if self.metadata.quorum.wait_ready(STRAY_WAIT).await.is_err() {
            return;
        }
        let work = tokio::task::spawn_blocking(move || {
            let _no_change_meanwhile = self.metadata.followed.hold();
            let image = self.metadata.image();
            for log in self.log.partitions() {
                let key = log.key();
                let partition =
                    image.topic_by_id(&key.topic_id).and_then(|topic| topic.partitions.get(key.partition));
                if !partition.is_some_and(|partition| partition.replicas.contains(&self.node_id))
                    && let Err(error) = self.log.delete_partition(&key)
                {
                    tracing::error!(%key, "a log that nobody has any more can't be removed: {error}");
                }
            }
        });
        let _ = work.await;
    }

    fn settings_of(&self, topic: &chronik_meta::Topic) -> Arc<TopicSettings> {
        let dynamic = self.dynamic();
        // Elections count on leaders not to commit with fewer replicas than the metadata ask for.
        let agreed = self.metadata.image().min_in_sync(topic);
        TopicSettings::new(&topic.configs, &dynamic.settings, &dynamic.config, agreed)
    }

    /// What roles depend on beside the metadata.
    fn role_context(&self, image: &Image) -> RoleContext {
        RoleContext {
            node: self.node_id,
            is_registered: image
                .broker(self.node_id)
                .is_some_and(|broker| broker.incarnation == self.incarnation),
            lag_time_max_ms: self.dynamic().config.replica_lag_time_max_ms,
            now_ms: self.clock.monotonic_ms(),
        }
    }

    /// Makes what is `changed` of a topic's partitions as the metadata says: opened, led, followed, or gone.
    fn serve_topic(
        self: &Arc<Self>,
        image: &Image,
        topic: &chronik_meta::Topic,
        changed: &[i32],
    ) -> Result<(), LogError> {
        let known = self.topics.by_id(topic.id);
        let name = known.as_ref().map_or_else(|| Str::from(&*topic.name), |known| known.name.clone());
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let mut partitions: Vec<Option<Arc<Partition>>> =
            (0..count).map(|index| known.as_ref().and_then(|known| known.hosted(index)).cloned()).collect();
        let mut roles = Vec::new();
        let mut left = Vec::new();
        for (index, state) in changed.iter().filter_map(|&index| Some((index, topic.partitions.get(index)?)))
        {
            let Some(place) = usize::try_from(index).ok().and_then(|index| partitions.get_mut(index)) else {
                continue;
            };
            if !state.replicas.contains(&self.node_id) {
                left.extend(place.take());
                continue;
            }
            let partition = match place {
                Some(partition) => partition.clone(),
                None => {
                    let settings = self.settings_of(topic);
                    let key = PartitionKey { topic_id: topic.id, partition: index };
                    let log = self.log.create_partition(key, settings.log_options.clone())?;
                    let partition = Partition::new(name.clone(), index, log, settings);
                    *place = Some(partition.clone());
                    partition
                }
            };
            roles.push((partition, state));
        }
        self.topics.put(Topic::new(name, topic.id, partitions));
        let context = self.role_context(image);
        let mut wakers = Wakers::default();
        for (partition, state) in roles {
            let change = partition.follow_metadata(state, context, &mut wakers);
            self.role_changed(&partition, change);
        }
        for partition in left {
            partition.on_deleted(ErrorCode::NotLeaderOrFollower, &mut wakers);
            if let Err(error) = self.log.delete_partition(&partition.key()) {
                tracing::error!(topic = %partition.topic, partition = partition.index, "its space is not given back: {error}");
            }
        }
        wakers.wake_all();
        Ok(())
    }

    /// Does what a new role asks for.
    fn role_changed(&self, partition: &Arc<Partition>, change: RoleChange) {
        match change {
            RoleChange::None => {}
            RoleChange::Leads => {
                self.metrics.leader_elections.inc();
                if partition.has_unflushed() {
                    self.log.request_flush();
                    self.log.kick();
                }
            }
            RoleChange::Follows => self.replication.following.want(partition.key()),
        }
        if partition.is_leader() {
            self.replication.isr.consider(partition);
            self.waits.add(partition);
        }
    }

    /// A log was cut to where it agrees with its leader's: the role that the metadata gave meanwhile is taken now.
    pub(crate) fn end_cut(self: &Arc<Self>, partition: &Arc<Partition>) {
        let next = {
            let mut state = partition.state.hold();
            state.is_cutting = false;
            state.next.take()
        };
        if let Some(next) = next {
            let mut wakers = Wakers::default();
            let change =
                partition.follow_metadata(&next, self.role_context(&self.metadata.image()), &mut wakers);
            self.role_changed(partition, change);
            wakers.wake_all();
            if is_internal(&partition.topic) {
                self.groups.refresh(self);
            }
        }
    }

    fn drop_topic(&self, id: TopicId) {
        let Some(topic) = self.topics.remove(id) else { return };
        let mut wakers = Wakers::default();
        for partition in topic.partitions() {
            if let Err(error) = self.log.delete_partition(&partition.key()) {
                tracing::error!(topic = %topic.name, partition = partition.index, "its space is not given back: {error}");
            }
            partition.on_deleted(ErrorCode::UnknownTopicOrPartition, &mut wakers);
        }
        wakers.wake_all();
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
        match other.endpoint(KAFKA_LISTENER).or(other.endpoints.first()) {
            Some(Endpoint { host, port, .. }) => (host.clone(), *port),
            None => (String::new(), 0),
        }
    }
}
