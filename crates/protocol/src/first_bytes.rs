//! Tells by the first bytes of a connection which protocol it speaks, so that all of them can share one port.

/// Bytes that suffice to tell the protocols apart.
pub const FIRST_BYTES: usize = 8;

/// The least that a request holds: key, version, correlation id and a client id.
const LEAST_FRAME: u32 = 10;

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a connection of another Chronik node begins with. As a frame's length it is below zero.
pub const PEER_MAGIC: [u8; 4] = [0xC7, b'C', b'H', b'K'];

/// How the methods of HTTP begin, and the preface of HTTP/2.
const HTTP: [&[u8; 4]; 11] =
    [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"QUER", b"CONN", b"TRAC", b"PRI "];

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// Too few to tell yet; four suffice.
    TooFew,
    /// A frame of Kafka's protocol.
    Kafka {
        /// Bytes that follow the length, the limit at most.
        length: u32,
    },
    /// A request of HTTP.
    Http,
    /// A connection of another Chronik node.
    Peer,
    /// The hello of a TLS client.
    TlsClientHello,
    /// Nothing that is known: as a frame of Kafka's protocol its length would be this, beyond the limit or below a header.
    Unknown {
        /// The first four bytes as a frame's length.
        length: i32,
    },
}

/// Judges the first bytes of a connection (more than [`FIRST_BYTES`] change nothing). `frame_max` is the limit on a
/// frame's length in bytes. What begins like HTTP or TLS is never taken for a frame: read as lengths, those are
/// above 352 MiB.
pub fn first_bytes(bytes: &[u8], frame_max: u32) -> FirstBytes {
    let Some(first) = bytes.first_chunk::<4>() else { return FirstBytes::TooFew };
    if HTTP.contains(&first) {
        return FirstBytes::Http;
    }
    if *first == PEER_MAGIC {
        return FirstBytes::Peer;
    }
    if first[0] == TLS_HANDSHAKE && first[1] == 3 && first[2] <= 4 {
        return FirstBytes::TlsClientHello;
    }
    let length = i32::from_be_bytes(*first);
    match u32::try_from(length) {
        Ok(length) if (LEAST_FRAME..=frame_max).contains(&length) => FirstBytes::Kafka { length },
        _ => FirstBytes::Unknown { length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart() {
        let limit = 100 << 20;
        assert_eq!(first_bytes(b"GE", limit), FirstBytes::TooFew);
        assert_eq!(first_bytes(b"GET /hea", limit), FirstBytes::Http);
        assert_eq!(first_bytes(b"DELETE /", limit), FirstBytes::Http);
        assert_eq!(first_bytes(b"\xc7CHK\x01", limit), FirstBytes::Peer);
        assert_eq!(first_bytes(b"\xc7CHK", u32::MAX), FirstBytes::Peer);
        assert_eq!(first_bytes(&[0x16, 3, 1, 2, 0, 1, 0, 1], limit), FirstBytes::TlsClientHello);
        assert_eq!(first_bytes(&[0, 0, 0, 43, 0, 18, 0, 3], limit), FirstBytes::Kafka { length: 43 });
        assert_eq!(first_bytes(&[0x7f, 0xff, 0xff, 0xff], limit), FirstBytes::Unknown { length: i32::MAX });
        assert_eq!(first_bytes(&[0xff; 8], limit), FirstBytes::Unknown { length: -1 });
        assert_eq!(first_bytes(&[0, 0, 0, 0], limit), FirstBytes::Unknown { length: 0 });
        assert_eq!(first_bytes(&[0x16, 3, 3, 0], u32::MAX), FirstBytes::TlsClientHello);
    }
}
