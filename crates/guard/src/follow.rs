//! One append by a follower: what came from the leader is checked by the state machine and by the log.

use crate::log::{self, EPOCH, Log};
use crate::{Path, TIMES};
use anyhow::{Result, ensure};
use chronik_log::PartitionLog;
use chronik_replica::{Answer, Append, EpochLog, Follower, FollowerAction, StreamId};

const LEADER: i32 = 1;
const STREAM: StreamId = StreamId { broker_epoch: 1, number: 1 };

struct Epochs<'a>(&'a PartitionLog);

impl EpochLog for Epochs<'_> {
    fn log_start(&self) -> i64 {
        self.0.log_start_offset()
    }
    fn log_end(&self) -> i64 {
        self.0.log_end_offset()
    }
    fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.0.end_offset_for_epoch(epoch)
    }
}

pub fn set_up() -> Result<Path> {
    let log = Log::open()?;
    let mut follower = Follower::new(LEADER, EPOCH, 0, 0);
    follower.subscribe(STREAM, &Epochs(&log.partition), 0);
    let answer = Answer::Stream { high_watermark: 0, log_start: 0 };
    let action = follower.on_answer(STREAM, answer, &Epochs(&log.partition))?;
    ensure!(action == FollowerAction::Stream, "no stream but {action:?}");
    let batches = (0..TIMES as i64).map(log::stored_batch).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |turn| {
        // The whole of it belongs to the path: without its manager the log is closed.
        let log = &log;
        let Some(batch) = batches.get(turn) else { anyhow::bail!("there is no batch {turn}") };
        let base_offset = turn as i64;
        follower.on_append(&Append {
            epoch: EPOCH,
            stream: STREAM,
            base_offset,
            end_offset: base_offset + 1,
            high_watermark: base_offset,
            log_start: 0,
        })?;
        let appended = log.partition.append_follower(batch.clone())?;
        log.partition.set_high_watermark(follower.high_watermark());
        ensure!(appended.last_offset == base_offset, "appended at {}", appended.last_offset);
        Ok(())
    }))
}
