//! Counts what a query finds, and keeps the first of it in the order that is wanted.

use std::collections::BinaryHeap;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::{DateTime, DocId, Score, SegmentOrdinal, SegmentReader};

use crate::fields::{OFFSET, PARTITION, TIMESTAMP};
use crate::shard::{Order, Rank};

/// Keeps the first `limit` hits behind `after`.
pub(crate) struct First {
    pub(crate) order: Order,
    pub(crate) limit: usize,
    pub(crate) after: Option<Rank>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) count: u64,
    /// In order.
    pub(crate) hits: Vec<Rank>,
}

pub(crate) struct SegmentFirst {
    order: Order,
    limit: usize,
    after: Option<Rank>,
    timestamps: Column<DateTime>,
    partitions: Column<u64>,
    offsets: Column<i64>,
    count: u64,
    heap: BinaryHeap<Rank>,
}

impl Collector for First {
    type Fruit = Found;
    type Child = SegmentFirst;

    fn for_segment(&self, _: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<SegmentFirst> {
        let columns = reader.fast_fields();
        Ok(SegmentFirst {
            order: self.order,
            limit: self.limit,
            after: self.after,
            timestamps: columns.date(TIMESTAMP)?,
            partitions: columns.u64(PARTITION)?,
            offsets: columns.i64(OFFSET)?,
            count: 0,
            heap: BinaryHeap::new(),
        })
    }

    fn requires_scoring(&self) -> bool {
        self.order == Order::Score
    }

    fn merge_fruits(&self, segments: Vec<Found>) -> tantivy::Result<Found> {
        let count = segments.iter().map(|found| found.count).sum();
        let mut hits: Vec<Rank> = segments.into_iter().flat_map(|found| found.hits).collect();
        hits.sort_unstable();
        hits.truncate(self.limit);
        Ok(Found { count, hits })
    }
}

impl SegmentCollector for SegmentFirst {
    type Fruit = Found;

    fn collect(&mut self, doc: DocId, score: Score) {
        self.count += 1;
        if self.limit == 0 {
            return;
        }
        let offset = |this: &Self| this.offsets.first(doc).unwrap_or(-1);
        let time = |this: &Self| this.timestamps.first(doc).map_or(-1, DateTime::into_timestamp_millis);
        let (by, newest) = match self.order {
            Order::Newest => (time(self).saturating_neg(), true),
            Order::Oldest => (time(self), false),
            Order::Score => (rank_of_score(score), true),
            Order::Offset => (offset(self).saturating_neg(), true),
        };
        let is_full = self.heap.len() >= self.limit;
        if is_full && self.heap.peek().is_some_and(|last| by > last.by)
            || self.after.is_some_and(|after| by < after.by)
        {
            return;
        }
        let partition = self.partitions.first(doc).and_then(|index| i32::try_from(index).ok()).unwrap_or(-1);
        let offset = offset(self);
        let rank = Rank { by, partition, offset: if newest { offset.saturating_neg() } else { offset } };
        if self.after.is_some_and(|after| rank <= after) {
            return;
        }
        if !is_full {
            self.heap.push(rank);
        } else if let Some(mut last) = self.heap.peek_mut()
            && rank < *last
        {
            *last = rank;
        }
    }

    fn harvest(self) -> Found {
        Found { count: self.count, hits: self.heap.into_sorted_vec() }
    }
}

/// The higher a score, the lesser its rank.
fn rank_of_score(score: f32) -> i64 {
    // The bits of numbers above zero are ordered as the numbers are.
    -i64::from(score.max(0.0).to_bits())
}

/// The score that a rank was made of.
pub(crate) fn score_of_rank(by: i64) -> f32 {
    f32::from_bits(u32::try_from(by.saturating_neg()).unwrap_or(0))
}

impl Rank {
    /// The offset of the hit.
    pub(crate) fn offset_in(&self, order: Order) -> i64 {
        match order {
            Order::Oldest => self.offset,
            Order::Newest | Order::Score | Order::Offset => self.offset.saturating_neg(),
        }
    }
}

/// A rank as a cursor.
pub(crate) fn rank_text(order: Order, rank: &Rank) -> String {
    format!("{}_{}_{}_{}", letter(order), rank.by, rank.partition, rank.offset)
}

/// Reads a cursor; `None` if it is none, or of another order.
pub(crate) fn parse_rank(order: Order, text: &str) -> Option<Rank> {
    let mut parts = text.split('_');
    if parts.next() != Some(letter(order)) {
        return None;
    }
    let rank = Rank {
        by: parts.next()?.parse().ok()?,
        partition: parts.next()?.parse().ok()?,
        offset: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(rank)
}

fn letter(order: Order) -> &'static str {
    match order {
        Order::Newest => "n",
        Order::Oldest => "o",
        Order::Score => "s",
        Order::Offset => "f",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_of_their_order() {
        let rank = Rank { by: -5, partition: 3, offset: -77 };
        let text = rank_text(Order::Newest, &rank);
        assert_eq!(parse_rank(Order::Newest, &text), Some(rank));
        for (order, text) in
            [(Order::Oldest, text.as_str()), (Order::Newest, "n_1_2"), (Order::Newest, "n_1_2_3_4")]
        {
            assert_eq!(parse_rank(order, text), None);
        }
    }

    #[test]
    fn scores_are_ordered() {
        let scores = [0.0, 0.1, 1.0, 17.5];
        let ranks: Vec<i64> = scores.iter().map(|score| rank_of_score(*score)).collect();
        assert!(ranks.is_sorted_by(|a, b| a > b));
        assert_eq!(score_of_rank(ranks[3]), 17.5);
    }
}
