//! One fetch at the tail: decode, read, the answer's frame.

use crate::log::{self, EPOCH, Log, NOW_MS};
use crate::{Path, TIMES, frames};
use anyhow::{Result, ensure};
use chronik_base::{Chunk, Uuid};
use chronik_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use chronik_protocol::{ApiKey, response_frame};

const VERSION: i16 = 17;
/// Records that one fetch finds.
const RECORDS: i64 = 16;

pub fn set_up() -> Result<Path> {
    let log = Log::open()?;
    for _ in 0..TIMES {
        log.partition.append_leader(log::batch()?, EPOCH, NOW_MS)?;
    }
    log.flush()?;
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic_id: Uuid([7; 16]),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: TIMES as i64 - RECORDS,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let frame = frames::of(VERSION, &request)?;
    Ok(Box::new(move |_| {
        // The whole of it belongs to the path: without its manager the log is closed.
        let log = &log;
        let (header, request) = frames::decode::<FetchRequest>(&frame)?;
        let mut response = FetchResponse::default();
        for topic in request.topics {
            let mut answer =
                FetchableTopicResponse { topic_id: topic.topic_id, ..FetchableTopicResponse::default() };
            for wanted in topic.partitions {
                let end = log.partition.flushed_offset();
                let room = usize::try_from(wanted.partition_max_bytes)?;
                let plan = log.partition.read(wanted.fetch_offset, room, end, true)?;
                ensure!(plan.next_offset == end, "read up to {} of {end}", plan.next_offset);
                answer.partitions.push(PartitionData {
                    partition_index: wanted.partition,
                    high_watermark: end,
                    last_stable_offset: end,
                    log_start_offset: log.partition.log_start_offset(),
                    records: Some(plan.chunks),
                    ..PartitionData::default()
                });
            }
            response.responses.push(answer);
        }
        let frame = response_frame(ApiKey::Fetch, VERSION, header.correlation_id, &response);
        ensure!(frame.iter().map(Chunk::len).sum::<usize>() > 256 * RECORDS as usize, "the answer is short");
        Ok(())
    }))
}
