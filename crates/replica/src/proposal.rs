//! The ISR that the leader would like, for the quorum to decide (KIP-497).
//!
//! A proposal may come into force long before the leader hears so, so from the moment it is made the high watermark waits for everyone whom it
//! adds (the *maximal* ISR). It stops doing so only when the proposal can't come into force any more: it was refused and no other copy of it can be
//! under way, or the partition epoch that it was made on has passed. A removal never counts before the decision.

use chronik_base::NodeId;

use crate::leader::Leader;
use crate::member::Member;

/// After a proposal that failed, how long until the next one, in milliseconds.
pub const PROPOSAL_RETRY_MS: u64 = 250;

/// An ISR for the quorum to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The leader epoch of the leader that proposes.
    pub leader_epoch: i32,
    /// The partition epoch that it was thought out on; the quorum refuses it on any other.
    pub partition_epoch: i32,
    /// The members with their broker epochs (KIP-903), -1 where the leader does not know it: for itself, and for a member that it
    /// did not hear of since it leads. The caller puts in those of the metadata.
    pub isr: Vec<(NodeId, i64)>,
}

/// How a proposal failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalFailure {
    /// The quorum refused it: this copy of it will never come into force.
    Refused,
    /// Nobody knows whether it came or will come into force.
    Unknown,
}

/// Proposals on the current partition epoch.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    in_flight: bool,
    /// One of them ended without an answer: it may still come into force.
    unknown: bool,
    retry_ms: u64,
}

impl Proposals {
    /// The partition epoch has passed.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When a proposal that is due at `due` may be made; `None` while one is in flight.
    pub(crate) fn not_before(&self, due: u64) -> Option<u64> {
        (!self.in_flight).then_some(due.max(self.retry_ms))
    }
}

impl<T> Leader<T> {
    /// The ISR to propose now, if it is another one than the quorum decided on. Leave out: who lags for `replica.lag.time.max.ms`, or is gone for so
    /// long, or whose address nobody listens at. Take in: who is connected and has flushed up to the high watermark and the start of the leader
    /// epoch, and whom the metadata lets join: `eligible` says so of a node and its broker epoch (registered with it, unfenced, not shutting down).
    ///
    /// One proposal is in flight at a time. It ends with [`Leader::on_partition`] (a newer partition epoch) or [`Leader::on_proposal_failed`].
    pub fn propose(&mut self, now_ms: u64, eligible: impl Fn(NodeId, i64) -> bool) -> Option<IsrProposal> {
        if self.proposals.not_before(0).is_none_or(|at| now_ms < at) {
            return None;
        }
        let wanted = |member: &Member| match member.in_isr {
            true => self.out_of_sync_at(member).is_none_or(|at| now_ms < at),
            // One that would be put out again at once stays out until it has caught up.
            false => {
                self.may_join(member)
                    && self.out_of_sync_at(member).is_none_or(|at| now_ms < at)
                    && eligible(member.node, member.broker_epoch())
            }
        };
        if self.followers.iter().all(|member| wanted(member) == member.in_isr) && !self.wants_to_settle() {
            if self.wants_to_grow() {
                // Only the metadata keeps them out: look again in a while.
                self.proposals.retry_ms = now_ms.saturating_add(PROPOSAL_RETRY_MS);
            }
            return None;
        }
        let mut isr = Vec::with_capacity(self.followers.len() + 1);
        isr.push((self.node, -1));
        let members = self.followers.iter().filter(|&member| wanted(member));
        isr.extend(members.map(|member| (member.node, member.broker_epoch())));
        for member in &mut self.followers {
            member.maybe_in_isr |= !member.in_isr && isr.iter().any(|(node, _)| *node == member.node);
        }
        self.proposals.in_flight = true;
        Some(IsrProposal { leader_epoch: self.epoch, partition_epoch: self.partition_epoch, isr })
    }

    /// The proposal that was made on `partition_epoch` failed. Refused, it ends (the metadata that it was at odds with is on its way); where
    /// nobody knows, whom it would add goes on to count for the high watermark, and the quorum is asked again after [`PROPOSAL_RETRY_MS`].
    pub fn on_proposal_failed(&mut self, partition_epoch: i32, failure: ProposalFailure, now_ms: u64) {
        if partition_epoch != self.partition_epoch || !self.proposals.in_flight {
            return;
        }
        self.proposals.in_flight = false;
        self.proposals.unknown |= failure == ProposalFailure::Unknown;
        self.proposals.retry_ms = now_ms.saturating_add(PROPOSAL_RETRY_MS);
        // A copy without an answer may come into force though a later one was refused.
        if !self.proposals.unknown {
            self.followers.iter_mut().for_each(|member| member.maybe_in_isr = false);
        }
    }

    /// Whether a proposal is in flight.
    pub fn is_proposing(&self) -> bool {
        self.proposals.in_flight
    }

    /// KIP-497: a candidate must hold all that is committed, and all that was in the log when this leader began; the latter because the high watermark
    /// of a new leader may be behind what its predecessor told.
    fn may_join(&self, member: &Member) -> bool {
        member.is_up() && member.flushed >= self.high_watermark && member.flushed >= self.epoch_start
    }

    pub(crate) fn wants_to_grow(&self) -> bool {
        self.followers.iter().any(|member| !member.in_isr && self.may_join(member))
    }

    /// Somebody counts because of a proposal without an answer, and is no candidate any more: any decision on this partition epoch, even for the
    /// ISR as it is, shows what became of it.
    pub(crate) fn wants_to_settle(&self) -> bool {
        self.proposals.unknown
            && self.followers.iter().any(|member| member.maybe_in_isr && !self.may_join(member))
    }
}
