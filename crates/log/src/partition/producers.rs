//! What a log remembers of idempotent producers (KIP-98): enough to know a batch that it has already.

use std::collections::HashMap;

use chronik_base::ErrorCode;
use chronik_records::BatchHeader;

/// A producer as the log knows it, for DescribeProducers (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of its last record; -1 if not known.
    pub last_sequence: i32,
    /// Time of its last append, in milliseconds since the Unix epoch.
    pub last_timestamp: i64,
    /// First offset of its open transaction; -1 if there is none.
    pub current_txn_start_offset: i64,
    /// Epoch of the transaction coordinator; -1 if there is none.
    pub coordinator_epoch: i32,
}

/// Why a batch of an idempotent producer does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// There is a gap, or it is older than what is remembered.
    #[error("producer {producer_id} sent sequence {found} where {expected} comes next")]
    OutOfOrder {
        /// The producer.
        producer_id: i64,
        /// The sequence that fits.
        expected: i32,
        /// The sequence that came.
        found: i32,
    },
    /// A newer instance of the producer has written already.
    #[error("producer {producer_id} has epoch {current}; this batch is of epoch {found}")]
    OldEpoch {
        /// The producer.
        producer_id: i64,
        /// The epoch known.
        current: i16,
        /// The epoch that came.
        found: i16,
    },
    /// The batch before it was refused for a reason that passes, and is still to be sent again.
    #[error(
        "producer {producer_id} sent sequence {found} before {expected}, which was refused with {refused:?}, came again"
    )]
    AfterRefused {
        /// The producer.
        producer_id: i64,
        /// The sequence that was refused and comes next.
        expected: i32,
        /// The sequence that came.
        found: i32,
        /// What the batch at `expected` was refused with.
        refused: ErrorCode,
    },
    /// It is in the log already, longer ago than single batches are remembered.
    #[error("producer {producer_id} sent sequence {found} again, which is in the log since long ago")]
    LongAgo {
        /// The producer.
        producer_id: i64,
        /// The sequence that came.
        found: i32,
        /// Whether it is committed: only then the producer may be told.
        committed: bool,
    },
    /// This node leads since a moment ago and knows nothing of the producer: what it sent before may still be on its way, to the leader before.
    #[error(
        "producer {producer_id} sent sequence {found}, and this log has nothing of it: what it sent before may still be under way to the leader before"
    )]
    BeforeFirst {
        /// The producer.
        producer_id: i64,
        /// The sequence that came.
        found: i32,
    },
}

impl SequenceError {
    /// The code that the producer is answered with.
    pub fn error_code(self) -> ErrorCode {
        match self {
            SequenceError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            SequenceError::OldEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            SequenceError::AfterRefused { refused, .. } => refused,
            // Clients take it for an acknowledgement that names no offset.
            SequenceError::LongAgo { committed: true, .. } => ErrorCode::DuplicateSequenceNumber,
            SequenceError::LongAgo { committed: false, .. } => ErrorCode::RequestTimedOut,
            SequenceError::BeforeFirst { .. } => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// Batches in which a duplicate is looked for: a producer has at most so many in flight.
const REMEMBERED: usize = 5;
/// Batches kept: as many again may be appended and not yet written, and then be taken back where the disk is full.
const KEPT: usize = 2 * REMEMBERED;
/// What a producer sent to the leader before comes within this time, in milliseconds, if it comes again (Kafka's `delivery.timeout.ms`).
const YOUNG_FOR_MS: i64 = 120_000;

/// What was sent on after a refused batch, or what was sent to another leader before, arrives within this time, in milliseconds (the clients'
/// `request.timeout.ms`).
const REFUSED_FOR_MS: i64 = 30_000;
/// Refused batches that are remembered, at most; one of each producer.
const REFUSED_MAX: usize = 4096;

/// A batch that was refused for a reason that passes. Until it comes again, those that its producer sent after it have the same
/// fate: were they told that they are out of order, a producer would begin a new epoch, and send again under it what may
/// already be in the log under the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    epoch: i16,
    first_sequence: i32,
    /// The last sequence of the last one that was refused.
    last_sequence: i32,
    code: ErrorCode,
    at_ms: i64,
}

/// A batch that a producer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchMark {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) last_append_ms: i64,
    /// Its last batches, the newest last; all of this epoch. May be empty where all were taken back.
    pub(crate) batches: Vec<BatchMark>,
    /// Where the unbroken run of sequences begins that ends with the last batch. Of this process only: after a start it begins with the oldest
    /// batch that is remembered.
    run_first: i32,
}

impl Producer {
    pub(crate) fn new(epoch: i16, last_append_ms: i64, batches: Vec<BatchMark>) -> Self {
        let run_first = batches.first().map_or(0, |oldest| oldest.first_sequence);
        Self { epoch, last_append_ms, batches, run_first }
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    Duplicate { base_offset: i64, last_offset: i64 },
}

/// The producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    /// By producer id. Of this process only: after a restart the connections that it is about are gone.
    refused: HashMap<i64, Refused>,
}

impl Refused {
    /// Whether all that was refused is in the log with this batch, or will never be: its producer began anew.
    fn is_over_with(&self, batch: &BatchHeader) -> bool {
        batch.producer_epoch > self.epoch
            || (batch.producer_epoch == self.epoch && batch.last_sequence() >= self.last_sequence)
    }

