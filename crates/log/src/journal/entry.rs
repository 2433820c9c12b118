//! Entries of the journal: a header of 12 bytes, then a payload. `docs/storage-format.md` draws them.

use chronik_base::Uuid;
use chronik_records::HEADER_SIZE;

use crate::manager::PartitionKey;

/// Bytes before an entry's payload.
pub(crate) const ENTRY_HEADER: usize = 12;
/// Largest payload: its length has 24 bits.
pub(crate) const MAX_PAYLOAD: usize = (1 << 24) - 1;
/// Bytes of a batch that the entry's CRC covers; the batch's own CRC covers the rest.
const BATCH_PREFIX: usize = 21;
/// Payload of [`Kind::Define`].
pub(crate) const DEFINE_SIZE: usize = 68;
/// Payload of [`Kind::Truncate`].
pub(crate) const CUT_SIZE: usize = 24;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The payload is a record batch.
    Batch,
    /// The same, and it begins a new segment.
    BatchRoll,
    /// The payload is the header of a record batch that was written straight to its segment.
    Marker,
    /// The same, and it begins a new segment.
    MarkerRoll,
    /// Gives a partition a number, for the rest of this file, and says how its log stands.
    Define,
    /// The log's start moves up.
    LogStart,
    /// The log's end moves back.
    Truncate,
    /// The partition is deleted.
    Delete,
    /// The journal up to a place has been flushed; in place of a partition's number, it says how many files back that is.
    Flushed,
    /// The whole log is thrown away; it begins anew at an offset.
    Reset,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Batch => 1,
            Kind::BatchRoll => 2,
            Kind::Marker => 3,
            Kind::MarkerRoll => 4,
            Kind::Define => 5,
            Kind::LogStart => 6,
            Kind::Truncate => 7,
            Kind::Delete => 8,
            Kind::Flushed => 9,
            Kind::Reset => 10,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Kind::Batch,
            2 => Kind::BatchRoll,
            3 => Kind::Marker,
            4 => Kind::MarkerRoll,
            5 => Kind::Define,
            6 => Kind::LogStart,
            7 => Kind::Truncate,
            8 => Kind::Delete,
            9 => Kind::Flushed,
            10 => Kind::Reset,
            _ => return None,
        })
    }

    /// True for the kinds that hold a whole batch.
    fn is_batch(self) -> bool {
        matches!(self, Kind::Batch | Kind::BatchRoll)
    }
}

/// A place in the journal: a file's number, and bytes from that file's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JournalPosition {
    pub(crate) file: u64,
    pub(crate) position: u64,
}

/// How a partition's log stood when it got its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) key: PartitionKey,
    pub(crate) log_start: i64,
    pub(crate) end_offset: i64,
    pub(crate) active_base: i64,
    pub(crate) active_position: u64,
    pub(crate) active_created_ms: i64,
    pub(crate) sealed_bytes: u64,
}

impl Definition {
    pub(crate) fn encode(&self) -> [u8; DEFINE_SIZE] {
        let mut out = [0; DEFINE_SIZE];
        out[..16].copy_from_slice(&self.key.topic_id.0);
        out[16..20].copy_from_slice(&self.key.partition.to_le_bytes());
        out[20..28].copy_from_slice(&self.log_start.to_le_bytes());
        out[28..36].copy_from_slice(&self.end_offset.to_le_bytes());
        out[36..44].copy_from_slice(&self.active_base.to_le_bytes());
        out[44..52].copy_from_slice(&self.active_position.to_le_bytes());
        out[52..60].copy_from_slice(&self.active_created_ms.to_le_bytes());
        out[60..68].copy_from_slice(&self.sealed_bytes.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let p = payload.first_chunk::<DEFINE_SIZE>()?;
        let (topic, rest) = p.split_first_chunk::<16>()?;
        let (partition, rest) = rest.split_first_chunk::<4>()?;
        let (log_start, rest) = rest.split_first_chunk::<8>()?;
        let (end_offset, rest) = rest.split_first_chunk::<8>()?;
        let (active_base, rest) = rest.split_first_chunk::<8>()?;
        let (active_position, rest) = rest.split_first_chunk::<8>()?;
        let (created, rest) = rest.split_first_chunk::<8>()?;
        let (sealed_bytes, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            key: PartitionKey { topic_id: Uuid(*topic), partition: i32::from_le_bytes(*partition) },
            log_start: i64::from_le_bytes(*log_start),
            end_offset: i64::from_le_bytes(*end_offset),
            active_base: i64::from_le_bytes(*active_base),
            active_position: u64::from_le_bytes(*active_position),
            active_created_ms: i64::from_le_bytes(*created),
            sealed_bytes: u64::from_le_bytes(*sealed_bytes),
        })
    }
}

/// Where a log is cut: what the journal says of it names the place, because what a later start finds in the files may have
/// been written after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) end: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

impl Cut {
    pub(crate) fn encode(&self) -> [u8; CUT_SIZE] {
        let mut out = [0; CUT_SIZE];
        out[..8].copy_from_slice(&self.end.to_le_bytes());
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..].copy_from_slice(&self.position.to_le_bytes());
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (end, rest) = payload.split_first_chunk::<8>()?;
        let (segment, rest) = rest.split_first_chunk::<8>()?;
        let (position, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            end: i64::from_le_bytes(*end),
            segment: i64::from_le_bytes(*segment),
            position: u64::from_le_bytes(*position),
        })
    }
}

