//! Known mistakes, planted one at a time to show that the simulation finds them.
//!
//! A mutant changes what the simulated node does around the state machines (drops the check's input, answers too early); the machines themselves have no
//! switch, so no build of the product can have one.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A follower acknowledges what it has written before it is flushed.
    AckBeforeFlush,
    /// The leader counts itself alone.
    LeaderAlone,
    /// The leader takes an acknowledgement of any epoch.
    AckEpochUnchecked,
    /// The leader takes a follower's fetch (subscription) of any epoch.
    FetchEpochUnchecked,
    /// A follower takes an append of any epoch.
    AppendEpochUnchecked,
    /// A follower does not truncate.
    NoTruncation,
    /// A follower truncates to its high watermark instead of the end of the common epoch.
    TruncateToHighWatermark,
    /// The high watermark moves on the word of a node that is not in the ISR.
    RemovedMemberCounts,
    /// A leader is elected outside of the ISR.
    ElectOutsideIsr,
    /// The leader forgets the ISR change that it has in flight.
    ForgetProposal,
    /// A new leader gets an epoch that was used.
    ReuseEpoch,
    /// The quorum answers before its change is durable.
    AnswerBeforeDurable,
    /// A new leader does not know the producers' sequences.
    LoseProducerState,
    /// A coordinator that was deposed answers a commit that it could not replicate.
    CommitAtDeposed,
}

impl Mutant {
    /// Each of them.
    pub const ALL: [Mutant; 14] = [
        Mutant::AckBeforeFlush,
        Mutant::LeaderAlone,
        Mutant::AckEpochUnchecked,
        Mutant::FetchEpochUnchecked,
        Mutant::AppendEpochUnchecked,
        Mutant::NoTruncation,
        Mutant::TruncateToHighWatermark,
        Mutant::RemovedMemberCounts,
        Mutant::ElectOutsideIsr,
        Mutant::ForgetProposal,
        Mutant::ReuseEpoch,
        Mutant::AnswerBeforeDurable,
        Mutant::LoseProducerState,
        Mutant::CommitAtDeposed,
    ];

    /// What is done wrong, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Mutant::AckBeforeFlush => "acknowledging before the follower's flush",
            Mutant::LeaderAlone => "counting the leader alone",
            Mutant::AckEpochUnchecked => "not checking the epoch on an acknowledgement",
            Mutant::FetchEpochUnchecked => "not checking the epoch on a fetch",
            Mutant::AppendEpochUnchecked => "not checking the epoch on an append",
            Mutant::NoTruncation => "skipping truncation on becoming a follower",
            Mutant::TruncateToHighWatermark => "truncating to the high watermark instead of the epoch's end",
            Mutant::RemovedMemberCounts => "advancing the high watermark on a removed member's word",
            Mutant::ElectOutsideIsr => "electing outside the ISR",
            Mutant::ForgetProposal => "forgetting the ISR change that was in flight",
            Mutant::ReuseEpoch => "reusing an epoch",
            Mutant::AnswerBeforeDurable => "answering before the metadata change is durable",
            Mutant::LoseProducerState => "losing the producer's sequence state on failover",
            Mutant::CommitAtDeposed => "committing a group offset at a deposed coordinator",
        }
    }
}
