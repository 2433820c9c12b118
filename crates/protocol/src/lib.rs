//! The Kafka wire protocol: codec, generated messages, framing.
//!
//! Decoding is bounded by the bytes that remain and by a limit on memory, shares strings and records with the frame,
//! and never copies them. The structs in [`messages`] are generated from the tables in `schemas`.

mod api_key;
mod error;
mod first_bytes;
mod frame;
mod header;
pub mod messages;
mod payload;
mod reader;
mod str;
mod writer;

pub use api_key::ApiKey;
pub use error::DecodeError;
pub use first_bytes::{FIRST_BYTES, FirstBytes, PEER_MAGIC, first_bytes};
pub use frame::{request_frame, response_frame};
pub use header::{RequestHeader, ResponseHeader};
pub use payload::{decode_member_payload, decode_payload, encode_payload, payload_version};
pub use reader::{DECODED_MEMORY_LIMIT, Reader};
pub use str::{NotUtf8, Str};
pub use writer::Writer;

use std::ops::RangeInclusive;

/// What can be read from the wire.
pub trait Decode: Sized {
    /// Reads one value in the form of `version`.
    ///
    /// # Errors
    /// The bytes are not such a value, or there is no such version.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;
}

/// What can be written to the wire.
pub trait Encode {
    /// Writes the value in the form of `version`. Fields that the version lacks are dropped; where it does not allow
    /// null, an empty value is written.
    fn encode(&self, writer: &mut Writer, version: i16);
}

/// A whole message or payload: it has versions of its own.
pub trait Versioned {
    /// The versions that can be decoded and encoded.
    const VERSIONS: RangeInclusive<i16>;
}

/// A request, which names its API and the answer that belongs to it.
pub trait Request: Encode + Decode + Versioned {
    /// The API.
    const KEY: ApiKey;
    /// What it is answered with.
    type Response: Encode + Decode + Versioned;
}
