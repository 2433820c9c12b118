//! A small Kafka client for the administration commands and for `chronik produce` and `chronik consume`.
//!
//! It speaks to any Kafka broker: versions are negotiated, requests go to the leader, the coordinator or whichever
//! broker answers. One request is in flight on a connection at a time; throughput is not its purpose.

mod address;
mod client;
mod connection;
mod error;
mod http;
mod partitioner;
mod produce;
mod read;

pub use address::parse_list as parse_servers;
/// The messages that can be sent, for those who build requests.
pub use chronik_protocol as protocol;
pub use client::{Client, Options, PartitionMetadata, To, TopicMetadata};
pub use error::{ClientError, Unreachable};
pub use http::{HttpError, get_json, post_json};
pub use partitioner::partition_for_key;
pub use produce::Appended;
pub use read::{EARLIEST, LATEST, MAX_TIMESTAMP, ReadOptions, TopicReader};
