//! What is due when, ordered by time.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a timer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The session of a member, or the wait of a member id that was handed out and not yet used.
    Session { group: Arc<str>, member: Arc<str> },
    /// The time in which members may join.
    Join { group: Arc<str> },
    /// The time in which members must fetch their assignment.
    Sync { group: Arc<str> },
    /// The next step of the search for expired offsets.
    Expiry,
}

/// A timer that is set: its deadline and a number that keeps timers of one deadline apart, in the order of setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerHandle {
    deadline: u64,
    number: u64,
}

impl TimerHandle {
    /// When it fires, on the monotonic clock.
    pub(crate) fn deadline(self) -> u64 {
        self.deadline
    }
}

/// All timers of a coordinator.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeMap<TimerHandle, Timer>,
    next_number: u64,
}

impl Timers {
    /// Sets a timer.
    pub(crate) fn set(&mut self, deadline: u64, timer: Timer) -> TimerHandle {
        let handle = TimerHandle { deadline, number: self.next_number };
        self.next_number += 1;
        self.by_deadline.insert(handle, timer);
        handle
    }

    /// Takes a timer back; nothing happens if it has fired.
    pub(crate) fn cancel(&mut self, handle: Option<TimerHandle>) {
        if let Some(handle) = handle {
            self.by_deadline.remove(&handle);
        }
    }

    /// The next deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|(handle, _)| handle.deadline)
    }

    /// Takes the earliest timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        self.by_deadline.pop_first().map(|(_, timer)| timer)
    }

    /// Forgets every timer.
    pub(crate) fn clear(&mut self) {
        self.by_deadline.clear();
    }

    /// How many timers are set.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_deadline.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(group: &str) -> Timer {
        Timer::Join { group: group.into() }
    }

    #[test]
    fn fire_in_the_order_of_deadline_then_of_setting() {
        let mut timers = Timers::default();
        timers.set(20, join("late"));
        timers.set(10, join("first"));
        timers.set(10, join("second"));
        assert_eq!(timers.next_deadline(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(10), Some(join("first")));
        assert_eq!(timers.pop_due(10), Some(join("second")));
        assert_eq!(timers.pop_due(10), None);
        assert_eq!(timers.next_deadline(), Some(20));
    }

    #[test]
    fn a_cancelled_timer_does_not_fire() {
        let mut timers = Timers::default();
        let handle = timers.set(10, join("g"));
        timers.cancel(Some(handle));
        timers.cancel(Some(handle));
        timers.cancel(None);
        assert_eq!(timers.len(), 0);
        assert_eq!(timers.pop_due(100), None);
    }
}
