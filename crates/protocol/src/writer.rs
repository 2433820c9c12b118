//! Writes the wire's primitive types into pieces that can go to a socket as they are.

use bytes::{BufMut, Bytes, BytesMut};
use chronik_base::{Chunk, Uuid};

use crate::Str;

/// Bytes from which on a piece is appended by reference instead of being copied.
const BY_REFERENCE: usize = 1024;

/// Room that a writer reserves when it is made, in bytes: most answers fit.
const CAPACITY: usize = 256;

/// The longest text of the classic form, in bytes.
const CLASSIC_STRING_MAX: usize = i16::MAX as usize;

/// Collects a message. Small values are written into a buffer; large byte fields and file ranges become pieces of
/// their own, never copied. `flexible` chooses between the compact lengths of KIP-482 and the classic ones.
#[derive(Debug)]
pub struct Writer {
    /// The first piece, kept changeable for the frame's length once further pieces follow it.
    head: Option<BytesMut>,
    /// Finished pieces; if there is a head, the first of them is its placeholder.
    done: Vec<Chunk>,
    done_length: usize,
    tail: BytesMut,
}

impl Default for Writer {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

macro_rules! integers {
    ($($name:ident $type:ty, $put:ident, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[inline]
            pub fn $name(&mut self, value: $type) {
                self.tail.$put(value);
            }
        )*
    };
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `bytes` bytes of small values.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { head: None, done: Vec::new(), done_length: 0, tail: BytesMut::with_capacity(bytes) }
    }

    /// Bytes written so far, those of file ranges included.
    #[inline]
    pub fn len(&self) -> usize {
        self.done_length + self.tail.len()
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    integers! {
        i8 i8, put_i8, "Writes 8 bits.";
        i16 i16, put_i16, "Writes 16 bits.";
        u16 u16, put_u16, "Writes 16 bits without a sign.";
        i32 i32, put_i32, "Writes 32 bits.";
        u32 u32, put_u32, "Writes 32 bits without a sign.";
        i64 i64, put_i64, "Writes 64 bits.";
        f64 f64, put_f64, "Writes a floating point number of 64 bits.";
    }

    /// Writes a truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    /// Writes a 128-bit identifier.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.tail.put_slice(&value.0);
    }

    /// Writes an unsigned integer in variable length.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// Writes the length of bytes or the count of an array; `None` is null. Lengths are those of things in memory
    /// and of frames, which end far below 2³¹; a larger one is written as 2³¹-2.
    #[inline]
    pub fn length(&mut self, flexible: bool, length: Option<usize>) {
        let length = length.map(|n| n.min(i32::MAX as usize - 1) as i32);
        if flexible {
            self.uvarint(length.map_or(0, |n| n as u32 + 1));
        } else {
            self.i32(length.unwrap_or(-1));
        }
    }

    /// Writes text. What the classic form cannot hold (more than 32,767 bytes) is cut at a character.
    #[inline]
    pub fn string(&mut self, flexible: bool, value: &Str) {
        let bytes = value.as_bytes();
        if flexible {
            self.length(true, Some(bytes.len()));
            self.put(bytes);
        } else if bytes.len() <= CLASSIC_STRING_MAX {
            self.i16(bytes.len() as i16);
            self.put(bytes);
        } else {
            let end = value.floor_char_boundary(CLASSIC_STRING_MAX);
            self.i16(end as i16);
            self.put(&bytes.slice(..end));
        }
    }

