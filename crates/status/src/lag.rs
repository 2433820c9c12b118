//! How far followers are behind.

use chronik_base::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many partitions a report lists where the request has no `limit`.
pub const PARTITIONS_DEFAULT: usize = 1_000;

/// How far the followers of the partitions that a node leads are behind: the answer to `GET /v1/cluster/lag`.
///
/// Parameters of the request: `topic=NAME` for one topic, `all=true` for partitions without lag too, `limit=N` for
/// more or fewer partitions than [`PARTITIONS_DEFAULT`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LagReport {
    /// The node that answers: the leader of what follows.
    pub node_id: NodeId,
    /// Partitions that it leads.
    pub leads: u64,
    /// For each follower, over all its partitions, by id.
    pub followers: Vec<FollowerTotal>,
    /// Partitions with a follower that is behind or not in sync, the largest lag in time first.
    pub partitions: Vec<PartitionLag>,
    /// How many more such partitions there are.
    pub partitions_left_out: u64,
}

/// One follower of one leader, over all partitions that they share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FollowerTotal {
    /// The leader.
    pub leader: NodeId,
    /// The follower.
    pub id: NodeId,
    /// Partitions that they share.
    pub partitions: u64,
    /// Those of which the follower is in sync.
    pub in_sync: u64,
    /// Records that it is behind.
    pub lag_records: u64,
    /// Bytes that it is behind.
    pub lag_bytes: u64,
    /// The time that it is behind, of the partition where that is longest: since it last had everything that the leader had.
    pub lag_ms_max: u64,
    /// How long ago it last acknowledged anything; `None` if it never did to this leader.
    pub last_ack_ms: Option<u64>,
    /// Why it is behind, where the leader knows: `connection refused`, `not subscribed`, `disk full`, …
    pub cause: Option<String>,
}

/// A partition and its followers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
    /// Its leader.
    pub leader: NodeId,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// The offset after the last committed record.
    pub high_watermark: i64,
    /// The offset after the leader's last record.
    pub end_offset: i64,
    /// Every follower, by id.
    pub followers: Vec<FollowerLag>,
}

/// A follower of a partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FollowerLag {
    /// The follower.
    pub id: NodeId,
    /// True if it is in the ISR.
    pub in_sync: bool,
    /// The offset after the last record that it acknowledged; `None` if it acknowledged none to this leader.
    pub acked_offset: Option<i64>,
    /// Records that it is behind.
    pub lag_records: u64,
    /// Bytes that it is behind.
    pub lag_bytes: u64,
    /// Since when it doesn't have everything that the leader has: 0 if it has.
    pub lag_ms: u64,
    /// How long ago it last acknowledged anything; `None` if it never did to this leader.
    pub last_ack_ms: Option<u64>,
    /// Why it is behind, where the leader knows.
    pub cause: Option<String>,
}
