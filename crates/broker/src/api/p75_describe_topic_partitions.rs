//! DescribeTopicPartitions (75), version 0: topics and their partitions, a piece at a time (KIP-966).
//!
//! Topics in the order of their names, all of them if none is named. A piece has as many partitions as the client allows, 2000 at the most;
//! where it ends, a cursor says where the next one begins. A named topic that is missing is answered with an error and counts as one
//! partition. Leaders and offline replicas are as in Metadata. Eligible leaders are those outside of the ISR; the last known ones are always
//! empty: an ISR that loses its last member keeps it.

use std::collections::BTreeSet;

use chronik_base::ErrorCode;
use chronik_meta::{Image, Partition, Topic, topic_name_problem};
use chronik_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use super::cluster_view::{is_alive, offline_replicas};
use crate::authorized::TOPIC_OPERATIONS;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::topics::is_internal;

/// Partitions in one answer at the most, whatever the client asks for; Kafka's default of `max.request.partition.size.limit`.
const PIECE_MAX: i32 = 2000;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeTopicPartitionsRequest::decode(reader, call.version)?;
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        // The answer has no place for an error of the whole request but that of a topic.
        let topic = DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: request.cursor.map(|cursor| cursor.topic_name),
            ..DescribeTopicPartitionsResponseTopic::default()
        };
        let topics = vec![topic];
        return Ok(call.ready(&DescribeTopicPartitionsResponse { topics, ..Default::default() }));
    }
    Ok(call.ready(&answer(&call.broker.metadata.image(), &request)))
}

fn answer(image: &Image, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let (from, from_partition) = match &request.cursor {
        Some(cursor) => (&*cursor.topic_name, cursor.partition_index),
        None => ("", 0),
    };
    let mut piece = Piece {
        image,
        from,
        from_partition,
        left: request.response_partition_limit.clamp(1, PIECE_MAX),
        topics: Vec::new(),
    };
    let next_cursor = if request.topics.is_empty() {
        image.topics_from(from).find_map(|topic| piece.add(&topic.name, Some(topic)))
    } else {
        let mut names: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
        // The topic that the last piece ended in may have been left out by the client; it is still owed.
        names.extend(request.cursor.as_ref().map(|cursor| &*cursor.topic_name));
        names.range(from..).find_map(|name| piece.add(name, image.topic(name).map(|topic| &**topic)))
    };
    DescribeTopicPartitionsResponse { topics: piece.topics, next_cursor, ..Default::default() }
}

/// The answer as it grows.
struct Piece<'a> {
    image: &'a Image,
    from: &'a str,
    from_partition: i32,
    left: i32,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Piece<'_> {
    /// Adds what there is room for of a topic. Gives where the next piece begins, if the topic did not fit.
    fn add(&mut self, name: &str, topic: Option<&Topic>) -> Option<Cursor> {
        let cursor = |partition_index| Some(Cursor { topic_name: Str::from(name), partition_index });
        let first = if name == self.from { self.from_partition } else { 0 };
        if self.left == 0 {
            return cursor(first);
        }
        let Some(topic) = topic else {
            self.left -= 1;
            self.topics.push(missing(name));
            return None;
        };
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let end = count.min(first.saturating_add(self.left));
        let partitions =
            (first..end).filter_map(|index| Some(entry(self.image, index, topic.partitions.get(index)?)));
        let partitions: Vec<_> = partitions.collect();
        self.left -= end.saturating_sub(first).max(0);
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: 0,
            name: Some(Str::from(name)),
            topic_id: topic.id,
            is_internal: is_internal(name),
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
        });
        if end < count { cursor(end) } else { None }
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match topic_name_problem(name) {
        Some(_) => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(Str::from(name)),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn entry(image: &Image, index: i32, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let is_led = is_alive(image, partition.leader);
    DescribeTopicPartitionsResponsePartition {
        error_code: if is_led { 0 } else { ErrorCode::LeaderNotAvailable.code() },
        partition_index: index,
        leader_id: if is_led { partition.leader } else { -1 },
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.to_vec(),
        isr_nodes: partition.isr.to_vec(),
        eligible_leader_replicas: Some(partition.eligible_leaders.to_vec()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: offline_replicas(image, partition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_base::Uuid;
    use chronik_meta::Command;
    use chronik_protocol::messages::describe_topic_partitions::TopicRequest;

    fn image() -> Image {
        let mut image = Image::default();
        for (number, (name, count)) in [("a", 3), ("b", 1), ("c", 4)].into_iter().enumerate() {
            image.apply(&Command::CreateTopic {
                name: name.to_owned(),
                id: Uuid([number as u8 + 1; 16]),
                created: 0,
                assignments: vec![vec![1]; count],
                configs: Default::default(),
            });
        }
        image
    }

    fn walk(names: &[&str], limit: i32) -> Vec<Vec<(String, i16, usize)>> {
        let mut request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(|name| TopicRequest { name: Str::from(*name) }).collect(),
            response_partition_limit: limit,
            cursor: None,
        };
        let mut pieces = Vec::new();
        loop {
            let answer = answer(&image(), &request);
            let topics = answer.topics.iter();
            pieces.push(
                topics
                    .map(|t| (t.name.clone().unwrap().to_string(), t.error_code, t.partitions.len()))
                    .collect(),
            );
            request.cursor = answer.next_cursor;
            if request.cursor.is_none() || pieces.len() > 20 {
                return pieces;
            }
        }
    }

    fn ok(name: &str, partitions: usize) -> (String, i16, usize) {
        (name.to_owned(), 0, partitions)
    }

    #[test]
    fn pieces_follow_each_other() {
        assert_eq!(walk(&[], 2000), [vec![ok("a", 3), ok("b", 1), ok("c", 4)]]);
        assert_eq!(
            walk(&[], 2),
            [vec![ok("a", 2)], vec![ok("a", 1), ok("b", 1)], vec![ok("c", 2)], vec![ok("c", 2)]]
        );
        assert_eq!(walk(&["c", "a"], 3), [vec![ok("a", 3)], vec![ok("c", 3)], vec![ok("c", 1)]]);
        assert_eq!(walk(&["x", "b"], 1), [vec![ok("b", 1)], vec![("x".to_owned(), 3, 0)]]);
    }

    #[test]
    fn eligible_and_offline_replicas_are_told() {
        let mut image = super::super::cluster_view::tests::image(3, &[]);
        let id = image.topic("t").unwrap().id;
        let two = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
        image.apply(&Command::AlterTopicConfigs { topic: id, changes: two });
        for broker in [2, 3] {
            let epoch = image.broker(broker).unwrap().epoch;
            image.apply(&Command::FenceBroker { id: broker, epoch });
        }
        let request = DescribeTopicPartitionsRequest::default();
        let entry = answer(&image, &request).topics.remove(0).partitions.remove(0);
        assert_eq!((entry.error_code, entry.leader_id, entry.isr_nodes), (0, 1, vec![1]));
        assert_eq!((entry.eligible_leader_replicas, entry.offline_replicas), (Some(vec![3]), vec![2, 3]));
    }
}
