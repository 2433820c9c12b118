//! Documents by their place in the log: to take out of an index what the log no longer has.

use std::fmt;
use std::sync::Arc;

use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight,
};
use tantivy::{BitSet, DocId, Score, SegmentReader};

use crate::fields::{OFFSET, PARTITION};

/// Which offsets.
#[derive(Clone)]
pub(crate) enum Which {
    /// Those below.
    Below(i64),
    /// Those at or above.
    From(i64),
    /// Those of a window, from its first offset on, whose bit isn't set.
    Missing(i64, Arc<Vec<u64>>),
}

impl Which {
    fn has(&self, offset: i64) -> bool {
        match self {
            Which::Below(end) => offset < *end,
            Which::From(start) => offset >= *start,
            Which::Missing(start, bits) => {
                let Ok(index) = usize::try_from(offset - start) else { return false };
                bits.get(index / 64).is_some_and(|word| (word >> (index % 64)) & 1 == 0)
            }
        }
    }

    /// Whether any offset between the two may be meant.
    fn may_have(&self, least: i64, most: i64) -> bool {
        match self {
            Which::Below(end) => least < *end,
            Which::From(start) => most >= *start,
            Which::Missing(start, bits) => {
                let end = start.saturating_add(i64::try_from(bits.len() * 64).unwrap_or(i64::MAX));
                most >= *start && least < end
            }
        }
    }
}

/// The documents of one partition at certain offsets.
#[derive(Clone)]
pub(crate) struct Offsets {
    pub(crate) partition: i32,
    pub(crate) which: Which,
}

impl fmt::Debug for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offsets({})", self.partition)
    }
}

impl Query for Offsets {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Offsets {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let partitions = reader.fast_fields().u64(PARTITION)?;
        let offsets = reader.fast_fields().i64(OFFSET)?;
        let wanted = u64::from(self.partition.unsigned_abs());
        let none = wanted < partitions.min_value()
            || wanted > partitions.max_value()
            || !self.which.may_have(offsets.min_value(), offsets.max_value());
        if none {
            return Ok(Box::new(EmptyScorer));
        }
        let mut found = BitSet::with_max_value(reader.max_doc());
        for doc in 0..reader.max_doc() {
            if partitions.first(doc) == Some(wanted)
                && offsets.first(doc).is_some_and(|offset| self.which.has(offset))
            {
                found.insert(doc);
            }
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(found), boost)))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("offsets", 1.0))
    }
}
