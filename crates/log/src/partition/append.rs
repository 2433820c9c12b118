//! Appending: offsets, producers and epochs under the partition's lock, then into the queue. No I/O.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_records::{Batch, BatchHeader, TimestampType};

use super::producers::{Producers, SequenceError, Verdict};
use super::{PartitionLog, State};
use crate::core::count;
use crate::error::{AppendError, OffsetOutOfRange};
use crate::journal::queue::{Item, Place};

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; for a duplicate, the offset that it got the first time.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The time that the broker set, with `message.timestamp.type=LogAppendTime`; else -1.
    pub log_append_time: i64,
    /// The log start offset at that time.
    pub log_start_offset: i64,
    /// True if the producer had sent this batch before: nothing was appended.
    pub duplicate: bool,
}

impl PartitionLog {
    /// Appends one record batch (format v2) that was validated, at the end of the log: gives it offsets and the leader's
    /// epoch. Never waits for the disk; the call's order is the log's order. `now_ms` is wall clock time.
    ///
    /// # Errors
    /// Nothing was appended. See [`AppendError`].
    pub fn append_leader(
        self: &Arc<Self>,
        batch: Bytes,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let header = BatchHeader::parse(&batch)?;
        let mut state = self.lock();
        state.usable()?;
        let expire = self.core.options.producer_id_expiration_ms;
        let log_start_offset = self.log_start_offset();
        let log_append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => -1,
        };
        let checked = match (state.producers.check(&header, now_ms, expire), state.led_since_ms) {
            (Ok(Verdict::Append), Some(since_ms)) => {
                state.producers.check_begin(&header, since_ms, now_ms).map(|()| Verdict::Append)
            }
            (Err(error @ SequenceError::OutOfOrder { .. }), Some(since_ms))
                if Producers::is_young(since_ms, now_ms) =>
            {
                let committed = self.high_watermark.load(Ordering::Acquire);
                state.producers.sent_before(&header, committed).unwrap_or(Err(error))
            }
            (checked, _) => checked,
        };
        match checked? {
            Verdict::Append => {}
            Verdict::Duplicate { base_offset, last_offset } => {
                return Ok(Appended {
                    base_offset,
                    last_offset,
                    log_append_time,
                    log_start_offset,
                    duplicate: true,
                });
            }
        }
        // A follower takes what its leader has, whatever the limit is by now.
        let (size, limit) = (batch.len() as u64, state.options.segment_bytes);
        if size > limit {
            return Err(AppendError::LargerThanSegment { size, limit });
        }
        let header = header.with_position(state.end, leader_epoch);
        if let Err(error) = self.push(&mut state, &header, &batch, now_ms) {
            state.producers.refuse(&header, error.error_code(), now_ms);
            return Err(error);
        }
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time,
            log_start_offset,
            duplicate: false,
        })
    }

    /// Takes note that a batch was not appended, for a reason that passes, of which its producer was told with `code`: what it
    /// sent on in the meantime is answered in the same way, and not as out of order. `now_ms` is wall clock time.
    pub fn note_refused(&self, batch: &Bytes, code: ErrorCode, now_ms: i64) {
        if let Ok(header) = BatchHeader::parse(batch) {
            self.lock().producers.refuse(&header, code, now_ms);
        }
    }

    /// Appends record batches (one or several, whole) as the leader stored them: byte by byte, with offsets and epochs. Each
    /// CRC is checked, and the log takes note of idempotent producers and epochs. Gaps that compaction left are kept.
    /// Never waits for the disk; [`LogListener`](crate::LogListener) hears of it as of a leader's append.
    ///
    /// # Errors
    /// They don't continue the log ([`AppendError::NotContiguous`]: they begin below its end), they are no whole batches, or
    /// a CRC is wrong. Batches before the bad one are appended.
    pub fn append_follower(self: &Arc<Self>, batches: Bytes) -> Result<Appended, AppendError> {
        let now_ms = self.core.clock.wall_ms();
        let mut appended: Option<Appended> = None;
        let mut rest = batches;
        while !rest.is_empty() {
            let header = {
                let batch = Batch::parse(&rest)?;
                batch.verify_crc()?;
                *batch.header()
            };
            let bytes = rest.split_to(header.total_size().min(rest.len()));
            let mut state = self.lock();
            state.usable()?;
            if header.base_offset < state.end {
                return Err(AppendError::NotContiguous { expected: state.end, found: header.base_offset });
            }
            self.push(&mut state, &header, &bytes, now_ms)?;
            let first = appended.map_or(header.base_offset, |a| a.base_offset);
            appended = Some(Appended {
                base_offset: first,
                last_offset: header.last_offset(),
                log_append_time: -1,
                log_start_offset: self.log_start_offset(),
                duplicate: false,
            });
        }
        appended.ok_or(AppendError::Empty)
    }

    /// Moves the log's start up to `before` (at most the log's end); what is below goes away. Gives the new start. Also for
    /// a follower that hears of its leader's log start offset (KIP-107). Does nothing if the log starts there or later.
    ///
    /// # Errors
    /// `before` is above the log's end (a follower then begins anew, see [`PartitionLog::reset_to`]), the end is being cut
    /// back at the moment, or the storage takes no writes.
    pub fn delete_records(self: &Arc<Self>, before: i64) -> Result<i64, AppendError> {
        let mut state = self.lock();
        state.usable()?;
        let log_start = self.log_start_offset();
        if before > state.end {
            return Err(AppendError::OutOfRange(OffsetOutOfRange {
                offset: before,
                log_start,
                log_end: state.end,
            }));
        }
        if before > log_start {
            state.not_cutting()?;
            self.queue(&mut state, &Item::LogStart(before))?;
            self.log_start.store(before, Ordering::Release);
            state.epochs.advance_start(before);
        }
        Ok(self.log_start_offset())
    }

    /// Puts an entry of this partition into the queue.
    pub(crate) fn queue(self: &Arc<Self>, state: &mut State, item: &Item<'_>) -> Result<(), AppendError> {
        let mut mark = state.mark;
        let end = match item {
            Item::Batch { header, .. } => header.next_offset(),
            _ => state.end,
        };
        let define = || state.definition(self.key, self.log_start_offset());
        let pushed = self.core.queue.push(self, &mut mark, end, define, item);
        state.mark = mark;
        pushed.map_err(|reason| AppendError::Storage(reason.to_string()))
    }

    /// Gives a batch its place, queues it, and moves the log's end.
    fn push(
        self: &Arc<Self>,
        state: &mut State,
        header: &BatchHeader,
        bytes: &Bytes,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        state.not_cutting()?;
        let size = bytes.len() as u64;
        if size != header.total_size() as u64 {
            return Err(AppendError::Length { stated: header.total_size(), found: bytes.len() });
        }
        let place = state.place(header, size, now_ms);
        let direct = bytes.len() >= self.core.direct_bytes();
        self.queue(state, &Item::Batch { header, bytes, place, direct })?;
        state.advance(header, place, size, now_ms);
        self.log_end.store(state.end, Ordering::Release);
        self.size.fetch_add(size, Ordering::Relaxed);
        count(&self.core.counters.appended_bytes, size);
        Ok(())
    }
}

