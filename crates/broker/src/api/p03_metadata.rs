//! Metadata (3), versions 0 to 13: brokers, topics and their partitions; creates topics that are asked for and missing.
//!
//! All topics with a null list (an empty one in version 0), by name, or by id from version 10 on. A missing topic is
//! created where both the request and `auto.create.topics.enable` allow it, and is answered as it then is: clients need
//! not ask twice. Brokers are those that are not fenced, or were not until five seconds ago. A partition without a leader that clients can be
//! sent to (fenced, or this node has seen its process end a moment ago) has leader -1 and `LEADER_NOT_AVAILABLE`; replicas on fenced brokers are
//! offline. Version 0, which has no place for these, leaves them out and says `REPLICA_NOT_AVAILABLE`. The controller is the metadata leader where it is known; in fact every node takes every request. Where the client asks
//! for authorized operations it is told that everything is allowed, as Kafka without an authorizer does (no ACLs yet).

use std::sync::Arc;
use std::time::Duration;

use chronik_base::{ErrorCode, NodeId, Uuid};
use chronik_meta::{Image, Partition, Topic};
use chronik_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use super::cluster_view::{Address, controller_id, is_alive, offline_replicas};
use crate::Broker;
use crate::authorized::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::call::Call;
use crate::connection::ConnectionContext;
use crate::outcome::Outcome;
use crate::topics::is_internal;

/// How long the first clients of a new cluster wait for its brokers.
const FORMATION_WAIT: Duration = Duration::from_secs(3);

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let mut request = MetadataRequest::decode(reader, call.version)?;
    if call.version == 0 && request.topics.as_ref().is_some_and(Vec::is_empty) {
        request.topics = None;
    }
    let (broker, connection, version) = (call.broker.clone(), call.connection.clone(), call.version);
    if !broker.metadata.image().brokers().any(|other| !other.fenced) {
        // A cluster that is just coming about: clients take an answer without brokers badly, some for half a minute.
        return Ok(call.spawn(async move {
            // Where it does not come about, that is the answer.
            let _ = broker.metadata.quorum().wait_ready(FORMATION_WAIT).await;
            let missing = missing(&broker, &request, version);
            broker
                .create_missing_topics(missing.into_iter().filter(|name| !is_internal(name)).collect())
                .await;
            answer(&broker, &connection, &request, version)
        }));
    }
    let (internal, missing): (Vec<Str>, Vec<Str>) =
        missing(&broker, &request, version).into_iter().partition(|name| is_internal(name));
    if internal.is_empty() && missing.is_empty() {
        // Said when it is sent: behind produces that wait for a replica which is gone, what was true when it was asked is not any more.
        return Ok(call.in_turn(move || answer(&broker, &connection, &request, version)));
    }
    Ok(call.spawn(async move {
        if !internal.is_empty() {
            // What goes wrong is in the log, and the topic is answered as missing.
            let _ = broker.groups.create_topic(&broker).await;
        }
        if !missing.is_empty() {
            broker.create_missing_topics(missing).await;
        }
        answer(&broker, &connection, &request, version)
    }))
}

/// The names that are to be created before the answer.
fn missing(broker: &Arc<Broker>, request: &MetadataRequest, version: i16) -> Vec<Str> {
    let wanted = version < 4 || request.allow_auto_topic_creation;
    if !wanted || !broker.dynamic().config.auto_create_topics_enable {
        return Vec::new();
    }
    let image = broker.metadata.image();
    let topics = request.topics.iter().flatten().filter_map(|topic| topic.name.as_ref());
    topics.filter(|name| image.topic(name).is_none()).cloned().collect()
}

/// What the entries of topics depend on.
struct View<'a> {
    image: &'a Image,
    /// Nodes that lead by the image and whose process has ended.
    gone: &'a [NodeId],
    version: i16,
    operations: i32,
}

fn answer(
    broker: &Broker,
    connection: &ConnectionContext,
    request: &MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let image = broker.metadata.image();
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN };
    let now_ms = broker.clock.monotonic_ms();
    let gone = broker.gone.nodes(&image, now_ms);
    let view = View { image: &image, gone: &gone, version, operations };
    let topics = match &request.topics {
        None => image.topics().map(|topic| view.found(topic)).collect(),
        Some(wanted) => wanted.iter().map(|topic| view.one(topic)).collect(),
    };
    let shown =
        image.brokers().filter(|other| !other.fenced || broker.gone.is_newly_fenced(other.id, now_ms));
    let brokers = shown.map(|other| {
        let Address { id, host, port, rack, .. } = Address::new(broker, other, connection);
        MetadataResponseBroker { node_id: id, host: Str::from(host), port, rack: rack.map(Str::from) }
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(Str::from(image.cluster_id().to_string())),
        controller_id: controller_id(broker, &image),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..MetadataResponse::default()
    }
}

