//! Snappy as Kafka's clients write it: a stream in the framing of Xerial's Java library (16 bytes of header, then
//! blocks that each follow their length), or, from clients that know no framing, one raw block.

use std::io::{self, Read};

use super::{Compression, CompressionError};

/// Opens a framed stream; two version numbers of 4 bytes each follow.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const FRAME_HEADER_SIZE: usize = 16;
const VERSION: u32 = 1;

/// Bytes of input for each block, as the Java client does it.
const BLOCK_SIZE: usize = 32 << 10;

/// Snappy's densest element stands for 64 bytes in 3; more than this for a byte of input cannot be true.
const EXPANSION_MAX: usize = 22;

pub(super) fn compress(data: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let failed = |e: snap::Error| CompressionError::Failed(io::Error::other(e));
    let mut out = Vec::with_capacity(FRAME_HEADER_SIZE + data.len() / 2 + 64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK_SIZE.min(data.len()))];
    for chunk in data.chunks(BLOCK_SIZE) {
        let size = encoder.compress(chunk, &mut block).map_err(failed)?;
        out.extend_from_slice(&(size as u32).to_be_bytes());
        out.extend_from_slice(block.get(..size).unwrap_or_default());
    }
    Ok(out)
}

/// Decodes block by block. No block may decompress to more than `limit` bytes.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    framed: bool,
    limit: usize,
    block: Vec<u8>,
    position: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(data: &'a [u8], limit: usize) -> Self {
        let (rest, framed) = match strip_header(data) {
            Some(blocks) => (blocks, true),
            None => (data, false),
        };
        Self { rest, framed, limit, block: Vec::new(), position: 0 }
    }

    /// Cuts the next block off the input; `None` at the end.
    fn next_block(&mut self) -> Result<Option<&'a [u8]>, CompressionError> {
        if !self.framed {
            let block = std::mem::take(&mut self.rest);
            return Ok((!block.is_empty()).then_some(block));
        }
        // Streams written one after the other are one stream.
        while let Some(rest) = strip_header(self.rest) {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(corrupt("a block's length is cut short"));
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((block, rest)) = rest.split_at_checked(length) else {
            return Err(corrupt("a block is cut short"));
        };
        self.rest = rest;
        Ok(Some(block))
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), CompressionError> {
        let size = snap::raw::decompress_len(block).map_err(|e| corrupt(&e.to_string()))?;
        if size > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(corrupt("a block states a size that its bytes cannot give"));
        }
        if size > self.limit {
            return Err(CompressionError::Limit { limit: self.limit });
        }
        self.block.resize(size, 0);
        self.position = 0;
        let decoded = snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(|e| corrupt(&e.to_string()))?;
        self.block.truncate(decoded);
        Ok(())
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            let Some(block) = self.next_block().map_err(io::Error::other)? else {
                return Ok(0);
            };
            self.decode(block).map_err(io::Error::other)?;
        }
        let mut ready = self.block.get(self.position..).unwrap_or_default();
        let count = ready.read(buf)?;
        self.position += count;
        Ok(count)
    }
}

fn strip_header(data: &[u8]) -> Option<&[u8]> {
    data.strip_prefix(&MAGIC)?.get(FRAME_HEADER_SIZE - MAGIC.len()..)
}

fn corrupt(reason: &str) -> CompressionError {
    CompressionError::Corrupt { compression: Compression::Snappy, reason: reason.to_owned() }
}
