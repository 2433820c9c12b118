//! Connections between nodes: one for each direction of a pair, on the one port.
