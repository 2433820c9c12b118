//! Payloads of records and of group members: their version stands before them in 16 bits.

use bytes::Bytes;

use crate::{Decode, DecodeError, Encode, Reader, Versioned, Writer};

/// Writes `payload` after its version, for example the key of a record of `__consumer_offsets`.
pub fn encode_payload(payload: &impl Encode, version: i16) -> Bytes {
    let mut w = Writer::new();
    w.i16(version);
    payload.encode(&mut w, version);
    // A payload holds no file range, so there always are bytes.
    w.into_bytes().unwrap_or_default()
}

/// Reads a payload and gives the version it had. A consumer's subscription or assignment (see KIP-54) may be of a
/// later version than the codec has; such a one is read as the last known, what follows is ignored.
///
/// # Errors
/// The bytes are no such payload; [`DecodeError::UnknownVersion`] if its version is before the first that is known.
pub fn decode_payload<T: Decode + Versioned>(bytes: Bytes) -> Result<(i16, T), DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16("payload.version")?;
    let payload = T::decode(&mut r, version)?;
    Ok((version, payload))
}
