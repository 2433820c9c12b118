//! DeleteRecords (21), versions 0 to 2: moves the start of partitions up (KIP-107).
//!
//! Offset -1 stands for the high watermark. Records that only wait for their flush are flushed first, so that what was acknowledged with
//! `acks=1` a moment ago can be deleted. Above the high watermark: `OFFSET_OUT_OF_RANGE`. Topics that are only compacted refuse with
//! `POLICY_VIOLATION`, internal ones with `INVALID_TOPIC_EXCEPTION`, as in Kafka. Only the leader answers; followers hear of it right after, and are not
//! waited for.

use std::sync::Arc;
use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_log::AppendError;
use chronik_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::partition::Partition;
use crate::topics::is_internal;

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// A wait for a flush ends at the request's timeout, and after this long at the latest.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DeleteRecordsRequest::decode(reader, call.version)?;
    let waiting = unflushed(call.broker, &request);
    if waiting.is_empty() {
        return Ok(call.ready(&answer(call.broker, &request)));
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(FLUSH_WAIT_MAX);
    let broker = call.broker.clone();
    Ok(call.spawn(async move {
        broker.wait_until_flushed(&waiting, timeout).await;
        answer(&broker, &request)
    }))
}

/// Partitions whose high watermark has yet to reach what is to be deleted, with the offset it has to reach.
fn unflushed(broker: &Broker, request: &DeleteRecordsRequest) -> Vec<(Arc<Partition>, i64)> {
    let mut waiting = Vec::new();
    for topic in &request.topics {
        let Some(found) = broker.topics.by_name(&topic.name) else { continue };
        for wanted in &topic.partitions {
            let Ok(partition) = found.led(wanted.partition_index) else { continue };
            let written = partition.log.written_offset();
            let needed = if wanted.offset == HIGH_WATERMARK { written } else { wanted.offset.min(written) };
            if partition.has_unflushed() && partition.high_watermark() < needed {
                waiting.push((partition.clone(), needed));
            }
        }
    }
    waiting
}

fn answer(broker: &Broker, request: &DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let found = broker.topics.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let partition = found
                .as_ref()
                .ok_or(ErrorCode::UnknownTopicOrPartition)
                .and_then(|topic| topic.led(wanted.partition_index));
            let outcome = match partition {
                Err(error) => Err(error),
                Ok(_) if is_internal(&topic.name) => Err(ErrorCode::InvalidTopicException),
                Ok(partition) => delete(broker, partition, wanted),
            };
            DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: outcome.unwrap_or(-1),
                error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
            }
        });
        DeleteRecordsTopicResult { name: topic.name.clone(), partitions: partitions.collect() }
    });
    let topics = topics.collect();
    broker.log.kick();
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
}

fn delete(
    broker: &Broker,
    partition: &Arc<Partition>,
    wanted: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let cleanup = partition.settings().log_options.cleanup;
    if cleanup.compact && !cleanup.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let end = partition.high_watermark();
    let before = if wanted.offset == HIGH_WATERMARK { end } else { wanted.offset };
    if !(0..=end).contains(&before) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let start = partition.log.delete_records(before).map_err(|error: AppendError| {
        let (topic, index) = (&partition.topic, partition.index);
        tracing::warn!(%topic, partition = index, "records were not deleted: {error}");
        error.error_code()
    })?;
    broker.replication.marks_moved(partition);
    Ok(start)
}
