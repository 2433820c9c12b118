//! Metadata (3), versions 0 to 13: brokers, topics and their partitions; creates topics that are asked for and missing.
//!
//! All topics with a null list (an empty one in version 0), by name, or by id from version 10 on. A missing topic is
//! created where both the request and `auto.create.topics.enable` allow it, and is answered as it then is: clients need
//! not ask twice. Authorized operations are never computed (no ACLs yet) and stay at the protocol's "not asked" value, but
//! where the client asks for them it is told that everything is allowed, as Kafka without an authorizer does.

use std::sync::Arc;

use chronik_base::{ErrorCode, Uuid};
use chronik_meta::Image;
use chronik_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::Broker;
use crate::authorized::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::call::Call;
use crate::connection::ConnectionContext;
use crate::outcome::Outcome;
use crate::topics::is_internal;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let mut request = MetadataRequest::decode(reader, call.version)?;
    if call.version == 0 && request.topics.as_ref().is_some_and(Vec::is_empty) {
        request.topics = None;
    }
    let (broker, connection) = (call.broker.clone(), call.connection.clone());
    let missing = missing(&broker, &request, call.version);
    if missing.is_empty() {
        return Ok(call.ready(&answer(&broker, &connection, &request)));
    }
    Ok(call.spawn(async move {
        broker.create_missing_topics(missing).await;
        answer(&broker, &connection, &request)
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

fn answer(broker: &Broker, connection: &ConnectionContext, request: &MetadataRequest) -> MetadataResponse {
    let image = broker.metadata.image();
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN };
    let topics = match &request.topics {
        None => image.topics().map(|topic| found(topic, operations)).collect(),
        Some(wanted) => wanted.iter().map(|topic| one(&image, topic, operations)).collect(),
    };
    let brokers = image.brokers().map(|other| {
        let (host, port) = broker.address_of(other, connection);
        MetadataResponseBroker {
            node_id: other.id,
            host: Str::from(host),
            port: i32::from(port),
            rack: other.rack.clone().map(Str::from),
        }
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(Str::from(image.cluster_id().to_string())),
        controller_id: broker.node_id,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..MetadataResponse::default()
    }
}

fn one(image: &Image, wanted: &MetadataRequestTopic, operations: i32) -> MetadataResponseTopic {
    let by_id = !wanted.topic_id.is_zero();
    let topic = match &wanted.name {
        _ if by_id => image.topic_by_id(&wanted.topic_id),
        Some(name) => image.topic(name),
        None => None,
    };
    let error = match (&topic, &wanted.name) {
        (Some(topic), _) => return found(topic, operations),
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

fn found(topic: &chronik_meta::Topic, operations: i32) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|(index, partition)| MetadataResponsePartition {
        error_code: if partition.leader < 0 { ErrorCode::LeaderNotAvailable.code() } else { 0 },
        partition_index: index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.to_vec(),
        isr_nodes: partition.isr.to_vec(),
        offline_replicas: Vec::new(),
    });
    MetadataResponseTopic {
        error_code: 0,
        name: Some(Str::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
    }
}