    fn error(&self, producer_id: i64, expected: i32, found: i32) -> SequenceError {
        SequenceError::AfterRefused { producer_id, expected, found, refused: self.code }
    }
}

impl Producers {
    pub(crate) fn insert(&mut self, id: i64, producer: Producer) {
        self.by_id.insert(id, producer);
    }

    /// Whether a batch fits. One of a producer that is not known (it expired, or retention removed its records) does:
    /// refusing it would stop a producer that did nothing wrong.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader,
        now_ms: i64,
        expire_ms: i64,
    ) -> Result<Verdict, SequenceError> {
        if !batch.has_producer_id() {
            return Ok(Verdict::Append);
        }
        let refused = self.refused.get(&batch.producer_id).filter(|refused| {
            refused.epoch == batch.producer_epoch && now_ms.saturating_sub(refused.at_ms) <= REFUSED_FOR_MS
        });
        // Where the log knows no sequence to go on from, any will do but one that overtakes a refused batch.
        let any = || match refused {
            Some(refused) if batch.base_sequence > refused.first_sequence => {
                Err(refused.error(batch.producer_id, refused.first_sequence, batch.base_sequence))
            }
            _ => Ok(Verdict::Append),
        };
        let Some(known) = self.by_id.get(&batch.producer_id) else { return any() };
        if batch.producer_epoch < known.epoch {
            return Err(SequenceError::OldEpoch {
                producer_id: batch.producer_id,
                current: known.epoch,
                found: batch.producer_epoch,
            });
        }
        if batch.base_sequence < 0 {
            return Ok(Verdict::Append);
        }
        let fits = |expected: i32| match refused {
            _ if batch.base_sequence == expected => Ok(Verdict::Append),
            // What was refused may be in the log already, from before the leader changed: then what follows it is missing.
            Some(refused) if batch.base_sequence > expected => {
                Err(refused.error(batch.producer_id, expected, batch.base_sequence))
            }
            _ => Err(SequenceError::OutOfOrder {
                producer_id: batch.producer_id,
                expected,
                found: batch.base_sequence,
            }),
        };
        if batch.producer_epoch > known.epoch {
            return fits(0);
        }
        let last_sequence = batch.last_sequence();
        let same =
            |b: &&BatchMark| b.first_sequence == batch.base_sequence && b.last_sequence == last_sequence;
        if let Some(b) = known.batches.iter().rev().take(REMEMBERED).find(same) {
            return Ok(Verdict::Duplicate { base_offset: b.base_offset, last_offset: b.last_offset });
        }
        match known.batches.last() {
            None => any(),
            Some(_) if now_ms.saturating_sub(known.last_append_ms) > expire_ms => Ok(Verdict::Append),
            Some(last) => fits(last.last_sequence.checked_add(1).unwrap_or(0)),
        }
    }

