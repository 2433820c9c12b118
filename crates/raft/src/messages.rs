//! What voters say to each other. Each message begins with a version, and a version that is not known is refused by name.

use bytes::{BufMut, Bytes};
use chronik_meta::CodecError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use crate::codec::{Reader, put_bytes, put_entries, put_optional_log_id, put_snapshot_meta, put_vote};
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

/// The request kinds, of those that [`chronik_base::Transport`] carries (1 to 15 are this crate's).
pub(crate) mod kind {
    /// Asks for a vote.
    pub(crate) const VOTE: u8 = 1;
    /// Brings entries, or shows that the leader lives.
    pub(crate) const APPEND: u8 = 2;
    /// Brings a piece of a snapshot.
    pub(crate) const SNAPSHOT: u8 = 3;
    /// Asks whether a vote would be given (pre-vote): changes nothing.
    pub(crate) const CANVASS: u8 = 4;
}

const VERSION: u8 = 1;

fn begin(room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(room + 1);
    out.put_u8(VERSION);
    out
}

fn open(bytes: Bytes) -> Result<Reader, CodecError> {
    let mut input = Reader::new(bytes);
    match input.u8("a message's version")? {
        VERSION => Ok(input),
        version => Err(CodecError::UnknownVersion { name: "quorum message", version, known: VERSION }),
    }
}

/// A message of the quorum.
pub(crate) trait Message: Sized {
    fn encode(&self) -> Bytes;
    fn decode(bytes: Bytes) -> Result<Self, CodecError>;
}

impl Message for VoteRequest<u64> {
    fn encode(&self) -> Bytes {
        let mut out = begin(48);
        put_vote(&mut out, &self.vote);
        put_optional_log_id(&mut out, self.last_log_id.as_ref());
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let (vote, last_log_id) = (input.vote()?, input.optional_log_id()?);
        input.finish()?;
        Ok(Self { vote, last_log_id })
    }
}

impl Message for VoteResponse<u64> {
    fn encode(&self) -> Bytes {
        let mut out = begin(48);
        put_vote(&mut out, &self.vote);
        out.put_u8(u8::from(self.vote_granted));
        put_optional_log_id(&mut out, self.last_log_id.as_ref());
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let vote = input.vote()?;
        let vote_granted = input.flag("whether a vote is given")?;
        let last_log_id = input.optional_log_id()?;
        input.finish()?;
        Ok(Self { vote, vote_granted, last_log_id })
    }
}

impl Message for AppendEntriesRequest<TypeConfig> {
    fn encode(&self) -> Bytes {
        let room: usize = self.entries.iter().map(crate::codec::entry_size).sum();
        let mut out = begin(96 + room);
        put_vote(&mut out, &self.vote);
        put_optional_log_id(&mut out, self.prev_log_id.as_ref());
        put_optional_log_id(&mut out, self.leader_commit.as_ref());
        put_entries(&mut out, &self.entries);
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let vote = input.vote()?;
        let prev_log_id = input.optional_log_id()?;
        let leader_commit = input.optional_log_id()?;
        let entries = input.entries()?;
        input.finish()?;
        Ok(Self { vote, prev_log_id, leader_commit, entries })
    }
}

impl Message for AppendEntriesResponse<u64> {
    fn encode(&self) -> Bytes {
        let mut out = begin(32);
        match self {
            Self::Success => out.put_u8(0),
            Self::PartialSuccess(last) => {
                out.put_u8(1);
                put_optional_log_id(&mut out, last.as_ref());
            }
            Self::Conflict => out.put_u8(2),
            Self::HigherVote(vote) => {
                out.put_u8(3);
                put_vote(&mut out, vote);
            }
        }
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let answer = match input.u8("an answer's kind")? {
            0 => Self::Success,
            1 => Self::PartialSuccess(input.optional_log_id()?),
            2 => Self::Conflict,
            3 => Self::HigherVote(input.vote()?),
            _ => return Err(CodecError::Malformed("an answer's kind")),
        };
        input.finish()?;
        Ok(answer)
    }
}

/// A piece of a snapshot. The one that ends it is answered once the snapshot is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SnapshotPiece {
    /// The leader's vote.
    pub(crate) vote: Vote,
    /// What the snapshot holds.
    pub(crate) meta: SnapshotMeta,
    /// Where the piece belongs, in bytes from the beginning.
    pub(crate) position: u64,
    /// Bytes of the whole snapshot.
    pub(crate) length: u64,
    /// CRC-32C of the whole snapshot.
    pub(crate) crc: u32,
    /// The piece.
    pub(crate) bytes: Bytes,
}

impl Message for SnapshotPiece {
    fn encode(&self) -> Bytes {
        let mut out = begin(256 + self.bytes.len());
        put_vote(&mut out, &self.vote);
        put_snapshot_meta(&mut out, &self.meta);
        out.put_u64_le(self.position);
        out.put_u64_le(self.length);
        out.put_u32_le(self.crc);
        put_bytes(&mut out, &self.bytes);
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let piece = Self {
            vote: input.vote()?,
            meta: input.snapshot_meta()?,
            position: input.u64("a piece's position")?,
            length: input.u64("a snapshot's length")?,
            crc: input.u32("a snapshot's CRC")?,
            bytes: input.bytes("a piece of a snapshot")?,
        };
        input.finish()?;
        Ok(piece)
    }
}

