//! Bytes of commands and images: unsigned LEB128 numbers (zigzag where they may be negative), length-prefixed text, counts bounded by the
//! bytes that remain.

use chronik_base::{NodeId, Uuid};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("the bytes end inside of {0}")]
    Short(&'static str),
    /// A number, count, flag or text that cannot be.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// A kind of command that this version of Chronik does not know.
    #[error("the command kind {0} is unknown: it was written by a newer version of Chronik, run that one")]
    UnknownKind(u8),
    /// A version of a command that this version of Chronik does not know.
    #[error(
        "version {version} of the command {name} is unknown, {known} is the newest known one: it was written by a newer version of Chronik, run that one"
    )]
    UnknownVersion {
        /// The command.
        name: &'static str,
        /// Its version.
        version: u8,
        /// The newest version known here.
        known: u8,
    },
}

/// Collects bytes.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(crate) fn uuid(&mut self, id: &Uuid) {
        self.bytes.extend_from_slice(&id.0);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.u8(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(crate) fn nodes(&mut self, nodes: &[NodeId]) {
        self.unsigned(nodes.len() as u64);
        for node in nodes {
            self.signed(i64::from(*node));
        }
    }

    pub(crate) fn optional_nodes(&mut self, nodes: Option<&Vec<NodeId>>) {
        self.u8(u8::from(nodes.is_some()));
        if let Some(nodes) = nodes {
            self.nodes(nodes);
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.unsigned(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }
}

/// Reads bytes.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.bytes.len())) }
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(CodecError::Short(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.take(1, what)?.first().copied().ok_or(CodecError::Short(what))
    }

    pub(crate) fn unsigned(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(CodecError::Malformed(what));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Malformed(what))
    }

    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, CodecError> {
        let value = self.unsigned(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self, what: &'static str) -> Result<T, CodecError> {
        T::try_from(self.signed(what)?).map_err(|_| CodecError::Malformed(what))
    }

    /// A count of things that take at least one byte each.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize, CodecError> {
        let count = usize::try_from(self.unsigned(what)?).map_err(|_| CodecError::Malformed(what))?;
        if count > self.bytes.len() { Err(CodecError::Short(what)) } else { Ok(count) }
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Malformed(what)),
        }
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, CodecError> {
        self.take(16, what)?.try_into().map(Uuid).map_err(|_| CodecError::Short(what))
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, CodecError> {
        let length = self.count(what)?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| CodecError::Malformed(what))
    }

    pub(crate) fn optional_text(&mut self, what: &'static str) -> Result<Option<String>, CodecError> {
        if self.flag(what)? { Ok(Some(self.text(what)?.to_owned())) } else { Ok(None) }
    }

    pub(crate) fn nodes(&mut self, what: &'static str) -> Result<Vec<NodeId>, CodecError> {
        self.list(what, |decoder| decoder.number(what))
    }

    pub(crate) fn optional_nodes(&mut self, what: &'static str) -> Result<Option<Vec<NodeId>>, CodecError> {
        if self.flag(what)? { self.nodes(what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut each: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.count(what)?;
        // What one item takes in memory may be far more than its byte: the room grows with what is really there.
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }
}
