//! The stamp at the start of each value: who sent it, when, as which message of its partition, and a checksum.
//!
//! ```text
//! 0   4  "CHB1"
//! 4   4  CRC-32C of everything after it
//! 8   8  run: a number that no other run has
//! 16  4  producer within the run
//! 20  8  sequence within producer and partition, from 0, without gaps
//! 28  8  when it should have been sent, nanoseconds since 1970
//! 36     the rest of the value
//! ```
//! All numbers are little-endian.

/// Bytes of the stamp, the least that a value which is checked can have.
pub const STAMP_LEN: usize = 36;

const MAGIC: &[u8; 4] = b"CHB1";
const SUMMED_FROM: usize = 8;

/// Who sent a message, when and as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that sent it.
    pub run: u64,
    /// The producer within the run.
    pub producer: u32,
    /// The message's number within producer and partition, from 0.
    pub sequence: u64,
    /// When it should have been sent, in nanoseconds since 1970.
    pub due_ns: u64,
}

/// What a received value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Stamped {
    /// Whole, with this stamp.
    Whole(Stamp),
    /// It bears the mark of this tool, but is too short or its checksum is wrong.
    Corrupt,
    /// It does not bear the mark of this tool.
    Foreign,
}

impl Stamp {
    /// Writes the stamp over the first [`STAMP_LEN`] bytes; a value that is shorter stays as it is.
    pub fn seal(&self, value: &mut [u8]) {
        if let Some(head) = value.get_mut(SUMMED_FROM..STAMP_LEN) {
            let fields = self.run.to_le_bytes().into_iter();
            let fields = fields.chain(self.producer.to_le_bytes()).chain(self.sequence.to_le_bytes());
            for (byte, field) in head.iter_mut().zip(fields.chain(self.due_ns.to_le_bytes())) {
                *byte = field;
            }
            let sum = crc32c::crc32c(value.get(SUMMED_FROM..).unwrap_or_default());
            for (byte, field) in value.iter_mut().zip(MAGIC.iter().copied().chain(sum.to_le_bytes())) {
                *byte = field;
            }
        }
    }

    /// Reads and checks a value.
    pub fn open(value: &[u8]) -> Stamped {
        if value.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Stamped::Foreign;
        }
        let sum = field::<4>(value, 4).map(u32::from_le_bytes);
        let summed = value.get(SUMMED_FROM..).map(crc32c::crc32c);
        match (sum == summed && sum.is_some()).then(|| Self::fields(value)).flatten() {
            Some(stamp) => Stamped::Whole(stamp),
            None => Stamped::Corrupt,
        }
    }

    /// The fields of a value that this process made itself, without the checks.
    pub fn fields(value: &[u8]) -> Option<Self> {
        Some(Self {
            run: u64::from_le_bytes(field(value, 8)?),
            producer: u32::from_le_bytes(field(value, 16)?),
            sequence: u64::from_le_bytes(field(value, 20)?),
            due_ns: u64::from_le_bytes(field(value, 28)?),
        })
    }
}

fn field<const N: usize>(value: &[u8], at: usize) -> Option<[u8; N]> {
    value.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 0xA1B2_C3D4_E5F6_0718, producer: 3, sequence: 99, due_ns: 1 << 60 };

    #[test]
    fn a_sealed_value_opens_and_any_flipped_bit_shows() {
        let mut value = vec![7u8; 64];
        STAMP.seal(&mut value);
        assert_eq!(Stamp::open(&value), Stamped::Whole(STAMP));
        assert_eq!(value.get(STAMP_LEN..), Some([7u8; 28].as_slice()));
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = Stamp::open(&flipped);
            assert_eq!(opened, if bit < 32 { Stamped::Foreign } else { Stamped::Corrupt }, "bit {bit}");
        }
    }

    #[test]
    fn cut_values_are_corrupt_and_others_foreign() {
        let mut value = vec![0u8; 64];
        STAMP.seal(&mut value);
        for length in 4..64 {
            assert_eq!(Stamp::open(&value[..length]), Stamped::Corrupt, "{length} bytes");
        }
        assert_eq!(Stamp::open(b"hello"), Stamped::Foreign);
        assert_eq!(Stamp::open(b""), Stamped::Foreign);
        let mut short = vec![5u8; STAMP_LEN - 1];
        STAMP.seal(&mut short);
        assert_eq!(short, vec![5u8; STAMP_LEN - 1]);
    }
}
