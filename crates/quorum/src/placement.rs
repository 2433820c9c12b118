//! What the metadata leader changes by itself about partitions, in small batches and only after something happened that asks for it.

use std::sync::Arc;
use std::time::Duration;

use chronik_meta::Command;
use tokio::time::{Instant, sleep, sleep_until};

use crate::duties::{BROKERS, LEADERSHIPS, PARTITIONS};
use crate::inner::Inner;
use crate::plan;

/// The pause between two batches.
const PAUSE: Duration = Duration::from_millis(100);

impl Inner {
    /// Gives leaderships back to preferred replicas, and puts partitions on brokers that are to hold them.
    pub(crate) async fn keep_placement(self: Arc<Self>) {
        let mut rebalance_at: Option<Instant> = None;
        loop {
            let due = rebalance_at.unwrap_or_else(Instant::now);
            tokio::select! {
                () = self.duties.signals.placement_changed.notified() => {}
                () = sleep_until(due), if rebalance_at.is_some() => {}
            }
            let what = self.duties.signals.take();
            if !self.is_leader() {
                // The next leader looks at everything when it begins.
                rebalance_at = None;
                continue;
            }
            if what & (BROKERS | PARTITIONS) != 0 && self.replicate_everything {
                self.in_batches(plan::missing_replicas).await;
            }
            if what & (BROKERS | LEADERSHIPS) != 0 && self.rebalance_leaders {
                rebalance_at.get_or_insert_with(|| Instant::now() + self.timing.rebalance_delay);
            }
            if rebalance_at.is_some_and(|at| at <= Instant::now()) {
                rebalance_at = None;
                self.in_batches(plan::preferred_leaders).await;
            }
        }
    }

    /// Proposes what `next` asks for until it asks for nothing more, or nothing of it can be done.
    async fn in_batches(self: &Arc<Self>, next: impl Fn(&chronik_meta::Image) -> Vec<Command>) {
        loop {
            let commands = next(&self.image());
            if commands.is_empty() || !self.is_leader() {
                return;
            }
            let results = self.commit(commands).await;
            if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
                tracing::debug!("partitions were not moved: {error}");
            }
            if results.iter().all(Result::is_err) {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}
