//! Waits that take too long: partitions with somebody waiting are looked at now and then, all others never.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Broker;
use crate::partition::Partition;
use crate::produce_wait::Wakers;
use crate::rate_limit::RateLimit;
use crate::sync::Hold;

/// How often waits are looked at while there are any: a timeout is answered at most so much late.
const INTERVAL: Duration = Duration::from_millis(200);

/// Partitions in which somebody may be waiting for an acknowledgement.
#[derive(Default)]
pub(crate) struct Waits {
    partitions: Mutex<Vec<Weak<Partition>>>,
    added: Notify,
    log_line: RateLimit,
}

impl Waits {
    /// Somebody waits in `partition`. Costs an atomic swap where the partition is known already.
    pub(crate) fn add(&self, partition: &Arc<Partition>) {
        if partition.mark_waiting() {
            self.partitions.hold().push(Arc::downgrade(partition));
            self.added.notify_one();
        }
    }

    /// Answers whoever waits past its deadline; runs for as long as the broker does.
    pub(crate) async fn run(broker: Weak<Broker>) {
        loop {
            let Some(strong) = broker.upgrade() else { return };
            if strong.waits.partitions.hold().is_empty() {
                let added = strong.waits.added.notified();
                tokio::select! {
                    () = added => {}
                    () = strong.closing() => return,
                }
            }
            drop(strong);
            tokio::time::sleep(INTERVAL).await;
            let Some(strong) = broker.upgrade() else { return };
            strong.waits.sweep(&strong);
        }
    }

    fn sweep(&self, broker: &Broker) {
        let now_ms = broker.clock.monotonic_ms();
        let mut wakers = Wakers::default();
        let waiting = std::mem::take(&mut *self.partitions.hold());
        for partition in waiting.iter().filter_map(Weak::upgrade) {
            partition.unmark_waiting();
            let still = partition.expire(now_ms, &mut wakers, |offset, waited_ms| {
                broker.metrics.ack_timeouts.inc();
                self.tell(broker, &partition, offset, waited_ms);
            });
            if still {
                self.add(&partition);
            }
        }
        wakers.wake_all();
    }

    fn tell(&self, broker: &Broker, partition: &Partition, offset: i64, waited_ms: u64) {
        if let Some(suppressed) = self.log_line.allow(broker.clock.monotonic_ms()) {
            tracing::warn!(
                suppressed,
                "ISR quorum timeout for {}-{} offset {offset} after {}: waiting on broker {} at {} (last ack {}, its own flush to disk)",
                partition.topic,
                partition.index,
                Seconds(waited_ms),
                broker.node_id,
                broker.address,
                partition.log.flushed_offset(),
            );
        }
    }
}

struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}s", self.0 / 1000) } else { write!(f, "{}ms", self.0) }
    }
}