/// The header of an entry. `file` is the number of the journal file that it goes to: an entry that a file's former
/// life left behind doesn't pass for one of this life. `first` is the payload's beginning, at least as much of it as
/// the CRC covers.
pub(crate) fn encode_header(
    file: u64,
    kind: Kind,
    slot: u32,
    length: usize,
    first: &[u8],
) -> [u8; ENTRY_HEADER] {
    let word = (u32::from(kind.code()) << 24) | (length.min(MAX_PAYLOAD) as u32);
    let mut out = [0; ENTRY_HEADER];
    out[4..8].copy_from_slice(&slot.to_le_bytes());
    out[8..12].copy_from_slice(&word.to_le_bytes());
    let crc = crc(file, &out[4..12], covered(kind, first));
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

fn covered(kind: Kind, payload: &[u8]) -> &[u8] {
    match payload.get(..BATCH_PREFIX) {
        Some(prefix) if kind.is_batch() => prefix,
        _ => payload,
    }
}

fn crc(file: u64, header: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&file.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, header), payload)
}

/// An entry as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
    pub(crate) length: usize,
}

/// What stands at a place in a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An entry, whose payload may or may not be what was written: a batch has its own CRC.
    Entry(EntryHeader),
    /// More bytes are needed to tell: so many in all.
    Need(usize),
    /// Nothing that belongs to this file.
    Nothing,
}

/// Looks at the bytes of a place in journal file `file`.
pub(crate) fn decode_header(file: u64, bytes: &[u8]) -> Found {
    let Some(header) = bytes.first_chunk::<ENTRY_HEADER>() else { return Found::Need(ENTRY_HEADER) };
    let [c0, c1, c2, c3, s0, s1, s2, s3, w0, w1, w2, w3] = *header;
    let word = u32::from_le_bytes([w0, w1, w2, w3]);
    let Some(kind) = Kind::from_code((word >> 24) as u8) else { return Found::Nothing };
    let length = (word & MAX_PAYLOAD as u32) as usize;
    let fits = match kind {
        Kind::Batch | Kind::BatchRoll => length >= HEADER_SIZE,
        Kind::Marker | Kind::MarkerRoll => length == HEADER_SIZE,
        Kind::Define => length == DEFINE_SIZE,
        Kind::LogStart | Kind::Flushed | Kind::Reset => length == 8,
        Kind::Truncate => length == CUT_SIZE,
        Kind::Delete => length == 0,
    };
    if !fits {
        return Found::Nothing;
    }
    let covers = if kind.is_batch() { BATCH_PREFIX } else { length };
    let Some(first) = bytes.get(ENTRY_HEADER..ENTRY_HEADER + covers) else {
        return Found::Need(ENTRY_HEADER + covers);
    };
    if crc(file, &header[4..], first) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Found::Nothing;
    }
    Found::Entry(EntryHeader { kind, slot: u32::from_le_bytes([s0, s1, s2, s3]), length })
}

/// Magic number that opens a journal file.
const MAGIC: [u8; 8] = *b"CHRJRNL1";
/// Bytes before a journal file's first entry.
pub(crate) const FILE_HEADER: usize = 20;

/// The bytes that open journal file `file`.
pub(crate) fn encode_file_header(file: u64) -> [u8; FILE_HEADER] {
    let mut out = [0; FILE_HEADER];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&file.to_le_bytes());
    let crc = crc32c::crc32c(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// True if these bytes open journal file `file`.
pub(crate) fn is_file_header(file: u64, bytes: &[u8]) -> bool {
    bytes.get(..FILE_HEADER) == Some(&encode_file_header(file)[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_belongs_to_its_file() {
        let payload = [7; 100];
        let mut bytes = encode_header(3, Kind::BatchRoll, 9, 100, &payload).to_vec();
        bytes.extend_from_slice(&payload);
        let entry = EntryHeader { kind: Kind::BatchRoll, slot: 9, length: 100 };
        assert_eq!(decode_header(3, &bytes), Found::Entry(entry));
        assert_eq!(decode_header(4, &bytes), Found::Nothing);
        assert_eq!(decode_header(3, &bytes[..11]), Found::Need(12));
        assert_eq!(decode_header(3, &bytes[..20]), Found::Need(33));
        for i in 0..33 {
            let mut flipped = bytes.clone();
            flipped[i] ^= 4;
            assert_ne!(decode_header(3, &flipped), Found::Entry(entry), "byte {i}");
        }
    }

    #[test]
    fn definitions_come_back() {
        let d = Definition {
            key: PartitionKey { topic_id: Uuid([5; 16]), partition: 6 },
            log_start: 1,
            end_offset: 2,
            active_base: 3,
            active_position: 4,
            active_created_ms: 5,
            sealed_bytes: 6,
        };
        assert_eq!(Definition::decode(&d.encode()), Some(d));
        assert_eq!(Definition::decode(&[0; 60]), None);
    }
}
