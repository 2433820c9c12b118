//! What observers ask for, and what they get.

use bytes::Bytes;
use chronik_base::Uuid;
use chronik_meta::MetaOffset;

use super::View;
use crate::wire::{Reader, WireError, Writer};

/// What an observer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// The number of the last command in its image.
    pub(crate) after: MetaOffset,
    /// The voter's generation that its image is of.
    pub(crate) generation: u64,
    /// What it knows of leader and voters: a change is an answer, too.
    pub(crate) view: View,
    /// How long it waits for a change, in milliseconds.
    pub(crate) wait_ms: u32,
    pub(crate) want: Want,
}

/// Which form of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Commands if they are still there, or the beginning of a snapshot.
    Changes,
    /// A snapshot from its beginning: the commands don't fit.
    Snapshot,
    /// The snapshot of `offset`, from `position` on.
    Rest { offset: MetaOffset, position: u64 },
}

/// What the observer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) cluster_id: Uuid,
    pub(crate) view: View,
    /// The number of the last command that the answering node has applied.
    pub(crate) applied: MetaOffset,
    pub(crate) content: Content,
}

/// The metadata itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The commands that follow what the observer has; perhaps none.
    Commands(Vec<Bytes>),
    /// A piece of the image after `offset`, encoded.
    Snapshot { offset: MetaOffset, total: u64, position: u64, piece: Bytes },
}

impl Fetch {
    pub(crate) fn put(&self, out: &mut Writer) {
        out.u64(self.after);
        out.u64(self.generation);
        self.view.put(out);
        out.u32(self.wait_ms);
        match self.want {
            Want::Changes => out.u8(0),
            Want::Snapshot => out.u8(1),
            Want::Rest { offset, position } => {
                out.u8(2);
                out.u64(offset);
                out.u64(position);
            }
        }
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            after: input.u64("an offset")?,
            generation: input.u64("a generation")?,
            view: View::get(input)?,
            wait_ms: input.u32("a time to wait")?,
            want: match input.u8("a form")? {
                0 => Want::Changes,
                1 => Want::Snapshot,
                2 => Want::Rest { offset: input.u64("an offset")?, position: input.u64("a position")? },
                _ => return Err(WireError::Malformed("a form")),
            },
        })
    }
}

impl Fetched {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.uuid(&self.cluster_id);
        self.view.put(&mut out);
        out.u64(self.applied);
        match &self.content {
            Content::Commands(commands) => {
                out.u8(0);
                out.list(commands.iter(), |out, command| out.blob(command));
            }
            Content::Snapshot { offset, total, position, piece } => {
                out.u8(1);
                out.u64(*offset);
                out.u64(*total);
                out.u64(*position);
                out.blob(piece);
            }
        }
        out.finish()
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            cluster_id: input.uuid("a cluster id")?,
            view: View::get(input)?,
            applied: input.u64("an offset")?,
            content: match input.u8("a form")? {
                0 => Content::Commands(input.list("commands", |input| input.blob("a command"))?),
                1 => Content::Snapshot {
                    offset: input.u64("an offset")?,
                    total: input.u64("a length")?,
                    position: input.u64("a position")?,
                    piece: input.blob("a piece of a snapshot")?,
                },
                _ => return Err(WireError::Malformed("a form")),
            },
        })
    }
}
