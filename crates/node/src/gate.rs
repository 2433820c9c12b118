//! The memory that requests may hold, over all connections of the node (`queued.max.request.bytes`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Counts the bytes of requests that are arriving or wait for their answers. While they are more than the limit,
/// connections stop reading; one may overshoot by the request it was reading.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    held: AtomicUsize,
    any_waiting: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// A gate that closes at `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            any_waiting: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// True while nobody should read.
    pub fn is_closed(&self) -> bool {
        self.held() >= self.limit
    }

    /// Changes what a connection holds from `before` to `after` bytes; `before` is what it told last.
    pub fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.held.fetch_add(after - before, Ordering::SeqCst);
        } else {
            self.held.fetch_sub(before - after, Ordering::SeqCst);
            if self.any_waiting.load(Ordering::SeqCst) && !self.is_closed() {
                self.wake_all();
            }
        }
    }

    /// True if the gate is closed; then `waker` is called when it opens.
    pub fn wait(&self, waker: &Waker) -> bool {
        if !self.is_closed() {
            return false;
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
            self.any_waiting.store(true, Ordering::SeqCst);
        }
        // It may have opened before the waker was in the list.
        if !self.is_closed() {
            self.wake_all();
            return false;
        }
        true
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

    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_is_woken_when_enough_is_given_back() {
        let gate = Gate::new(100);
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(flag.clone());
        assert!(!gate.wait(&waker));
        gate.change(0, 150);
        assert!(gate.wait(&waker));
        assert!(gate.wait(&waker));
        gate.change(150, 120);
        assert!(!flag.0.load(Ordering::SeqCst));
        gate.change(120, 99);
        assert!(flag.0.load(Ordering::SeqCst));
        assert!(!gate.wait(&waker));
        assert_eq!(gate.held(), 99);
    }
}
