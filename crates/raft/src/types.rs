//! The library's types filled in, and the payload of a log entry.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use chronik_base::NodeId;
use chronik_meta::{CodecError, Command, Image, Results};
use openraft::{BasicNode, TokioRuntime};

openraft::declare_raft_types!(
    /// What the library works with here.
    pub(crate) TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotImage,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, BasicNode>;

/// A node's id as the library has it. Ids of nodes are never negative: [`RaftOptions`](crate::RaftOptions) is checked for it.
pub(crate) fn raft_id(node: NodeId) -> u64 {
    u64::from(node.unsigned_abs())
}

/// The node whose id the library has as `id`.
pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId::try_from(id).unwrap_or(NodeId::MAX)
}

const COMMANDS: u8 = 1;
const IMAGE: u8 = 2;

/// What an entry carries, as bytes: a kind, then a list of commands or a whole image. It is kept encoded, since it goes to the disk and to
/// the other nodes as it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

/// A payload that was read.
pub(crate) enum Content {
    /// Commands, to be checked and applied one after the other.
    Commands(Vec<Command>),
    /// The image that a cluster begins with: that of the standalone node that it grew from.
    Image(Box<Image>),
}

impl Payload {
    /// The commands, each with its length in front.
    pub(crate) fn commands(commands: &[Command]) -> Self {
        let mut bytes = vec![COMMANDS];
        for command in commands {
            let command = command.encode();
            bytes.put_u32_le(u32::try_from(command.len()).unwrap_or(u32::MAX));
            bytes.extend_from_slice(&command);
        }
        Self(bytes.into())
    }

    /// An image.
    pub(crate) fn image(image: &Image) -> Self {
        let mut bytes = vec![IMAGE];
        bytes.extend_from_slice(&image.encode());
        Self(bytes.into())
    }

    /// Reads what is inside.
    pub(crate) fn content(&self) -> Result<Content, CodecError> {
        let (kind, mut rest) = self.0.split_first().ok_or(CodecError::Short("the kind of an entry"))?;
        match *kind {
            COMMANDS => {
                let mut commands = Vec::new();
                while !rest.is_empty() {
                    let (length, after) =
                        rest.split_first_chunk().ok_or(CodecError::Short("a command's length"))?;
                    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
                    let (command, after) =
                        after.split_at_checked(length).ok_or(CodecError::Short("a command"))?;
                    commands.push(Command::decode(command)?);
                    rest = after;
                }
                Ok(Content::Commands(commands))
            }
            IMAGE => Ok(Content::Image(Box::new(Image::decode(rest)?))),
            kind => Err(CodecError::UnknownKind(kind)),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// What applying an entry came to: one result for each command in it.
#[derive(Debug, Default)]
pub(crate) struct Applied(pub(crate) Results);

/// A snapshot's content: the image itself, which shares what it can with the live one. It is encoded when it goes to the disk or to a node.
#[derive(Clone, Default)]
pub(crate) struct SnapshotImage(pub(crate) Arc<Image>);

impl fmt::Debug for SnapshotImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotImage(at {})", self.0.offset())
    }
}

/// How many entries there are up to a log index, which counts from 0.
pub(crate) fn count(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
}
