//! A cluster of the state machines in a deterministic simulation.
