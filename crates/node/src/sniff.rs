//! What a connection's first bytes begin, and the words for what this listener does not speak.

use chronik_broker::CloseReason;
use chronik_protocol::{FirstBytes, first_bytes};

/// What a connection's first bytes begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Too few bytes to tell.
    Undecided,
    /// A request of Kafka's protocol.
    Kafka,
    /// An HTTP request.
    Http,
    /// What another node sends first.
    Peer,
    /// None of these.
    Refused(CloseReason),
}

/// Looks at the first bytes of a connection that takes requests of up to `request_bytes_max` bytes.
pub(crate) fn opening(bytes: &[u8], request_bytes_max: usize) -> Opening {
    let limit = u32::try_from(request_bytes_max).unwrap_or(u32::MAX);
    match first_bytes(bytes, limit) {
        FirstBytes::TooFew => Opening::Undecided,
        FirstBytes::Kafka { .. } => Opening::Kafka,
        FirstBytes::Http => Opening::Http,
        FirstBytes::Peer => Opening::Peer,
        FirstBytes::TlsClientHello => Opening::Refused(CloseReason {
            kind: "a TLS client hello arrived on the plaintext listener",
            detail: "set security.protocol=PLAINTEXT in the client, or http:// instead of https://"
                .to_owned(),
        }),
        FirstBytes::Unknown { length } => Opening::Refused(CloseReason {
            kind: "neither Kafka's protocol nor HTTP",
            detail: format!(
                "the first bytes are \"{}\"; as a Kafka request's length they would be {length}, where 10 to {limit} \
                 (socket.request.max.bytes) are taken",
                bytes.get(..4).unwrap_or(bytes).escape_ascii()
            ),
        }),
    }
}
