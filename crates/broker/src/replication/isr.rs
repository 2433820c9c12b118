//! Changes of in-sync replicas: leaders propose them, the metadata quorum decides. One task carries the proposals of all
//! partitions, as many as there are with one submission.

use std::sync::{Arc, Mutex, Weak};

use chronik_base::ErrorCode;
use chronik_meta::{AlterPartition, Command, MetaError};
use chronik_replica::ProposalFailure;
use tokio::sync::Notify;

use crate::Broker;
use crate::partition::Partition;
use crate::sync::Hold;

/// Proposals of one submission, at most.
const PROPOSALS_MAX: usize = 1_000;

/// Partitions whose leader may have something to propose.
#[derive(Default)]
pub(crate) struct IsrChanges {
    partitions: Mutex<Vec<Weak<Partition>>>,
    added: Notify,
}

impl IsrChanges {
    /// Something happened that may change the in-sync replicas of `partition`.
    pub(crate) fn consider(&self, partition: &Arc<Partition>) {
        self.partitions.hold().push(Arc::downgrade(partition));
        self.added.notify_one();
    }

    /// Submits proposals; runs for as long as the broker does.
    pub(crate) async fn run(broker: Weak<Broker>) {
        loop {
            let Some(strong) = broker.upgrade() else { return };
            let some = {
                let mut waiting = strong.replication.isr.partitions.hold();
                let keep = waiting.len().saturating_sub(PROPOSALS_MAX);
                waiting.split_off(keep)
            };
            if some.is_empty() {
                let added = strong.replication.isr.added.notified();
                tokio::select! {
                    () = added => {}
                    () = strong.closing() => return,
                }
                continue;
            }
            propose(&strong, &some).await;
        }
    }
}

async fn propose(broker: &Arc<Broker>, some: &[Weak<Partition>]) {
    let image = broker.metadata.image();
    let now_ms = broker.clock.monotonic_ms();
    let mut proposed = Vec::new();
    let mut commands = Vec::new();
    for partition in some.iter().filter_map(Weak::upgrade) {
        let eligible = |node, epoch| {
            image.broker(node).is_some_and(|other| {
                !other.fenced && !other.in_shutdown && (epoch < 0 || other.epoch == epoch)
            })
        };
        let Some(proposal) = partition.propose(now_ms, eligible) else { continue };
        let isr = proposal.isr.iter().map(|&(node, epoch)| match epoch {
            -1 => (node, image.broker(node).map_or(-1, |other| other.epoch)),
            known => (node, known),
        });
        let key = partition.key();
        commands.push(Command::AlterPartition(AlterPartition {
            topic: key.topic_id,
            partition: key.partition,
            leader: broker.node_id,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: isr.collect(),
        }));
        proposed.push((partition, proposal));
    }
    if commands.is_empty() {
        return;
    }
    let results = broker.metadata.commit(commands).await;
    let now_ms = broker.clock.monotonic_ms();
    let mut changed = 0_usize;
    for ((partition, proposal), result) in proposed.iter().zip(results) {
        match result {
            Ok(_) => {
                broker.metrics.isr_changes.inc();
                changed += 1;
                tracing::debug!(topic = %partition.topic, partition = partition.index, "in-sync replicas: {:?}", nodes(&proposal.isr));
            }
            Err(error) => {
                let failure =
                    if is_refusal(&error) { ProposalFailure::Refused } else { ProposalFailure::Unknown };
                tracing::debug!(topic = %partition.topic, partition = partition.index, "in-sync replicas {:?} not taken: {error}", nodes(&proposal.isr));
                partition.on_proposal_failed(proposal.partition_epoch, failure, now_ms);
                // It is looked at again by the clock.
                broker.waits.add(partition);
            }
        }
    }
    if changed > 0 {
        tracing::info!("the in-sync replicas of {changed} partitions changed");
    }
}

/// Whether the quorum itself looked at the proposal and refused it; in every other case it may still come into force.
fn is_refusal(error: &MetaError) -> bool {
    matches!(
        error.code(),
        ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::InvalidUpdateVersion
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::IneligibleReplica
            | ErrorCode::StaleBrokerEpoch
            | ErrorCode::NotLeaderOrFollower
    )
}

fn nodes(isr: &[(chronik_base::NodeId, i64)]) -> Vec<chronik_base::NodeId> {
    isr.iter().map(|(node, _)| *node).collect()
}
