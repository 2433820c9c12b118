//! The bytes of a frame: a header of fixed size, then the payload. `docs/peer-protocol.md` has the table.

use bytes::Bytes;

/// What every frame opens with. Neither Kafka's protocol, TLS nor HTTP begins like this.
pub const MAGIC: [u8; 4] = [0xC7, b'C', b'H', b'K'];

/// The version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u8 = 1;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 32;

/// The largest payload that is sent or taken: 128 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 128 << 20;

/// The largest payload before both sides have greeted: 64 KiB.
pub const GREETING_BYTES_MAX: usize = 64 << 10;

/// Bytes of payload that a frame pulled from a [`Source`](crate::Source) should not exceed: 256 KiB. A heartbeat waits
/// for one such frame at most.
pub const BULK_FRAME_BYTES: usize = 256 << 10;

/// Bytes of the header that its own checksum covers.
const HEADER_CHECKED: usize = HEADER_BYTES - 4;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameType {
    /// The first frame in each direction: who speaks.
    Hello,
    /// The sender ends the connection; the payload says why.
    Refused,
    /// Nothing but a sign of life.
    Heartbeat,
    /// A request.
    Call,
    /// The answer to the call with the same request id.
    Answer,
    /// The refusal of the call with the same request id; the payload is its text.
    CallRefused,
    /// One way, not answered.
    Message,
}

impl FrameType {
    fn code(self) -> u8 {
        match self {
            FrameType::Hello => 1,
            FrameType::Refused => 2,
            FrameType::Heartbeat => 3,
            FrameType::Call => 4,
            FrameType::Answer => 5,
            FrameType::CallRefused => 6,
            FrameType::Message => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => FrameType::Hello,
            2 => FrameType::Refused,
            3 => FrameType::Heartbeat,
            4 => FrameType::Call,
            5 => FrameType::Answer,
            6 => FrameType::CallRefused,
            7 => FrameType::Message,
            _ => return None,
        })
    }
}

/// A frame's header, less its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) frame_type: FrameType,
    /// The kind of a call or a message; 0 in other frames.
    pub(crate) kind: u8,
    /// Ties an answer to its call; 0 in other frames.
    pub(crate) request: u64,
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// Bytes at the payload's start that its checksum covers.
    pub(crate) checked: u32,
    /// CRC-32C of those.
    pub(crate) payload_crc: u32,
}

/// A frame that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) frame_type: FrameType,
    pub(crate) kind: u8,
    pub(crate) request: u64,
    pub(crate) payload: Bytes,
}

/// Why bytes are not a frame that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// They begin otherwise than a frame.
    #[error("a frame begins with \"{}\", not with the mark of Chronik's peer protocol", .0.escape_ascii())]
    Magic([u8; 4]),
    /// The frame is of another version of the protocol.
    #[error("a frame is of version {0} of the peer protocol; this node speaks version {PROTOCOL_VERSION}")]
    Version(u8),
    /// The header was damaged on its way.
    #[error("a frame's header does not match its checksum")]
    HeaderChecksum,
    /// Flags that this version does not have.
    #[error("a frame has the unknown flags {0:#04x}")]
    Flags(u8),
    /// A type that this version does not have.
    #[error("a frame is of the unknown type {0}")]
    Type(u8),
    /// The payload is larger than is taken.
    #[error("a frame's payload of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes that the frame claims.
        length: u32,
        /// The largest number that is taken.
        limit: usize,
    },
    /// The payload's checksum claims to cover more than there is.
    #[error("a frame's checksum covers {checked} bytes of a payload of {length}")]
    Checked {
        /// Bytes that the checksum claims to cover.
        checked: u32,
        /// Bytes of the payload.
        length: u32,
    },
    /// The payload was damaged on its way.
    #[error("a frame's payload does not match its checksum")]
    PayloadChecksum,
}

