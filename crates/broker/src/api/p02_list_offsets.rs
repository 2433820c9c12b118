//! ListOffsets (2), versions 1 to 11: offsets by timestamp, the earliest, the latest, and that of the largest timestamp.
//!
//! "Latest" is the high watermark (the last stable offset with `read_committed`). Records that only wait for their flush
//! are flushed first, so that what was acknowledged with `acks=1` a moment ago is counted. Special timestamps: -1 latest,
//! -2 earliest, -3 largest timestamp (KIP-734), -4 earliest local (the earliest: nothing is tiered), -5 latest tiered (none).
//! Only the leader answers. While a new one has not heard yet how far its followers are, "latest" and times after what it knows are
//! `OFFSET_NOT_AVAILABLE`, and `LEADER_NOT_AVAILABLE` below version 5 (KIP-207).
//! Gap: -6 (earliest pending upload, for tiered storage) is refused with `UNSUPPORTED_VERSION`.

use std::sync::Arc;
use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_log::TimestampAndOffset;
use chronik_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::Partition;

/// From this version on there is `OFFSET_NOT_AVAILABLE`.
const NOT_AVAILABLE_FROM: i16 = 5;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// How long flushes, here and on the followers, may hold up the answer. What takes longer leaves the offset where it is.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ListOffsetsRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    let version = call.version;
    // Look-ups by time may read the disk: not on the connection's way.
    let by_time = request
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|p| p.timestamp >= 0 || p.timestamp == MAX_TIMESTAMP);
    let unflushed = unflushed(&broker, &request);
    if !by_time && unflushed.is_empty() {
        return Ok(call.ready(&answer(&broker, &request, version)));
    }
    Ok(call.spawn(async move {
        broker.wait_until_flushed(&unflushed, FLUSH_WAIT).await;
        let work = tokio::task::spawn_blocking(move || answer(&broker, &request, version));
        work.await.unwrap_or_default()
    }))
}

/// Partitions in which acknowledged records are not readable yet, with the offset that has to be.
fn unflushed(broker: &Broker, request: &ListOffsetsRequest) -> Vec<(Arc<Partition>, i64)> {
    let mut waiting = Vec::new();
    for topic in &request.topics {
        let Some(found) = broker.topics.by_name(&topic.name) else { continue };
        let partitions = topic.partitions.iter().filter(|wanted| wanted.timestamp != EARLIEST);
        for partition in partitions.filter_map(|wanted| found.led(wanted.partition_index).ok()) {
            if partition.has_unflushed() {
                waiting.push((partition.clone(), partition.log.written_offset()));
            }
        }
    }
    waiting
}

fn answer(broker: &Broker, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == 1;
    let topics = request.topics.iter().map(|topic| {
        let found = broker.topics.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = found
                .as_ref()
                .ok_or(ErrorCode::UnknownTopicOrPartition)
                .and_then(|found| found.led(wanted.partition_index));
            let answer = partition.and_then(|partition| look_up(partition, wanted, read_committed, version));
            match answer {
                Ok(place) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    timestamp: place.timestamp,
                    offset: place.offset,
                    leader_epoch: place.leader_epoch,
                    ..ListOffsetsPartitionResponse::default()
                },
                Err(error) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code: error.code(),
                    ..ListOffsetsPartitionResponse::default()
                },
            }
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

fn look_up(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
    version: i16,
) -> Result<TimestampAndOffset, ErrorCode> {
    let error = partition.check_leader_epoch(wanted.current_leader_epoch);
    if !error.is_ok() {
        return Err(error);
    }
    let latest = partition.latest().map_err(|error| match error {
        ErrorCode::OffsetNotAvailable if version < NOT_AVAILABLE_FROM => ErrorCode::LeaderNotAvailable,
        error => error,
    });
    let end = if read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
    let at = |offset| TimestampAndOffset { timestamp: -1, offset, leader_epoch: partition.leader_epoch() };
    let nothing = TimestampAndOffset { timestamp: -1, offset: -1, leader_epoch: -1 };
    // What is not found below the end may lie between that and where the last leader had it.
    let below_end = |place: Option<TimestampAndOffset>| match place.filter(|place| place.offset < end) {
        Some(place) => Ok(place),
        None => latest.map(|_| nothing),
    };
    let failed = |error: chronik_log::LogError| {
        tracing::warn!(topic = %partition.topic, partition = partition.index, "a look-up by time failed: {error}");
        ErrorCode::KafkaStorageError
    };
    match wanted.timestamp {
        LATEST => latest.map(|_| at(end)),
        EARLIEST => Ok(at(partition.log.log_start_offset())),
        EARLIEST_LOCAL if version >= 8 => Ok(at(partition.log.log_start_offset())),
        LATEST_TIERED if version >= 9 => Ok(nothing),
        MAX_TIMESTAMP if version >= 7 => below_end(partition.log.max_timestamp().map_err(failed)?),
        timestamp if timestamp >= 0 => {
            below_end(partition.log.offset_for_timestamp(timestamp).map_err(failed)?)
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}
