//! The bodies of the fuzz targets in `fuzz/`. Each takes any bytes and panics if something that must hold does not.
//!
//! They live in the workspace, apart from the fuzzer, so that `tests/replay.rs` runs the stored corpora as ordinary tests.

#![allow(clippy::expect_used, reason = "a panic is how a target reports a finding")]

mod batch;
mod frame;
mod groups;
mod input;
mod recovery;
mod seeds;

pub use batch::batch;
pub use frame::frame;
pub use groups::groups;
pub use recovery::recovery;
pub use seeds::{Seed, seeds};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary and of its folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] =
    &[("batch", batch), ("frame", frame), ("groups", groups), ("recovery", recovery)];
