//! The bytes of what nodes say to each other about metadata: fixed-width little-endian numbers, lengths bounded by the bytes that remain.

use bytes::Bytes;
use chronik_base::{NodeId, Uuid};

/// Why a call's bytes can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("the bytes end inside of {0}")]
    Short(&'static str),
    /// A field holds what can't be.
    #[error("{0} can't be read")]
    Malformed(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// Another version of the exchange.
    #[error("version {0} of the call is not known here: run the same version of Chronik on all nodes")]
    Version(u8),
}

/// Collects bytes.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn node(&mut self, node: NodeId) {
        self.bytes.extend_from_slice(&node.to_le_bytes());
    }

    pub(crate) fn optional_node(&mut self, node: Option<NodeId>) {
        self.flag(node.is_some());
        if let Some(node) = node {
            self.node(node);
        }
    }

    pub(crate) fn uuid(&mut self, id: &Uuid) {
        self.bytes.extend_from_slice(&id.0);
    }

    pub(crate) fn blob(&mut self, blob: &[u8]) {
        // A call is far smaller: the connection's frame has a 32-bit length, too.
        self.u32(u32::try_from(blob.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(blob);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            each(self, item);
        }
    }

    pub(crate) fn addresses(&mut self, addresses: &[(NodeId, String)]) {
        self.list(addresses.iter(), |out, (node, address)| {
            out.node(*node);
            out.text(address);
        });
    }
}

/// Reads bytes; what it gives out shares them.
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.bytes.len())) }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<Bytes, WireError> {
        if count > self.bytes.len() {
            return Err(WireError::Short(what));
        }
        Ok(self.bytes.split_to(count))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        self.take(N, what)?.as_ref().try_into().map_err(|_| WireError::Short(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed(what)),
        }
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.array(what).map(i64::from_le_bytes)
    }

    pub(crate) fn node(&mut self, what: &'static str) -> Result<NodeId, WireError> {
        self.array(what).map(NodeId::from_le_bytes)
    }

    pub(crate) fn optional_node(&mut self, what: &'static str) -> Result<Option<NodeId>, WireError> {
        if self.flag(what)? { self.node(what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, WireError> {
        self.array(what).map(Uuid)
    }

    pub(crate) fn blob(&mut self, what: &'static str) -> Result<Bytes, WireError> {
        let length = usize::try_from(self.u32(what)?).map_err(|_| WireError::Malformed(what))?;
        self.take(length, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let bytes = self.blob(what)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| WireError::Malformed(what))
    }

    pub(crate) fn optional_text(&mut self, what: &'static str) -> Result<Option<String>, WireError> {
        if self.flag(what)? { self.text(what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut each: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = usize::try_from(self.u32(what)?).map_err(|_| WireError::Malformed(what))?;
        // Each item takes a byte at least, and more in memory: the room grows with what is really there.
        if count > self.bytes.len() {
            return Err(WireError::Short(what));
        }
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }

    pub(crate) fn addresses(&mut self, what: &'static str) -> Result<Vec<(NodeId, String)>, WireError> {
        self.list(what, |input| Ok((input.node(what)?, input.text(what)?)))
    }
}
