//! Text as it lies in a frame: UTF-8 that was checked once, shared with the frame instead of copied.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// A string that shares the memory of the frame it was read from. Cloning it costs a reference count.
///
/// It keeps its whole frame alive: what outlives the request (a member's id, a topic's name in a table) should be
/// copied out, with [`Str::detached`] or into a `String`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8 after the first {valid_up_to} bytes")]
pub struct NotUtf8 {
    /// How many bytes from the start are good.
    pub valid_up_to: usize,
}

impl Str {
    /// The empty string.
    pub const EMPTY: Str = Str(Bytes::new());

    /// A string that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Checks `bytes` and takes them over without a copy.
    ///
    /// # Errors
    /// [`NotUtf8`] if they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, NotUtf8> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(error) => Err(NotUtf8 { valid_up_to: error.valid_up_to() }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // The bytes were checked when they came in and cannot change, so the check cannot fail; for names of a few
        // bytes, repeating it costs less than a cache miss and keeps this crate free of unsafe code.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text, shared.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A copy that no longer shares (and so no longer keeps alive) the frame.
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` hashes, so that maps keyed by `Str` can be asked with a `&str`.
        self.as_str().hash(state);
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<std::sync::Arc<str>> for Str {
    fn from(text: std::sync::Arc<str>) -> Self {
        Self(Bytes::from_owner(text_owner(text)))
    }
}

/// `Arc<str>` as an owner of bytes.
fn text_owner(text: std::sync::Arc<str>) -> impl AsRef<[u8]> + Send + 'static {
    struct Owner(std::sync::Arc<str>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Owner(text)
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn maps_answer_to_plain_text() {
        let mut map = HashMap::new();
        map.insert(Str::from("orders"), 1);
        assert_eq!(map.get("orders"), Some(&1));
        assert!(Str::from_static("a") < Str::from_static("b"));
        assert_eq!(Str::from(std::sync::Arc::<str>::from("x")), "x");
    }

    #[test]
    fn bad_utf8_is_refused() {
        assert_eq!(Str::from_utf8(Bytes::from_static(b"ab\xff")), Err(NotUtf8 { valid_up_to: 2 }));
    }
}
