//! The memory that requests may hold, over all connections of the node (`queued.max.request.bytes`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Counts the bytes of requests that are arriving or wait for their answers.
///
/// From half of the limit on, no connection begins to read a request; one that has begun goes on up to the limit, so
/// that what has arrived of it does not stay for nothing. Each may overshoot by what one read brings.
#[derive(Debug)]
pub struct Gate {
    held: AtomicUsize,
    begin: Level,
    go_on: Level,
}

/// What a connection wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A new request.
    Begin,
    /// The rest of one that has begun.
    GoOn,
}

/// A number of bytes from which some have to wait.
#[derive(Debug)]
struct Level {
    limit: usize,
    any_waiting: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// A gate for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: AtomicUsize::new(0), begin: Level::new(limit / 2), go_on: Level::new(limit) }
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.go_on.limit
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// True while nobody may begin a request.
    pub fn is_closed(&self) -> bool {
        self.held() >= self.begin.limit
    }

    /// Changes what a connection holds from `before` to `after` bytes; `before` is what it told last.
    pub fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.held.fetch_add(after - before, Ordering::SeqCst);
            return;
        }
        self.held.fetch_sub(before - after, Ordering::SeqCst);
        for level in [&self.go_on, &self.begin] {
            if level.any_waiting.load(Ordering::SeqCst) && self.held() < level.limit {
                level.wake_all();
            }
        }
    }

    /// True if the connection has to wait; then `waker` is called when it need not any more.
    pub fn wait(&self, reading: Reading, waker: &Waker) -> bool {
        let level = match reading {
            Reading::Begin => &self.begin,
            Reading::GoOn => &self.go_on,
        };
        if self.held() < level.limit {
            return false;
        }
        level.add(waker);
        // There may be room since before the waker was in the list.
        if self.held() < level.limit {
            level.wake_all();
            return false;
        }
        true
    }
}

impl Level {
    fn new(limit: usize) -> Self {
        Self { limit, any_waiting: AtomicBool::new(false), waiting: Mutex::new(Vec::new()) }
    }

    fn add(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        self.any_waiting.store(true, Ordering::SeqCst);
    }

    fn wake_all(&self) {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.any_waiting.store(false, Ordering::SeqCst);
            std::mem::take(&mut *waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_when_enough_is_given_back() {
        let gate = Gate::new(200);
        let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
        let wakers = flags.clone().map(Waker::from);
        let woken = || flags.clone().map(|flag| flag.0.swap(false, Ordering::SeqCst));
        assert!(!gate.wait(Reading::Begin, &wakers[0]));
        gate.change(0, 100);
        assert!(gate.wait(Reading::Begin, &wakers[0]));
        assert!(!gate.wait(Reading::GoOn, &wakers[1]));
        gate.change(100, 250);
        assert!(gate.wait(Reading::Begin, &wakers[0]));
        assert!(gate.wait(Reading::GoOn, &wakers[1]));
        gate.change(250, 200);
        assert_eq!(woken(), [false, false]);
        gate.change(200, 199);
        assert_eq!(woken(), [false, true]);
        gate.change(199, 99);
        assert_eq!(woken(), [true, false]);
        assert!(!gate.wait(Reading::Begin, &wakers[0]));
        assert_eq!(gate.held(), 99);
    }
}
