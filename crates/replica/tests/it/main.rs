//! The replica machines from outside, a file for each behaviour.
#![allow(clippy::unwrap_used)]

mod divergence;
mod following;
mod histories;
mod lag;
mod min_insync;
mod proposals;
mod streams;
mod watermark;
mod world;
