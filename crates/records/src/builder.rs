//! Makes batches: for the broker's own topics, the cleaner, the clients and the tests.

use bytes::Bytes;
use chronik_base::Timestamp;

use crate::compression::{self, Compression, CompressionError, Encoding};
use crate::header::{
    Attributes, BatchHeader, HEADER_SIZE, LENGTH_PREFIX_SIZE, NO_PRODUCER_ID, NO_TIMESTAMP, TimestampType,
};
use crate::record::Header;
use crate::varint;

/// What a batch has beside its records. The default is what a plain producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Codec and level for the records.
    pub encoding: Encoding,
    /// Offset of the first record; 0 for what clients send.
    pub base_offset: i64,
    /// Epoch of the leader that appends the batch, -1 for what clients send.
    pub partition_leader_epoch: i32,
    /// The producer's id, -1 without one.
    pub producer_id: i64,
    /// The producer's epoch, -1 without one.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 without a producer id.
    pub base_sequence: i32,
    /// True for records of a transaction.
    pub transactional: bool,
    /// True for a control record.
    pub control: bool,
    /// Whose clock the timestamps come from. With `LogAppendTime`, readers see the largest one for all records.
    pub timestamp_type: TimestampType,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            encoding: Compression::None.into(),
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}

/// Why a batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A part of a record, or the batch, would have more bytes than its length field can say.
    #[error("{what} of {size} bytes: the format's limit is {}", i32::MAX)]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// Offset deltas have to rise.
    #[error("offset delta {delta} after {last}: the deltas of a batch have to rise")]
    OffsetDelta {
        /// The delta that was given.
        delta: i32,
        /// The record before has this one; -1 at the start.
        last: i32,
    },
    /// The timestamp is too far from the batch's first one.
    #[error("timestamp {timestamp} is out of range of the batch's first timestamp {base}")]
    Timestamp {
        /// The timestamp that was given, in milliseconds.
        timestamp: Timestamp,
        /// The batch's first timestamp, in milliseconds.
        base: Timestamp,
    },
    /// Nothing was appended; only the cleaner makes batches without records.
    #[error("a batch needs at least one record")]
    Empty,
    /// The codec failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Collects records and makes one batch of them. Without compression the records are written once, in their place.
#[derive(Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    count: i32,
    last_delta: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0)
    }

    /// An empty batch with room for `capacity` bytes of records.
    pub fn with_capacity(options: BatchOptions, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_SIZE.saturating_add(capacity));
        bytes.resize(HEADER_SIZE, 0);
        Self {
            options,
            bytes,
            count: 0,
            last_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Adds a record at the next offset.
    ///
    /// # Errors
    /// As [`BatchBuilder::append_at`].
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BuildError> {
        self.append_at(self.last_delta.saturating_add(1), timestamp, key, value, headers)
    }

    /// Adds a record at `offset_delta` above the base offset, leaving out offsets as compaction does.
    ///
    /// # Errors
    /// [`BuildError::OffsetDelta`] unless the delta is above the last one, [`BuildError::TooLarge`],
    /// [`BuildError::Timestamp`]. The batch stays as it was before the call.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BuildError> {
        if offset_delta <= self.last_delta {
            return Err(BuildError::OffsetDelta { delta: offset_delta, last: self.last_delta });
        }
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp.checked_sub(base).ok_or(BuildError::Timestamp { timestamp, base })?;
        let headers = headers.iter().map(|&(key, value)| Header { key, value });
        put_record(&mut self.bytes, offset_delta, timestamp_delta, key, value, headers)?;
        self.base_timestamp = base;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// True without a record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch as it is now, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The finished batch.
    ///
    /// # Errors
    /// [`BuildError::Empty`]; [`BuildError::Compression`] if the codec fails.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let options = &self.options;
        let mut bytes = self.bytes;
        let encoding = options.encoding;
        if encoding.compression != Compression::None {
            let packed = compression::compress(encoding, bytes.get(HEADER_SIZE..).unwrap_or_default())?;
            bytes.truncate(HEADER_SIZE);
            bytes.extend_from_slice(&packed);
        }
        let header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: 0,
            partition_leader_epoch: options.partition_leader_epoch,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(encoding.compression)
                .with_timestamp_type(options.timestamp_type)
                .with_transactional(options.transactional)
                .with_control(options.control),
            last_offset_delta: self.last_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        };
        seal(header, bytes)
    }
}

/// Puts `header`, with the right length and CRC, into the first bytes of `bytes`, which the records follow.
pub(crate) fn seal(mut header: BatchHeader, mut bytes: Vec<u8>) -> Result<Bytes, BuildError> {
    length("batch", bytes.len())?;
    header.batch_length = (bytes.len() - LENGTH_PREFIX_SIZE) as i32;
    header.crc = header.compute_crc(bytes.get(HEADER_SIZE..).unwrap_or_default());
    if let Some(place) = bytes.first_chunk_mut::<HEADER_SIZE>() {
        *place = header.encode();
    }
    Ok(Bytes::from(bytes))
}

/// Appends one record to the records of a batch. Nothing is written on an error.
pub(crate) fn put_record<'a>(
    out: &mut Vec<u8>,
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = Header<'a>> + Clone,
) -> Result<(), BuildError> {
    let mut size = 1 + varint::size(timestamp_delta) + varint::size(i64::from(offset_delta));
    size += field_size("record key", key)? + field_size("record value", value)?;
    let mut header_count = 0;
    for header in headers.clone() {
        header_count += 1;
        size += field_size("header key", Some(header.key))? + field_size("header value", header.value)?;
    }
    let header_count = length("header list", header_count)?;
    size += varint::size(header_count);
    // The record's own length field takes at most 5 bytes.
    length("batch", out.len() + size + 5)?;

    varint::put(out, size as i64);
    out.push(0);
    varint::put(out, timestamp_delta);
    varint::put(out, i64::from(offset_delta));
    put_field(out, key);
    put_field(out, value);
    varint::put(out, header_count);
    for header in headers {
        put_field(out, Some(header.key));
        put_field(out, header.value);
    }
    Ok(())
}

fn length(what: &'static str, size: usize) -> Result<i64, BuildError> {
    i32::try_from(size).map(i64::from).map_err(|_| BuildError::TooLarge { what, size })
}

fn field_size(what: &'static str, field: Option<&[u8]>) -> Result<usize, BuildError> {
    match field {
        Some(bytes) => Ok(varint::size(length(what, bytes.len())?) + bytes.len()),
        None => Ok(1),
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}
