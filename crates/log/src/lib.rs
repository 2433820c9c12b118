//! The log: journal, segments, indexes, group commit, recovery, retention, compaction