impl View<'_> {
    fn one(&self, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
        let by_id = !wanted.topic_id.is_zero();
        let topic = match &wanted.name {
            _ if by_id => self.image.topic_by_id(&wanted.topic_id),
            Some(name) => self.image.topic(name),
            None => None,
        };
        let error = match (&topic, &wanted.name) {
            (Some(topic), _) => return self.found(topic),
            (None, _) if by_id => ErrorCode::UnknownTopicId,
            (None, Some(name)) if chronik_meta::topic_name_problem(name).is_some() => {
                ErrorCode::InvalidTopicException
            }
            (None, _) => ErrorCode::UnknownTopicOrPartition,
        };
        MetadataResponseTopic {
            error_code: error.code(),
            // By id, the name stays null; by name, versions before 12 can't carry a null.
            name: if by_id { None } else { Some(wanted.name.clone().unwrap_or_default()) },
            topic_id: if by_id { wanted.topic_id } else { Uuid::ZERO },
            ..MetadataResponseTopic::default()
        }
    }

    fn found(&self, topic: &Topic) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: 0,
            name: Some(Str::from(&*topic.name)),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: topic
                .partitions
                .iter()
                .map(|(index, partition)| self.partition(index, partition))
                .collect(),
            topic_authorized_operations: self.operations,
        }
    }

    fn partition(&self, index: i32, partition: &Partition) -> MetadataResponsePartition {
        let shown = |nodes: &[NodeId]| -> Vec<NodeId> {
            let nodes = nodes.iter().copied();
            nodes.filter(|id| self.version > 0 || is_alive(self.image, *id)).collect()
        };
        let (replica_nodes, isr_nodes) = (shown(&partition.replicas), shown(&partition.isr));
        let is_led = is_alive(self.image, partition.leader) && !self.gone.contains(&partition.leader);
        let error = if !is_led {
            ErrorCode::LeaderNotAvailable
        } else if replica_nodes.len() < partition.replicas.len() || isr_nodes.len() < partition.isr.len() {
            ErrorCode::ReplicaNotAvailable
        } else {
            ErrorCode::None
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index,
            leader_id: if is_led { partition.leader } else { -1 },
            leader_epoch: partition.leader_epoch,
            replica_nodes,
            isr_nodes,
            offline_replicas: offline_replicas(self.image, partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster_view::tests::image;
    use super::*;

    fn partition(image: &Image, version: i16) -> MetadataResponsePartition {
        partition_without(image, &[], version)
    }

    fn partition_without(image: &Image, gone: &[NodeId], version: i16) -> MetadataResponsePartition {
        View { image, gone, version, operations: 0 }.found(image.topic("t").unwrap()).partitions.remove(0)
    }

    #[test]
    fn replicas_that_are_away_are_offline_and_old_clients_do_not_see_them() {
        let image = image(3, &[1]);
        let shown = partition(&image, 12);
        assert_eq!((shown.error_code, shown.leader_id, shown.leader_epoch), (0, 2, 1));
        assert_eq!(
            (shown.replica_nodes, shown.isr_nodes, shown.offline_replicas),
            (vec![1, 2, 3], vec![2, 3], vec![1])
        );
        let old = partition(&image, 0);
        assert_eq!(old.error_code, ErrorCode::ReplicaNotAvailable.code());
        assert_eq!((old.leader_id, old.replica_nodes), (2, vec![2, 3]));
    }

    #[test]
    fn without_a_leader_there_is_an_error_and_none_is_named() {
        let image = image(2, &[2, 1]);
        for version in [0, 1, 13] {
            let shown = partition(&image, version);
            assert_eq!((shown.error_code, shown.leader_id), (ErrorCode::LeaderNotAvailable.code(), -1));
        }
        assert_eq!(partition(&image, 1).isr_nodes, [1]);
    }

    #[test]
    fn a_leader_whose_process_ended_is_not_named() {
        let image = image(2, &[]);
        assert_eq!(partition_without(&image, &[2], 12).leader_id, 1);
        let shown = partition_without(&image, &[1], 12);
        assert_eq!((shown.error_code, shown.leader_id), (ErrorCode::LeaderNotAvailable.code(), -1));
        assert_eq!(shown.offline_replicas, [0; 0]);
    }
}
