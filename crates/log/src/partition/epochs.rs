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

    /// Notes that `epoch` begins at `offset`. Negative epochs (no leader set one) leave no trace, and epochs that began
    /// there and left no record are forgotten.
    pub(crate) fn note(&mut self, epoch: i32, offset: i64) {
        if epoch < 0 || self.latest().is_some_and(|latest| epoch <= latest) {
            return;
        }
        while self.entries.last().is_some_and(|e| e.1 >= offset) {
            self.entries.pop();
        }
        self.entries.push((epoch, offset));
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

    /// The largest epoch not above `epoch`, and the offset where the next one begins (`log_end` for the last). An epoch
    /// below all ends where the first begins.
    pub(crate) fn end_offset(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 || self.entries.is_empty() {
            return None;
        }
        let after = self.entries.partition_point(|e| e.0 <= epoch);
        let found = after.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(epoch, |e| e.0);
        Some((found, self.entries.get(after).map_or(log_end, |next| next.1)))
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
        assert_eq!(e.end_offset(0, 20), Some((0, 0)));
        assert_eq!(e.end_offset(-1, 20), None);
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

    #[test]
    fn an_epoch_without_records_gives_way() {
        let mut e = Epochs::default();
        e.note(2, 0);
        e.note(5, 100);
        assert_eq!((e.latest(), e.end_offset(2, 100)), (Some(5), Some((2, 100))));
        // Nobody appended in epoch 5; the next leader does.
        e.note(7, 100);
        assert_eq!(e.entries(), &[(2, 0), (7, 100)]);
        assert_eq!(e.end_offset(5, 120), Some((2, 100)));
        e.note(6, 110);
        assert_eq!(e.entries(), &[(2, 0), (7, 100)]);
        e.advance_start(110);
        assert_eq!(e.entries(), &[(7, 110)]);
        // Its records are gone: they ended where the log begins.
        assert_eq!(e.end_offset(2, 120), Some((2, 110)));
    }
}
