//! Requests as they come from the wire.

use anyhow::{Context, Result};
use bytes::Bytes;
use chronik_base::Chunk;
use chronik_protocol::{Request, Str, request_frame};

/// A request behind its length, in one piece.
pub fn of<R: Request>(version: i16, request: &R) -> Result<Bytes> {
    let chunks = request_frame(version, 1, Some(Str::from("guard")), request);
    let mut bytes = Vec::new();
    for chunk in &chunks {
        match chunk {
            Chunk::Bytes(piece) => bytes.extend_from_slice(piece),
            Chunk::File(_) => anyhow::bail!("a request holds no file"),
        }
    }
    // The connection has taken the length off before anybody decodes.
    Ok(Bytes::from(bytes).slice(4..))
}

/// Reads a request's header and body as the broker does.
pub fn decode<R: Request>(frame: &Bytes) -> Result<(chronik_protocol::RequestHeader, R)> {
    let mut reader = chronik_protocol::Reader::new(frame.clone());
    let header = chronik_protocol::RequestHeader::decode(&mut reader).context("the header")?;
    let body = R::decode(&mut reader, header.api_version).context("the body")?;
    Ok((header, body))
}
