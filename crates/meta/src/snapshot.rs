//! The bytes of a snapshot file: a head, the length of the image, its CRC-32C, the image.

use std::path::Path;

use crate::image::Image;
use crate::store::{StoreError, check_head};

/// A name, and the version of what follows: length (8 bytes) and CRC-32C (4), little-endian, then the image.
const HEAD: [u8; 12] = *b"CHRONSNP\x01\0\0\0";

pub(crate) fn encode(image: &Image) -> Vec<u8> {
    let body = image.encode();
    let mut bytes = Vec::with_capacity(HEAD.len() + 12 + body.len());
    bytes.extend_from_slice(&HEAD);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads what [`encode`] wrote from the file at `path`.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Image, StoreError> {
    check_head(path, bytes, HEAD)?;
    let damaged = |problem: &str| StoreError::Damaged {
        path: path.to_owned(),
        position: 12,
        problem: problem.to_owned(),
    };
    let body = bytes.get(HEAD.len() + 12..).ok_or_else(|| damaged("it is cut short"))?;
    let length = bytes.get(12..20).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
    let crc = bytes.get(20..24).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes);
    if length != Some(body.len() as u64) {
        return Err(damaged("its length is not the one it states"));
    }
    if crc != Some(crc32c::crc32c(body)) {
        return Err(damaged("its CRC is wrong"));
    }
    Image::decode(body).map_err(|source| StoreError::Unreadable {
        path: path.to_owned(),
        position: 24,
        source,
    })
}
