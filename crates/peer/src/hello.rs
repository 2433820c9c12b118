//! What two nodes tell each other first, and how one of them declines.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chronik_base::{NodeId, Uuid};

/// The longest software version in a greeting, in bytes; what is longer is cut.
const VERSION_BYTES_MAX: usize = 64;

/// The longest text of a refusal, in bytes; what is longer is cut.
const TEXT_BYTES_MAX: usize = 1024;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster that the node belongs to; [`Uuid::ZERO`] if it belongs to none yet.
    pub cluster_id: Uuid,
    /// Its id.
    pub node_id: NodeId,
    /// This run of its process.
    pub incarnation: Uuid,
    /// Its data directory: another one after the disk was wiped.
    pub directory: Uuid,
    /// The version of its software, for people to read; 64 bytes at most.
    pub version: String,
    /// Whether it has metadata of the cluster yet.
    pub has_metadata: bool,
}

/// What a dialling node sends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) hello: Hello,
    /// The node it means to reach; `None` where only the address is known.
    pub(crate) expected: Option<NodeId>,
    /// Counts the dials of this run of the process, so that a later one replaces an earlier one and never the other way.
    pub(crate) dial: u64,
}

/// Why a node ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalCode {
    Version,
    WrongNode,
    OtherCluster,
    Myself,
    SameNodeId,
    Superseded,
    Stopping,
    Protocol,
}

/// The payload of a frame that ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    /// Who refuses.
    pub(crate) hello: Hello,
    pub(crate) text: String,
}

/// A greeting or refusal that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {0} can't be read")]
pub(crate) struct Unreadable(&'static str);

impl Hello {
    /// Whether both nodes are in clusters, and not in the same.
    pub(crate) fn is_of_another_cluster(&self, other: &Hello) -> bool {
        !self.cluster_id.is_zero() && !other.cluster_id.is_zero() && self.cluster_id != other.cluster_id
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        self.put(&mut out);
        out.freeze()
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.cluster_id.0);
        out.put_slice(&self.incarnation.0);
        out.put_slice(&self.directory.0);
        out.put_i32(self.node_id);
        out.put_u8(u8::from(self.has_metadata));
        let version = cut(&self.version, VERSION_BYTES_MAX);
        out.put_u8(u8::try_from(version.len()).unwrap_or(0));
        out.put_slice(version.as_bytes());
    }

    /// Reads a greeting; what follows it is left for later versions of the protocol.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Unreadable> {
        Self::take(&mut bytes)
    }

    fn take(input: &mut Bytes) -> Result<Self, Unreadable> {
        let cluster_id = take_uuid(input, "cluster id")?;
        let incarnation = take_uuid(input, "incarnation")?;
        let directory = take_uuid(input, "directory")?;
        let node_id = input.try_get_i32().map_err(|_| Unreadable("node id"))?;
        let has_metadata = input.try_get_u8().map_err(|_| Unreadable("state"))? != 0;
        let length = usize::from(input.try_get_u8().map_err(|_| Unreadable("version"))?);
        if length > VERSION_BYTES_MAX || length > input.len() {
            return Err(Unreadable("version"));
        }
        let version =
            String::from_utf8(input.split_to(length).to_vec()).map_err(|_| Unreadable("version"))?;
        Ok(Self { cluster_id, node_id, incarnation, directory, version, has_metadata })
    }
}

impl Greeting {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(160);
        self.hello.put(&mut out);
        out.put_i32(self.expected.unwrap_or(-1));
        out.put_u64(self.dial);
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Unreadable> {
        let hello = Hello::take(&mut bytes)?;
        let expected = bytes.try_get_i32().map_err(|_| Unreadable("expected node"))?;
        let dial = bytes.try_get_u64().map_err(|_| Unreadable("dial number"))?;
        Ok(Self { hello, expected: (expected >= 0).then_some(expected), dial })
    }
}

impl RefusalCode {
    fn code(self) -> u8 {
        match self {
            RefusalCode::Version => 1,
            RefusalCode::WrongNode => 2,
            RefusalCode::OtherCluster => 3,
            RefusalCode::Myself => 4,
            RefusalCode::SameNodeId => 5,
            RefusalCode::Superseded => 6,
            RefusalCode::Stopping => 7,
            RefusalCode::Protocol => 8,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => RefusalCode::Version,
            2 => RefusalCode::WrongNode,
            3 => RefusalCode::OtherCluster,
            4 => RefusalCode::Myself,
            5 => RefusalCode::SameNodeId,
            6 => RefusalCode::Superseded,
            7 => RefusalCode::Stopping,
            // A later version may have more reasons; its text says which.
            _ => RefusalCode::Protocol,
        }
    }
}

impl Refusal {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(self.code.code());
        self.hello.put(&mut out);
        let text = cut(&self.text, TEXT_BYTES_MAX);
        out.put_u16(u16::try_from(text.len()).unwrap_or(0));
        out.put_slice(text.as_bytes());
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Unreadable> {
        let code = RefusalCode::from_code(bytes.try_get_u8().map_err(|_| Unreadable("reason"))?);
        let hello = Hello::take(&mut bytes)?;
        let length = usize::from(bytes.try_get_u16().map_err(|_| Unreadable("text"))?);
        if length > TEXT_BYTES_MAX || length > bytes.len() {
            return Err(Unreadable("text"));
        }
        let text = String::from_utf8_lossy(&bytes.split_to(length)).into_owned();
        Ok(Self { code, hello, text })
    }
}

fn take_uuid(input: &mut Bytes, what: &'static str) -> Result<Uuid, Unreadable> {
    let mut id = [0; 16];
    input.try_copy_to_slice(&mut id).map_err(|_| Unreadable(what))?;
    Ok(Uuid(id))
}

/// The start of `text` that fits into `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster_id: Uuid([1; 16]),
            node_id: 3,
            incarnation: Uuid([2; 16]),
            directory: Uuid([4; 16]),
            version: "0.1.0".to_owned(),
            has_metadata: true,
        }
    }

    #[test]
    fn greetings_are_read_as_they_were_written() {
        assert_eq!(Hello::decode(hello().encode()), Ok(hello()));
        for expected in [None, Some(0), Some(7)] {
            let greeting = Greeting { hello: hello(), expected, dial: 9 };
            assert_eq!(Greeting::decode(greeting.encode()), Ok(greeting));
        }
        let refusal =
            Refusal { code: RefusalCode::OtherCluster, hello: hello(), text: "another cluster".to_owned() };
        assert_eq!(Refusal::decode(refusal.encode()), Ok(refusal));
    }

    #[test]
    fn what_a_later_version_appends_is_left() {
        let mut bytes = BytesMut::from(&hello().encode()[..]);
        bytes.put_slice(b"more");
        assert_eq!(Hello::decode(bytes.freeze()), Ok(hello()));
    }

    #[test]
    fn a_greeting_that_is_cut_anywhere_is_refused() {
        let greeting = Greeting { hello: hello(), expected: Some(1), dial: 1 }.encode();
        for length in 0..greeting.len() {
            assert!(Greeting::decode(greeting.slice(..length)).is_err(), "{length}");
        }
        let refusal =
            Refusal { code: RefusalCode::Stopping, hello: hello(), text: "bye".to_owned() }.encode();
        for length in 0..refusal.len() {
            assert!(Refusal::decode(refusal.slice(..length)).is_err(), "{length}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Hello { version: "ä".repeat(100), ..hello() };
        let read = Hello::decode(long.encode()).unwrap();
        assert_eq!(read.version, "ä".repeat(32));
    }
}
