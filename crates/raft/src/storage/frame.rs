//! Frames of the log: what is written and flushed together.
//!
//! A frame is a marker, the length of its payload, the payload's CRC-32C, and the payload: a kind and what belongs to it. As a frame is
//! begun only after the one before was flushed, bytes that are no frame at the end of the log are a write that was cut short; bytes that
//! are no frame with a whole later frame behind them are damage.

use bytes::{BufMut, Bytes};
use chronik_meta::CodecError;

use crate::codec::{Reader, put_entries, put_log_id};
use crate::types::{Entry, LogId};

/// What each frame begins with.
const MARKER: [u8; 4] = *b"crf\x01";

/// Bytes in front of the payload: marker, length, CRC.
pub(super) const FRAME_HEAD: usize = 12;

const ENTRIES: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;

/// What happened to the log.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// Entries were appended.
    Entries(Vec<Entry>),
    /// The entries from this index on were removed: they contradict the leader's.
    Truncate(u64),
    /// The entries up to this one, itself included, were removed: a snapshot has them.
    Purge(LogId),
}

/// What is at a place of the log.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// A frame, and the position behind it.
    Record(Record, usize),
    /// The end of the log: nothing, or the zeros that make room for what comes next.
    End,
    /// No frame; why not.
    Nothing(&'static str),
    /// A whole frame with content that cannot be read.
    Unreadable(CodecError),
}

/// The frame of appended entries.
pub(super) fn entries(entries: &[Entry]) -> Vec<u8> {
    frame(|out| {
        out.put_u8(ENTRIES);
        put_entries(out, entries);
    })
}

/// The frame of a truncation.
pub(super) fn truncate(since: u64) -> Vec<u8> {
    frame(|out| {
        out.put_u8(TRUNCATE);
        out.put_u64_le(since);
    })
}

/// The frame of a purge.
pub(super) fn purge(upto: &LogId) -> Vec<u8> {
    frame(|out| {
        out.put_u8(PURGE);
        put_log_id(out, upto);
    })
}

fn frame(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = MARKER.to_vec();
    bytes.extend_from_slice(&[0; 8]);
    fill(&mut bytes);
    let payload = bytes.get(FRAME_HEAD..).unwrap_or(&[]);
    let mut numbers = [0u8; 8];
    let (length, crc) = numbers.split_at_mut(4);
    length.copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    if let Some(place) = bytes.get_mut(4..FRAME_HEAD) {
        place.copy_from_slice(&numbers);
    }
    bytes
}

/// Reads what is at `position` of the log's `bytes`.
pub(super) fn read(bytes: &Bytes, position: usize) -> Found {
    let rest = bytes.get(position..).unwrap_or(&[]);
    if rest.iter().all(|byte| *byte == 0) {
        return Found::End;
    }
    match whole(rest) {
        Err(why) => Found::Nothing(why),
        Ok(payload) => match decode(bytes.slice_ref(payload)) {
            Ok(record) => Found::Record(record, position + FRAME_HEAD + payload.len()),
            Err(error) => Found::Unreadable(error),
        },
    }
}

/// The position of the first whole frame behind `position`, if there is one.
pub(super) fn next_whole(bytes: &[u8], position: usize) -> Option<usize> {
    let mut at = position + 1;
    loop {
        let rest = bytes.get(at..)?;
        let found = rest.windows(MARKER.len()).position(|window| window == MARKER)?;
        if whole(rest.get(found..)?).is_ok() {
            return Some(at + found);
        }
        at += found + 1;
    }
}

/// The payload of the frame that `bytes` begin with.
fn whole(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let rest = match bytes.strip_prefix(&MARKER) {
        Some(rest) => rest,
        None if bytes.len() < MARKER.len() => return Err("a frame's head is cut short"),
        None => return Err("there is no frame"),
    };
    let (length, rest) = rest.split_first_chunk().ok_or("a frame's head is cut short")?;
    let (crc, rest) = rest.split_first_chunk().ok_or("a frame's head is cut short")?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let payload = rest.get(..length).ok_or("a frame is cut short")?;
    // No frame is empty, but a head of which only the marker was written looks like it: the CRC of nothing is 0.
    if payload.is_empty() {
        return Err("a frame's head is cut short");
    }
    if crc32c::crc32c(payload) != u32::from_le_bytes(*crc) {
        return Err("a frame's CRC is wrong");
    }
    Ok(payload)
}

fn decode(payload: Bytes) -> Result<Record, CodecError> {
    let mut input = Reader::new(payload);
    let record = match input.u8("a frame's kind")? {
        ENTRIES => Record::Entries(input.entries()?),
        TRUNCATE => Record::Truncate(input.u64("an index")?),
        PURGE => Record::Purge(input.log_id()?),
        kind => return Err(CodecError::UnknownKind(kind)),
    };
    input.finish()?;
    Ok(record)
}
