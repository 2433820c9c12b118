//! Partition replication as a state machine without I/O: leader epochs, the in-sync replica set (ISR), the high
//! watermark, and who waits for which acknowledgement.
//!
//! A standalone node is a leader whose ISR is itself; nothing here knows the difference.

mod acks;
mod leader;

pub use acks::{AckQueue, AckTimeout};
pub use leader::{Leader, LeaderError, Progress};
