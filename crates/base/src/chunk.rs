//! Pieces of an answer: bytes in memory, or a range of a file that can go to a socket without being copied.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;

/// A piece of an answer.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File(FileRange),
}

/// `length` bytes of `file` from `position` on. The file stays open, and its bytes in place, while this is held.
#[derive(Clone)]
pub struct FileRange {
    /// The open file.
    pub file: Arc<dyn AsFd + Send + Sync>,
    /// Where the range begins, in bytes from the file's start.
    pub position: u64,
    /// Bytes in the range.
    pub length: u64,
}

impl Chunk {
    /// Bytes in the piece.
    pub fn len(&self) -> usize {
        match self {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::File(range) => usize::try_from(range.length).unwrap_or(usize::MAX),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Chunk {
    fn from(bytes: Bytes) -> Self {
        Chunk::Bytes(bytes)
    }
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRange({}+{})", self.position, self.length)
    }
}
