//! The records inside a batch: one parser for all who read them, and a view that copies nothing.

use std::borrow::Cow;

use chronik_base::Timestamp;

use crate::compression::CompressionError;
use crate::header::{BatchHeader, TimestampType};
use crate::source::{SliceSource, Source, SourceError};

/// What is wrong with the bytes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end in the middle of it.
    #[error("its bytes are cut short")]
    CutShort,
    /// A varint with more bits than its type has.
    #[error("a varint has more than {bits} bits")]
    Varint {
        /// Bits of the type: 32 or 64.
        bits: u32,
    },
    /// A length below zero, or below -1 where -1 means null.
    #[error("the length of its {field} is {length}")]
    Length {
        /// What the length is of.
        field: &'static str,
        /// The length that is stated.
        length: i32,
    },
    /// The fields take more or fewer bytes than the record says.
    #[error("it states {stated} bytes but its fields take {actual}")]
    Size {
        /// The record's own length field.
        stated: u64,
        /// Bytes that its fields take.
        actual: u64,
    },
    /// An offset that cannot follow the one before.
    #[error("its offset delta is {found}, expected {lowest} to {highest}")]
    OffsetDelta {
        /// The delta in the record.
        found: i32,
        /// The smallest that could follow the record before.
        lowest: i32,
        /// The largest that the batch has room for.
        highest: i32,
    },
    /// The timestamp does not fit into 64 bits.
    #[error("its timestamp delta {delta} on base timestamp {base} is out of range")]
    Timestamp {
        /// The batch's base timestamp in milliseconds.
        base: Timestamp,
        /// The record's delta in milliseconds.
        delta: i64,
    },
    /// The records that the batch counts are followed by more bytes.
    #[error("bytes are left after the last record that the batch counts")]
    TrailingBytes,
}

/// Why the records of a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A record's bytes are not what the format says.
    #[error("record {index} of the batch at offset {base_offset}: {fault}")]
    Record {
        /// Position of the record in its batch, from 0.
        index: usize,
        /// Base offset of the batch.
        base_offset: i64,
        /// What is wrong.
        fault: RecordFault,
    },
    /// The number of records is below zero.
    #[error("the batch at offset {base_offset} counts {count} records")]
    Count {
        /// Base offset of the batch.
        base_offset: i64,
        /// The count in its header.
        count: i32,
    },
    /// The codec's number stands for none.
    #[error("the batch at offset {base_offset} has unknown compression type {id}")]
    UnknownCompression {
        /// Base offset of the batch.
        base_offset: i64,
        /// The number in the attributes, 5 to 7.
        id: u8,
    },
    /// The records cannot be decompressed.
    #[error("the batch at offset {base_offset}: {error}")]
    Compression {
        /// Base offset of the batch.
        base_offset: i64,
        /// What the codec says.
        error: CompressionError,
    },
}

/// Where the parts of one record lie, counted from the first record's first byte.
#[derive(Clone, Copy)]
pub(crate) struct RecordShape {
    pub end: u64,
    pub attributes: u8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    /// Position and length; `None` for null.
    pub key: Option<(u64, u64)>,
    pub value: Option<(u64, u64)>,
    pub header_count: i32,
    pub headers_start: u64,
}

/// Reads one record and checks all of its lengths.
#[inline(always)]
pub(crate) fn read_record<S: Source>(source: &mut S) -> Result<RecordShape, SourceError> {
    let length = source.varint32()?;
    let length = u64::try_from(length).map_err(|_| RecordFault::Length { field: "record", length })?;
    let start = source.position();
    let shape = read_fields(source)?;
    if shape.end - start != length {
        return Err(RecordFault::Size { stated: length, actual: shape.end - start }.into());
    }
    Ok(shape)
}

/// As [`read_record`]. The next record is found by this one's length and not by way of all of its fields, so that the
/// processor need not wait for one record to begin with the next.
#[inline(always)]
pub(crate) fn read_record_in_slice(source: &mut SliceSource<'_>) -> Result<RecordShape, SourceError> {
    let length = source.varint32()?;
    let length = usize::try_from(length).map_err(|_| RecordFault::Length { field: "record", length })?;
    let mut record = source.split(length)?;
    let shape = read_fields(&mut record)?;
    if !record.at_end()? {
        let left = record.remaining() as u64;
        return Err(RecordFault::Size { stated: length as u64, actual: length as u64 - left }.into());
    }
    Ok(shape)
}

#[inline(always)]
fn read_fields<S: Source>(source: &mut S) -> Result<RecordShape, SourceError> {
    let attributes = source.byte()?;
    let timestamp_delta = source.varint64()?;
    let offset_delta = source.varint32()?;
    let key = read_nullable(source, "key")?;
    let value = read_nullable(source, "value")?;
    let header_count = source.varint32()?;
    if header_count < 0 {
        return Err(RecordFault::Length { field: "header list", length: header_count }.into());
    }
    let headers_start = source.position();
    for _ in 0..header_count {
        read_header(source)?;
    }
    let end = source.position();
    Ok(RecordShape {
        end,
        attributes,
        timestamp_delta,
        offset_delta,
        key,
        value,
        header_count,
        headers_start,
    })
}

