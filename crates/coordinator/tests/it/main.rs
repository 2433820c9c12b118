//! Tests of the group coordinator by what goes in and what comes out: one file for each event.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod admin;
mod expiry;
mod harness;
mod heartbeat;
mod histories;
mod join;
mod leave;
mod loading;
mod offsets;
mod static_members;
mod sync;
