//! What nodes ask each other about metadata. Every request begins with who asks: the version of the exchange, the cluster and the voter's
//! generation that the asking node knows.

mod fetch;
mod members;

use bytes::Bytes;
use chronik_base::{NodeId, Uuid};
use chronik_meta::{Command, MetaOffset, Results};

use crate::wire::{Reader, WireError, Writer};

pub(crate) use fetch::{Content, Fetch, Fetched, Want};
pub use members::Role;
pub(crate) use members::{Membership, MembershipAnswer, Probed};

/// Kinds of calls (1 to 15 are Raft's).
pub mod kind {
    /// Commands for the metadata leader.
    pub const SUBMIT: u8 = 16;
    /// A broker says to the metadata leader that it is alive.
    pub const HEARTBEAT: u8 = 17;
    /// An observer asks for what changed after an offset, and waits for it.
    pub const FETCH_METADATA: u8 = 18;
    /// Who are you, and do you have metadata?
    pub const PROBE: u8 = 19;
    /// A node asks to become a broker of the cluster: [`JoinRequest`](crate::JoinRequest).
    pub const JOIN: u8 = 20;
    /// A voter asks an empty node to follow it: [`Invitation`](crate::Invitation).
    pub const INVITE: u8 = 21;
    /// A follower was made the voter by an operator.
    pub const ANNOUNCE: u8 = 22;
    /// A change of who votes.
    pub const MEMBERSHIP: u8 = 23;
    /// The quorum's leader tells an observer to start anew as a voter.
    pub const VOTE: u8 = 24;
    /// The quorum's leader tells a node that it votes no more.
    pub const DISMISS: u8 = 25;
}

/// The version of these calls.
const VERSION: u8 = 1;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The cluster; [`Uuid::ZERO`] for none yet.
    pub(crate) cluster_id: Uuid,
    /// The highest generation of a voter that it knows.
    pub(crate) generation: u64,
}

/// A request's bytes: the caller, then what `put` adds.
pub(crate) fn request(caller: Caller, put: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::default();
    out.u8(VERSION);
    out.uuid(&caller.cluster_id);
    out.u64(caller.generation);
    put(&mut out);
    out.finish()
}

/// Reads a request's beginning; the rest is in the reader.
pub(crate) fn open(payload: Bytes) -> Result<(Caller, Reader), WireError> {
    let mut input = Reader::new(payload);
    match input.u8("a call's version")? {
        VERSION => {}
        other => return Err(WireError::Version(other)),
    }
    let caller = Caller { cluster_id: input.uuid("a cluster id")?, generation: input.u64("a generation")? };
    Ok((caller, input))
}

/// Reads an answer whole.
pub(crate) fn read<T>(
    payload: Bytes,
    get: impl FnOnce(&mut Reader) -> Result<T, WireError>,
) -> Result<T, WireError> {
    let mut input = Reader::new(payload);
    let value = get(&mut input)?;
    input.finish()?;
    Ok(value)
}

/// Commands on their way to the metadata leader. Process and sequence name the submission: a leader that has seen it
/// gives the answer that it gave, and does nothing twice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Submit {
    pub(crate) incarnation: Uuid,
    pub(crate) sequence: u64,
    /// How long the submitter waits, in milliseconds.
    pub(crate) wait_ms: u32,
    pub(crate) commands: Vec<Command>,
}

/// What the leader says to [`Submit`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted {
    /// What each command came to, and the offset of the image that has them.
    Done { offset: MetaOffset, results: Results },
    /// Somebody else leads, if the node knows who.
    NotLeader(Option<NodeId>),
}

impl Submit {
    pub(crate) fn put(&self, out: &mut Writer) {
        out.uuid(&self.incarnation);
        out.u64(self.sequence);
        out.u32(self.wait_ms);
        out.list(self.commands.iter(), |out, command| out.blob(&command.encode()));
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            incarnation: input.uuid("an incarnation")?,
            sequence: input.u64("a sequence")?,
            wait_ms: input.u32("a time to wait")?,
            commands: input.list("commands", |input| {
                Command::decode(&input.blob("a command")?).map_err(|_| WireError::Malformed("a command"))
            })?,
        })
    }
}

