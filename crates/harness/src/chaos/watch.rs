//! Looks at the run from outside all the time: how much is acknowledged, and what the cluster says of itself.

use super::cluster::{status, total};
use super::gaps::Acknowledgements;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(250);
/// What a node said longer ago says nothing of now.
const FRESH: Duration = Duration::from_secs(1);

/// The run at one moment.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub at: Duration,
    pub acknowledged: u64,
    /// As the node says whose metadata is the newest; nothing if none answers.
    pub under_replicated: Option<u64>,
    pub offline: Option<u64>,
}

/// The newest that a node said.
struct Said {
    when: Instant,
    commit_offset: u64,
    under_replicated: u64,
    offline: u64,
}

pub struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    pub fn start(started: Instant, addresses: Vec<String>, acknowledgements: Arc<Acknowledgements>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let mut threads = Vec::new();
        let mut said = Vec::new();
        // One for each node: a paused one answers late.
        for address in addresses {
            let slot = Arc::new(Mutex::new(None));
            said.push(slot.clone());
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if let Some(now) = status(&address).as_ref().and_then(read) {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                    }
                    std::thread::sleep(EVERY);
                }
            }));
        }
        let (taken, stopped) = (samples.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let sample = sample(started, &said, &acknowledgements);
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                std::thread::sleep(EVERY);
            }
        }));
        Self { samples, stop, threads }
    }

    /// Everything so far.
    pub fn finish(&mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(status: &Value) -> Option<Said> {
    Some(Said {
        when: Instant::now(),
        commit_offset: status.get("metadata")?.get("commit_offset")?.as_u64()?,
        under_replicated: total(status, "under_replicated")?,
        offline: total(status, "offline")?,
    })
}

fn sample(
    started: Instant,
    said: &[Arc<Mutex<Option<Said>>>],
    acknowledgements: &Acknowledgements,
) -> Sample {
    let mut sample =
        Sample { at: started.elapsed(), acknowledged: acknowledgements.totals().0, ..Sample::default() };
    let mut newest = 0;
    for slot in said {
        if let Some(said) = &*slot.lock().unwrap_or_else(PoisonError::into_inner)
            && said.when.elapsed() < FRESH
            && said.commit_offset >= newest
        {
            newest = said.commit_offset;
            sample.under_replicated = Some(said.under_replicated);
            sample.offline = Some(said.offline);
        }
    }
    sample
}
