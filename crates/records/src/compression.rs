//! The codecs of the batch format: gzip, snappy, lz4 and zstd (KIP-110). Whatever decompresses stops at a limit on its
//! output, so that a small batch cannot ask for much memory.

mod snappy;
mod zstd_stream;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// The setting that bounds how many bytes one batch may decompress to.
pub const MAX_DECOMPRESSED_BYTES_KEY: &str = "max.decompressed.bytes";

/// Default of [`MAX_DECOMPRESSED_BYTES_KEY`]: 128 MiB.
pub const DEFAULT_MAX_DECOMPRESSED_BYTES: usize = 128 << 20;

/// Largest zstd window that is decoded, as a power of two: what zstd itself takes without being told otherwise. The
/// pages of a window are touched only as output fills them, so the output limit bounds the memory in use.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Blocks of an lz4 frame, as Kafka's own clients write them.
const LZ4_BLOCK: lz4_flex::frame::BlockSize = lz4_flex::frame::BlockSize::Max64KB;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, id 1.
    Gzip,
    /// Snappy, id 2: in the framing of Xerial's library as the Java client writes it, or one raw block as others do.
    Snappy,
    /// LZ4 frames, id 3.
    Lz4,
    /// Zstandard, id 4; in Produce requests from version 7 on.
    Zstd,
}

impl Compression {
    /// Every codec, by id.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The codec's number in a batch's attributes.
    pub const fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec of a number.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The name in Kafka's settings; `none` for no compression (a topic's `compression.type` says `uncompressed`).
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no codec.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no compression type: expected none (or uncompressed), gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" | "uncompressed" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "snappy" => Ok(Compression::Snappy),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Encoding {
    /// The codec.
    pub compression: Compression,
    /// gzip 1 to 9, zstd -131072 to 22; the codec's default if `None`. Snappy and lz4 have no levels.
    pub level: Option<i32>,
}

impl From<Compression> for Encoding {
    fn from(compression: Compression) -> Self {
        Self { compression, level: None }
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The output would be larger than allowed.
    #[error(
        "records decompress to more than {limit} bytes, the limit that {MAX_DECOMPRESSED_BYTES_KEY} sets: \
         send smaller batches or raise it"
    )]
    Limit {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The input is not what the codec writes.
    #[error("{compression} data is damaged: {reason}")]
    Corrupt {
        /// The codec.
        compression: Compression,
        /// What its decoder says.
        reason: String,
    },
    /// The codec itself failed.
    #[error("compression failed: {0}")]
    Failed(io::Error),
}

impl CompressionError {
    /// Undoes the wrapping that carried the error through [`Read`].
    pub(crate) fn from_io(error: io::Error) -> Self {
        error.downcast::<CompressionError>().unwrap_or_else(CompressionError::Failed)
    }
}

/// Compresses `data`. Snappy comes in Xerial's framing, lz4 as a frame of independent blocks: what every client reads.
///
/// # Errors
/// [`CompressionError::Failed`] if the codec does, for example at a level that it does not know.
pub fn compress(encoding: Encoding, data: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let out = Vec::with_capacity(data.len() / 2 + 64);
    match encoding.compression {
        Compression::None => Ok(data.to_vec()),
        Compression::Gzip => {
            let level = match encoding.level.and_then(|level| u32::try_from(level).ok()) {
                Some(level) => flate2::Compression::new(level.min(9)),
                None => flate2::Compression::default(),
            };
            let mut encoder = flate2::write::GzEncoder::new(out, level);
            encoder.write_all(data).and_then(|()| encoder.finish()).map_err(CompressionError::Failed)
        }
        Compression::Snappy => snappy::compress(data),
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(LZ4_BLOCK);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(data).map_err(CompressionError::Failed)?;
            encoder.finish().map_err(|e| CompressionError::Failed(io::Error::other(e)))
        }
        Compression::Zstd => {
            let level = encoding.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
            zstd::bulk::compress(data, level).map_err(CompressionError::Failed)
        }
    }
}

/// Decompresses `data` to at most `limit` bytes.
///
/// # Errors
/// [`CompressionError::Limit`] as soon as the output would pass the limit, [`CompressionError::Corrupt`].
pub fn decompress(compression: Compression, data: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(data.len().saturating_mul(3).min(limit));
    reader(compression, data, limit)?.read_to_end(&mut out).map_err(CompressionError::from_io)?;
    Ok(out)
}

/// What `data` decompresses to, piece by piece, failing as soon as that is more than `limit` bytes. Its errors carry a
/// [`CompressionError`].
pub(crate) fn reader<'a>(
    compression: Compression,
    data: &'a [u8],
    limit: usize,
) -> Result<Box<dyn Read + 'a>, CompressionError> {
    Ok(match compression {
        Compression::None => limited(data, compression, limit),
        Compression::Gzip => limited(flate2::bufread::MultiGzDecoder::new(data), compression, limit),
        Compression::Snappy => limited(snappy::Decoder::new(data, limit), compression, limit),
        Compression::Lz4 => limited(lz4_flex::frame::FrameDecoder::new(data), compression, limit),
        Compression::Zstd => limited(zstd_stream::Decoder::new(data)?, compression, limit),
    })
}

fn limited<'a>(inner: impl Read + 'a, compression: Compression, limit: usize) -> Box<dyn Read + 'a> {
    Box::new(Limited { inner, compression, limit, left: limit })
}

/// Stops a decoder that produces too much and names the codec in its errors.
struct Limited<R> {
    inner: R,
    compression: Compression,
    limit: usize,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(count) => match self.left.checked_sub(count) {
                Some(left) => {
                    self.left = left;
                    Ok(count)
                }
                None => Err(io::Error::other(CompressionError::Limit { limit: self.limit })),
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(io::Error::other(match e.downcast::<CompressionError>() {
                Ok(own) => own,
                Err(e) => CompressionError::Corrupt { compression: self.compression, reason: e.to_string() },
            })),
        }
    }
}

#[cfg(test)]
mod tests;