    /// What became of a batch that seems out of order, at a node that leads since a moment ago: a producer that finds a new leader sends on
    /// there, while what it sent before waits for the old one; that comes again late, after more than [`REMEMBERED`] others. `None` where the log
    /// does not know it. `committed` is the high watermark.
    pub(crate) fn sent_before(
        &self,
        batch: &BatchHeader,
        committed: i64,
    ) -> Option<Result<Verdict, SequenceError>> {
        let known = self.by_id.get(&batch.producer_id).filter(|known| known.epoch == batch.producer_epoch)?;
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if let Some(b) = known.batches.iter().find(|b| (b.first_sequence, b.last_sequence) == (first, last)) {
            return Some(Ok(Verdict::Duplicate { base_offset: b.base_offset, last_offset: b.last_offset }));
        }
        let oldest = known.batches.first()?;
        if !(known.run_first..=last).contains(&first) || last >= oldest.first_sequence {
            return None;
        }
        let (producer_id, found) = (batch.producer_id, first);
        let committed = committed >= oldest.base_offset;
        Some(Err(SequenceError::LongAgo { producer_id, found, committed }))
    }

    /// Whether a node that leads since `since_ms` may get what was sent to the leader before, late.
    pub(crate) fn is_young(since_ms: i64, now_ms: i64) -> bool {
        is_lately(since_ms, now_ms, YOUNG_FOR_MS)
    }

    /// Fails for a batch of which the log knows nothing that came before, where this node leads since `since_ms` only: a client that finds
    /// the new leader sends it what comes next, while what came before is still under way to the old one.
    pub(crate) fn check_begin(
        &self,
        batch: &BatchHeader,
        since_ms: i64,
        now_ms: i64,
    ) -> Result<(), SequenceError> {
        let is_new = is_lately(since_ms, now_ms, REFUSED_FOR_MS);
        let follows = batch.has_producer_id() && batch.base_sequence > 0;
        let knows = |id: &i64| self.by_id.get(id).is_some_and(|known| !known.batches.is_empty());
        if is_new && follows && !knows(&batch.producer_id) {
            let (producer_id, found) = (batch.producer_id, batch.base_sequence);
            return Err(SequenceError::BeforeFirst { producer_id, found });
        }
        Ok(())
    }

    /// Takes note that a batch was refused with `code`, for a reason that passes.
    pub(crate) fn refuse(&mut self, batch: &BatchHeader, code: ErrorCode, now_ms: i64) {
        if batch.has_producer_id() && batch.base_sequence >= 0 {
            let refused = Refused {
                epoch: batch.producer_epoch,
                first_sequence: batch.base_sequence,
                last_sequence: batch.last_sequence(),
                code,
                at_ms: now_ms,
            };
            self.note_refused(batch.producer_id, refused);
        }
    }

    /// Adds to what was refused of the same epoch lately; takes the place of what was refused before that.
    fn note_refused(&mut self, producer_id: i64, mut refused: Refused) {
        if let Some(earlier) = self.refused.get(&producer_id) {
            if earlier.epoch > refused.epoch {
                return;
            }
            if earlier.epoch == refused.epoch && refused.at_ms.saturating_sub(earlier.at_ms) <= REFUSED_FOR_MS
            {
                refused.first_sequence = refused.first_sequence.min(earlier.first_sequence);
                refused.last_sequence = refused.last_sequence.max(earlier.last_sequence);
            }
        } else if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(producer_id, refused);
    }

