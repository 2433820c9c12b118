//! What the rest of a node holds of the metadata: one voter, a Raft quorum, or an observer of either.
//!
//! A [`Quorum`] gives the image to read and takes changes on every node, whoever decides on them. It makes the node known as a broker, says that it is
//! alive, and, where it leads, watches the others. See [`Mode`] for the three ways to take part.

mod agent;
mod answer;
mod duties;
mod fetch;
mod follow;
mod formation;
mod generation;
mod guard;
mod history;
mod inner;
mod join;
mod leave;
mod message;
mod options;
mod placement;
mod plan;
mod promote;
mod published;
mod quorum;
mod remembered;
mod status;
mod submit;
mod voters;
mod wire;

pub use chronik_raft::Timing as RaftTiming;
pub use generation::StandingError;
pub use join::{Invitation, InviteAnswer, JoinRequest, Joined, decide_invitation};
pub use message::{Role, kind};
pub use options::{Mode, OnChange, OnRestart, PeerEvent, QuorumOptions, Registration, Restart, Timing};
pub use quorum::{Quorum, QuorumError};
pub use status::{ObserverStatus, QuorumCounters, QuorumStatus, RaftNumbers, VoterStatus};
pub use wire::WireError;
