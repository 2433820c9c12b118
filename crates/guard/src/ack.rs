//! One `acks=all` in a partition of three replicas: the wait, the leader's own flush, the word of both followers, the answer.

use crate::Path;
use crate::log::EPOCH;
use anyhow::{Result, ensure};
use chronik_replica::{Leader, LeaderStart, StreamId, StreamStart};

const REPLICAS: [i32; 3] = [1, 2, 3];

pub fn set_up() -> Result<Path> {
    let mut leader = Leader::new(LeaderStart {
        node: 1,
        epoch: EPOCH,
        partition_epoch: 1,
        replicas: &REPLICAS,
        isr: &REPLICAS,
        log_end: 0,
        flushed_end: 0,
        high_watermark: 0,
        min_insync_replicas: 2,
        lag_time_max_ms: 30_000,
        now_ms: 0,
    });
    let stream = StreamId { broker_epoch: 1, number: 1 };
    for node in [2, 3] {
        let start = StreamStart { node, epoch: EPOCH, stream, flushed_end: 0 };
        leader.on_follower_subscribed(start, 0, drop)?;
    }
    Ok(Box::new(move |turn| {
        let (end, now_ms) = (turn as i64 + 1, turn as u64);
        let mut answered = 0;
        leader.check_in_sync(now_ms)?;
        ensure!(leader.wait_for_commit(end, now_ms, now_ms + 30_000, end).is_none(), "committed too early");
        leader.on_flushed(end, |_| answered += 1);
        for node in [2, 3] {
            leader.on_follower_flushed(node, EPOCH, stream, end, now_ms, |_| answered += 1)?;
        }
        ensure!(answered == 1 && leader.high_watermark() == end, "answered {answered} at offset {end}");
        Ok(())
    }))
}
