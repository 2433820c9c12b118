//! A frame on its way out.

use bytes::Bytes;
use chronik_base::Chunk;

use crate::frame::{FrameType, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX};

/// A message that a [`Source`](crate::Source) gives away.
#[derive(Clone, Debug)]
pub struct OutFrame {
    kind: u8,
    chunks: Vec<Chunk>,
    checked_bytes: usize,
}

impl OutFrame {
    /// A message of `kind`. The frame's checksum covers `chunks` up to the first one that is in a file: what follows must
    /// carry checksums of its own, as record batches do.
    pub fn new(kind: u8, chunks: Vec<Chunk>) -> Self {
        Self { kind, checked_bytes: bytes_before_files(&chunks), chunks }
    }

    /// A message of `kind` whose first `checked_bytes` the frame's checksum covers (less, if a file begins earlier); the rest
    /// carries checksums of its own, which saves going over it once more on both sides.
    pub fn partly_checked(kind: u8, chunks: Vec<Chunk>, checked_bytes: usize) -> Self {
        Self { kind, checked_bytes: checked_bytes.min(bytes_before_files(&chunks)), chunks }
    }

    /// Bytes of the payload.
    pub fn payload_bytes(&self) -> usize {
        total(&self.chunks)
    }

    pub(crate) fn into_outgoing(self) -> Outgoing {
        Outgoing {
            frame_type: FrameType::Message,
            kind: self.kind,
            request: 0,
            checked_bytes: self.checked_bytes,
            payload: Payload::Many(self.chunks),
        }
    }
}

/// A payload: mostly one piece, which then needs no list.
#[derive(Debug)]
pub(crate) enum Payload {
    One(Bytes),
    Many(Vec<Chunk>),
}

/// Any frame that waits to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) frame_type: FrameType,
    pub(crate) kind: u8,
    pub(crate) request: u64,
    pub(crate) checked_bytes: usize,
    pub(crate) payload: Payload,
}

impl Outgoing {
    /// A frame with one piece of memory, all of it checked.
    pub(crate) fn new(frame_type: FrameType, kind: u8, request: u64, payload: Bytes) -> Self {
        Self { frame_type, kind, request, checked_bytes: payload.len(), payload: Payload::One(payload) }
    }

    /// A frame without a payload.
    pub(crate) fn empty(frame_type: FrameType) -> Self {
        Self::new(frame_type, 0, 0, Bytes::new())
    }

    /// Bytes of the payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::One(bytes) => bytes.len(),
            Payload::Many(chunks) => total(chunks),
        }
    }

    /// Bytes that a queue counts for the frame.
    pub(crate) fn queued_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes()
    }

    /// Whether the other side would take a payload of this size.
    pub(crate) fn is_too_large(&self) -> bool {
        self.payload_bytes() > PAYLOAD_BYTES_MAX
    }

    /// The header, with its checksums.
    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut left = self.checked_bytes;
        let mut crc = 0;
        let mut check = |bytes: &[u8]| {
            let count = left.min(bytes.len());
            crc = crc32c::crc32c_append(crc, bytes.get(..count).unwrap_or_default());
            left -= count;
        };
        match &self.payload {
            Payload::One(bytes) => check(bytes),
            Payload::Many(chunks) => chunks.iter().for_each(|chunk| {
                if let Chunk::Bytes(bytes) = chunk {
                    check(bytes);
                }
            }),
        }
        Header {
            frame_type: self.frame_type,
            kind: self.kind,
            request: self.request,
            length: u32::try_from(self.payload_bytes()).unwrap_or(u32::MAX),
            checked: u32::try_from(self.checked_bytes).unwrap_or(u32::MAX),
            payload_crc: crc,
        }
        .encode()
    }
}

fn total(chunks: &[Chunk]) -> usize {
    chunks.iter().fold(0, |sum, chunk| sum.saturating_add(chunk.len()))
}

fn bytes_before_files(chunks: &[Chunk]) -> usize {
    chunks
        .iter()
        .map_while(|chunk| if let Chunk::Bytes(bytes) = chunk { Some(bytes.len()) } else { None })
        .sum()
}
