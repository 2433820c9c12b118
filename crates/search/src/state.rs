//! How far an index is, kept with each of its commits: what a kill leaves is an index and the offsets that it is of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::Paths;

/// Indexes of another format are built anew. To be raised with every change of the fields or of what is put into them.
pub(crate) const FORMAT: u32 = 1;

/// What is kept with a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) format: u32,
    /// The topic setting `search.schema` that the documents were made by.
    pub(crate) schema: String,
    pub(crate) partitions: BTreeMap<i32, PartitionState>,
    /// Fields that were found, with the kinds of their values.
    pub(crate) paths: Paths,
}

/// How far the index of one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionState {
    /// Records below are indexed.
    pub(crate) next: i64,
    /// Leader epoch of the last record that is.
    pub(crate) epoch: i32,
    /// Records below are no longer in the index, since the log has none of them.
    pub(crate) start: i64,
    /// What had been compacted when the index was last compared with the log.
    pub(crate) cleaned: (i64, i64),
}

impl State {
    pub(crate) fn new(schema: &str) -> Self {
        Self { format: FORMAT, schema: schema.to_owned(), partitions: BTreeMap::new(), paths: Paths::new() }
    }

    /// Reads what a commit was given; `None` if it is of another format, or nothing that this version can read.
    pub(crate) fn read(payload: Option<&str>) -> Option<Self> {
        let state: Self = serde_json::from_str(payload?).ok()?;
        (state.format == FORMAT).then_some(state)
    }

    pub(crate) fn write(&self) -> String {
        // Maps with keys of numbers and strings can be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}
