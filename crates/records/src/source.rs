//! Where record bytes come from: a slice, or a decompressor that hands them out piece by piece. The one parser in
//! [`scan`](crate::scan) reads both, so that compressed and plain batches are held to the same rules.

use std::io::{self, Read};

use crate::compression::CompressionError;
use crate::record::{RecordFault, RecordShape, read_record, read_record_in_slice};
use crate::varint::{unzigzag32, unzigzag64};

/// Why the next record could not be read.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// The records' bytes are not what the format says.
    Fault(RecordFault),
    /// The bytes could not be decompressed. Boxed to keep results of the hot path small.
    Compression(Box<CompressionError>),
}

impl From<RecordFault> for SourceError {
    fn from(fault: RecordFault) -> Self {
        SourceError::Fault(fault)
    }
}

/// Bytes in order, read once.
pub(crate) trait Source {
    /// Bytes read or skipped so far.
    fn position(&self) -> u64;

    /// The next byte.
    fn byte(&mut self) -> Result<u8, SourceError>;

    /// Passes over `count` bytes.
    fn skip(&mut self, count: u64) -> Result<(), SourceError>;

    /// True if no byte is left.
    fn at_end(&mut self) -> Result<bool, SourceError>;

    /// The next record.
    #[inline(always)]
    fn record(&mut self) -> Result<RecordShape, SourceError>
    where
        Self: Sized,
    {
        read_record(self)
    }

    /// A varint of 32 bits. Bits beyond the 32nd are an error: readers differ in what they make of them.
    #[inline(always)]
    fn varint32(&mut self) -> Result<i32, SourceError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag32(u32::from(first)));
        }
        let mut value = u32::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                return Err(RecordFault::Varint { bits: 32 }.into());
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag32(value));
            }
            shift += 7;
        }
    }

    /// A varint of 64 bits, held to the same rule.
    #[inline(always)]
    fn varint64(&mut self) -> Result<i64, SourceError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag64(u64::from(first)));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 0x01 {
                return Err(RecordFault::Varint { bits: 64 }.into());
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag64(value));
            }
            shift += 7;
        }
    }
}

/// Bytes that are all in memory.
pub(crate) struct SliceSource<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> SliceSource<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next `count` bytes as a source of their own, with positions that go on from here.
    #[inline(always)]
    pub(crate) fn split(&mut self, count: usize) -> Result<SliceSource<'a>, SourceError> {
        if count > self.remaining() {
            return Err(RecordFault::CutShort.into());
        }
        let start = self.position;
        self.position += count;
        let bytes = self.bytes.get(..self.position).ok_or(RecordFault::CutShort)?;
        Ok(SliceSource { bytes, position: start })
    }

    /// Bytes that are left.
    #[inline(always)]
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }
}

impl Source for SliceSource<'_> {
    #[inline(always)]
    fn position(&self) -> u64 {
        self.position as u64
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, SourceError> {
        let byte = *self.bytes.get(self.position).ok_or(RecordFault::CutShort)?;
        self.position += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn skip(&mut self, count: u64) -> Result<(), SourceError> {
        if count > self.remaining() as u64 {
            return Err(RecordFault::CutShort.into());
        }
        // At most the slice's length.
        self.position += count as usize;
        Ok(())
    }

    #[inline(always)]
    fn at_end(&mut self) -> Result<bool, SourceError> {
        Ok(self.position >= self.bytes.len())
    }

    #[inline(always)]
    fn record(&mut self) -> Result<RecordShape, SourceError> {
        read_record_in_slice(self)
    }
}

/// Bytes of a decompressor, through a window of fixed size.
pub(crate) struct ReadSource<'w, R> {
    reader: R,
    window: &'w mut [u8],
    start: usize,
    end: usize,
    position: u64,
}

impl<'w, R: Read> ReadSource<'w, R> {
    pub(crate) fn new(reader: R, window: &'w mut [u8]) -> Self {
        Self { reader, window, start: 0, end: 0, position: 0 }
    }

    /// Reads the next piece into the empty window; false at the end.
    fn fill(&mut self) -> Result<bool, SourceError> {
        loop {
            match self.reader.read(self.window) {
                Ok(count) => {
                    self.start = 0;
                    self.end = count;
                    return Ok(count > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(SourceError::Compression(Box::new(CompressionError::from_io(e)))),
            }
        }
    }
}

impl<R: Read> Source for ReadSource<'_, R> {
    fn position(&self) -> u64 {
        self.position
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, SourceError> {
        if self.start == self.end && !self.fill()? {
            return Err(RecordFault::CutShort.into());
        }
        let byte = *self.window.get(self.start).ok_or(RecordFault::CutShort)?;
        self.start += 1;
        self.position += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: u64) -> Result<(), SourceError> {
        let mut left = count;
        while left > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(RecordFault::CutShort.into());
            }
            let step = left.min((self.end - self.start) as u64);
            // At most the window's length.
            self.start += step as usize;
            self.position += step;
            left -= step;
        }
        Ok(())
    }

    fn at_end(&mut self) -> Result<bool, SourceError> {
        Ok(self.start == self.end && !self.fill()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value in any::<i64>(), small in any::<i32>()) {
            let mut out = Vec::new();
            varint::put(&mut out, value);
            prop_assert_eq!(out.len(), varint::size(value));
            let first = out.len();
            varint::put(&mut out, i64::from(small));
            prop_assert_eq!(out.len() - first, varint::size(i64::from(small)));
            let mut slice = SliceSource::new(&out);
            prop_assert_eq!(slice.varint64().unwrap(), value);
            prop_assert_eq!(slice.varint32().unwrap(), small);
            let mut window = [0; 3];
            let mut read = ReadSource::new(&out[..], &mut window);
            prop_assert_eq!(read.varint64().unwrap(), value);
            prop_assert_eq!(read.varint32().unwrap(), small);
            prop_assert!(read.at_end().unwrap());
        }
    }

    #[test]
    fn overlong_varints_are_faults() {
        let too_many = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert!(SliceSource::new(&too_many).varint32().is_err());
        let endless = [0xff; 11];
        assert!(SliceSource::new(&endless).varint64().is_err());
        assert!(SliceSource::new(&endless[..2]).varint64().is_err());
        let edge = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(SliceSource::new(&edge).varint32().unwrap(), i32::MIN);
    }
}
