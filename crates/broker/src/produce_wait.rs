//! A produce request that waits for its acknowledgements: one object for all of its partitions, no lock across the wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use chronik_base::ErrorCode;

use crate::sync::WakerSlot;
use crate::timing::Stages;

/// What the partitions of one produce request still owe it.
#[derive(Debug)]
pub(crate) struct ProduceWait {
    remaining: AtomicUsize,
    waker: WakerSlot,
    errors: Box<[AtomicI16]>,
    /// When it reached what, if it is timed.
    stages: Option<Stages>,
}

/// One partition's share in a [`ProduceWait`]: what a partition keeps while its append is not acknowledged.
#[derive(Debug)]
pub(crate) struct ProduceShare {
    wait: Arc<ProduceWait>,
    slot: usize,
}

impl ProduceWait {
    /// For a request of `partitions` partitions. One more share than partitions is outstanding, the request's own: it keeps
    /// the wait open until every partition was asked.
    pub(crate) fn new(partitions: usize) -> Arc<Self> {
        Self::timed(partitions, None)
    }

    /// The same for a request that is timed.
    pub(crate) fn timed(partitions: usize, stages: Option<Stages>) -> Arc<Self> {
        Arc::new(Self {
            stages,
            remaining: AtomicUsize::new(partitions + 1),
            waker: WakerSlot::default(),
            errors: (0..partitions).map(|_| AtomicI16::new(0)).collect(),
        })
    }

    /// The share of partition `slot` of the request.
    pub(crate) fn share(self: &Arc<Self>, slot: usize) -> ProduceShare {
        ProduceShare { wait: self.clone(), slot }
    }

    /// How partition `slot` ended.
    pub(crate) fn error(&self, slot: usize) -> ErrorCode {
        let code = self.errors.get(slot).map_or(-1, |error| error.load(Ordering::Acquire));
        ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
    }

    /// When it reached what, if it is timed.
    pub(crate) fn stages(&self) -> Option<&Stages> {
        self.stages.as_ref()
    }

    /// One share is settled; gives the waker of the request if it was the last.
    fn settle(&self) -> Option<Waker> {
        if self.remaining.load(Ordering::Relaxed) == 1
            && let Some(stages) = &self.stages
        {
            // Before the request can see that it is settled.
            stages.acknowledged();
        }
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 { self.waker.take() } else { None }
    }

    /// Settles the request's own share. True if nothing is owed any more.
    pub(crate) fn opened(&self) -> bool {
        self.settle();
        self.is_settled()
    }

    fn is_settled(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }
}

impl ProduceShare {
    /// The request, if it is timed.
    pub(crate) fn timed(&self) -> Option<Arc<ProduceWait>> {
        self.wait.stages.is_some().then(|| self.wait.clone())
    }

    /// The partition is done with it: `error` says how. The waker, if any, is to be woken when the caller has settled
    /// everything of its burst.
    pub(crate) fn settle(self, error: ErrorCode) -> Option<Waker> {
        if !error.is_ok()
            && let Some(slot) = self.wait.errors.get(self.slot)
        {
            slot.store(error.code(), Ordering::Release);
        }
        self.wait.settle()
    }
}

/// Ends when nothing is owed to the request any more.
#[derive(Debug)]
pub(crate) struct Settled(pub(crate) Arc<ProduceWait>);

impl Future for Settled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.is_settled() {
            return Poll::Ready(());
        }
        self.0.waker.set(context.waker());
        if self.0.is_settled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Wakers of a burst, each task once.
#[derive(Debug, Default)]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker
            && !self.0.iter().rev().take(8).any(|other| other.will_wake(&waker))
        {
            self.0.push(waker);
        }
    }

    pub(crate) fn wake_all(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_the_last_share_and_remembers_errors() {
        let wait = ProduceWait::new(2);
        let (a, b) = (wait.share(0), wait.share(1));
        a.settle(ErrorCode::None);
        assert!(!wait.opened());
        let mut settled = Settled(wait.clone());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut settled).poll(&mut context), Poll::Pending);
        let waker = b.settle(ErrorCode::KafkaStorageError);
        assert!(waker.is_some());
        assert_eq!(Pin::new(&mut settled).poll(&mut context), Poll::Ready(()));
        assert_eq!((wait.error(0), wait.error(1)), (ErrorCode::None, ErrorCode::KafkaStorageError));
    }

    #[test]
    fn a_request_that_owes_nothing_is_open_and_shut() {
        assert!(ProduceWait::new(0).opened());
    }
}
