//! Message values: half of each is random, half repeats, so that compression has the work and the gain
//! that it has on ordinary records.

/// Values are cut from a pool of this many bytes at most, unless one alone is larger.
const POOL_BYTES: usize = 16 << 20;
const POOL_VALUES: usize = 1024;

/// A pool of distinct values, made once so that making them costs the load nothing.
pub struct Payloads {
    values: Vec<Vec<u8>>,
}

impl Payloads {
    pub fn new(size: usize) -> Self {
        let count = (POOL_BYTES / size.max(1)).clamp(1, POOL_VALUES);
        let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
        let values = (0..count).map(|_| value(size, &mut random)).collect();
        Self { values }
    }

    /// The value for the n-th message.
    pub fn nth(&self, n: u64) -> &[u8] {
        let at = (n % self.values.len() as u64) as usize;
        self.values.get(at).map_or(&[], Vec::as_slice)
    }
}

fn value(size: usize, random: &mut XorShift) -> Vec<u8> {
    const WORDS: &[u8] =
        b"{\"station\":\"harbour\",\"state\":\"open\",\"unit\":\"metre\",\"quality\":\"checked\"}";
    let mut value: Vec<u8> =
        (0..size / 2).map(|_| b"0123456789abcdefghijklmnopqrstuv"[(random.next() % 32) as usize]).collect();
    value.extend(WORDS.iter().cycle().take(size - size / 2));
    value
}

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_asked_for_and_differ() {
        let payloads = Payloads::new(257);
        assert_eq!(payloads.nth(0).len(), 257);
        assert_ne!(payloads.nth(0), payloads.nth(1));
        assert!(Payloads::new(0).nth(7).is_empty());
        assert_eq!(Payloads::new(64 << 20).nth(3).len(), 64 << 20);
    }
}