    /// Writes text that may be null.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool, value: Option<&Str>) {
        match value {
            Some(value) => self.string(flexible, value),
            None if flexible => self.uvarint(0),
            None => self.i16(-1),
        }
    }

    /// Writes bytes.
    #[inline]
    pub fn bytes(&mut self, flexible: bool, value: &Bytes) {
        self.length(flexible, Some(value.len()));
        self.put(value);
    }

    /// Writes bytes that may be null.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool, value: Option<&Bytes>) {
        match value {
            Some(value) => self.bytes(flexible, value),
            None => self.length(flexible, None),
        }
    }

    /// Writes the pieces of a byte field, which may be null.
    pub fn chunks(&mut self, flexible: bool, value: Option<&[Chunk]>) {
        self.length(flexible, value.map(|chunks| chunks.iter().map(Chunk::len).sum()));
        for chunk in value.unwrap_or_default() {
            self.chunk(chunk);
        }
    }

    /// Appends bytes as they are: small ones are copied, large ones shared.
    #[inline]
    pub fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < BY_REFERENCE {
            self.tail.put_slice(bytes);
        } else {
            self.append(Chunk::Bytes(bytes.clone()));
        }
    }

    /// Appends a piece as it is.
    pub fn chunk(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Bytes(bytes) => self.put(bytes),
            Chunk::File(range) if range.length > 0 => self.append(Chunk::File(range.clone())),
            Chunk::File(_) => {}
        }
    }

    fn append(&mut self, chunk: Chunk) {
        self.finish_tail();
        self.done_length += chunk.len();
        self.done.push(chunk);
    }

    fn finish_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let piece = self.tail.split();
        self.done_length += piece.len();
        if self.done.is_empty() {
            self.head = Some(piece);
            self.done.push(Chunk::Bytes(Bytes::new()));
        } else {
            self.done.push(Chunk::Bytes(piece.freeze()));
        }
    }

    /// Ends a struct without tagged fields. Only flexible versions say so.
    #[inline]
    pub fn no_tags(&mut self, flexible: bool) {
        if flexible {
            self.uvarint(0);
        }
    }

    /// Writes one tagged field: its tag, its size and what `field` writes.
    pub fn tagged(&mut self, tag: u32, field: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::with_capacity(64);
        field(&mut inner);
        self.uvarint(tag);
        self.uvarint(inner.len() as u32);
        for chunk in &inner.into_chunks() {
            self.chunk(chunk);
        }
    }

    /// Replaces the first four bytes by the count of those that follow them: the length prefix of a frame. Does
    /// nothing if the message did not begin with four small bytes.
    pub fn patch_frame_length(&mut self) {
        let length = (self.len().saturating_sub(4)).min(i32::MAX as usize) as u32;
        let first = match &mut self.head {
            Some(head) => head,
            None if self.done.is_empty() => &mut self.tail,
            None => return,
        };
        if let Some(prefix) = first.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
    }

    /// The pieces, in order.
    pub fn into_chunks(mut self) -> Vec<Chunk> {
        if self.done.is_empty() {
            return if self.tail.is_empty() { Vec::new() } else { vec![Chunk::Bytes(self.tail.freeze())] };
        }
        self.finish_tail();
        if let (Some(head), Some(first)) = (self.head, self.done.first_mut()) {
            *first = Chunk::Bytes(head.freeze());
        }
        self.done
    }

    /// Everything in one piece, or `None` if there is a file range in it, whose bytes are not in memory.
    pub fn into_bytes(self) -> Option<Bytes> {
        let length = self.len();
        let mut chunks = self.into_chunks();
        if chunks.len() <= 1 {
            return match chunks.pop() {
                Some(Chunk::Bytes(bytes)) => Some(bytes),
                Some(Chunk::File(_)) => None,
                None => Some(Bytes::new()),
            };
        }
        let mut all = BytesMut::with_capacity(length);
        for chunk in &chunks {
            match chunk {
                Chunk::Bytes(bytes) => all.put_slice(bytes),
                Chunk::File(_) => return None,
            }
        }
        Some(all.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_shared_and_the_prefix_counts_them() {
        let large = Bytes::from(vec![7u8; 4096]);
        let mut w = Writer::new();
        w.i32(0);
        w.i16(1);
        w.bytes(true, &large);
        w.i8(9);
        w.patch_frame_length();
        assert_eq!(w.len(), 4 + 2 + 2 + 4096 + 1);
        let chunks = w.into_chunks();
        assert_eq!(chunks.len(), 3);
        let Chunk::Bytes(shared) = &chunks[1] else { panic!("{chunks:?}") };
        assert_eq!(shared.as_ptr(), large.as_ptr());
        let Chunk::Bytes(head) = &chunks[0] else { panic!("{chunks:?}") };
        assert_eq!(head[..4], (2u32 + 2 + 4096 + 1).to_be_bytes());
    }

    #[test]
    fn classic_text_is_cut_at_a_character() {
        let text = Str::from("é".repeat(20_000));
        let mut w = Writer::new();
        w.string(false, &text);
        let bytes = w.into_bytes().unwrap();
        assert_eq!(bytes[..2], 32_766i16.to_be_bytes());
        assert_eq!(bytes.len(), 2 + 32_766);
    }

    #[test]
    fn tagged_fields_carry_their_size() {
        let mut w = Writer::new();
        w.tagged(3, |w| w.i16(5));
        assert_eq!(w.into_bytes().unwrap().as_ref(), [3, 2, 0, 5]);
    }
}
