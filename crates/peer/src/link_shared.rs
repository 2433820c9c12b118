//! What a link's task shares with everyone who sends on the link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{CallError, NodeId};
use tokio::sync::oneshot;

use crate::error::{LinkEnd, SendError};
use crate::frame::FrameType;
use crate::handler::{PeerInfo, Source};
use crate::out_frame::Outgoing;

/// One link.
pub(crate) struct LinkShared {
    pub(crate) peer: PeerInfo,
    pub(crate) opened_at: Instant,
    queued_bytes_max: usize,
    /// Set while the source has to be asked.
    source_asked: AtomicBool,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queued: Vec<Outgoing>,
    queued_bytes: usize,
    /// The link's task, if it sleeps.
    waker: Option<Waker>,
    calls: HashMap<u64, oneshot::Sender<Result<Bytes, String>>>,
    next_request: u64,
    source: Option<Arc<dyn Source>>,
    /// Why this node wants the link to end.
    closing: Option<LinkEnd>,
    /// Why it has ended.
    ended: Option<LinkEnd>,
}

impl LinkShared {
    pub(crate) fn new(peer: PeerInfo, queued_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            peer,
            opened_at: Instant::now(),
            queued_bytes_max,
            source_asked: AtomicBool::new(false),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.peer.node()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message.
    pub(crate) fn send(&self, frame: Outgoing) -> Result<(), SendError> {
        if frame.is_too_large() {
            return Err(SendError::TooLarge { bytes: frame.payload_bytes() });
        }
        let mut state = self.lock();
        self.admit(&state)?;
        let waker = state.push(frame);
        drop(state);
        wake(waker);
        Ok(())
    }

    /// Queues an answer. The number of calls bounds these, not the queue.
    pub(crate) fn answer(&self, frame: Outgoing) {
        let mut state = self.lock();
        if state.ended.is_none() {
            let waker = state.push(frame);
            drop(state);
            wake(waker);
        }
    }

    fn admit(&self, state: &State) -> Result<(), SendError> {
        let node = self.node();
        if let Some(end) = state.ended.as_ref().or(state.closing.as_ref()) {
            return Err(SendError::Disconnected { node, problem: end.to_string() });
        }
        if state.queued_bytes >= self.queued_bytes_max {
            let queued_bytes = state.queued_bytes;
            return Err(SendError::QueueFull { node, queued_bytes, limit: self.queued_bytes_max });
        }
        Ok(())
    }

    /// Asks and waits for the answer. It must be polled on a tokio runtime.
    pub(crate) async fn call(
        self: &Arc<Self>,
        kind: u8,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let node = self.node();
        let disconnected = |problem: String| CallError::Disconnected { node, problem };
        let (sender, receiver) = oneshot::channel();
        let mut frame = Outgoing::new(FrameType::Call, kind, 0, payload);
        if frame.is_too_large() {
            let problem = SendError::TooLarge { bytes: frame.payload_bytes() }.to_string();
            return Err(CallError::Refused { node, problem });
        }
        let waiting = {
            let mut state = self.lock();
            self.admit(&state).map_err(|error| disconnected(error.to_string()))?;
            state.next_request += 1;
            frame.request = state.next_request;
            let waiting = WaitingCall { link: self, request: frame.request };
            state.calls.insert(frame.request, sender);
            let waker = state.push(frame);
            drop(state);
            wake(waker);
            waiting
        };
        let answer = tokio::time::timeout(timeout, receiver).await;
        drop(waiting);
        match answer {
            Ok(Ok(Ok(payload))) => Ok(payload),
            Ok(Ok(Err(problem))) => Err(CallError::Refused { node, problem }),
            Ok(Err(_)) => Err(disconnected(self.problem())),
            Err(_) => {
                let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(CallError::TimedOut { node, waited_ms })
            }
        }
    }

    /// Hands an answer to who waits for it; one that comes too late is dropped.
    pub(crate) fn complete(&self, request: u64, answer: Result<Bytes, String>) {
        let waiting = self.lock().calls.remove(&request);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Whether a call waits for its answer.
    pub(crate) fn has_calls(&self) -> bool {
        !self.lock().calls.is_empty()
    }

    /// Moves everything that waits into `frames`, if given one that is empty. From here on a change wakes the task. Gives the
    /// reason if the link is to end.
    pub(crate) fn take(&self, frames: Option<&mut Vec<Outgoing>>, waker: &Waker) -> Option<LinkEnd> {
        let mut state = self.lock();
        if let Some(frames) = frames {
            std::mem::swap(&mut state.queued, frames);
            state.queued_bytes = 0;
        }
        match &mut state.waker {
            Some(old) if old.will_wake(waker) => {}
            place => *place = Some(waker.clone()),
        }
        state.closing.clone()
    }

    pub(crate) fn set_source(&self, source: Arc<dyn Source>) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.source = Some(source);
        }
        drop(state);
        self.wake_source();
    }

    /// Makes the task ask the source. Costs little when it was asked already.
    pub(crate) fn wake_source(&self) {
        if !self.source_asked.swap(true, Ordering::AcqRel) {
            let waker = self.lock().waker.take();
            wake(waker);
        }
    }

    /// The source, if it has to be asked. A wake after this makes it asked again.
    pub(crate) fn take_asked_source(&self) -> Option<Arc<dyn Source>> {
        if !self.source_asked.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.lock().source.clone()
    }

    /// Asks the source again without waking the task, which is running.
    pub(crate) fn keep_source_asked(&self) {
        self.source_asked.store(true, Ordering::Release);
    }

    /// Whether the source has to be asked.
    pub(crate) fn is_source_asked(&self) -> bool {
        self.source_asked.load(Ordering::Acquire)
    }

    /// Asks the task to end the link.
    pub(crate) fn close(&self, why: LinkEnd) {
        let mut state = self.lock();
        state.closing.get_or_insert(why);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// The link is over: whoever waits is told, whoever sends from now on too. Returns false if it was over before.
    pub(crate) fn end(&self, why: LinkEnd) -> bool {
        let mut state = self.lock();
        if state.ended.is_some() {
            return false;
        }
        state.ended = Some(why);
        let calls = std::mem::take(&mut state.calls);
        let queued = std::mem::take(&mut state.queued);
        let source = state.source.take();
        state.queued_bytes = 0;
        state.waker = None;
        drop(state);
        drop((calls, queued, source));
        true
    }

    /// Whether messages are still taken.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.lock();
        state.ended.is_none() && state.closing.is_none()
    }

    /// Why the link ended or is ending.
    pub(crate) fn problem(&self) -> String {
        let state = self.lock();
        let end = state.ended.as_ref().or(state.closing.as_ref());
        end.map_or_else(|| "the connection is open".to_owned(), ToString::to_string)
    }

    /// Bytes that wait in the queue.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().queued_bytes
    }

    pub(crate) fn count(&self, received: u64, sent: u64) {
        self.received_bytes.fetch_add(received, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent, Ordering::Relaxed);
    }

    /// Bytes received and sent since the link began.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.received_bytes.load(Ordering::Relaxed), self.sent_bytes.load(Ordering::Relaxed))
    }
}

impl State {
    fn push(&mut self, frame: Outgoing) -> Option<Waker> {
        self.queued_bytes += frame.queued_bytes();
        self.queued.push(frame);
        self.waker.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A call that is given up takes its place with it.
struct WaitingCall<'a> {
    link: &'a Arc<LinkShared>,
    request: u64,
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.link.lock().calls.remove(&self.request);
    }
}
