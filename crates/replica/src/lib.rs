//! Partition replication as a state machine without I/O: leader epochs, the in-sync replica set (ISR), the high
//! watermark, and who waits for which acknowledgement.
//!
//! - [`Leader`] is one partition's leader in one leader epoch. It is told what its own log and its followers have flushed, which of them come and
//!   go, and what the metadata quorum decides; it says how far the high watermark is, who is to be answered, and which ISR it would like.
//! - [`Follower`] is one partition's follower in one leader epoch: it subscribes at its log's end, truncates where its log leaves the leader's,
//!   takes batches in order, and acknowledges what it has flushed.
//! - [`answer_subscription`] is the leader's side of a subscription.
//!
//! Nothing here has a clock: monotonic milliseconds are handed in. A standalone node is a leader whose ISR is itself; nothing here knows the difference.
//!
//! What holds:
//! - The high watermark is below or at the flushed end of every member of the ISR that the quorum decided on **and** of every replica that a
//!   proposal of this leader may have added to it since (KIP-497). It never goes back within one leader.
//! - A word of another leader epoch, of another stream, or of a node that is no replica moves nothing.
//! - While the ISR is below `min.insync.replicas` the high watermark stands (KIP-966).

mod acks;
mod follower;
mod leader;
mod member;
mod partition;
mod proposal;
mod report;
mod subscription;

pub use acks::{AckQueue, AckTimeout};
pub use follower::{Ack, Append, Follower, FollowerAction, FollowerError, FollowerState};
pub use leader::{Leader, LeaderError, LeaderStart, Progress, Settled, StreamStart};
pub use member::{DISCONNECT_GRACE_MS, MemberState};
pub use partition::PartitionUpdate;
pub use proposal::{IsrProposal, PROPOSAL_RETRY_MS, ProposalFailure};
pub use report::{FollowerLag, WaitCause, WaitingOn};
pub use subscription::{
    Answer, EpochLog, LeaderLog, StreamId, Subscription, SubscriptionRefusal, answer_subscription,
};
