//! Partition replication as a state machine without I/O
