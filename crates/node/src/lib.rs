//! The listener, the real clock, disk and network; start and stop.
//!
//! [`Connection`] is the hot path: from a socket's bytes to [`chronik_broker::Broker::handle`] and back.

mod connection;
mod control;
mod gate;
mod log_limit;
mod service;
mod sniff;
mod transport;

pub use connection::{Connection, ConnectionLimits, Ending};
pub use control::{CoarseClock, Control, Phase};
pub use gate::Gate;
pub use log_limit::LogLimit;
pub use service::{BrokerService, Service};
pub use transport::Transport;
