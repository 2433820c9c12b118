//! Reads the wire's primitive types out of one frame. Nothing is reserved before the bytes that remain were looked at.

use std::mem::size_of;

use bytes::Bytes;
use chronik_base::Uuid;

use crate::{DecodeError, Str};

/// Memory that the structs of one message may take unless [`Reader::with_memory_limit`] says otherwise, in bytes.
pub const DECODED_MEMORY_LIMIT: usize = 64 << 20;

/// Elements for which an array reserves memory at once; longer arrays grow as their elements really come.
const RESERVED_AT_ONCE: usize = 1024;

/// A position in one frame (or in the bytes of one record).
///
/// Strings and byte fields share the frame's memory. `flexible` chooses between the compact lengths of KIP-482 and the
/// classic ones; `field` names what is read, for errors.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    position: usize,
    end: usize,
    memory_left: usize,
}

macro_rules! integers {
    ($($name:ident $type:ty, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            ///
            /// # Errors
            /// [`DecodeError::Truncated`].
            #[inline]
            pub fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
                self.fixed(field).map(<$type>::from_be_bytes)
            }
        )*
    };
}

impl Reader {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self::with_memory_limit(bytes, DECODED_MEMORY_LIMIT)
    }

    /// The same, with another limit on the memory that the decoded structs may take, in bytes.
    pub fn with_memory_limit(bytes: Bytes, limit: usize) -> Self {
        let end = bytes.len();
        Self { bytes, position: 0, end, memory_left: limit }
    }

    /// Bytes not yet read.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Takes what was not yet read, without a copy.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.position..self.end);
        self.position = self.end;
        rest
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let remaining = self.remaining();
        let read = self.bytes.get(self.position..self.end).and_then(|rest| rest.first_chunk::<N>());
        match read {
            Some(read) => {
                let read = *read;
                self.position += N;
                Ok(read)
            }
            None => Err(DecodeError::Truncated { field, needed: N, remaining }),
        }
    }

    integers! {
        i8 i8, "Reads 8 bits.";
        u8 u8, "Reads 8 bits without a sign.";
        i16 i16, "Reads 16 bits.";
        u16 u16, "Reads 16 bits without a sign.";
        i32 i32, "Reads 32 bits.";
        u32 u32, "Reads 32 bits without a sign.";
        i64 i64, "Reads 64 bits.";
        f64 f64, "Reads a floating point number of 64 bits.";
    }

    /// Reads a truth value: any byte but 0 is true.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.u8(field).map(|byte| byte != 0)
    }

    /// Reads a 128-bit identifier.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.fixed(field).map(Uuid)
    }

    /// Reads an unsigned variable-length integer of at most 32 bits.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`].
    #[inline]
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { field, bits: 32 })
    }

    /// Reads a length or count as it lies on the wire; `None` is null.
    #[inline]
    fn length(
        &mut self,
        flexible: bool,
        short: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.uvarint(field).map(|n| n.checked_sub(1).map(|n| n as usize));
        }
        let length = if short { i32::from(self.i16(field)?) } else { self.i32(field)? };
        match length {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(DecodeError::NegativeLength { field, length }),
            },
        }
    }

    #[inline]
    fn slice(&mut self, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        let remaining = self.remaining();
        if length > remaining {
            return Err(DecodeError::Truncated { field, needed: length, remaining });
        }
        let slice = self.bytes.slice(self.position..self.position + length);
        self.position += length;
        Ok(slice)
    }

    /// Reads text that may be null.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::NegativeLength`], [`DecodeError::Utf8`].
    #[inline]
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Str>, DecodeError> {
        let Some(length) = self.length(flexible, true, field)? else { return Ok(None) };
        let slice = self.slice(length, field)?;
        Str::from_utf8(slice).map(Some).map_err(|source| DecodeError::Utf8 { field, source })
    }

    /// Reads text.
    ///
    /// # Errors
    /// As [`Reader::nullable_string`]; and [`DecodeError::Null`].
    #[inline]
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Result<Str, DecodeError> {
        self.nullable_string(flexible, field)?.ok_or(DecodeError::Null { field })
    }

    /// Reads bytes that may be null. They share the frame's memory.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::NegativeLength`].
    #[inline]
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(flexible, false, field)? else { return Ok(None) };
        self.slice(length, field).map(Some)
    }

    /// Reads bytes. They share the frame's memory.
    ///
    /// # Errors
    /// As [`Reader::nullable_bytes`]; and [`DecodeError::Null`].
    #[inline]
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible, field)?.ok_or(DecodeError::Null { field })
    }

    /// Reads an array that may be null, of elements that take at least `least` bytes each.
    ///
    /// # Errors
    /// Those of the elements; and [`DecodeError::CountBeyondFrame`], [`DecodeError::MemoryLimit`].
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        least: usize,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible, false, field)? else { return Ok(None) };
        let remaining = self.remaining();
        let most = remaining / least.max(1);
        if count > most {
            return Err(DecodeError::CountBeyondFrame { field, count, remaining, most });
        }
        let needed = count.saturating_mul(size_of::<T>());
        let Some(left) = self.memory_left.checked_sub(needed) else {
            return Err(DecodeError::MemoryLimit { field, needed, left: self.memory_left });
        };
        self.memory_left = left;
        let mut elements = Vec::with_capacity(count.min(RESERVED_AT_ONCE));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array of elements that take at least `least` bytes each.
    ///
    /// # Errors
    /// As [`Reader::nullable_array`]; and [`DecodeError::Null`].
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        least: usize,
        field: &'static str,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, least, field, element)?.ok_or(DecodeError::Null { field })
    }

    /// Reads the byte before a struct that may be null: true if the struct follows.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    #[inline]
    pub fn present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.i8(field).map(|byte| byte >= 0)
    }

    /// Reads the tagged fields at the end of a struct (KIP-482). `known` reads the field of a tag that it knows and
    /// returns true, or returns false without reading; such fields are skipped. Only flexible versions have them.
    ///
    /// # Errors
    /// Those of `known`; [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`], [`DecodeError::TagTooLong`].
    #[inline]
    pub fn tagged(
        &mut self,
        flexible: bool,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = if flexible { self.uvarint(field)? } else { 0 };
        for _ in 0..count {
            let tag = self.uvarint(field)?;
            let size = self.uvarint(field)? as usize;
            let remaining = self.remaining();
            if size > remaining {
                return Err(DecodeError::Truncated { field, needed: size, remaining });
            }
            // The field may not read past its own size.
            let outer_end = std::mem::replace(&mut self.end, self.position + size);
            let read = known(self, tag);
            let tag_end = std::mem::replace(&mut self.end, outer_end);
            if !read? {
                self.position = tag_end;
            } else if self.position != tag_end {
                return Err(DecodeError::TagTooLong { field, tag, extra: tag_end - self.position });
            }
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a struct that has none that are known.
    ///
    /// # Errors
    /// As [`Reader::tagged`].
    #[inline]
    pub fn skip_tags(&mut self, flexible: bool, field: &'static str) -> Result<(), DecodeError> {
        self.tagged(flexible, field, |_, _| Ok(false))
    }

    /// Checks a message's version against the ones it has.
    ///
    /// # Errors
    /// [`DecodeError::UnknownVersion`].
    #[inline]
    pub fn check_version(
        message: &'static str,
        version: i16,
        first: i16,
        last: i16,
    ) -> Result<(), DecodeError> {
        if (first..=last).contains(&version) {
            return Ok(());
        }
        Err(DecodeError::UnknownVersion { message, version, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn integers_of_variable_length() {
        assert_eq!(reader(&[0x00]).uvarint("f"), Ok(0));
        assert_eq!(reader(&[0xac, 0x02]).uvarint("f"), Ok(300));
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint("f"), Ok(u32::MAX));
        assert_eq!(
            reader(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint("f"),
            Err(DecodeError::VarintTooLong { field: "f", bits: 32 })
        );
        assert_eq!(
            reader(&[0x80]).uvarint("f"),
            Err(DecodeError::Truncated { field: "f", needed: 1, remaining: 0 })
        );
    }

    #[test]
    fn strings_in_both_forms() {
        assert_eq!(reader(b"\0\x02ab").string(false, "f"), Ok(Str::from("ab")));
        assert_eq!(reader(b"\x03ab").string(true, "f"), Ok(Str::from("ab")));
        assert_eq!(reader(b"\xff\xff").nullable_string(false, "f"), Ok(None));
        assert_eq!(reader(b"\0").nullable_string(true, "f"), Ok(None));
        assert_eq!(reader(b"\0").string(true, "f"), Err(DecodeError::Null { field: "f" }));
        assert_eq!(
            reader(b"\xff\xfe").string(false, "f"),
            Err(DecodeError::NegativeLength { field: "f", length: -2 })
        );
        assert_eq!(
            reader(b"\0\x09ab").string(false, "f"),
            Err(DecodeError::Truncated { field: "f", needed: 9, remaining: 2 })
        );
    }

    #[test]
    fn counts_are_checked_before_anything_is_reserved() {
        let error = reader(b"\x7f\xff\xff\xff\0\0\0\0").array(false, 2, "f", |r| r.i16("e"));
        assert!(
            matches!(error, Err(DecodeError::CountBeyondFrame { count: 0x7fff_ffff, most: 2, .. })),
            "{error:?}"
        );
        let many = Bytes::from(vec![0u8; 1 << 20]);
        let mut frame = 1_000_000i32.to_be_bytes().to_vec();
        frame.extend_from_slice(&many);
        let error = Reader::new(Bytes::from(frame)).array(false, 1, "f", |r| r.i8("e").map(|_| [0u64; 16]));
        assert!(matches!(error, Err(DecodeError::MemoryLimit { needed: 128_000_000, .. })), "{error:?}");
    }

    #[test]
    fn unknown_tags_are_skipped_and_known_ones_must_fit() {
        // Two tags: 5 (unknown, 2 bytes), 1 (known, an i16).
        let mut r = reader(&[2, 5, 2, 9, 9, 1, 2, 0, 7, 42]);
        let mut seen = 0;
        let result = r.tagged(true, "f", |r, tag| {
            if tag != 1 {
                return Ok(false);
            }
            seen = r.i16("f.one")?;
            Ok(true)
        });
        assert_eq!((result, seen, r.remaining()), (Ok(()), 7, 1));
        // The field wants two bytes, the tag gives it one although the frame has more.
        let result = reader(&[1, 1, 1, 0, 7]).tagged(true, "f", |r, _| r.i16("f.one").map(|_| true));
        assert_eq!(result, Err(DecodeError::Truncated { field: "f.one", needed: 2, remaining: 1 }));
        let result = reader(&[1, 1, 3, 0, 7, 0]).tagged(true, "f", |r, _| r.i16("f.one").map(|_| true));
        assert_eq!(result, Err(DecodeError::TagTooLong { field: "f", tag: 1, extra: 1 }));
    }
}
