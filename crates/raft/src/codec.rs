//! The bytes of the library's values, on the disk and between nodes: little-endian numbers of fixed size, lengths in front.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use chronik_meta::CodecError;
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};

use crate::types::{Entry, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote};

const BLANK: u8 = 0;
const PAYLOAD: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    out.put_u64_le(id.leader_id.term);
    out.put_u64_le(id.leader_id.node_id);
    out.put_u64_le(id.index);
}

pub(crate) fn put_optional_log_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.put_u8(u8::from(id.is_some()));
    put_log_id(out, &id.copied().unwrap_or_default());
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.node_id);
    out.put_u8(u8::from(vote.committed));
}

pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u32_le(configs.len() as u32);
    for voters in configs {
        out.put_u32_le(voters.len() as u32);
        for voter in voters {
            out.put_u64_le(*voter);
        }
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.put_u32_le(nodes.len() as u32);
    for (id, node) in nodes {
        out.put_u64_le(*id);
        put_bytes(out, node.addr.as_bytes());
    }
}

pub(crate) fn put_snapshot_meta(out: &mut Vec<u8>, meta: &SnapshotMeta) {
    put_optional_log_id(out, meta.last_log_id.as_ref());
    put_optional_log_id(out, meta.last_membership.log_id().as_ref());
    put_membership(out, meta.last_membership.membership());
    put_bytes(out, meta.snapshot_id.as_bytes());
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.put_u8(BLANK),
        EntryPayload::Normal(payload) => {
            out.put_u8(PAYLOAD);
            put_bytes(out, &payload.0);
        }
        EntryPayload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

/// Bytes that an entry takes, about: for limits.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => 32 + payload.0.len(),
        _ => 64,
    }
}

/// Reads bytes; what an entry carries is not copied.
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.bytes.len())) }
    }

    /// What was not read yet.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.bytes.try_get_u8().map_err(|_| CodecError::Short(what))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        self.bytes.try_get_u32_le().map_err(|_| CodecError::Short(what))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        self.bytes.try_get_u64_le().map_err(|_| CodecError::Short(what))
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Malformed(what)),
        }
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Bytes, CodecError> {
        let length = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if length > self.bytes.len() { Err(CodecError::Short(what)) } else { Ok(self.bytes.split_to(length)) }
    }

    fn text(&mut self, what: &'static str) -> Result<String, CodecError> {
        String::from_utf8(self.bytes(what)?.into()).map_err(|_| CodecError::Malformed(what))
    }

    /// A count of things of at least `size` bytes each.
    pub(crate) fn count(&mut self, size: usize, what: &'static str) -> Result<usize, CodecError> {
        let count = usize::try_from(self.u32(what)?).unwrap_or(usize::MAX);
        if count > self.bytes.len() / size { Err(CodecError::Short(what)) } else { Ok(count) }
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, CodecError> {
        let term = self.u64("a log id's term")?;
        let node = self.u64("a log id's node")?;
        Ok(LogId::new(CommittedLeaderId::new(term, node), self.u64("a log id's index")?))
    }

    pub(crate) fn optional_log_id(&mut self) -> Result<Option<LogId>, CodecError> {
        let there = self.flag("a log id's flag")?;
        let id = self.log_id()?;
        Ok(there.then_some(id))
    }

    pub(crate) fn vote(&mut self) -> Result<Vote, CodecError> {
        let term = self.u64("a vote's term")?;
        let mut vote = Vote::new(term, self.u64("a vote's node")?);
        vote.committed = self.flag("a vote's flag")?;
        Ok(vote)
    }

    pub(crate) fn membership(&mut self) -> Result<Membership, CodecError> {
        let mut configs = Vec::new();
        for _ in 0..self.count(4, "sets of voters")? {
            let mut voters = BTreeSet::new();
            for _ in 0..self.count(8, "voters")? {
                voters.insert(self.u64("a voter")?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(12, "nodes")? {
            let id = self.u64("a node")?;
            nodes.insert(id, BasicNode { addr: self.text("a node's address")? });
        }
        Ok(Membership::new(configs, nodes))
    }

    pub(crate) fn snapshot_meta(&mut self) -> Result<SnapshotMeta, CodecError> {
        let last_log_id = self.optional_log_id()?;
        let membership_id = self.optional_log_id()?;
        let last_membership = StoredMembership::new(membership_id, self.membership()?);
        Ok(SnapshotMeta { last_log_id, last_membership, snapshot_id: self.text("a snapshot's id")? })
    }

    pub(crate) fn entry(&mut self) -> Result<Entry, CodecError> {
        let log_id = self.log_id()?;
        let payload = match self.u8("an entry's kind")? {
            BLANK => EntryPayload::Blank,
            PAYLOAD => EntryPayload::Normal(Payload(self.bytes("an entry's payload")?)),
            MEMBERSHIP => EntryPayload::Membership(self.membership()?),
            _ => return Err(CodecError::Malformed("an entry's kind")),
        };
        Ok(Entry { log_id, payload })
    }

    pub(crate) fn entries(&mut self) -> Result<Vec<Entry>, CodecError> {
        let count = self.count(25, "entries")?;
        (0..count).map(|_| self.entry()).collect()
    }
}

/// A count, then the entries.
pub(crate) fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    out.put_u32_le(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        put_entry(out, entry);
    }
}
