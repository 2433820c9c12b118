//! A replica's log on a simulated disk: batches, how far they are flushed, and what a crash leaves of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_coordinator::Record;
use chronik_replica::EpochLog;

use crate::rng::Rng;

/// A batch of records. Two batches are byte-identical if they are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The offset of its first record.
    pub base: i64,
    /// How many records.
    pub count: i64,
    /// The leader epoch it was appended in.
    pub epoch: i32,
    /// What the producer made it as: stands for the bytes.
    pub id: u64,
    /// Producer id and sequence, if the producer is idempotent.
    pub producer: Option<(i64, i32)>,
    /// Records of a group coordinator.
    pub records: Arc<Vec<Record>>,
}

impl Batch {
    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.base + self.count
    }
}

/// What a producer's sequence means to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// It is the next one.
    Fresh,
    /// It is here already, up to that offset.
    Duplicate(i64),
    /// Some before it are missing.
    Gap,
}

/// One replica's log.
#[derive(Clone, Debug, Default)]
pub struct SimLog {
    start: i64,
    end: i64,
    flushed: i64,
    batches: Vec<Arc<Batch>>,
    /// Raised with each cut, so that a flush that began before it says nothing of what came after.
    pub cuts: u64,
    /// The last sequence of each producer and where its batch ends. Follows the log.
    producers: BTreeMap<i64, (i32, i64)>,
    /// The same as of the log's start.
    producers_at_start: BTreeMap<i64, (i32, i64)>,
}

impl SimLog {
    /// How far it is on the disk.
    pub fn flushed(&self) -> i64 {
        self.flushed
    }

    /// All batches.
    pub fn batches(&self) -> &[Arc<Batch>] {
        &self.batches
    }

    /// The batches from the one that has `offset` on.
    pub fn from(&self, offset: i64) -> &[Arc<Batch>] {
        let at = self.batches.partition_point(|batch| batch.end() <= offset);
        self.batches.get(at..).unwrap_or_default()
    }

    /// The batch that has `offset`.
    pub fn at(&self, offset: i64) -> Option<&Arc<Batch>> {
        self.from(offset).first().filter(|batch| batch.base <= offset)
    }

    /// What the sequence of a batch means.
    pub fn sequence(&self, producer: Option<(i64, i32)>) -> Sequence {
        let Some((id, sequence)) = producer else { return Sequence::Fresh };
        match self.producers.get(&id) {
            // A producer that the log doesn't know may begin anywhere, as in Kafka.
            None => Sequence::Fresh,
            Some((last, _)) if sequence == last + 1 => Sequence::Fresh,
            Some((last, end)) if sequence == *last => Sequence::Duplicate(*end),
            Some(_) => Sequence::Gap,
        }
    }

    /// Appends a batch, whose offset must be the log's end.
    pub fn append(&mut self, batch: Arc<Batch>) {
        self.end = batch.end();
        self.note(&batch);
        self.batches.push(batch);
    }

    fn note(&mut self, batch: &Batch) {
        if let Some((id, sequence)) = batch.producer {
            self.producers.insert(id, (sequence, batch.end()));
        }
    }

    /// The disk has everything below `end`, if nothing was cut since `cuts`.
    pub fn on_flushed(&mut self, end: i64, cuts: u64) {
        if cuts == self.cuts {
            self.flushed = self.flushed.max(end.min(self.end));
        }
    }

    /// Cuts whole batches from `end` on.
    pub fn truncate(&mut self, end: i64) {
        let keep = self.batches.partition_point(|batch| batch.end() <= end);
        self.batches.truncate(keep);
        self.end = self.batches.last().map_or(self.start, |batch| batch.end());
        self.flushed = self.flushed.min(self.end);
        self.cuts += 1;
        self.producers = self.producers_at_start.clone();
        for batch in std::mem::take(&mut self.batches) {
            self.note(&batch);
            self.batches.push(batch);
        }
    }

    /// Throws all away and starts anew at `start`.
    pub fn reset(&mut self, start: i64) {
        *self = Self { start, end: start, flushed: start, cuts: self.cuts + 1, ..Self::default() };
    }

    /// Deletes batches below `start`; the last one stays.
    pub fn delete_below(&mut self, start: i64) {
        let gone = self.batches.partition_point(|batch| batch.end() <= start);
        for batch in self.batches.drain(..gone.min(self.batches.len().saturating_sub(1))) {
            if let Some((id, sequence)) = batch.producer {
                self.producers_at_start.insert(id, (sequence, batch.end()));
            }
        }
        self.start = self.batches.first().map_or(self.start, |batch| batch.base);
    }

    /// The machine lost its power: what was not flushed is there up to some batch; the one after that is torn, which recovery cuts.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        let unflushed: Vec<i64> = self.from(self.flushed).iter().map(|batch| batch.end()).collect();
        let survives = usize::try_from(rng.below(unflushed.len() as u64 + 1)).unwrap_or(0);
        let end =
            survives.checked_sub(1).and_then(|last| unflushed.get(last)).copied().unwrap_or(self.flushed);
        self.truncate(end);
    }

    /// A process starts on it: what recovery found is flushed before anything is said of it.
    pub fn recover(&mut self) {
        self.flushed = self.end;
    }

    /// Forgets all producers.
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }
}

impl EpochLog for SimLog {
    fn log_start(&self) -> i64 {
        self.start
    }

    fn log_end(&self) -> i64 {
        self.end
    }

    fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let after = self.batches.partition_point(|batch| batch.epoch <= epoch);
        let found = self.batches.get(after.checked_sub(1)?)?;
        Some((found.epoch, self.batches.get(after).map_or(self.end, |next| next.base)))
    }
}
