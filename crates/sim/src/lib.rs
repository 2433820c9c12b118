//! A cluster of the state machines in a deterministic simulation: one seed, one history.
//!
//! What runs is the product's own code without I/O: the partition's leader and follower (`replica`), the metadata image with its commands and sessions
//! (`meta`), the group coordinator (`coordinator`). What is simulated is the rest: the clock, connections that break, disks that flush late and
//! forget what they did not flush, a metadata quorum as a register with delays and outages, processes that are killed, paused and wiped, clients. [`plan`]
//! says what goes wrong in a seed, [`checker`] what must hold at each step; at the end all faults go, and everything must come to rest, whole.
//!
//! - [`run`] runs one seed, [`shorten`] finds out how few faults it takes to break what it broke, [`search`] runs many seeds.
//! - [`Mutant`]s are known mistakes; that each of them is found shows that the simulation can find such.

pub mod checker;
mod client;
mod coups;
pub mod event;
mod faults;
mod following;
mod groups;
mod leading;
pub mod log;
mod mutant;
mod net;
mod node;
pub mod plan;
mod quorum;
mod rest;
mod rng;
mod roles;
mod runner;
pub mod trace;
mod world;

pub use checker::Violation;
pub use mutant::Mutant;
pub use plan::{Fault, Plan};
pub use rng::Rng;
pub use runner::{Failure, Outcome, Search, run, run_plan, search, shorten};
