//! Records that say who sent them and can be checked without having been kept.

/// Which record: the producer, the index of the partition among the targets, and a number that counts up
/// for each producer and partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub producer: u16,
    pub target: u16,
    pub sequence: u64,
}

const MAGIC: &[u8; 4] = b"CRSH";
const HEADER: usize = 4 + 2 + 2 + 8;
const CHECKSUM: usize = 4;

/// The bytes of a record; the same for the same run's seed and identity.
pub fn encode(seed: u64, identity: Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 512);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&identity.producer.to_be_bytes());
    bytes.extend_from_slice(&identity.target.to_be_bytes());
    bytes.extend_from_slice(&identity.sequence.to_be_bytes());
    let who = u64::from(identity.producer) << 48 | u64::from(identity.target) << 32;
    let mut random =
        fastrand::Rng::with_seed(seed ^ who ^ identity.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let filler = match random.u16(..1000) {
        // Now and then one that is larger than a disk block, a socket read, a small segment's index step.
        0..2 => random.usize(20_000..200_000),
        2..50 => 0,
        _ => random.usize(1..800),
    };
    bytes.resize(HEADER + filler, 0);
    random.fill(&mut bytes[HEADER..]);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Whose record these bytes are; an error says why they are nobody's.
pub fn identify(bytes: &[u8]) -> Result<Identity, &'static str> {
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else { return Err("too short") };
    let Some((header, _)) = body.split_first_chunk::<HEADER>() else { return Err("too short") };
    if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
        return Err("its checksum is wrong");
    }
    let [m0, m1, m2, m3, p0, p1, t0, t1, sequence @ ..] = *header;
    if [m0, m1, m2, m3] != *MAGIC {
        return Err("it does not begin as this test's records do");
    }
    Ok(Identity {
        producer: u16::from_be_bytes([p0, p1]),
        target: u16::from_be_bytes([t0, t1]),
        sequence: u64::from_be_bytes(sequence),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_itself_and_is_the_same_every_time() {
        for sequence in 0..2000 {
            let identity = Identity { producer: 3, target: 5, sequence };
            let bytes = encode(7, identity);
            assert_eq!(identify(&bytes), Ok(identity));
            assert_eq!(bytes, encode(7, identity));
        }
    }

    #[test]
    fn a_changed_record_is_nobodys() {
        let mut bytes = encode(7, Identity { producer: 3, target: 5, sequence: 1 });
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(identify(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(identify(&[]).is_err());
    }
}
