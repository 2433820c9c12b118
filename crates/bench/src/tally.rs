//! What a load counts while it runs, and how it is gathered second by second.

use crate::histogram::Latencies;
use crate::ledger::{Acknowledged, Lane};
use crate::result::{Counts, Second};
use crate::window::Window;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks shared by the handles of a load; more would only cost memory.
const SHARDS: usize = 16;

/// Counts of some of a load's handles.
pub struct Tally {
    /// Latencies since the last gathering, of the measurement and of everything else.
    measured: Latencies,
    other: Latencies,
    second: Second,
    counts: Counts,
    whole_run: Counts,
    /// Bytes of the measured messages.
    bytes: u64,
    /// When the last measured message was acknowledged, on the run's clock.
    last_ns: u64,
    /// When the first message of all was received; of consumers.
    first_ns: Option<u64>,
    errors: BTreeMap<String, u64>,
    acknowledged: Option<Acknowledged>,
}

/// One message that was acknowledged or received.
#[derive(Clone, Copy)]
pub struct Answer {
    /// When its operation began, on the run's clock.
    pub begun_ns: u64,
    /// When the answer came.
    pub now_ns: u64,
    /// Bytes of key and value.
    pub bytes: usize,
    /// True if it belongs to the measurement.
    pub measured: bool,
}

impl Tally {
    fn new(keeps_books: bool) -> Result<Self> {
        Ok(Self {
            measured: Latencies::new()?,
            other: Latencies::new()?,
            second: Second::default(),
            counts: Counts::default(),
            whole_run: Counts::default(),
            bytes: 0,
            last_ns: 0,
            first_ns: None,
            errors: BTreeMap::new(),
            acknowledged: keeps_books.then(Acknowledged::default),
        })
    }

    /// Counts a message; every one gives exactly one sample.
    pub fn answered(&mut self, answer: &Answer) {
        self.second.messages += 1;
        self.second.bytes += answer.bytes as u64;
        self.whole_run.sent += 1;
        self.whole_run.acknowledged += 1;
        self.first_ns.get_or_insert(answer.now_ns);
        let latency = answer.now_ns.saturating_sub(answer.begun_ns);
        if answer.measured {
            self.counts.sent += 1;
            self.counts.acknowledged += 1;
            self.bytes += answer.bytes as u64;
            self.last_ns = self.last_ns.max(answer.now_ns);
            self.measured.record(latency);
        } else {
            self.other.record(latency);
        }
    }

    /// Notes which message it was, where books are kept.
    pub fn book(&mut self, lane: Lane, sequence: u64) {
        if let Some(books) = &mut self.acknowledged {
            books.insert(lane, sequence);
        }
    }

    /// Counts a message that failed.
    pub fn failed(&mut self, reason: String, measured: bool) {
        self.second.failed += 1;
        self.whole_run.sent += 1;
        self.whole_run.failed += 1;
        if measured {
            self.counts.sent += 1;
            self.counts.failed += 1;
        }
        *self.errors.entry(reason).or_default() += 1;
    }

    /// Counts messages that were due and never sent.
    pub fn unsent(&mut self, messages: u64, measured: u64) {
        self.whole_run.unsent += messages;
        self.counts.unsent += measured;
    }
}

/// All counts of one load.
pub struct Board {
    shards: Vec<Mutex<Tally>>,
}

impl Board {
    /// A board for so many handles; `keeps_books` when it is to be known which messages were acknowledged.
    pub fn new(handles: usize, keeps_books: bool) -> Result<Self> {
        let shards = (0..handles.clamp(1, SHARDS)).map(|_| Ok(Mutex::new(Tally::new(keeps_books)?)));
        Ok(Self { shards: shards.collect::<Result<_>>()? })
    }