impl State {
    /// Fails while the log's end is being cut back: what is queued then would tell of an end that is gone.
    fn not_cutting(&self) -> Result<(), AppendError> {
        if self.cutting {
            return Err(AppendError::Storage("the log's end is being cut back; try again".to_owned()));
        }
        Ok(())
    }

    /// Where a batch goes: to the active segment, unless that is full or old.
    fn place(&self, header: &BatchHeader, size: u64, now_ms: i64) -> Place {
        let active = self.active;
        let roll = active.position > 0
            && (active.position + size > self.options.segment_bytes
                || now_ms.saturating_sub(active.created_ms) >= self.options.segment_ms
                // The index has 32 bits for an offset.
                || header.last_offset() - active.segment >= i64::from(i32::MAX));
        // A segment that holds nothing yet is named by its first batch, which need not be the log's end (compaction).
        if roll || active.position == 0 {
            Place { segment: header.base_offset, position: 0, roll: true }
        } else {
            Place { segment: active.segment, position: active.position, roll: false }
        }
    }

    /// Takes note of a batch that was appended.
    pub(crate) fn advance(&mut self, header: &BatchHeader, place: Place, size: u64, now_ms: i64) {
        if place.position == 0 {
            self.active.created_ms = now_ms;
        }
        self.active.segment = place.segment;
        self.active.position = place.position + size;
        self.end = header.next_offset();
        self.epochs.note(header.partition_leader_epoch, header.base_offset);
        self.producers.note(header, now_ms);
    }
}
