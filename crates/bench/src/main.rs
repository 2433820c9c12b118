//! The binary `chronik-bench`.
fn main() {}