#[inline(always)]
fn read_nullable<S: Source>(source: &mut S, field: &'static str) -> Result<Option<(u64, u64)>, SourceError> {
    let length = source.varint32()?;
    if length < 0 {
        return if length == -1 { Ok(None) } else { Err(RecordFault::Length { field, length }.into()) };
    }
    let at = source.position();
    source.skip(length as u64)?;
    Ok(Some((at, length as u64)))
}

type Span = (u64, u64);

fn read_header<S: Source>(source: &mut S) -> Result<(Span, Option<Span>), SourceError> {
    let key = read_nullable(source, "header key")?
        .ok_or(RecordFault::Length { field: "header key", length: -1 })?;
    Ok((key, read_nullable(source, "header value")?))
}

fn span(bytes: &[u8], (at, length): Span) -> &[u8] {
    // The parser has passed over these bytes, so they are there.
    bytes.get(at as usize..(at + length) as usize).unwrap_or_default()
}

/// One record. All of it borrows from its batch (or from the batch's decompressed bytes).
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp in milliseconds since the Unix epoch, -1 for none.
    pub timestamp: Timestamp,
    /// The record's attribute byte; the format defines no bit of it.
    pub attributes: u8,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// All of its bytes as they are in the batch, its length field included.
    pub(crate) encoded: &'a [u8],
}

impl Record<'_> {
    /// Bytes that it takes in its batch before compression.
    pub fn encoded_size(&self) -> usize {
        self.encoded.len()
    }
}

/// One header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Its name; UTF-8 by convention, unchecked.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, read as they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value of the last header named `key`, as Kafka's clients read a header.
    pub fn find_last(&self, key: &[u8]) -> Option<Header<'a>> {
        (*self).filter(|header| header.key == key).last()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        let mut source = SliceSource::new(self.bytes);
        // The record's parser has read them once, so this does not fail.
        let (key, value) = read_header(&mut source).ok()?;
        let header = Header { key: span(self.bytes, key), value: value.map(|value| span(self.bytes, value)) };
        self.bytes = self.bytes.get(source.position() as usize..).unwrap_or_default();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

/// The records of a batch: its own bytes, or what they decompress to.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(header: BatchHeader, bytes: Cow<'a, [u8]>) -> Self {
        Self { header, bytes }
    }

    /// The records in order. After an error comes nothing more.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            header: self.header,
            bytes: &self.bytes,
            source: SliceSource::new(&self.bytes),
            index: 0,
            last_delta: -1,
            done: false,
        }
    }

    /// Bytes of the records without compression.
    pub fn uncompressed_size(&self) -> usize {
        self.bytes.len()
    }
}

impl<'s> IntoIterator for &'s Records<'_> {
    type Item = Result<Record<'s>, RecordsError>;
    type IntoIter = RecordIter<'s>;

    fn into_iter(self) -> RecordIter<'s> {
        self.iter()
    }
}

/// Reads the records of a batch one by one. Nothing is copied.
pub struct RecordIter<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
    source: SliceSource<'a>,
    index: usize,
    last_delta: i32,
    done: bool,
}

impl<'a> RecordIter<'a> {
    fn read(&mut self) -> Result<Record<'a>, SourceError> {
        let begin = self.source.position();
        let shape = read_record_in_slice(&mut self.source)?;
        let delta = shape.offset_delta;
        // Compaction leaves gaps, but no order other than this one.
        if delta <= self.last_delta || delta > self.header.last_offset_delta {
            return Err(RecordFault::OffsetDelta {
                found: delta,
                lowest: self.last_delta.saturating_add(1),
                highest: self.header.last_offset_delta,
            }
            .into());
        }
        self.last_delta = delta;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => timestamp(&self.header, shape.timestamp_delta)?,
        };
        let bytes = self.bytes;
        Ok(Record {
            offset: self.header.base_offset.wrapping_add(i64::from(delta)),
            offset_delta: delta,
            timestamp,
            attributes: shape.attributes,
            key: shape.key.map(|key| span(bytes, key)),
            value: shape.value.map(|value| span(bytes, value)),
            headers: Headers {
                count: usize::try_from(shape.header_count).unwrap_or(0),
                bytes: span(bytes, (shape.headers_start, shape.end - shape.headers_start)),
            },
            encoded: span(bytes, (begin, shape.end - begin)),
        })
    }

    fn fail(&mut self, error: SourceError) -> RecordsError {
        self.done = true;
        records_error(&self.header, self.index, error)
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.index >= usize::try_from(self.header.record_count).unwrap_or(0) {
            self.done = true;
            return match self.source.position() < self.bytes.len() as u64 {
                true => Some(Err(self.fail(RecordFault::TrailingBytes.into()))),
                false => None,
            };
        }
        match self.read() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(error) => Some(Err(self.fail(error))),
        }
    }
}

pub(crate) fn records_error(header: &BatchHeader, index: usize, error: SourceError) -> RecordsError {
    let base_offset = header.base_offset;
    match error {
        SourceError::Fault(fault) => RecordsError::Record { index, base_offset, fault },
        SourceError::Compression(error) => RecordsError::Compression { base_offset, error: *error },
    }
}

#[inline(always)]
pub(crate) fn timestamp(header: &BatchHeader, delta: i64) -> Result<Timestamp, RecordFault> {
    let base = header.base_timestamp;
    base.checked_add(delta).ok_or(RecordFault::Timestamp { base, delta })
}
