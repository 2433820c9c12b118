//! The binary `chronik`.
fn main() {}
