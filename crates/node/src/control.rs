//! What the node sees of a connection's task from outside: when it last moved, what it waits for; and how to end it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use tokio::task::AbortHandle;

/// Milliseconds since the node started, moved on by its sweep: a time stamp that costs no system call.
#[derive(Debug, Default)]
pub struct CoarseClock {
    now_ms: AtomicU64,
}

impl CoarseClock {
    /// The time of the last sweep.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Moves the clock to `now_ms`.
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// What a connection is doing, for the sweep to judge its silence by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing has arrived yet. A client may keep such a connection for later.
    New,
    /// Some bytes have arrived, too few to tell what they begin.
    FirstBytes,
    /// It speaks Kafka's protocol.
    Kafka,
    /// It speaks Kafka's protocol, and requests wait for the broker: silence is not the client's fault.
    Waiting,
    /// It speaks HTTP.
    Http,
    /// Another node, whose connection sees for itself whether there is somebody at the other end.
    Peer,
    /// The client sends nothing more; the last answers go out.
    Ending,
}

impl Phase {
    fn from_u8(value: u8) -> Phase {
        [Phase::New, Phase::FirstBytes, Phase::Kafka, Phase::Waiting, Phase::Http, Phase::Peer]
            .into_iter()
            .find(|phase| *phase as u8 == value)
            .unwrap_or(Phase::Ending)
    }
}

/// One connection, as the node sees it.
#[derive(Debug)]
pub struct Control {
    peer: SocketAddr,
    clock: Arc<CoarseClock>,
    phase: AtomicU8,
    active_at_ms: AtomicU64,
    held_bytes: AtomicUsize,
    draining: AtomicBool,
    waker: Mutex<Option<Waker>>,
    task: OnceLock<AbortHandle>,
}

impl Control {
    /// A new connection from `peer`.
    pub fn new(peer: SocketAddr, clock: Arc<CoarseClock>) -> Self {
        let now_ms = clock.now_ms();
        Self {
            peer,
            clock,
            phase: AtomicU8::new(Phase::New as u8),
            active_at_ms: AtomicU64::new(now_ms),
            held_bytes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            waker: Mutex::new(None),
            task: OnceLock::new(),
        }
    }

    /// Where the client is.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What the connection is doing.
    pub fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Ordering::Relaxed))
    }

    /// Says what the connection is doing.
    pub fn set_phase(&self, phase: Phase) {
        if self.phase.load(Ordering::Relaxed) != phase as u8 {
            self.phase.store(phase as u8, Ordering::Relaxed);
        }
    }

    /// Bytes came or went.
    pub fn touch(&self) {
        let now_ms = self.clock.now_ms();
        if self.active_at_ms.load(Ordering::Relaxed) != now_ms {
            self.active_at_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Milliseconds since bytes last came or went.
    pub fn silent_ms(&self) -> u64 {
        self.clock.now_ms().saturating_sub(self.active_at_ms.load(Ordering::Relaxed))
    }

    /// Bytes of requests that the connection holds.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Says how many bytes of requests the connection holds.
    pub fn set_held_bytes(&self, bytes: usize) {
        self.held_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The connection's task, to wake it when the node stops.
    pub fn set_waker(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// The connection's task, to end it.
    pub fn set_task(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// True when no more requests are to be taken.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Lets the connection answer what it took and then end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the connection at once.
    pub fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}