    /// Notes a batch that was appended.
    pub(crate) fn note(&mut self, batch: &BatchHeader, now_ms: i64) {
        if !batch.has_producer_id() || batch.attributes.is_control() {
            return;
        }
        if self.refused.get(&batch.producer_id).is_some_and(|refused| refused.is_over_with(batch)) {
            self.refused.remove(&batch.producer_id);
        }
        let producer = self
            .by_id
            .entry(batch.producer_id)
            .or_insert_with(|| Producer::new(batch.producer_epoch, now_ms, Vec::new()));
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_append_ms = now_ms;
        if batch.base_sequence < 0 {
            return;
        }
        let follows = producer
            .batches
            .last()
            .is_some_and(|last| last.last_sequence.checked_add(1) == Some(batch.base_sequence));
        if !follows {
            producer.run_first = batch.base_sequence;
        }
        if producer.batches.len() >= KEPT {
            producer.batches.remove(0);
        }
        producer.batches.push(BatchMark {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
        });
    }

    /// Forgets batches at `end` and above.
    pub(crate) fn truncate(&mut self, end: i64) {
        for producer in self.by_id.values_mut() {
            producer.batches.retain(|b| b.last_offset < end);
        }
    }

    /// Forgets batches at `end` and above, which could not be written: their producers are told `code`.
    pub(crate) fn take_back(&mut self, end: i64, code: ErrorCode, now_ms: i64) {
        let taken: Vec<(i64, Refused)> = self
            .by_id
            .iter()
            .filter_map(|(id, producer)| {
                let first = producer.batches.iter().find(|b| b.last_offset >= end)?;
                let refused = Refused {
                    epoch: producer.epoch,
                    first_sequence: first.first_sequence,
                    last_sequence: producer.batches.last()?.last_sequence,
                    code,
                    at_ms: now_ms,
                };
                Some((*id, refused))
            })
            .collect();
        for (id, refused) in taken {
            self.note_refused(id, refused);
        }
        self.truncate(end);
    }

    /// Forgets producers that sent nothing for `expire_ms` milliseconds.
    pub(crate) fn expire(&mut self, now_ms: i64, expire_ms: i64) {
        self.by_id.retain(|_, p| now_ms.saturating_sub(p.last_append_ms) <= expire_ms);
        self.refused.retain(|_, refused| now_ms.saturating_sub(refused.at_ms) <= REFUSED_FOR_MS);
    }

    /// The producers by id, each as it stood when the log ended at `end`.
    pub(crate) fn as_of(&self, end: i64) -> Vec<(i64, Producer)> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, p)| {
                let mut p = p.clone();
                p.batches.retain(|b| b.last_offset < end);
                (*id, p)
            })
            .collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    pub(crate) fn infos(&self) -> Vec<ProducerInfo> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, p)| ProducerInfo {
                producer_id: *id,
                producer_epoch: p.epoch,
                last_sequence: p.batches.last().map_or(-1, |b| b.last_sequence),
                last_timestamp: p.last_append_ms,
                current_txn_start_offset: -1,
                coordinator_epoch: -1,
            })
            .collect();
        all.sort_by_key(|p| p.producer_id);
        all
    }
}

