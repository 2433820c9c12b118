//! Runs the state machines: one file for each API key, and what they share.
//!
//! A request comes in through [`Broker::handle`], is looked up in the one table of what is served, and handled by the
//! file in `api/` that has its key. Handlers fix the order before they return; what has to wait is a future.

mod api;
mod assignment;
mod authorized;
mod broker;
mod call;
mod cluster_metrics;
mod cluster_status;
mod compatibility;
mod completions;
mod config_resource;
mod connection;
mod dispatch;
mod fetch;
mod fetch_session;
mod fetch_wait;
mod gone;
mod groups;
mod metadata;
mod metric_families;
mod metrics;
mod outcome;
mod partition;
mod produce_wait;
mod producer_ids;
mod promote;
mod random;
mod rate_limit;
mod refusal;
mod replication;
mod search_reader;
mod sync;
mod timing;
mod topic_settings;
mod topics;
mod waits;

pub use broker::{Broker, BrokerError, BrokerOptions};
pub use compatibility::render as compatibility;
pub use connection::{ClientSoftware, ConnectionContext};
pub use metadata::{INTERNAL_LISTENER, KAFKA_LISTENER, Membership};
pub use metric_families::METRIC_SECTIONS;
/// A random identifier that is none of the reserved ones.
pub fn random_uuid() -> chronik_base::Uuid {
    random::uuid()
}

pub use outcome::{CloseReason, Outcome, Response};
pub use replication::{BESIDE_BROKER, PeerAnswers, PeerEar};
pub use search_reader::{CommittedBounds, CommittedError};
pub use timing::{ProduceTrace, STAGES, TraceSink};
