//! Views of whole batches in memory, and the way through a run of them.

use std::borrow::Cow;

use bytes::Bytes;

use crate::compression::{self, Compression};
use crate::header::{BatchError, BatchHeader, CRC_COVERS_FROM, HEADER_SIZE};
use crate::record::{Records, RecordsError};

/// One whole batch in borrowed memory. Its CRC is not checked until [`Batch::verify_crc`] is called.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`]; [`BatchError::CutShort`] if the batch does not end within `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let need = header.total_size();
        match bytes.get(..need) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::CutShort { have: bytes.len(), need }),
        }
    }

    /// The parsed header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind the header: the records, compressed as they are.
    pub fn record_bytes(&self) -> &'a [u8] {
        self.bytes.get(HEADER_SIZE..).unwrap_or_default()
    }

    /// Checks the CRC-32C.
    ///
    /// # Errors
    /// [`BatchError::Crc`] if any byte from the attributes on is not what it was.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(self.bytes.get(CRC_COVERS_FROM..).unwrap_or_default());
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Crc { stored: self.header.crc, computed })
        }
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`RecordsError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression, RecordsError> {
        self.header.attributes.compression().ok_or(RecordsError::UnknownCompression {
            base_offset: self.header.base_offset,
            id: self.header.attributes.compression_id(),
        })
    }

    /// The records, decompressed if need be to at most `limit` bytes (the setting `max.decompressed.bytes`). Records
    /// that are not compressed are borrowed, whatever the limit.
    ///
    /// # Errors
    /// [`RecordsError::UnknownCompression`], [`RecordsError::Count`], [`RecordsError::Compression`].
    pub fn records(&self, limit: usize) -> Result<Records<'a>, RecordsError> {
        let base_offset = self.header.base_offset;
        let compression = self.compression()?;
        if self.header.record_count < 0 {
            return Err(RecordsError::Count { base_offset, count: self.header.record_count });
        }
        let bytes = self.record_bytes();
        // A batch that compaction has emptied has no bytes, whatever its codec was.
        if compression == Compression::None || bytes.is_empty() {
            return Ok(Records::new(self.header, Cow::Borrowed(bytes)));
        }
        let bytes = compression::decompress(compression, bytes, limit)
            .map_err(|error| RecordsError::Compression { base_offset, error })?;
        Ok(Records::new(self.header, Cow::Owned(bytes)))
    }
}

/// One whole batch that shares its memory with whatever it was cut from.
#[derive(Clone, Debug)]
pub struct BatchRef {
    header: BatchHeader,
    bytes: Bytes,
}

impl BatchRef {
    /// The batch at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// As [`Batch::parse`].
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let batch = Batch::parse(bytes)?;
        Ok(Self { header: batch.header, bytes: bytes.slice(..batch.bytes.len()) })
    }

    /// The parsed header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same as a borrowed view.
    pub fn as_batch(&self) -> Batch<'_> {
        Batch { header: self.header, bytes: &self.bytes }
    }
}

/// Where and why a run of batches ends before its bytes do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchScanError {
    /// The last batch is not all there: a write that was torn, or a buffer that ends within a batch.
    #[error("the batch at byte {position} is cut short: {have} bytes of {need}")]
    TornTail {
        /// Where the batch begins, in bytes from the start of the buffer.
        position: usize,
        /// Bytes that are there of it.
        have: usize,
        /// Bytes that it needs, as far as is known from what is there.
        need: usize,
    },
    /// The bytes cannot be a batch, however many would follow.
    #[error("at byte {position}: {error}")]
    Damaged {
        /// Where the bytes begin, from the start of the buffer.
        position: usize,
        /// What is wrong with them.
        error: BatchError,
    },
}

/// Goes through batches that lie one behind the other. It checks magic and lengths; CRCs are left to
/// [`Batch::verify_crc`]. After an error comes nothing more.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// The batches of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, failed: false }
    }

    /// Bytes of the batches returned so far: where the next one begins.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        if rest.is_empty() || self.failed {
            return None;
        }
        let position = self.position;
        match Batch::parse(rest) {
            Ok(batch) => {
                self.position += batch.bytes.len();
                Some(Ok(batch))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(match error {
                    BatchError::CutShort { have, need } => BatchScanError::TornTail { position, have, need },
                    error => BatchScanError::Damaged { position, error },
                }))
            }
        }
    }
}
