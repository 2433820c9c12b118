//! Identifiers. They are plain values: cheap to copy, ordered, hashable.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A broker's identifier, from 0; `-1` stands for "no broker" on the wire.
pub type NodeId = i32;

/// A topic's identifier (KIP-516). It is never used again after the topic is deleted.
pub type TopicId = Uuid;

/// A 128-bit identifier, written as 22 characters of URL-safe base64 without padding, as Kafka writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// Why a text is not a [`Uuid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID: expected 22 characters of URL-safe base64 (as Kafka prints topic ids)")]
pub struct UuidParseError(pub String);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zeros: "no identifier" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// The identifier Kafka reserves for the metadata topic (KIP-516); never given to a topic of a user.
    pub const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Makes a version 4 identifier of 16 random bytes.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// True for [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }

    /// 32 lower-case hexadecimal digits: the form for names of directories.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Reads what [`Uuid::to_hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0u8; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(22);
        for chunk in self.0.chunks(3) {
            let word = (u32::from(chunk[0]) << 16)
                | (u32::from(chunk.get(1).copied().unwrap_or(0)) << 8)
                | u32::from(chunk.get(2).copied().unwrap_or(0));
            for i in 0..=chunk.len() {
                text.push(BASE64[(word >> (18 - 6 * i)) as usize & 63] as char);
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || UuidParseError(text.to_owned());
        if text.len() != 22 {
            return Err(fail());
        }
        let mut bytes = Vec::with_capacity(18);
        for chunk in text.as_bytes().chunks(4) {
            let mut word = 0u32;
            for i in 0..4 {
                let value = match chunk.get(i) {
                    Some(c) => BASE64.iter().position(|b| b == c).ok_or_else(fail)?,
                    None => 0,
                };
                word = (word << 6) | value as u32;
            }
            bytes.extend_from_slice(&word.to_be_bytes()[1..]);
        }
        let mut id = [0u8; 16];
        id.copy_from_slice(&bytes[..16]);
        Ok(Self(id))
    }
}

/// One partition of one topic, by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_is_kafkas() {
        // What java.util.UUID(0, 1) prints in Kafka: the metadata topic's identifier.
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = Uuid::from_random([0xff; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(Uuid::from_hex(&id.to_hex()), Some(id));
        assert!("short".parse::<Uuid>().is_err());
        assert!("!!!!!!!!!!!!!!!!!!!!!!".parse::<Uuid>().is_err());
    }
}