impl Header {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
            at += field.len();
        };
        put(&MAGIC);
        put(&[PROTOCOL_VERSION, self.frame_type.code(), self.kind, 0]);
        put(&self.request.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.checked.to_be_bytes());
        put(&self.payload_crc.to_be_bytes());
        let crc = crc32c::crc32c(bytes.get(..HEADER_CHECKED).unwrap_or_default());
        if let Some(place) = bytes.last_chunk_mut::<4>() {
            *place = crc.to_be_bytes();
        }
        bytes
    }

    /// Reads a header. Payloads of more than `payload_bytes_max` are refused.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], payload_bytes_max: usize) -> Result<Self, FrameError> {
        let [
            m0,
            m1,
            m2,
            m3,
            version,
            code,
            kind,
            flags,
            r0,
            r1,
            r2,
            r3,
            r4,
            r5,
            r6,
            r7,
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            p0,
            p1,
            p2,
            p3,
            h0,
            h1,
            h2,
            h3,
        ] = *bytes;
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        if version != PROTOCOL_VERSION {
            return Err(FrameError::Version(version));
        }
        let crc = crc32c::crc32c(bytes.get(..HEADER_CHECKED).unwrap_or_default());
        if crc != u32::from_be_bytes([h0, h1, h2, h3]) {
            return Err(FrameError::HeaderChecksum);
        }
        let frame_type = FrameType::from_code(code).ok_or(FrameError::Type(code))?;
        if flags != 0 {
            return Err(FrameError::Flags(flags));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > payload_bytes_max {
            return Err(FrameError::TooLong { length, limit: payload_bytes_max });
        }
        let checked = u32::from_be_bytes([c0, c1, c2, c3]);
        if checked > length {
            return Err(FrameError::Checked { checked, length });
        }
        Ok(Header {
            frame_type,
            kind,
            request: u64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
            length,
            checked,
            payload_crc: u32::from_be_bytes([p0, p1, p2, p3]),
        })
    }

    /// Judges the magic and the version of a frame of which only the start has arrived.
    pub(crate) fn check_start(bytes: &[u8]) -> Result<(), FrameError> {
        let mut start = MAGIC;
        for (place, byte) in start.iter_mut().zip(bytes) {
            *place = *byte;
        }
        if start != MAGIC {
            return Err(FrameError::Magic(start));
        }
        match bytes.get(4) {
            Some(&version) if version != PROTOCOL_VERSION => Err(FrameError::Version(version)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            frame_type: FrameType::Call,
            kind: 17,
            request: 0x0102_0304_0506_0708,
            length: 300,
            checked: 20,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(Header::decode(&header().encode(), 300), Ok(header()));
    }

    #[test]
    fn the_layout_is_what_the_page_says() {
        let bytes = header().encode();
        assert_eq!(bytes[..8], [0xC7, b'C', b'H', b'K', 1, 4, 17, 0]);
        assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[16..24], [0, 0, 1, 44, 0, 0, 0, 20]);
        assert_eq!(bytes[24..28], [0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(bytes[28..], crc32c::crc32c(&bytes[..28]).to_be_bytes());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..8 * HEADER_BYTES {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 300).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_by_name() {
        let refused = Header::decode(&header().encode(), 299);
        assert_eq!(refused, Err(FrameError::TooLong { length: 300, limit: 299 }));
        let checked = Header { checked: 301, ..header() };
        assert_eq!(
            Header::decode(&checked.encode(), 300),
            Err(FrameError::Checked { checked: 301, length: 300 })
        );
    }

    #[test]
    fn the_start_is_judged_before_the_header_is_whole() {
        assert_eq!(Header::check_start(&[]), Ok(()));
        assert_eq!(Header::check_start(&[0xC7, b'C']), Ok(()));
        assert_eq!(Header::check_start(b"HT"), Err(FrameError::Magic([b'H', b'T', b'H', b'K'])));
        assert_eq!(Header::check_start(&[0xC7, b'C', b'H', b'K', 9]), Err(FrameError::Version(9)));
    }
}