    /// The counts that a handle uses.
    pub fn tally(&self, handle: usize) -> MutexGuard<'_, Tally> {
        // There is at least one shard; the index is always within.
        #[allow(clippy::indexing_slicing, reason = "the modulus keeps it within")]
        let shard = &self.shards[handle % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Tally>> {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts of the measurement and of the whole run.
    pub fn counts(&self) -> (Counts, Counts) {
        self.all().fold((Counts::default(), Counts::default()), |(counts, whole), tally| {
            (add(counts, tally.counts), add(whole, tally.whole_run))
        })
    }

    /// Bytes of the measured messages.
    pub fn bytes(&self) -> u64 {
        self.all().map(|tally| tally.bytes).sum()
    }

    /// When the first message of all and the last measured one came.
    pub fn first_and_last(&self) -> (Option<u64>, u64) {
        let last = self.all().map(|tally| tally.last_ns).max().unwrap_or(0);
        (self.all().filter_map(|tally| tally.first_ns).min(), last)
    }

    /// Failures by reason.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let mut errors = BTreeMap::new();
        for tally in self.all() {
            for (reason, count) in &tally.errors {
                *errors.entry(reason.clone()).or_default() += count;
            }
        }
        errors
    }

    /// The books of the load.
    pub fn acknowledged(&self) -> Acknowledged {
        let mut all = Acknowledged::default();
        for tally in self.all() {
            if let Some(books) = &tally.acknowledged {
                all.merge(books);
            }
        }
        all
    }
}

fn add(one: Counts, two: Counts) -> Counts {
    Counts {
        sent: one.sent + two.sent,
        acknowledged: one.acknowledged + two.acknowledged,
        failed: one.failed + two.failed,
        unsent: one.unsent + two.unsent,
    }
}

/// Gathers a board second by second.
pub struct Gathered {
    /// All measured latencies.
    pub measured: Latencies,
    /// One entry for each second so far.
    pub series: Vec<Second>,
    /// The measured latencies of each second, for an interval log, with the second that they belong to.
    pub intervals: Option<Vec<(i64, Latencies)>>,
}

impl Gathered {
    /// Nothing yet; `intervals` when the histogram of each second is to be kept.
    pub fn new(intervals: bool) -> Result<Self> {
        Ok(Self { measured: Latencies::new()?, series: Vec::new(), intervals: intervals.then(Vec::new) })
    }

    /// Takes what came since the last call; `second` counts from the start of the measurement.
    pub fn gather(&mut self, board: &Board, second: i64) -> Result<()> {
        let (mut interval, mut both) = (Latencies::new()?, Latencies::new()?);
        let mut sum = Second { second, ..Second::default() };
        for mut tally in board.all() {
            interval.merge(&tally.measured)?;
            both.merge(&tally.other)?;
            tally.measured.clear();
            tally.other.clear();
            let part = std::mem::take(&mut tally.second);
            sum.messages += part.messages;
            sum.bytes += part.bytes;
            sum.failed += part.failed;
        }
        both.merge(&interval)?;
        self.measured.merge(&interval)?;
        sum.p50_ms = both.quantile_ms(0.5);
        sum.p99_ms = both.quantile_ms(0.99);
        sum.max_ms = both.max_ms();
        match self.series.last_mut() {
            // The rest of a second that was gathered already: a drain that ends within it.
            Some(last) if last.second == second => {
                last.messages += sum.messages;
                last.bytes += sum.bytes;
                last.failed += sum.failed;
                last.p99_ms = last.p99_ms.max(sum.p99_ms);
                last.max_ms = last.max_ms.max(sum.max_ms);
            }
            _ => self.series.push(sum),
        }
        if let Some(intervals) = &mut self.intervals
            && interval.count() > 0
        {
            intervals.push((second, interval));
        }
        Ok(())
    }
}

/// The second that a moment belongs to, from the start of the measurement.
pub fn second_of(window: &Window, now_ns: u64) -> i64 {
    (now_ns as i64).saturating_sub(window.start() as i64).div_euclid(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measured_message_is_one_sample_and_the_warm_up_none() {
        let board = Board::new(40, true).unwrap();
        let mut gathered = Gathered::new(true).unwrap();
        for n in 0..1000u64 {
            let answer = Answer { begun_ns: 0, now_ns: n * 1_000_000, bytes: 10, measured: n >= 300 };
            let mut tally = board.tally(n as usize);
            tally.answered(&answer);
            tally.book((0, 0), n);
            drop(tally);
            if n % 100 == 99 {
                gathered.gather(&board, n as i64 / 100).unwrap();
            }
        }
        let (counts, whole) = board.counts();
        assert_eq!((counts.acknowledged, whole.acknowledged), (700, 1000));
        assert_eq!(gathered.measured.count(), 700);
        assert_eq!(board.bytes(), 7000);
        assert_eq!(gathered.series.iter().map(|second| second.messages).sum::<u64>(), 1000);
        assert_eq!(gathered.intervals.unwrap().len(), 7);
        assert_eq!(board.acknowledged().len(), 1000);
    }

    #[test]
    fn what_was_sent_is_what_was_acknowledged_or_failed() {
        let board = Board::new(1, false).unwrap();
        board.tally(0).answered(&Answer { begun_ns: 0, now_ns: 1, bytes: 1, measured: true });
        board.tally(0).failed("timed out".to_owned(), true);
        board.tally(0).failed("timed out".to_owned(), false);
        board.tally(0).unsent(5, 3);
        let (counts, whole) = board.counts();
        assert_eq!(counts, Counts { sent: 2, acknowledged: 1, failed: 1, unsent: 3 });
        assert_eq!(whole, Counts { sent: 3, acknowledged: 1, failed: 2, unsent: 5 });
        assert_eq!(board.errors()["timed out"], 2);
    }
}