impl Submitted {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        match self {
            Submitted::Done { offset, results } => {
                out.u8(0);
                out.u64(*offset);
                out.blob(&chronik_meta::encode_results(results));
            }
            Submitted::NotLeader(leader) => {
                out.u8(1);
                out.optional_node(*leader);
            }
        }
        out.finish()
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(match input.u8("an answer")? {
            0 => Submitted::Done {
                offset: input.u64("an offset")?,
                results: chronik_meta::decode_results(&input.blob("results")?)
                    .map_err(|_| WireError::Malformed("results"))?,
            },
            1 => Submitted::NotLeader(input.optional_node("a leader")?),
            _ => return Err(WireError::Malformed("an answer")),
        })
    }
}

/// A broker's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) broker_epoch: i64,
    /// The number of the last command that is in the broker's image and that its owner has heard of.
    pub(crate) offset: MetaOffset,
    /// The broker is about to stop and wants its leaderships moved.
    pub(crate) wants_shutdown: bool,
    /// The broker can serve: its logs are open.
    pub(crate) ready: bool,
}

/// What the leader says to [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    /// The registration is known.
    Known {
        /// Still, or again, taken for dead.
        fenced: bool,
        /// The leaderships have moved, and every broker knows.
        may_shut_down: bool,
    },
    /// Not known (any more): register again.
    Unknown,
    /// Somebody else leads, if the node knows who.
    NotLeader(Option<NodeId>),
}

impl Heartbeat {
    pub(crate) fn put(&self, out: &mut Writer) {
        out.i64(self.broker_epoch);
        out.u64(self.offset);
        out.flag(self.wants_shutdown);
        out.flag(self.ready);
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            broker_epoch: input.i64("a broker epoch")?,
            offset: input.u64("an offset")?,
            wants_shutdown: input.flag("a flag")?,
            ready: input.flag("a flag")?,
        })
    }
}

impl Alive {
    pub(crate) fn encode(self) -> Bytes {
        let mut out = Writer::default();
        match self {
            Alive::Known { fenced, may_shut_down } => {
                out.u8(0);
                out.flag(fenced);
                out.flag(may_shut_down);
            }
            Alive::Unknown => out.u8(1),
            Alive::NotLeader(leader) => {
                out.u8(2);
                out.optional_node(leader);
            }
        }
        out.finish()
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(match input.u8("an answer")? {
            0 => Alive::Known { fenced: input.flag("a flag")?, may_shut_down: input.flag("a flag")? },
            1 => Alive::Unknown,
            2 => Alive::NotLeader(input.optional_node("a leader")?),
            _ => return Err(WireError::Malformed("an answer")),
        })
    }
}

/// Who leads the metadata, as a node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) leader: Option<NodeId>,
    /// Raft's term, or the voter's generation.
    pub(crate) term: u64,
    /// Raised when an operator makes a follower the voter; 0 before.
    pub(crate) generation: u64,
    pub(crate) voters: Vec<(NodeId, String)>,
}