impl Message for SnapshotResponse<u64> {
    fn encode(&self) -> Bytes {
        let mut out = begin(17);
        put_vote(&mut out, &self.vote);
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let vote = input.vote()?;
        input.finish()?;
        Ok(Self { vote })
    }
}

/// Would you vote for me, with a log that ends here?
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Canvass {
    /// The last entry of who asks.
    pub(crate) last_log_id: Option<LogId>,
}

impl Message for Canvass {
    fn encode(&self) -> Bytes {
        let mut out = begin(25);
        put_optional_log_id(&mut out, self.last_log_id.as_ref());
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let last_log_id = input.optional_log_id()?;
        input.finish()?;
        Ok(Self { last_log_id })
    }
}

/// The answer to [`Canvass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CanvassAnswer {
    /// True if a vote would be given.
    pub(crate) granted: bool,
}

impl Message for CanvassAnswer {
    fn encode(&self) -> Bytes {
        let mut out = begin(1);
        out.put_u8(u8::from(self.granted));
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let mut input = open(bytes)?;
        let granted = input.flag("whether a vote would be given")?;
        input.finish()?;
        Ok(Self { granted })
    }
}

/// The name of a snapshot that ends with `last`.
pub(crate) fn snapshot_id(last: Option<&LogId>) -> String {
    match last {
        Some(id) => format!("{}-{}-{}", id.leader_id.term, id.leader_id.node_id, id.index),
        None => "empty".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Debug;

    use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Entry, Membership, Payload, StoredMembership};

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(7, 2), index)
    }

    fn membership() -> Membership {
        let node = |id: u64| (id, BasicNode::new(format!("host-{id}:9092")));
        let sets = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3])];
        Membership::new(sets, BTreeMap::from([node(1), node(2), node(3), node(9)]))
    }

    fn meta() -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: Some(log_id(41)),
            last_membership: StoredMembership::new(Some(log_id(3)), membership()),
            snapshot_id: snapshot_id(Some(&log_id(41))),
        }
    }

    /// Whole, it is read as it was; cut short, longer, or of another version, it is refused.
    fn check<M: Message + Debug>(message: &M) {
        let bytes = message.encode();
        let read = M::decode(bytes.clone()).expect("it can be read");
        assert_eq!(format!("{message:?}"), format!("{read:?}"));
        for end in 0..bytes.len() {
            M::decode(bytes.slice(..end)).expect_err("it is cut short");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(M::decode(longer.into()).expect_err("a byte too many"), CodecError::Trailing(1));
        let mut newer = bytes.to_vec();
        newer[0] = VERSION + 1;
        let error = M::decode(newer.into()).expect_err("a newer version");
        assert!(error.to_string().contains("newer version of Chronik"), "{error}");
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let mut vote = Vote::new(8, 3);
        check(&VoteRequest { vote, last_log_id: Some(log_id(5)) });
        check(&VoteRequest { vote, last_log_id: None });
        check(&VoteResponse { vote, vote_granted: true, last_log_id: Some(log_id(5)) });
        vote.committed = true;
        let entries = vec![
            Entry { log_id: log_id(6), payload: EntryPayload::Blank },
            Entry {
                log_id: log_id(7),
                payload: EntryPayload::Normal(Payload(Bytes::from_static(b"payload"))),
            },
            Entry { log_id: log_id(8), payload: EntryPayload::Membership(membership()) },
        ];
        check(&AppendEntriesRequest::<TypeConfig> {
            vote,
            prev_log_id: Some(log_id(5)),
            leader_commit: None,
            entries,
        });
        check(&AppendEntriesResponse::<u64>::Success);
        check(&AppendEntriesResponse::PartialSuccess(Some(log_id(7))));
        check(&AppendEntriesResponse::<u64>::Conflict);
        check(&AppendEntriesResponse::HigherVote(vote));
        let bytes = Bytes::from_static(b"a piece");
        check(&SnapshotPiece { vote, meta: meta(), position: 1 << 40, length: 1 << 41, crc: 9, bytes });
        check(&SnapshotResponse { vote });
        check(&Canvass { last_log_id: Some(log_id(5)) });
        check(&CanvassAnswer { granted: true });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_bring_a_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from([&[VERSION], &bytes[..]].concat());
            let _ = VoteRequest::decode(bytes.clone());
            let _ = VoteResponse::decode(bytes.clone());
            let _ = AppendEntriesRequest::<TypeConfig>::decode(bytes.clone());
            let _ = AppendEntriesResponse::<u64>::decode(bytes.clone());
            let _ = SnapshotPiece::decode(bytes.clone());
            let _ = Canvass::decode(bytes.clone());
            let _ = Payload(bytes).content();
        }
    }
}
