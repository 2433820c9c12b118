//! What a node says of its cluster over HTTP, and what is wrong with it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/cluster/status` | [`ClusterStatus`] |
//! | `GET /v1/cluster/lag` with `topic=NAME`, `all=true`, `limit=N` | [`LagReport`] |
//! | `POST /v1/cluster/promote` with a [`PromoteRequest`] | [`PromoteAnswer`], or a [`Refusal`] with status 409 |
//!
//! Nodes fill these in, `chronik cluster` shows them, and other programs may read them: fields are only ever added, and one
//! that is missing is read as its default. Times are in milliseconds, sizes in bytes; a node or partition that is
//! not there is `null`, never -1.

mod cluster;
mod find;
mod lag;
mod problem;
mod promote;
mod text;

pub use cluster::{
    BrokerStatus, ClusterStatus, MetadataRole, MetadataStatus, Mode, ObserverStatus, PARTITIONS_MAX,
    PartitionStatus, PeerState, PeerStatus, Totals, VoterStatus,
};
pub use lag::{FollowerLag, FollowerTotal, LagReport, PARTITIONS_DEFAULT, PartitionLag};
pub use problem::{Kind, Problem, Severity};
pub use promote::{PromoteAnswer, PromoteRequest, Refusal};
pub use text::{bytes, count, duration};
