//! Which leader epoch began at which offset (KIP-101).

/// Epochs in the order in which they appear in the log: both columns rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    pub(crate) fn from_entries(entries: Vec<(i32, i64)>) -> Self {
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<i32> {
        self.entries.last().map(|e| e.0)
    }

    /// Notes a batch of `epoch` at `offset`. Negative epochs (no leader set one) leave no trace.
    pub(crate) fn note(&mut self, epoch: i32, offset: i64) {
        if epoch >= 0 && self.latest().is_none_or(|latest| epoch > latest) {
            self.entries.push((epoch, offset));
        }
    }

    /// Forgets what begins at `end` or above.
    pub(crate) fn truncate(&mut self, end: i64) {
        self.entries.retain(|e| e.1 < end);
    }

    /// Forgets what ends before `start`: the epoch at `start` then begins there.
    pub(crate) fn advance_start(&mut self, start: i64) {
        let keep_from = self.entries.partition_point(|e| e.1 <= start).saturating_sub(1);
        self.entries.drain(..keep_from);
        if let Some(first) = self.entries.first_mut() {
            first.1 = first.1.max(start);
        }
    }

    /// The largest epoch not above `epoch`, and the offset where the next one begins (`log_end` for the last).
    pub(crate) fn end_offset(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        let after = self.entries.partition_point(|e| e.0 <= epoch);
        let found = self.entries.get(after.checked_sub(1)?)?;
        Some((found.0, self.entries.get(after).map_or(log_end, |next| next.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;

    #[test]
    fn ends_of_epochs() {
        let mut e = Epochs::default();
        assert_eq!(e.end_offset(5, 10), None);
        e.note(-1, 0);
        e.note(1, 0);
        e.note(1, 5);
        e.note(4, 10);
        assert_eq!(e.end_offset(0, 20), None);
        assert_eq!(e.end_offset(1, 20), Some((1, 10)));
        assert_eq!(e.end_offset(3, 20), Some((1, 10)));
        assert_eq!(e.end_offset(9, 20), Some((4, 20)));
        e.advance_start(7);
        assert_eq!(e.entries(), &[(1, 7), (4, 10)]);
        e.advance_start(10);
        assert_eq!(e.entries(), &[(4, 10)]);
        e.truncate(10);
        assert_eq!(e.latest(), None);
    }
}
