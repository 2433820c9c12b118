//! Search over records: an index of what topics hold, derived from their logs, and queries on it.
//!
//! - [`Host`] is what search needs of the node: committed records, and other nodes. The broker knows nothing of search.
//! - One thread of low priority (`indexer.rs`) reads the logs of topics that have `search.enabled=true`, into one index for each
//!   (`topic_index.rs`, on tantivy). Every commit carries the offsets up to which it is (`state.rs`), so what a kill leaves
//!   is an index that goes on from there. Files are checked when an index is opened; one that is damaged or of another version is built
//!   anew.
//! - A query (`query/`) is asked at one replica of each partition (`gather.rs`), answered from the index (`execute.rs`), and its hits are
//!   read from the log: the index stores no records.
//! - `http.rs` has the routes, `metrics.rs` the metrics.

mod ask;
mod collect;
mod directory;
mod document;
mod engine;
mod es;
mod execute;
mod fields;
mod gather;
mod host;
pub mod http;
mod indexer;
pub mod metrics;
pub mod model;
mod prune;
mod query;
mod render;
mod shard;
mod shared;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod topic_index;

pub use engine::Options;
pub use gather::Search;
pub use host::{Batches, Bounds, Host, HostError, TopicInfo};