impl View {
    pub(crate) fn put(&self, out: &mut Writer) {
        out.optional_node(self.leader);
        out.u64(self.term);
        out.u64(self.generation);
        out.addresses(&self.voters);
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            leader: input.optional_node("a leader")?,
            term: input.u64("a term")?,
            generation: input.u64("a generation")?,
            voters: input.addresses("voters")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use chronik_meta::{MetaError, Reply};

    use super::*;

    /// Whole bytes are read back; of cut ones, and of more, none is.
    fn exact<T: PartialEq + std::fmt::Debug>(
        value: T,
        bytes: Bytes,
        get: impl Fn(&mut Reader) -> Result<T, WireError>,
    ) {
        for cut in 0..bytes.len() {
            assert!(read(bytes.slice(..cut), &get).is_err(), "{value:?} cut at {cut}");
        }
        let more = [bytes.as_ref(), &[0]].concat();
        assert_eq!(read(more.into(), &get), Err(WireError::Trailing(1)));
        assert_eq!(read(bytes, &get), Ok(value));
    }

    fn put(put: impl FnOnce(&mut Writer)) -> Bytes {
        let mut out = Writer::default();
        put(&mut out);
        out.finish()
    }

    fn view() -> View {
        View {
            leader: Some(3),
            term: 9,
            generation: 2,
            voters: vec![(1, "a:1".to_owned()), (3, "[::1]:2".to_owned())],
        }
    }

    #[test]
    fn requests_come_back_as_they_were() {
        let submit = Submit {
            incarnation: Uuid::from_random([1; 16]),
            sequence: 7,
            wait_ms: 5000,
            commands: vec![Command::AllocateProducerIds { count: 3 }, Command::UnregisterBroker { id: 4 }],
        };
        exact(submit.clone(), put(|out| submit.put(out)), Submit::get);
        let heartbeat = Heartbeat { broker_epoch: 12, offset: 40, wants_shutdown: true, ready: false };
        exact(heartbeat, put(|out| heartbeat.put(out)), Heartbeat::get);
        for want in [Want::Changes, Want::Snapshot, Want::Rest { offset: 5, position: 1 << 20 }] {
            let fetch = Fetch { after: 8, generation: 1, view: view(), wait_ms: 100, want };
            exact(fetch.clone(), put(|out| fetch.put(out)), Fetch::get);
        }
        for change in [Membership::Add(4, "b:1".to_owned()), Membership::Remove(2), Membership::TakeIn(3)] {
            exact(change.clone(), put(|out| change.put(out)), Membership::get);
        }
    }

    #[test]
    fn answers_come_back_as_they_were() {
        let results = vec![Ok(Reply::Registered { epoch: 5 }), Err(MetaError::NoQuorum)];
        for submitted in [Submitted::Done { offset: 5, results }, Submitted::NotLeader(Some(2))] {
            exact(submitted.clone(), submitted.encode(), Submitted::get);
        }
        for alive in
            [Alive::Known { fenced: true, may_shut_down: false }, Alive::Unknown, Alive::NotLeader(None)]
        {
            exact(alive, alive.encode(), Alive::get);
        }
        for content in [
            Content::Commands(vec![Bytes::from_static(b"one"), Bytes::new()]),
            Content::Snapshot { offset: 4, total: 10, position: 2, piece: Bytes::from_static(b"piece") },
        ] {
            let fetched =
                Fetched { cluster_id: Uuid::from_random([3; 16]), view: view(), applied: 9, content };
            exact(fetched.clone(), fetched.encode(), Fetched::get);
        }
        for role in [Role::Voter, Role::Raft, Role::Observer] {
            let probed = Probed {
                node: 2,
                incarnation: Uuid::from_random([4; 16]),
                role,
                cluster_id: Uuid::ZERO,
                has_metadata: false,
                initialized: true,
                view: view(),
            };
            exact(probed.clone(), probed.encode(), Probed::get);
        }
        for answer in [
            MembershipAnswer::Done,
            MembershipAnswer::NotLeader(Some(1)),
            MembershipAnswer::Refused("no".to_owned()),
        ] {
            exact(answer.clone(), answer.encode(), MembershipAnswer::get);
        }
    }

    #[test]
    fn a_list_promises_no_more_than_there_is() {
        let huge = put(|out| out.u32(u32::MAX));
        assert_eq!(read(huge, |input| input.addresses("voters")), Err(WireError::Short("voters")));
        assert_eq!(
            open(Bytes::from_static(&[2, 0])).err(),
            Some(WireError::Version(2)),
            "another version is named before anything else is read"
        );
    }
}
