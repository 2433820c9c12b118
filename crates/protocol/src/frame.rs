//! Whole frames: length, header, body.

use chronik_base::Chunk;

use crate::{ApiKey, Encode, Request, RequestHeader, ResponseHeader, Str, Writer};

/// The frame that answers a request of `key` in `version`: its length, the header and `body`.
pub fn response_frame(key: ApiKey, version: i16, correlation_id: i32, body: &impl Encode) -> Vec<Chunk> {
    let mut w = Writer::new();
    w.i32(0);
    ResponseHeader { correlation_id }.encode(&mut w, ResponseHeader::version(key, version));
    body.encode(&mut w, version);
    w.patch_frame_length();
    w.into_chunks()
}

/// The frame that carries `request` in `version`: its length, the header and the request.
pub fn request_frame<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
    request: &R,
) -> Vec<Chunk> {
    let mut w = Writer::new();
    w.i32(0);
    RequestHeader { api_key: R::KEY.code(), api_version: version, correlation_id, client_id }.encode(&mut w);
    request.encode(&mut w, version);
    w.patch_frame_length();
    w.into_chunks()
}
