//! The fixed 61 bytes that open every record batch of format v2 (KIP-98).

use std::fmt;

use chronik_base::Timestamp;

use crate::compression::Compression;

/// Bytes of a batch before its first record.
pub const HEADER_SIZE: usize = 61;

/// Bytes that `batch_length` does not count: the base offset and `batch_length` itself.
pub const LENGTH_PREFIX_SIZE: usize = 12;

/// Where the bytes begin that the CRC covers: after the CRC itself, at the attributes. The base offset and the
/// partition leader epoch lie before it, so a broker may set both without touching the CRC.
pub const CRC_COVERS_FROM: usize = 21;

/// The format's version: the only one that is stored.
pub const MAGIC_V2: i8 = 2;

/// No producer id (the batch is not idempotent).
pub const NO_PRODUCER_ID: i64 = -1;

/// No timestamp.
pub const NO_TIMESTAMP: Timestamp = -1;

/// Whose clock a batch's timestamps come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum TimestampType {
    /// The producer's, record by record (`message.timestamp.type=CreateTime`).
    #[default]
    CreateTime,
    /// The broker's at the append: every record has the batch's `max_timestamp` (`LogAppendTime`).
    LogAppendTime,
}

/// The attribute bits of a batch: bits 0-2 compression, 3 timestamp type, 4 transactional, 5 control,
/// 6 delete horizon (KIP-534), the others unused.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;
    const UNUSED: i16 = !0x7f;

    /// The codec's number, 0 to 7; [`Compression::from_id`] names it.
    pub const fn compression_id(self) -> u8 {
        (self.0 & Self::COMPRESSION) as u8
    }

    /// The codec; `None` for the numbers that no codec has (5 to 7).
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_id(self.compression_id())
    }

    /// Whose clock the timestamps come from.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// True if the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// True if the batch holds a control record (a transaction marker) and not a client's records.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// True if `base_timestamp` is the time from which the batch's tombstones may go (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The bits that the format does not define; 0 in every batch that is well made.
    pub const fn unused_bits(self) -> i16 {
        self.0 & Self::UNUSED
    }

    /// The same with another codec.
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !Self::COMPRESSION) | compression.id() as i16)
    }

    /// The same with another timestamp type.
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same with the transactional bit set or cleared.
    pub const fn with_transactional(self, set: bool) -> Self {
        self.with(Self::TRANSACTIONAL, set)
    }

    /// The same with the control bit set or cleared.
    pub const fn with_control(self, set: bool) -> Self {
        self.with(Self::CONTROL, set)
    }

    /// The same with the delete horizon bit set or cleared.
    pub const fn with_delete_horizon(self, set: bool) -> Self {
        self.with(Self::DELETE_HORIZON, set)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        if set { Self(self.0 | bit) } else { Self(self.0 & !bit) }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({:#x})", self.0)
    }
}

/// The header of a batch, parsed. Nothing in it is checked beyond magic and length: see
/// [`validate_produce`](crate::validate_produce) for what a broker checks of a client's batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record; 0 as clients send it. Not covered by the CRC.
    pub base_offset: i64,
    /// Bytes after this field to the batch's end, at least 49.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; -1 as clients send it. Not covered by the CRC.
    pub partition_leader_epoch: i32,
    /// CRC-32C of the bytes from the attributes to the end.
    pub crc: u32,
    /// Attribute bits.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset. It stays when compaction removes records.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, in milliseconds since the Unix epoch. With
    /// [`Attributes::has_delete_horizon`], the delete horizon as well.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the records, in milliseconds since the Unix epoch; -1 if none has one.
    pub max_timestamp: Timestamp,
    /// The producer's id, -1 without one.
    pub producer_id: i64,
    /// The producer's epoch, -1 without one.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 without a producer id.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

/// Why bytes are not a whole batch of format v2.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("record batch cut short: {have} bytes of {need}")]
    CutShort {
        /// Bytes that are there.
        have: usize,
        /// Bytes that the batch needs, as far as is known from what is there.
        need: usize,
    },
    /// Not format v2.
    #[error("record batch has magic {0}: only format v2 (magic 2) is understood")]
    Magic(i8),
    /// A length that no batch can have.
    #[error("record batch states a length of {length} bytes: a batch has at least {minimum}")]
    Length {
        /// The length that the batch states.
        length: i32,
        /// The smallest that is possible.
        minimum: usize,
    },
    /// The bytes are not those that the CRC was made of.
    #[error("record batch has CRC-32C {computed:#010x} but states {stored:#010x}: its bytes were altered")]
    Crc {
        /// The CRC in the header.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
}

fn field<const N: usize>(header: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    // Callers pass constants with `at + N <= HEADER_SIZE`.
    std::array::from_fn(|i| header[at + i])
}

impl BatchHeader {
    /// Parses the header at the start of `bytes`. The records need not be there.
    ///
    /// # Errors
    /// [`BatchError::CutShort`] with fewer than [`HEADER_SIZE`] bytes, [`BatchError::Magic`], [`BatchError::Length`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(h) = bytes.first_chunk::<HEADER_SIZE>() else {
            // The magic byte may be there already: another format is no torn batch.
            if let Some(&magic) = bytes.get(16)
                && magic as i8 != MAGIC_V2
            {
                return Err(BatchError::Magic(magic as i8));
            }
            return Err(BatchError::CutShort { have: bytes.len(), need: HEADER_SIZE });
        };
        let magic = h[16] as i8;
        if magic != MAGIC_V2 {
            return Err(BatchError::Magic(magic));
        }
        let batch_length = i32::from_be_bytes(field(h, 8));
        const MINIMUM: usize = HEADER_SIZE - LENGTH_PREFIX_SIZE;
        if batch_length < MINIMUM as i32 {
            return Err(BatchError::Length { length: batch_length, minimum: MINIMUM });
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(h, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(field(h, 12)),
            crc: u32::from_be_bytes(field(h, 17)),
            attributes: Attributes(i16::from_be_bytes(field(h, 21))),
            last_offset_delta: i32::from_be_bytes(field(h, 23)),
            base_timestamp: i64::from_be_bytes(field(h, 27)),
            max_timestamp: i64::from_be_bytes(field(h, 35)),
            producer_id: i64::from_be_bytes(field(h, 43)),
            producer_epoch: i16::from_be_bytes(field(h, 51)),
            base_sequence: i32::from_be_bytes(field(h, 53)),
            record_count: i32::from_be_bytes(field(h, 57)),
        })
    }

    /// The header's bytes. [`BatchHeader::parse`] reads them back.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut h = [0; HEADER_SIZE];
        h[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        h[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        h[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        h[16] = MAGIC_V2 as u8;
        h[17..21].copy_from_slice(&self.crc.to_be_bytes());
        h[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        h[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        h[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        h[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        h[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        h[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        h[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        h[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        h
    }

    /// The CRC-32C that a batch of this header and these record bytes (compressed as they are) has to state.
    pub fn compute_crc(&self, records: &[u8]) -> u32 {
        let header = self.encode();
        crc32c::crc32c_append(crc32c::crc32c(&header[CRC_COVERS_FROM..]), records)
    }

    /// Bytes of the whole batch, header included.
    pub fn total_size(&self) -> usize {
        // `parse` leaves no negative length; a header made by hand may have one.
        LENGTH_PREFIX_SIZE + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record that the batch was made with.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// The first offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// True if the batch comes from an idempotent or transactional producer.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Sequence number of the last record; -1 without a producer id. Sequence numbers go from 0 to `i32::MAX` and
    /// then start at 0 again.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        // After the modulo the value is below 2^31.
        (last % (i64::from(i32::MAX) + 1)) as i32
    }

    /// From when on the tombstones (and, without records, the batch) may be removed, in milliseconds since the Unix
    /// epoch; `None` if the cleaner has not set it yet (KIP-534).
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// The same with the fields that the appending broker owns. The CRC does not cover them.
    pub fn with_position(mut self, base_offset: i64, partition_leader_epoch: i32) -> Self {
        self.base_offset = base_offset;
        self.partition_leader_epoch = partition_leader_epoch;
        self
    }
}

/// Size in bytes of the batch that begins `bytes`, from its length field alone: `None` with fewer than 12 bytes or a
/// length that no batch can have. The batch itself need not be there, and nothing else of it is looked at.
pub fn peek_size(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<LENGTH_PREFIX_SIZE>()?;
    let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    let size = LENGTH_PREFIX_SIZE + usize::try_from(length).ok()?;
    (size >= HEADER_SIZE).then_some(size)
}

/// Writes the base offset and leader epoch into a whole batch in memory. The CRC covers neither. Does nothing with
/// fewer than 16 bytes.
pub fn set_position(batch: &mut [u8], base_offset: i64, partition_leader_epoch: i32) {
    if let Some(prefix) = batch.first_chunk_mut::<16>() {
        prefix[0..8].copy_from_slice(&base_offset.to_be_bytes());
        prefix[12..16].copy_from_slice(&partition_leader_epoch.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: 7,
            batch_length: 49,
            partition_leader_epoch: 3,
            crc: 0xdead_beef,
            attributes: Attributes(0x15),
            last_offset_delta: 4,
            base_timestamp: 1_000,
            max_timestamp: 2_000,
            producer_id: 9,
            producer_epoch: 1,
            base_sequence: i32::MAX - 1,
            record_count: 5,
        }
    }

    #[test]
    fn encode_and_parse_agree() {
        let bytes = header().encode();
        assert_eq!(BatchHeader::parse(&bytes), Ok(header()));
        assert_eq!(peek_size(&bytes), Some(HEADER_SIZE));
        assert_eq!(header().total_size(), HEADER_SIZE);
    }

    #[test]
    fn sequences_wrap_at_the_largest_i32() {
        assert_eq!(header().last_sequence(), 2);
        assert_eq!(BatchHeader { base_sequence: -1, ..header() }.last_sequence(), -1);
    }

    #[test]
    fn position_is_outside_the_crc() {
        let mut bytes = header().encode();
        set_position(&mut bytes, 100, 8);
        let moved = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(moved, header().with_position(100, 8));
        assert_eq!(moved.compute_crc(b"x"), header().compute_crc(b"x"));
    }

    #[test]
    fn refuses_what_is_no_v2_batch() {
        let bytes = header().encode();
        assert_eq!(BatchHeader::parse(&bytes[..60]), Err(BatchError::CutShort { have: 60, need: 61 }));
        let mut old = bytes;
        old[16] = 1;
        assert_eq!(BatchHeader::parse(&old), Err(BatchError::Magic(1)));
        assert_eq!(BatchHeader::parse(&old[..20]), Err(BatchError::Magic(1)));
        let mut short = bytes;
        short[11] = 48;
        assert_eq!(BatchHeader::parse(&short), Err(BatchError::Length { length: 48, minimum: 49 }));
        assert_eq!(peek_size(&short), None);
    }

    #[test]
    fn attribute_bits() {
        let a = Attributes::default()
            .with_compression(Compression::Zstd)
            .with_timestamp_type(TimestampType::LogAppendTime)
            .with_transactional(true)
            .with_control(true)
            .with_delete_horizon(true);
        assert_eq!(a.0, 0x7c);
        assert_eq!(a.compression(), Some(Compression::Zstd));
        assert_eq!(a.timestamp_type(), TimestampType::LogAppendTime);
        assert!(a.is_transactional() && a.is_control() && a.has_delete_horizon());
        assert_eq!(Attributes(-1).unused_bits(), !0x7f);
        assert_eq!(Attributes(7).compression(), None);
    }
}
