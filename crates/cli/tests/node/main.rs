//! The binary, as its users see it: each test starts nodes as processes of their own.

mod administration;
mod common;
mod sockets;
mod start_and_stop;
