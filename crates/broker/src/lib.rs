//! Runs the state machines: one file for each API key
