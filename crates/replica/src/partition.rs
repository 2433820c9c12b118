//! What the quorum decided about a partition, as its leader takes it in.

use chronik_base::NodeId;

use crate::leader::{Leader, LeaderError, Progress, Settled};
use crate::member::Member;

/// The quorum's decision about a partition whose leader and leader epoch stay.
#[derive(Clone, Copy, Debug)]
pub struct PartitionUpdate<'a> {
    /// The leader epoch: the leader's, else the update is refused.
    pub leader_epoch: i32,
    /// The partition epoch; an update that is not newer changes nothing.
    pub partition_epoch: i32,
    /// Everyone who holds the partition or is about to.
    pub replicas: &'a [NodeId],
    /// The in-sync replicas.
    pub isr: &'a [NodeId],
}

impl<T> Leader<T> {
    /// The quorum changed the partition: its ISR, its replicas. Ends what was proposed on the partition epoch before. Whoever waits for `acks=all`
    /// is handed out where the ISR fell below `min.insync.replicas`.
    ///
    /// # Errors
    /// [`LeaderError::Fenced`] for another leader epoch: this leader is to be replaced.
    pub fn on_partition(
        &mut self,
        update: PartitionUpdate<'_>,
        now_ms: u64,
        to: impl FnMut(T, Settled),
    ) -> Result<Progress, LeaderError> {
        self.check_epoch(update.leader_epoch)?;
        if update.partition_epoch > self.partition_epoch {
            self.partition_epoch = update.partition_epoch;
            self.proposals.forget();
            self.followers.retain(|member| update.replicas.contains(&member.node));
            for &node in update.replicas.iter().filter(|&&node| node != self.node) {
                if !self.followers.iter().any(|member| member.node == node) {
                    self.followers.push(Member::new(node, false, now_ms));
                }
            }
            for member in &mut self.followers {
                member.in_isr = update.isr.contains(&member.node);
                member.maybe_in_isr = false;
            }
        }
        Ok(self.settle_or_fail(now_ms, to))
    }
}
