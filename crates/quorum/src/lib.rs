//! What the rest of a node holds of the metadata: one voter, a Raft quorum, or an observer of either.
