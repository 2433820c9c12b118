//! What the log's threads tell: written, flushed, failed. Each piece of news goes to its partition, and whoever it
//! settles is woken once all of it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;

use chronik_base::NodeId;
use chronik_log::{LogListener, PartitionKey, PartitionLog, Progress, StorageState};
use chronik_replica::StreamId;
use tokio::sync::Notify;

use crate::Broker;
use crate::partition::{Flushed, Partition};
use crate::produce_wait::Wakers;
use crate::replication::wire::PartitionAck;
use crate::sync::Hold;

/// The broker's ear at the log.
#[derive(Default)]
pub(crate) struct Completions {
    /// Connections that stopped reading because storage was behind wait here.
    pub(crate) pressure_relieved: Notify,
    /// Connections to leaders that do are woken by these.
    pressed: Mutex<Vec<Waker>>,
    /// Whose followers and leaders hear of it; set once there is a broker.
    pub(crate) broker: OnceLock<Weak<Broker>>,
    state: Mutex<Option<StorageState>>,
}

impl Completions {
    /// Wakes a task once storage is not behind any more.
    pub(crate) fn wake_when_relieved(&self, waker: &Waker) {
        let mut pressed = self.pressed.hold();
        if !pressed.iter().any(|known| known.will_wake(waker)) {
            pressed.push(waker.clone());
        }
    }

    /// What the log said last of its storage; `None` until it says anything, which means that it takes writes.
    pub(crate) fn state(&self) -> Option<StorageState> {
        self.state.hold().clone()
    }
}

fn partition_of(log: &Arc<PartitionLog>) -> Option<Arc<Partition>> {
    log.owner()?.downcast::<Partition>().ok()
}

impl LogListener for Completions {
    fn on_written(&self, progress: &[Progress]) {
        let mut wakers = Wakers::default();
        for (log, end) in progress {
            if let Some(partition) = partition_of(log) {
                partition.on_written(*end, &mut wakers);
            }
        }
        wakers.wake_all();
    }

    fn on_flushed(&self, progress: &[Progress]) {
        let mut wakers = Wakers::default();
        let broker = self.broker.get().and_then(Weak::upgrade);
        let mut acknowledged = false;
        for (log, end) in progress {
            let Some(partition) = partition_of(log) else { continue };
            match (partition.on_flushed(*end, &mut wakers), &broker) {
                (Flushed::Leader { advanced: true }, Some(broker)) => {
                    broker.replication.marks_moved(&partition);
                }
                (Flushed::Follower { leader, ack }, Some(broker)) => {
                    let ack = PartitionAck { key: partition.key(), ack };
                    broker.replication.following.acknowledge(leader, ack);
                    acknowledged = true;
                }
                _ => {}
            }
        }
        if let Some(broker) = broker.filter(|_| acknowledged) {
            broker.replication.following.send_acks(&broker);
        }
        wakers.wake_all();
    }

    fn on_failed(&self, from: &[Progress], error: &str) {
        tracing::error!(partitions = from.len(), "appends were not acknowledged: {error}");
        let mut wakers = Wakers::default();
        let broker = self.broker.get().and_then(Weak::upgrade);
        let mut over: HashMap<NodeId, Vec<(PartitionKey, StreamId)>> = HashMap::new();
        for (log, offset) in from {
            let Some(partition) = partition_of(log) else { continue };
            if let Some((leader, stream)) = partition.on_failed(*offset, &mut wakers) {
                over.entry(leader).or_default().push((partition.key(), stream));
            }
        }
        if let Some(broker) = broker {
            over.iter().for_each(|(leader, streams)| {
                broker.replication.following.unable(&broker, *leader, streams);
            });
            let again = over.into_values().flatten().map(|(key, _)| key).collect();
            broker.replication.want_later(&Arc::downgrade(&broker), again);
        }
        wakers.wake_all();
    }

    fn on_pressure_relieved(&self) {
        self.pressure_relieved.notify_waiters();
        let pressed = std::mem::take(&mut *self.pressed.hold());
        pressed.into_iter().for_each(Waker::wake);
    }

    /// The log has written its own line about it.
    fn on_state(&self, state: &StorageState) {
        *self.state.hold() = Some(state.clone());
        let Some(broker) = self.broker.get().and_then(Weak::upgrade) else { return };
        match state {
            // Nothing is written any more while this process lives: others have to lead.
            StorageState::Poisoned(_) => broker.replication.hand_over(&broker),
            StorageState::Full => broker.replication.yield_while_full(&broker),
            StorageState::Writable => {}
        }
    }
}
