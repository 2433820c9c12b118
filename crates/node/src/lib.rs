//! The listener, the real clock, disk and network; start and stop.
//!
//! [`Node::start`] starts a node. [`Connection`] is the hot path: from a socket's bytes to
//! [`chronik_broker::Broker::handle`] and back, in one task for each connection. [`Gate`] bounds the memory of requests
//! over all of them; the registry bounds their number and ends the silent ones.

mod clock;
mod connection;
mod control;
mod descriptors;
mod gate;
mod http;
mod join;
mod listener;
mod log_limit;
mod membership;
mod metrics;
mod node;
mod otlp;
mod registry;
mod search;
mod serve;
mod service;
mod sniff;
mod start_error;
mod status;
mod stop_signal;
mod transport;

pub use clock::SystemClock;
pub use connection::{Connection, ConnectionLimits, Ending, REQUEST_OVERHEAD_BYTES};
pub use control::{CoarseClock, Control, Phase};
pub use gate::{Gate, Reading};
pub use log_limit::LogLimit;
pub use metrics::{metric_sections, metrics_document};
pub use node::{Node, RunningNode};
pub use registry::{ConnectionCounts, NotAdmitted, Place, Registry, Swept};
pub use service::{BrokerService, Service};
pub use start_error::{SPARE_DESCRIPTORS, StartError};
pub use stop_signal::{StopReason, StopSignals};
pub use transport::{PlainSocket, Transport};
