//! Who waits for which offset: an acknowledgement tracker, ordered by offset, that costs nothing while it waits.

use std::collections::VecDeque;

/// Waiters of one partition, in the order of the offsets that they wait for.
///
/// `T` names whoever waits; it is handed back when the offset is reached, when the wait fails, or when it took too long.
#[derive(Debug)]
pub struct AckQueue<T> {
    waiting: VecDeque<Waiter<T>>,
}

#[derive(Debug)]
struct Waiter<T> {
    /// The wait ends when this many offsets are acknowledged: the offset after the last one of the append.
    end_offset: i64,
    since_ms: u64,
    deadline_ms: u64,
    who: T,
}

/// A wait that ended by its deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct AckTimeout<T> {
    /// Whoever waited.
    pub who: T,
    /// The last offset that was waited for.
    pub last_offset: i64,
    /// How long it waited, in milliseconds.
    pub waited_ms: u64,
}

impl<T> Default for AckQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> AckQueue<T> {
    /// Adds a waiter for everything below `end_offset`. Waiters mostly come in offset order, as appends do; one that waits
    /// for less than the last (a duplicate, say) is put where it belongs.
    pub fn push(&mut self, end_offset: i64, now_ms: u64, deadline_ms: u64, who: T) {
        let waiter = Waiter { end_offset, since_ms: now_ms, deadline_ms, who };
        let at = if self.waiting.back().is_none_or(|last| last.end_offset <= end_offset) {
            self.waiting.len()
        } else {
            self.waiting.partition_point(|other| other.end_offset <= end_offset)
        };
        self.waiting.insert(at, waiter);
    }

    /// Hands out everyone who waits for no more than `offset`, in order.
    pub fn acknowledge(&mut self, offset: i64, mut to: impl FnMut(T)) {
        while self.waiting.front().is_some_and(|first| first.end_offset <= offset) {
            if let Some(first) = self.waiting.pop_front() {
                to(first.who);
            }
        }
        // A burst must not hold its memory for ever on a partition that is idle afterwards.
        if self.waiting.is_empty() && self.waiting.capacity() > 1024 {
            self.waiting = VecDeque::new();
        }
    }

    /// Hands out everyone who waits for more than `offset`: what they wait for was taken back.
    pub fn fail_above(&mut self, offset: i64, mut to: impl FnMut(T)) {
        let kept = self.waiting.partition_point(|waiter| waiter.end_offset <= offset);
        for waiter in self.waiting.split_off(kept) {
            to(waiter.who);
        }
    }

    /// Hands out everyone: leadership was lost, or storage failed.
    pub fn fail_all(&mut self, mut to: impl FnMut(T)) {
        for waiter in std::mem::take(&mut self.waiting) {
            to(waiter.who);
        }
    }

    /// Hands out whoever waits past its deadline.
    pub fn expire(&mut self, now_ms: u64, mut to: impl FnMut(AckTimeout<T>)) {
        if !self.waiting.iter().any(|waiter| waiter.deadline_ms <= now_ms) {
            return;
        }
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.deadline_ms <= now_ms {
                to(AckTimeout {
                    who: waiter.who,
                    last_offset: waiter.end_offset - 1,
                    waited_ms: now_ms.saturating_sub(waiter.since_ms),
                });
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// The offset that the last waiter needs, if anybody waits.
    pub fn last_needed(&self) -> Option<i64> {
        self.waiting.back().map(|waiter| waiter.end_offset)
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(queue: &mut AckQueue<u32>, offset: i64) -> Vec<u32> {
        let mut out = Vec::new();
        queue.acknowledge(offset, |who| out.push(who));
        out
    }

    #[test]
    fn hands_out_in_offset_order_and_only_what_is_reached() {
        let mut queue = AckQueue::default();
        queue.push(5, 0, 100, 1);
        queue.push(9, 0, 100, 2);
        queue.push(7, 0, 100, 3);
        assert_eq!(queue.last_needed(), Some(9));
        assert_eq!(acknowledged(&mut queue, 4), []);
        assert_eq!(acknowledged(&mut queue, 7), [1, 3]);
        assert_eq!(acknowledged(&mut queue, 100), [2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn expires_only_the_overdue() {
        let mut queue = AckQueue::default();
        queue.push(5, 10, 50, 1);
        queue.push(6, 10, 40, 2);
        let mut out = Vec::new();
        queue.expire(39, |timeout| out.push(timeout));
        assert_eq!(out, []);
        queue.expire(45, |timeout| out.push(timeout));
        assert_eq!(out, [AckTimeout { who: 2, last_offset: 5, waited_ms: 35 }]);
        assert_eq!(acknowledged(&mut queue, 5), [1]);
    }

    #[test]
    fn fails_only_those_whose_records_were_taken_back() {
        let mut queue = AckQueue::default();
        queue.push(5, 0, 1, 1);
        queue.push(8, 0, 1, 2);
        queue.push(9, 0, 1, 3);
        let mut out = Vec::new();
        queue.fail_above(5, |who| out.push(who));
        assert_eq!(out, [2, 3]);
        assert_eq!(acknowledged(&mut queue, 5), [1]);
    }

    #[test]
    fn fails_everyone_at_once() {
        let mut queue = AckQueue::default();
        queue.push(5, 0, 1, 1);
        queue.push(6, 0, 1, 2);
        let mut out = Vec::new();
        queue.fail_all(|who| out.push(who));
        assert_eq!(out, [1, 2]);
        assert!(queue.is_empty());
    }
}
