//! Group coordination as a state machine without I/O
