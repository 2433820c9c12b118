//! Kafka's record batches, format v2 (KIP-98): views, the checks at the door, building, compression.
//!
//! Nothing here does I/O. Bytes of a producer stay its bytes: a batch is looked at where it lies, and the broker's own
//! fields (base offset, leader epoch) lie outside what the CRC covers.

mod batch;
mod builder;
mod compression;
mod filter;
mod header;
mod record;
mod scan;
mod source;
mod validate;
mod varint;

pub use batch::{Batch, BatchRef, BatchScanError, Batches};
pub use builder::{BatchBuilder, BatchOptions, BuildError};
pub use compression::{
    Compression, CompressionError, DEFAULT_MAX_DECOMPRESSED_BYTES, Encoding, MAX_DECOMPRESSED_BYTES_KEY,
    UnknownCompression, compress, decompress,
};
pub use filter::{FilterError, FilterOptions, Filtered, filter_batch};
pub use header::{
    Attributes, BatchError, BatchHeader, CRC_COVERS_FROM, HEADER_SIZE, LENGTH_PREFIX_SIZE, MAGIC_V2,
    NO_PRODUCER_ID, NO_TIMESTAMP, TimestampType, peek_size, set_position,
};
pub use record::{Header, Headers, Record, RecordFault, RecordIter, Records, RecordsError};
pub use scan::RECORD_ISSUES_MAX;
pub use validate::{ProduceBatch, ProduceRules, RecordError, RecordIssue, validate_produce};
