//! The listener, the real clock, disk and network; start and stop
