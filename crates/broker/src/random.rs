//! Random identifiers. The operating system seeds them; nothing here is a secret.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use chronik_base::Uuid;

/// A random number: the standard library's per-instance hash keys, which the operating system's generator seeds.
pub(crate) fn u64() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u8(0);
    hasher.finish()
}

/// A random identifier that is none of the reserved ones. Its text does not begin with a dash, which command lines would
/// take for an option.
pub(crate) fn uuid() -> Uuid {
    loop {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&u64().to_be_bytes());
        bytes[8..].copy_from_slice(&u64().to_be_bytes());
        let id = Uuid::from_random(bytes);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}
