//! A fetch that waits for data: partitions it watches tell it when their high watermark moves.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use crate::produce_wait::Wakers;
use crate::sync::{Hold, WakerSlot};

/// What one waiting fetch shares with the partitions that it watches.
#[derive(Debug, Default)]
pub(crate) struct FetchWait {
    fired: AtomicBool,
    waker: WakerSlot,
}

impl FetchWait {
    /// Something moved since the last call?
    fn take_fired(&self) -> bool {
        self.fired.swap(false, Ordering::AcqRel)
    }
}

/// Ends when any of the watched partitions moved since it last ended.
#[derive(Debug)]
pub(crate) struct Moved(pub(crate) Arc<FetchWait>);

impl Future for Moved {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.take_fired() {
            return Poll::Ready(());
        }
        self.0.waker.set(context.waker());
        if self.0.take_fired() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The fetches that watch one partition. A fetch that is gone costs its slot until the next move or sweep.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    count: AtomicUsize,
    list: Mutex<Vec<Weak<FetchWait>>>,
}

impl Watchers {
    /// Adds a watcher. It is told of the next move, once; then it has to be added again.
    pub(crate) fn add(&self, wait: &Arc<FetchWait>) {
        let mut list = self.list.hold();
        if list.len() >= 32 && list.len().is_power_of_two() {
            list.retain(|other| other.strong_count() > 0);
        }
        list.push(Arc::downgrade(wait));
        self.count.store(list.len(), Ordering::Release);
    }

    /// True if nobody watches: the cheap question of the produce path.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Tells everyone.
    pub(crate) fn fire(&self, wakers: &mut Wakers) {
        if self.is_empty() {
            return;
        }
        let list = {
            let mut list = self.list.hold();
            self.count.store(0, Ordering::Release);
            std::mem::take(&mut *list)
        };
        for wait in list.iter().filter_map(Weak::upgrade) {
            wait.fired.store(true, Ordering::Release);
            wakers.add(wait.waker.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_move_is_never_missed() {
        let watchers = Watchers::default();
        let wait = Arc::new(FetchWait::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut wakers = Wakers::default();
        watchers.add(&wait);
        // Between looking at the partition and waiting:
        watchers.fire(&mut wakers);
        assert!(watchers.is_empty());
        let mut moved = Moved(wait.clone());
        assert_eq!(Pin::new(&mut moved).poll(&mut context), Poll::Ready(()));
        assert_eq!(Pin::new(&mut moved).poll(&mut context), Poll::Pending);
        watchers.add(&wait);
        watchers.fire(&mut wakers);
        assert_eq!(Pin::new(&mut moved).poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn watchers_that_left_are_forgotten() {
        let watchers = Watchers::default();
        for _ in 0..10_000 {
            watchers.add(&Arc::new(FetchWait::default()));
        }
        assert!(watchers.list.hold().len() <= 64);
    }
}
