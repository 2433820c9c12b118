//! Waits that take too long, and followers that fall behind: partitions with somebody waiting, or with a follower that is not as it
//! should be, are looked at now and then, all others never.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use chronik_replica::{WaitCause, WaitingOn};

use crate::Broker;
use crate::partition::Partition;
use crate::produce_wait::Wakers;
use crate::rate_limit::RateLimit;
use crate::sync::Hold;

/// How often waits are looked at while there are any: a timeout is answered at most so much late.
const INTERVAL: Duration = Duration::from_millis(200);

/// Partitions in which somebody may be waiting for an acknowledgement, or a follower may be falling behind.
#[derive(Default)]
pub(crate) struct Waits {
    partitions: Mutex<Vec<Weak<Partition>>>,
    added: Notify,
    log_line: RateLimit,
}

impl Waits {
    /// Somebody waits in `partition`, or its followers are to be watched. Costs an atomic swap where the partition is known already.
    pub(crate) fn add(&self, partition: &Arc<Partition>) {
        if partition.mark_waiting() {
            self.partitions.hold().push(Arc::downgrade(partition));
            self.added.notify_one();
        }
    }

    /// Answers whoever waits past its deadline, and notes who fell behind; runs for as long as the broker does.
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
            let ticked = partition.tick(now_ms, &mut wakers, |offset, waited_ms, on| {
                broker.metrics.ack_timeout(on.map(|on| on.cause));
                self.tell(broker, &partition, offset, waited_ms, on);
            });
            if ticked.is_replicated {
                broker.replication.isr.consider(&partition);
            }
            if ticked.again {
                self.add(&partition);
            }
        }
        wakers.wake_all();
    }

    fn tell(
        &self,
        broker: &Broker,
        partition: &Partition,
        offset: i64,
        waited_ms: u64,
        on: Option<WaitingOn>,
    ) {
        if let Some(suppressed) = self.log_line.allow(broker.clock.monotonic_ms()) {
            let on = on.unwrap_or(WaitingOn {
                node: broker.node_id,
                acked_end: partition.log.flushed_offset(),
                acked_ago_ms: None,
                cause: WaitCause::OwnFlush,
            });
            let address = match broker.peers.address_of(on.node) {
                Some(address) if on.node != broker.node_id => address,
                _ => broker.address.to_string(),
            };
            let ago = on.acked_ago_ms.map(|ms| format!("{} ago, ", Seconds(ms))).unwrap_or_default();
            tracing::warn!(
                suppressed,
                "ISR quorum timeout for {}-{} offset {offset} after {}: waiting on broker {} at {address} (last ack {}, {ago}{})",
                partition.topic,
                partition.index,
                Seconds(waited_ms),
                on.node,
                on.acked_end,
                on.cause,
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