/// Whether `now_ms` is less than `for_ms` after `since_ms`. A clock that went back says no.
fn is_lately(since_ms: i64, now_ms: i64, for_ms: i64) -> bool {
    (0..for_ms).contains(&now_ms.saturating_sub(since_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_records::Attributes;

    fn batch(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            batch_length: 49,
            partition_leader_epoch: 0,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: count,
        }
    }

    const DAY: i64 = 86_400_000;

    #[test]
    fn duplicates_get_their_first_offset() {
        let mut p = Producers::default();
        for i in 0..12 {
            let b = batch(0, i * 10, 10, 100 + i64::from(i) * 10);
            assert_eq!(p.check(&b, 0, DAY), Ok(Verdict::Append));
            p.note(&b, 0);
        }
        let again = batch(0, 70, 10, 0);
        assert_eq!(p.check(&again, 0, DAY), Ok(Verdict::Duplicate { base_offset: 170, last_offset: 179 }));
        assert!(matches!(
            p.check(&batch(0, 60, 10, 0), 0, DAY),
            Err(SequenceError::OutOfOrder { expected: 120, .. })
        ));
        // A leader that is new remembers further back.
        assert_eq!(
            p.sent_before(&batch(0, 60, 10, 0), 0),
            Some(Ok(Verdict::Duplicate { base_offset: 160, last_offset: 169 }))
        );
        assert_eq!(p.sent_before(&batch(0, 60, 5, 0), 0), None, "no batch that there was");
        assert!(matches!(p.check(&batch(0, 130, 1, 0), 0, DAY), Err(SequenceError::OutOfOrder { .. })));
    }

    #[test]
    fn epochs_rise_and_begin_at_zero() {
        let mut p = Producers::default();
        p.note(&batch(3, 5, 1, 0), 0);
        assert!(matches!(
            p.check(&batch(2, 6, 1, 1), 0, DAY),
            Err(SequenceError::OldEpoch { current: 3, found: 2, .. })
        ));
        assert!(matches!(
            p.check(&batch(4, 6, 1, 1), 0, DAY),
            Err(SequenceError::OutOfOrder { expected: 0, .. })
        ));
        assert_eq!(p.check(&batch(4, 0, 1, 1), 0, DAY), Ok(Verdict::Append));
    }

    #[test]
    fn unknown_and_expired_producers_go_on() {
        let mut p = Producers::default();
        assert_eq!(p.check(&batch(0, 99, 1, 0), 0, DAY), Ok(Verdict::Append));
        p.note(&batch(0, 99, 1, 0), 0);
        assert_eq!(p.check(&batch(0, 200, 1, 1), DAY + 1, DAY), Ok(Verdict::Append));
        p.expire(DAY + 1, DAY);
        assert!(p.infos().is_empty());
    }

    #[test]
    fn what_was_taken_back_can_be_sent_again() {
        let mut p = Producers::default();
        p.note(&batch(0, 0, 5, 0), 0);
        p.note(&batch(0, 5, 5, 5), 0);
        assert_eq!(p.as_of(5).first().map(|(_, p)| p.batches.len()), Some(1));
        p.truncate(5);
        assert_eq!(p.check(&batch(0, 5, 5, 5), 0, DAY), Ok(Verdict::Append));
        assert_eq!(
            p.check(&batch(0, 0, 5, 0), 0, DAY),
            Ok(Verdict::Duplicate { base_offset: 0, last_offset: 4 })
        );
        assert!(p.check(&batch(0, 10, 5, 5), 0, DAY).is_err());
    }

    #[test]
    fn what_follows_a_refused_batch_has_its_fate_until_that_comes_again() {
        let mut p = Producers::default();
        // Of a new producer, the first batch is refused: the second may not take its place.
        p.refuse(&batch(0, 0, 10, 0), ErrorCode::NotEnoughReplicas, 0);
        let second = p.check(&batch(0, 10, 10, 0), 5, DAY).unwrap_err();
        assert_eq!(second.error_code(), ErrorCode::NotEnoughReplicas);
        assert_eq!(p.check(&batch(0, 0, 10, 0), 6, DAY), Ok(Verdict::Append));
        p.note(&batch(0, 0, 10, 0), 6);
        // It is over once the batch is there: a gap is a gap again.
        assert_eq!(
            p.check(&batch(0, 20, 10, 0), 7, DAY).unwrap_err().error_code(),
            ErrorCode::OutOfOrderSequenceNumber
        );
        // Two appended batches could not be written: both are sent again, in order, whatever overtook them.
        p.note(&batch(0, 10, 10, 10), 8);
        p.note(&batch(0, 20, 10, 20), 8);
        p.take_back(10, ErrorCode::KafkaStorageError, 9);
        for early in [20, 30] {
            let error = p.check(&batch(0, early, 10, 10), 9, DAY).unwrap_err();
            assert_eq!(error.error_code(), ErrorCode::KafkaStorageError, "{error}");
        }
        assert_eq!(p.check(&batch(0, 10, 10, 10), 10, DAY), Ok(Verdict::Append));
        // What was refused by a follower came to the log from the old leader after all; what followed it did not.
        p.note(&batch(0, 10, 10, 10), 10);
        p.refuse(&batch(0, 10, 10, 0), ErrorCode::NotLeaderOrFollower, 10);
        p.refuse(&batch(0, 20, 10, 0), ErrorCode::NotLeaderOrFollower, 10);
        let third = p.check(&batch(0, 30, 10, 20), 10, DAY).unwrap_err();
        assert_eq!(third.error_code(), ErrorCode::NotLeaderOrFollower, "{third}");
        assert!(matches!(p.check(&batch(0, 10, 10, 20), 10, DAY), Ok(Verdict::Duplicate { .. })));
        assert_eq!(p.check(&batch(0, 20, 10, 20), 10, DAY), Ok(Verdict::Append));
        // A later epoch owes nothing to the refusal.
        assert_eq!(p.check(&batch(1, 0, 1, 10), 10, DAY), Ok(Verdict::Append));
        // Nor does what comes when nothing of that time can be in flight any more.
        assert_eq!(
            p.check(&batch(0, 30, 10, 20), 10 + REFUSED_FOR_MS + 1, DAY).unwrap_err().error_code(),
            ErrorCode::OutOfOrderSequenceNumber
        );
    }

    #[test]
    fn a_new_leader_takes_a_producers_batches_from_the_first_one_on() {
        let mut p = Producers::default();
        let second = batch(0, 10, 10, 0);
        let error = p.check_begin(&second, 1000, 1005).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::NotLeaderOrFollower, "{error}");
        assert_eq!(p.check_begin(&batch(0, 0, 10, 0), 1000, 1006), Ok(()));
        p.note(&batch(0, 0, 10, 0), 1006);
        assert_eq!(p.check_begin(&second, 1000, 1007), Ok(()));
        // One whose records are gone by retention goes on, after a while.
        assert_eq!(Producers::default().check_begin(&second, 1000, 1000 + REFUSED_FOR_MS), Ok(()));
        // The clock went back: that is no reason to wait for it.
        assert_eq!(Producers::default().check_begin(&second, 1000, 999), Ok(()));
    }

    #[test]
    fn what_came_long_ago_is_known_as_far_as_the_run_is_unbroken() {
        let mut p = Producers::default();
        // Nothing is known of what came before 100.
        for i in 10..40 {
            p.note(&batch(0, i * 10, 10, 1000 + i64::from(i) * 10), 0);
        }
        let code =
            |committed| p.sent_before(&batch(0, 100, 10, 0), committed).unwrap().unwrap_err().error_code();
        assert_eq!(code(1299), ErrorCode::RequestTimedOut);
        assert_eq!(code(1300), ErrorCode::DuplicateSequenceNumber);
        for unknown in [batch(0, 90, 10, 0), batch(0, 95, 10, 0), batch(0, 400, 10, 0)] {
            assert_eq!(p.sent_before(&unknown, 2000), None);
        }
        // Another epoch is another run.
        p.note(&batch(1, 0, 10, 1400), 0);
        assert_eq!(p.sent_before(&batch(0, 100, 10, 0), 2000), None);
        // What was taken back breaks it.
        p.truncate(0);
        p.note(&batch(1, 50, 10, 0), 0);
        assert_eq!(p.sent_before(&batch(1, 0, 10, 0), 2000), None);
        assert!(
            Producers::is_young(10, 10 + YOUNG_FOR_MS - 1) && !Producers::is_young(10, 10 + YOUNG_FOR_MS)
        );
    }

    #[test]
    fn sequences_wrap() {
        let mut p = Producers::default();
        p.note(&batch(0, i32::MAX, 1, 0), 0);
        assert_eq!(p.check(&batch(0, 0, 1, 1), 0, DAY), Ok(Verdict::Append));
    }
}
