//! The timers of all coordinators: one task that sleeps until the earliest.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Broker;
use crate::groups::shard::NEVER;

/// Tells the task that something is due earlier than it knows.
pub(super) struct Timers {
    /// When the task will look again, on the monotonic clock.
    armed: AtomicU64,
    changed: Notify,
}

impl Default for Timers {
    fn default() -> Self {
        Self { armed: AtomicU64::new(NEVER), changed: Notify::new() }
    }
}

impl Timers {
    /// Something is due at `deadline`.
    pub(super) fn wake_before(&self, deadline: u64) {
        if deadline < self.armed.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }
}

/// Gives every coordinator its ticks; runs for as long as the broker does.
pub(super) async fn run(broker: Weak<Broker>) {
    loop {
        let Some(strong) = broker.upgrade() else { return };
        let shards = strong.groups.shards();
        let now = strong.clock.monotonic_ms();
        // Whoever sets a deadline from here on wakes this task, because it seems to sleep for ever.
        strong.groups.timers.armed.store(NEVER, Ordering::SeqCst);
        shards.iter().for_each(|shard| shard.tick(&strong, now));
        let earliest = shards.iter().map(|shard| shard.deadline()).min().unwrap_or(NEVER);
        strong.groups.timers.armed.store(earliest, Ordering::SeqCst);
        let sleep = match earliest {
            NEVER => Duration::MAX,
            deadline => Duration::from_millis(deadline.saturating_sub(strong.clock.monotonic_ms())),
        };
        tokio::select! {
            () = tokio::time::sleep(sleep.min(Duration::from_secs(3600))) => {}
            () = strong.groups.timers.changed.notified() => {}
            () = strong.closing() => return,
        }
    }
}
