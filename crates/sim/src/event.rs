//! What can happen, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_base::{ErrorCode, NodeId};
use chronik_coordinator as group;
use chronik_meta::{Command, Heartbeat, Image, Results};
use chronik_replica::{Ack, Answer, Append, StreamId, Subscription};

use crate::log::Batch;
use crate::plan::Fault;

/// A partition: the number of its topic in `crate::world::TOPICS`, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tp {
    /// The topic.
    pub topic: u8,
    /// The partition.
    pub index: i32,
}

impl std::fmt::Display for Tp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}-{}", self.topic, self.index)
    }
}

/// The process that an event is for. Of an earlier one, the event is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The node.
    pub node: NodeId,
    /// Raised with each start.
    pub boot: u64,
}

/// A connection: who dialled whom, and the how manieth it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who dialled.
    pub from: NodeId,
    /// Who was dialled.
    pub to: NodeId,
    /// Its number.
    pub number: u64,
}

/// What nodes say to each other.
#[derive(Clone, Debug)]
pub enum Body {
    /// A follower asks for a stream.
    Subscribe(Subscription),
    /// The leader's answer.
    Answer(StreamId, Answer),
    /// Batches, and whether somebody waits for their flush.
    Append(Append, Vec<Arc<Batch>>, bool),
    /// A follower has flushed.
    Ack(Ack),
    /// A follower's disk takes nothing of the stream.
    Unable(StreamId),
}

/// What a client asks a node for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Append a batch.
    Produce {
        /// What it is.
        id: u64,
        /// How many records.
        count: i64,
        /// Producer id and sequence.
        producer: Option<(i64, i32)>,
        /// Wait for the ISR, else for the leader.
        all: bool,
    },
    /// A request to the group's coordinator.
    Group(group::Request),
}

/// What a client is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Request::Produce`].
    Produced(Result<(), ErrorCode>),
    /// To [`Request::Group`].
    Group(group::Response),
    /// From the quorum: the first of the producer ids asked for.
    ProducerId(Option<i64>),
}

/// Who asked: a client's number and the number of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The client.
    pub client: usize,
    /// The attempt.
    pub attempt: u64,
}

/// Who gave commands to the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A node, under that number.
    Node(Process, u64),
    /// A client.
    Client(Asker),
    /// Nobody waits.
    Nobody,
}

/// An event at a node's process.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// Time for what is due now and then.
    Tick,
    /// The disk is done with the flush of that number.
    Flushed(u64),
    /// Something arrived on a connection.
    Message(Connection, Tp, Body),
    /// A connection is there.
    Connected(Connection),
    /// A connection is gone.
    Disconnected(Connection),
    /// Nobody listens at the node that was dialled.
    Refused(NodeId),
    /// A client asks.
    Request(Asker, Tp, Request),
    /// Metadata arrived, of that term of the quorum's leader.
    Image(u64, Arc<Image>),
    /// Commands were decided on; the number of the last command by then, and the term.
    Results(u64, Results, u64, u64),
    /// The quorum does not know the broker's epoch.
    RegisterAgain(i64),
}

/// Anything that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// At a node.
    Node(Process, NodeEvent),
    /// A connection attempt.
    Dial(Process, NodeId),
    /// A connection has been silent for too long because of a cut, if there still is one.
    Silent(Connection),
    /// Commands arrived at the quorum.
    Submit(Origin, Vec<Command>),
    /// A heartbeat arrived at the quorum.
    Heartbeat(Process, Heartbeat),
    /// The quorum's leader of that term has made what it has durable.
    Committed(u64),
    /// Time for the quorum's leader to look at sessions.
    QuorumTick(u64),
    /// The quorum hears that a broker's connection broke, or (true) that nobody listens there.
    BrokerGone(NodeId, bool),
    /// A client is to go on.
    Client(usize),
    /// A client's attempt has taken too long.
    ClientTimeout(Asker),
    /// A client is answered.
    Answered(Asker, Reply),
    /// A fault begins.
    Fault(Fault),
    /// A process starts.
    Start(NodeId),
    /// A process stops in order.
    Stop(Process),
    /// A fault ends.
    End(Fault),
    /// All faults end, for good.
    Heal,
}

/// Events in the order of time, and of their making within one moment.
#[derive(Debug, Default)]
pub struct Schedule {
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
}

impl Schedule {
    /// Has `event` happen at `at_us`.
    pub fn at(&mut self, at_us: u64, event: Event) {
        self.made += 1;
        self.events.insert((at_us, self.made), event);
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
