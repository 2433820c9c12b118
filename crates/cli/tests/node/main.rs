//! The binary, as its users see it: each test starts nodes as processes of their own.

#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

mod administration;
mod cluster;
mod common;
mod offline_log;
mod sockets;
mod start_and_stop;
