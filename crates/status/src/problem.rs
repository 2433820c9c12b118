//! What is wrong with a cluster, and what to do about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Which of the known problems it is: for programs.
    pub kind: Kind,
    /// What is wrong, in one line.
    pub what: String,
    /// What to do, in one line.
    pub action: String,
}

/// How bad a problem is; the worst is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Requests fail now.
    Failing,
    /// Requests work, and a further failure would make them fail.
    AtRisk,
    /// Worth knowing.
    Notice,
}

/// The known problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The metadata has no leader.
    NoQuorum,
    /// Partitions without a leader.
    OfflinePartitions,
    /// Partitions with fewer replicas in sync than `min.insync.replicas`.
    UnderMinIsr,
    /// A node that doesn't serve everything.
    NotReady,
    /// A broker that is fenced.
    FencedBroker,
    /// A node that another one doesn't reach.
    UnreachablePeer,
    /// Partitions with fewer replicas in sync than they have.
    UnderReplicated,
    /// A follower that is far behind.
    LaggingFollower,
    /// A voter that is far behind, or silent.
    LaggingVoter,
    /// A broker that is ending.
    ShuttingDown,
    /// Partitions led by another replica than their first.
    NotLedByPreferred,
    /// Partitions that are moving.
    Reassigning,
}
