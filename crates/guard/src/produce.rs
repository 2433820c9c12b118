//! One produce: decode, validate, append.

use crate::log::{self, EPOCH, Log, NOW_MS};
use crate::{Path, TIMES, frames};
use anyhow::{Context, Result, ensure};
use chronik_base::Uuid;
use chronik_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use chronik_records::{ProduceRules, validate_produce};

const VERSION: i16 = 13;

pub fn set_up() -> Result<Path> {
    let log = Log::open()?;
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: Uuid([7; 16]),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(log::batch()?) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    };
    let frame = frames::of(VERSION, &request)?;
    let rules = ProduceRules { produce_version: VERSION, ..ProduceRules::default() };
    Ok(Box::new(move |turn| {
        // The whole of it belongs to the path: without its manager the log is closed.
        let log = &log;
        let (_, request) = frames::decode::<ProduceRequest>(&frame)?;
        for topic in request.topic_data {
            for data in topic.partition_data {
                let records = data.records.context("no records")?;
                let checked = validate_produce(records.clone(), &rules, NOW_MS)?;
                ensure!(!checked.rewritten, "the batch is not taken as it is");
                log.partition.append_leader(records, EPOCH, NOW_MS)?;
            }
        }
        let end = log.partition.log_end_offset();
        ensure!(end == turn as i64 + 1 && turn < TIMES, "the log ends at {end}");
        Ok(())
    }))
}
