//! The partitions of one topic, in pieces that copies share: changing one partition of a topic of ten thousand copies a small
//! piece and the list of pieces.

use std::sync::Arc;

use crate::image::Partition;

/// Partitions in a piece.
const PIECE: usize = 32;

/// The partitions of a topic by index, from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partitions {
    pieces: Vec<Arc<Vec<Partition>>>,
    len: usize,
}

impl Partitions {
    /// Partitions in the topic.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The partition with that index.
    pub fn get(&self, index: i32) -> Option<&Partition> {
        let index = usize::try_from(index).ok()?;
        self.pieces.get(index / PIECE)?.get(index % PIECE)
    }

    /// The partition with that index, to be changed.
    pub(crate) fn get_mut(&mut self, index: i32) -> Option<&mut Partition> {
        let index = usize::try_from(index).ok()?;
        Arc::make_mut(self.pieces.get_mut(index / PIECE)?).get_mut(index % PIECE)
    }

    /// Adds a partition; its index is the number of those before it.
    pub(crate) fn push(&mut self, partition: Partition) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => Arc::make_mut(piece).push(partition),
            _ => self.pieces.push(Arc::new(vec![partition])),
        }
        self.len += 1;
    }

    /// A copy in which the partitions that `change` gives a new value for have it; `None` if there is none.
    pub(crate) fn map_some(&self, mut change: impl FnMut(&Partition) -> Option<Partition>) -> Option<Self> {
        let mut next: Option<Self> = None;
        for (at, piece) in self.pieces.iter().enumerate() {
            for (within, partition) in piece.iter().enumerate() {
                let Some(changed) = change(partition) else { continue };
                let copy = next.get_or_insert_with(|| self.clone());
                let slot = copy.pieces.get_mut(at).and_then(|piece| Arc::make_mut(piece).get_mut(within));
                if let Some(slot) = slot {
                    *slot = changed;
                }
            }
        }
        next
    }

    /// The indices at which `after` has another partition than `before`, or one that `before` has not. Pieces that both share are skipped.
    pub(crate) fn changed(before: &Self, after: &Self) -> Vec<i32> {
        let mut changed = Vec::new();
        for (at, piece) in after.pieces.iter().enumerate() {
            let old = before.pieces.get(at);
            if old.is_some_and(|old| Arc::ptr_eq(old, piece)) {
                continue;
            }
            for (within, partition) in piece.iter().enumerate() {
                if old.and_then(|old| old.get(within)) != Some(partition) {
                    changed.extend(i32::try_from(at * PIECE + within));
                }
            }
        }
        changed
    }

    /// The partitions in order, with their index.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Partition)> {
        (0i32..).zip(self.pieces.iter().flat_map(|piece| piece.iter()))
    }
}

impl FromIterator<Partition> for Partitions {
    fn from_iter<T: IntoIterator<Item = Partition>>(partitions: T) -> Self {
        let mut result = Self::default();
        for partition in partitions {
            result.push(partition);
        }
        result
    }
}
