//! The metadata quorum on an existing Raft library.
