//! The client suite of the crate rdkafka, which is librdkafka for Rust: what every client in tests/clients is asked for.
//!
//! It lives here because librdkafka is built for this crate in any case. `tests/clients/rust-rdkafka/run.sh` runs it and
//! counts it as one of the client suites; the end-to-end tests leave it out by the beginning of its tests' names.
//! Environment: BROKER, the broker binary (otherwise the one beside this test is taken); BOOTSTRAP, the address of a
//! broker that runs already; BROKER_LOG, the file for the broker's log (otherwise standard error).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail the test")]

mod chronik;
mod clients;

mod rdkafka_admin;
mod rdkafka_errors;
mod rdkafka_groups;
mod rdkafka_records;
