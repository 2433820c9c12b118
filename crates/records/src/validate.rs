//! What a broker checks of a client's records before it appends them.
//!
//! The checks and their error codes are Apache Kafka's, except where this broker is stricter: formats before v2 are
//! refused with `UNSUPPORTED_FOR_MESSAGE_FORMAT`, unused attribute bits and the cleaner's delete horizon bit are not
//! taken from clients, and nothing may follow the batch.

use bytes::{Buf, Bytes};
use chronik_base::{ErrorCode, Timestamp};

use crate::batch::Batch;
use crate::compression::{self, Compression, CompressionError, DEFAULT_MAX_DECOMPRESSED_BYTES, Encoding};
use crate::header::{BatchError, BatchHeader, HEADER_SIZE, LENGTH_PREFIX_SIZE, MAGIC_V2, TimestampType};
use crate::record::records_error;
use crate::scan::{Issues, Scan, scan};
use crate::source::{ReadSource, SliceSource, SourceError};

/// Bytes of decompressed records that are looked at at once.
const WINDOW_SIZE: usize = 8 << 10;

/// The first Produce version whose clients may use zstd (KIP-110).
const ZSTD_SINCE_PRODUCE: i16 = 7;

/// The settings that a produced batch is held to. The default is that of Kafka's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    /// Version of the Produce request. Before 7, zstd is refused.
    pub produce_version: i16,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`. With `LogAppendTime`, the producer's timestamps are neither checked nor kept.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a timestamp may lie before now, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a timestamp may lie after now, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: size of a batch as it is stored, header included.
    pub max_message_bytes: usize,
    /// `segment.bytes`: no batch may be larger than a segment.
    pub segment_bytes: usize,
    /// `compression.type`: `None` stands for `producer`, which stores the records as they came.
    pub encoding: Option<Encoding>,
    /// `max.decompressed.bytes`: what the records of one batch may decompress to.
    pub max_decompressed_bytes: usize,
}

impl Default for ProduceRules {
    fn default() -> Self {
        Self {
            produce_version: i16::MAX,
            compacted: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            max_message_bytes: (1 << 20) + LENGTH_PREFIX_SIZE,
            segment_bytes: 1 << 30,
            encoding: None,
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
        }
    }
}

/// A batch that may be appended: its header as it has to be stored, and its records as the producer sent them unless a
/// setting of the topic asked for another codec.
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// The header. Base offset and leader epoch are the broker's to set: [`BatchHeader::with_position`]. Length, CRC
    /// and all else are right.
    pub header: BatchHeader,
    /// The bytes behind the header.
    pub records: Bytes,
    /// Offset delta of the first record with the largest timestamp, -1 if no record has a timestamp.
    pub max_timestamp_delta: i32,
    /// Bytes of the records without compression.
    pub uncompressed_size: u64,
    /// True if the header (timestamp type, largest timestamp) or the records differ from what the producer sent.
    pub rewritten: bool,
}

impl ProduceBatch {
    /// Bytes of the batch, header included.
    pub fn size(&self) -> usize {
        HEADER_SIZE + self.records.len()
    }

    /// Records in the batch, at least 1.
    pub fn count(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    /// The header's bytes at a place in the log; [`ProduceBatch::records`] follow them.
    pub fn encode_header(&self, base_offset: i64, partition_leader_epoch: i32) -> [u8; HEADER_SIZE] {
        self.header.with_position(base_offset, partition_leader_epoch).encode()
    }

    /// The whole batch in one piece, copied.
    pub fn to_bytes(&self, base_offset: i64, partition_leader_epoch: i32) -> Bytes {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend_from_slice(&self.encode_header(base_offset, partition_leader_epoch));
        bytes.extend_from_slice(&self.records);
        bytes.into()
    }
}

/// One record that was refused (KIP-467).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordIssue {
    /// Its position in the batch, from 0.
    pub batch_index: i32,
    /// What was wrong with it.
    pub message: String,
}

/// Why a produced batch is refused: what a Produce response answers for the partition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RecordError {
    /// The partition's error code.
    pub code: ErrorCode,
    /// What was wrong, the value seen and the setting that governs it.
    pub message: String,
    /// The records to blame, if it was single ones; at most [`RECORD_ISSUES_MAX`](crate::RECORD_ISSUES_MAX). Produce
    /// answers carry them from version 8 on.
    pub records: Vec<RecordIssue>,
}

impl RecordError {
    #[cold]
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }
}

/// Checks the records of one partition of a Produce request: exactly one batch of format v2, whole, with nothing behind
/// it, its CRC right, and every record within `rules` at the time `now_ms` (milliseconds since the Unix epoch).
///
/// Records are copied only if `compression.type` asks for another codec than the producer's.
///
/// # Errors
/// [`RecordError`] with Kafka's code:
/// `INVALID_RECORD` (no or more than one batch, control batch, counts, offsets, lengths, keys, producer fields),
/// `UNSUPPORTED_FOR_MESSAGE_FORMAT` (magic 0 or 1), `CORRUPT_MESSAGE` (magic, length, CRC),
/// `UNSUPPORTED_COMPRESSION_TYPE`, `MESSAGE_TOO_LARGE` (`max.message.bytes`, `max.decompressed.bytes`),
/// `RECORD_LIST_TOO_LARGE` (`segment.bytes`), `INVALID_TIMESTAMP`.
pub fn validate_produce(
    mut records: Bytes,
    rules: &ProduceRules,
    now_ms: Timestamp,
) -> Result<ProduceBatch, RecordError> {
    let batch = one_batch(&records)?;
    let header = *batch.header();
    check_size(batch.bytes().len(), rules)?;
    batch.verify_crc().map_err(|e| RecordError::new(ErrorCode::CorruptMessage, e.to_string()))?;
    let source_codec = check_header(&header, rules)?;
    let scan = scan_batch(&batch, source_codec, rules, now_ms)?;
    refuse_issues(&scan.issues)?;
    records.advance(HEADER_SIZE);

    let mut stored = ProduceBatch {
        header,
        records,
        max_timestamp_delta: scan.max_timestamp_delta,
        uncompressed_size: scan.uncompressed_size,
        rewritten: false,
    };
    if let Some(encoding) = rules.encoding
        && encoding.compression != source_codec
    {
        recompress(&mut stored, source_codec, encoding, rules)?;
    }
    // Kafka, too, trusts the records and not the header for the largest timestamp.
    match rules.timestamp_type {
        TimestampType::CreateTime => stored.header.max_timestamp = scan.max_timestamp,
        TimestampType::LogAppendTime => {
            stored.header.max_timestamp = now_ms;
            stored.max_timestamp_delta = 0;
        }
    }
    stored.header.attributes = stored.header.attributes.with_timestamp_type(rules.timestamp_type);
    if stored.header != header {
        stored.header.crc = stored.header.compute_crc(&stored.records);
        stored.rewritten = true;
    }
    Ok(stored)
}

fn one_batch(records: &Bytes) -> Result<Batch<'_>, RecordError> {
    if records.is_empty() {
        return Err(RecordError::invalid(
            "no records: a Produce request carries one batch for each partition",
        ));
    }
    let batch = Batch::parse(records).map_err(|error| {
        let code = match error {
            BatchError::Magic(0..MAGIC_V2) => {
                return RecordError::new(
                    ErrorCode::UnsupportedForMessageFormat,
                    format!("{error}; use a client that speaks Kafka 0.11 or later"),
                );
            }
            BatchError::CutShort { .. } => ErrorCode::InvalidRecord,
            _ => ErrorCode::CorruptMessage,
        };
        RecordError::new(code, error.to_string())
    })?;
    let extra = records.len() - batch.bytes().len();
    if extra > 0 {
        return Err(RecordError::invalid(format!(
            "{extra} bytes follow the record batch: a Produce request carries exactly one batch for each partition"
        )));
    }
    Ok(batch)
}

fn check_size(size: usize, rules: &ProduceRules) -> Result<(), RecordError> {
    if size > rules.max_message_bytes {
        return Err(RecordError::new(
            ErrorCode::MessageTooLarge,
            format!(
                "record batch of {size} bytes: max.message.bytes allows {}; send smaller batches or raise it",
                rules.max_message_bytes
            ),
        ));
    }
    if size > rules.segment_bytes {
        return Err(RecordError::new(
            ErrorCode::RecordListTooLarge,
            format!(
                "record batch of {size} bytes does not fit into a segment of segment.bytes={}",
                rules.segment_bytes
            ),
        ));
    }
    Ok(())
}

/// Everything that can be told from the header. Returns the codec.
fn check_header(header: &BatchHeader, rules: &ProduceRules) -> Result<Compression, RecordError> {
    let attributes = header.attributes;
    let Some(codec) = attributes.compression() else {
        return Err(RecordError::new(
            ErrorCode::UnsupportedCompressionType,
            format!("compression type {}: known are 0 (none) to 4 (zstd)", attributes.compression_id()),
        ));
    };
    if codec == Compression::Zstd && rules.produce_version < ZSTD_SINCE_PRODUCE {
        return Err(RecordError::new(
            ErrorCode::UnsupportedCompressionType,
            format!(
                "zstd in a Produce request of version {}: it needs version {ZSTD_SINCE_PRODUCE} or later",
                rules.produce_version
            ),
        ));
    }
    let (count, last) = (header.record_count, header.last_offset_delta);
    if header.base_offset != 0 {
        return Err(RecordError::invalid(format!(
            "base offset {}: a producer sends 0, the broker assigns offsets",
            header.base_offset
        )));
    }
    if count <= 0 || i64::from(last) != i64::from(count) - 1 {
        return Err(RecordError::invalid(format!(
            "batch of {count} records with last offset delta {last}: a producer's batch has at least one record and \
             no gaps"
        )));
    }
    if attributes.is_control() {
        return Err(RecordError::invalid("control batch: clients may not write control records"));
    }
    if attributes.unused_bits() != 0 || attributes.has_delete_horizon() {
        return Err(RecordError::invalid(format!(
            "attributes {:#06x}: a producer may set bits 0 to 4 only",
            attributes.0
        )));
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(RecordError::new(
            ErrorCode::InvalidTimestamp,
            "timestamp type LogAppendTime: it is the broker's to set, a producer sends CreateTime",
        ));
    }
    if header.has_producer_id() {
        if header.base_sequence < 0 || header.producer_epoch < 0 {
            return Err(RecordError::invalid(format!(
                "producer id {} with epoch {} and sequence {}: both have to be 0 or more",
                header.producer_id, header.producer_epoch, header.base_sequence
            )));
        }
    } else if attributes.is_transactional() {
        return Err(RecordError::invalid("transactional batch without a producer id"));
    }
    Ok(codec)
}

fn scan_batch(
    batch: &Batch<'_>,
    codec: Compression,
    rules: &ProduceRules,
    now_ms: Timestamp,
) -> Result<Scan, RecordError> {
    let (header, bytes) = (batch.header(), batch.record_bytes());
    let result = if codec == Compression::None {
        scan(&mut SliceSource::new(bytes), header, rules, now_ms)
    } else {
        let mut window = [0; WINDOW_SIZE];
        compression::reader(codec, bytes, rules.max_decompressed_bytes)
            .map_err(|error| (0, SourceError::Compression(Box::new(error))))
            .and_then(|reader| scan(&mut ReadSource::new(reader, &mut window), header, rules, now_ms))
    };
    result.map_err(|(index, error)| {
        let too_large =
            matches!(&error, SourceError::Compression(e) if matches!(**e, CompressionError::Limit { .. }));
        let code = if too_large { ErrorCode::MessageTooLarge } else { ErrorCode::InvalidRecord };
        RecordError::new(code, records_error(header, index, error).to_string())
    })
}

fn refuse_issues(issues: &Issues) -> Result<(), RecordError> {
    let Some(first) = issues.listed.first() else {
        return Ok(());
    };
    // One bad timestamp decides for the whole batch, as it does in Kafka.
    let code = if issues.has_timestamp { ErrorCode::InvalidTimestamp } else { ErrorCode::InvalidRecord };
    Err(RecordError {
        code,
        message: format!(
            "{} records refused, the first at index {}: {}",
            issues.total, first.batch_index, first.message
        ),
        records: issues.listed.clone(),
    })
}

fn recompress(
    stored: &mut ProduceBatch,
    from: Compression,
    to: Encoding,
    rules: &ProduceRules,
) -> Result<(), RecordError> {
    // The scan has decompressed these bytes once, so a failure is the server's.
    let failed = |e: CompressionError| RecordError::new(ErrorCode::UnknownServerError, e.to_string());
    let plain = match from {
        Compression::None => stored.records.clone(),
        _ => compression::decompress(from, &stored.records, rules.max_decompressed_bytes)
            .map_err(failed)?
            .into(),
    };
    stored.records = match to.compression {
        Compression::None => plain,
        _ => compression::compress(to, &plain).map_err(failed)?.into(),
    };
    check_size(stored.size(), rules)?;
    let length = stored.size() - LENGTH_PREFIX_SIZE;
    stored.header.batch_length = i32::try_from(length).map_err(|_| {
        RecordError::new(
            ErrorCode::MessageTooLarge,
            format!("record batch of {length} bytes after compression.type={}", to.compression),
        )
    })?;
    stored.header.attributes = stored.header.attributes.with_compression(to.compression);
    Ok(())
}

#[cfg(test)]
mod tests;
