//! A broker: what it keeps on disk, what it knows, and the roles that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_base::{NodeId, Uuid};
use chronik_coordinator::{GroupCoordinator, WriteToken};
use chronik_meta::{Command, Heartbeat, Image, Partition, Reply as MetaReply, Results};
use chronik_replica::{Follower, Leader, ProposalFailure, StreamId};

use crate::event::{Asker, Connection, Event, NodeEvent, Origin, Tp};
use crate::log::SimLog;
use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::world::{World, topic_id};

/// How often a broker does what is due now and then, in microseconds.
const TICK_US: u64 = 50_000;
/// How long it waits for an answer of the quorum, in microseconds.
const SUBMIT_US: u64 = 1_200_000;

/// Who waits for an acknowledgement.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// A producer.
    Produce { asker: Asker, arrived_us: u64, all: bool, base: i64, end: i64 },
    /// The group coordinator.
    Group(WriteToken, i64, i64),
}

/// A stream to a follower.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) stream: StreamId,
    pub(crate) on: Connection,
    pub(crate) next: i64,
    pub(crate) told_high_watermark: i64,
    /// The epoch that the follower knows; the leader's, unless that was not checked.
    pub(crate) epoch: i32,
}

/// What a node is to a partition.
#[derive(Debug)]
pub(crate) enum Role {
    Leader(Leading),
    Follower(Following),
}

#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) machine: Leader<Waiter>,
    /// The leader epoch in the metadata; the machine's, unless epochs are used twice.
    pub(crate) epoch: i32,
    pub(crate) streams: BTreeMap<NodeId, Outgoing>,
}

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) machine: Follower,
    pub(crate) epoch: i32,
    pub(crate) retry_us: u64,
}

/// What a node asked the quorum for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Register,
    Isr { tp: Tp, epoch: i32, partition_epoch: i32 },
    Other,
}

/// The group coordinator on the node that leads its partition.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) machine: GroupCoordinator,
    pub(crate) epoch: i32,
    pub(crate) loaded: bool,
    /// Who asked, and the offset that is to be committed.
    pub(crate) askers: BTreeMap<u64, (Asker, i64)>,
    pub(crate) requests: u64,
}

/// One broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) rng: Rng,
    // Of the machine.
    pub(crate) machine_on: bool,
    pub(crate) logs: BTreeMap<Tp, SimLog>,
    pub(crate) checkpoints: BTreeMap<Tp, i64>,
    /// Raised when the disk is lost.
    pub(crate) disk: u32,
    pub(crate) disk_slow: bool,
    pub(crate) disk_full: bool,
    pub(crate) clock_jump_ms: i64,
    // Of the process.
    pub(crate) on: bool,
    pub(crate) boot: u64,
    pub(crate) paused: bool,
    pub(crate) inbox: Vec<NodeEvent>,
    pub(crate) term: u64,
    pub(crate) image: Arc<Image>,
    pub(crate) broker_epoch: Option<i64>,
    pub(crate) roles: BTreeMap<Tp, Role>,
    pub(crate) streams: u64,
    pub(crate) flush: Option<Vec<(Tp, i64, u64)>>,
    pub(crate) flushes: u64,
    pub(crate) wants_flush: bool,
    pub(crate) flushed_us: u64,
    pub(crate) heartbeat_us: u64,
    asked: BTreeMap<u64, (Asked, u64)>,
    /// Results for commands that this node's image does not have yet.
    early: Vec<(u64, Results, u64, u64)>,
    numbers: u64,
    pub(crate) groups: Option<Groups>,
    /// The last time that something slowed it down.
    pub(crate) disturbed_us: u64,
}

impl Node {
    pub(crate) fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            rng: Rng::new(seed, 100 + id as u64),
            machine_on: true,
            logs: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            disk: 0,
            disk_slow: false,
            disk_full: false,
            clock_jump_ms: 0,
            on: false,
            boot: 0,
            paused: false,
            inbox: Vec::new(),
            term: 0,
            image: Arc::default(),
            broker_epoch: None,
            roles: BTreeMap::new(),
            streams: 0,
            flush: None,
            flushes: 0,
            wants_flush: false,
            flushed_us: 0,
            heartbeat_us: 0,
            asked: BTreeMap::new(),
            early: Vec::new(),
            numbers: 0,
            groups: None,
            disturbed_us: 0,
        }
    }

    /// Everything that a process forgets.
    pub(crate) fn forget(&mut self) {
        self.on = false;
        self.paused = false;
        self.inbox.clear();
        self.broker_epoch = None;
        self.roles.clear();
        self.flush = None;
        self.wants_flush = false;
        self.asked.clear();
        self.early.clear();
        self.groups = None;
    }

    /// The node's partition, as its metadata has it.
    pub(crate) fn partition(&self, tp: Tp) -> Option<&Partition> {
        self.image.topic_by_id(&topic_id(tp.topic))?.partitions.get(tp.index)
    }

    /// What is known to be committed of a partition here.
    pub(crate) fn high_watermark(&self, tp: Tp) -> i64 {
        match self.roles.get(&tp) {
            Some(Role::Leader(leading)) => leading.machine.high_watermark(),
            Some(Role::Follower(following)) => following.machine.high_watermark(),
            None => self.checkpoints.get(&tp).copied().unwrap_or(0),
        }
    }

    pub(crate) fn next_stream(&mut self) -> StreamId {
        self.streams += 1;
        StreamId { broker_epoch: self.broker_epoch.unwrap_or(-1), number: self.streams }
    }
}

impl World {
    /// A process starts.
    pub(crate) fn start(&mut self, id: NodeId) {
        if self.is_on(id) {
            return;
        }
        let now = self.now;
        let node = self.node_mut(id);
        node.on = true;
        node.machine_on = true;
        node.boot += 1;
        node.disturbed_us = now;
        node.heartbeat_us = 0;
        node.logs.values_mut().for_each(SimLog::recover);
        self.trace.line(now, || format!("n{id} starts"));
        let process = self.process(id);
        for to in (1..=self.plan.nodes).filter(|to| *to != id) {
            let at = now + self.rng.about(5_000);
            self.schedule.at(at, Event::Dial(process, to));
        }
        self.schedule.at(now + self.rng.below(TICK_US), Event::Node(process, NodeEvent::Tick));
    }

    pub(crate) fn handle(&mut self, id: NodeId, event: NodeEvent) {
        match event {
            NodeEvent::Tick => self.tick(id),
            NodeEvent::Flushed(number) => self.on_disk_flushed(id, number),
            NodeEvent::Message(on, tp, body) => {
                if self.arrives(id, on, tp, &body) {
                    self.on_message(id, on, tp, body);
                }
            }
            NodeEvent::Connected(on) => self.on_connected(id, on),
            NodeEvent::Disconnected(on) => self.on_disconnected(id, on),
            NodeEvent::Refused(by) => self.on_refused(id, by),
            NodeEvent::Request(asker, tp, request) => self.on_request(id, asker, tp, request),
            NodeEvent::Image(term, image) => self.on_image(id, term, image),
            NodeEvent::Results(number, results, offset, term) => {
                self.node_mut(id).early.push((number, results, offset, term));
                self.take_results(id);
            }
            NodeEvent::RegisterAgain(epoch) => {
                let node = self.node_mut(id);
                if node.broker_epoch == Some(epoch) {
                    node.broker_epoch = None;
                }
            }
        }
    }

    fn tick(&mut self, id: NodeId) {
        let process = self.process(id);
        self.schedule.at(self.now + TICK_US, Event::Node(process, NodeEvent::Tick));
        self.keep_session(id);
        let now = self.now;
        let asked = &mut self.node_mut(id).asked;
        let late: Vec<u64> =
            asked.iter().filter(|(_, (_, at))| at + SUBMIT_US < now).map(|(number, _)| *number).collect();
        let late: Vec<Asked> =
            late.iter().filter_map(|number| asked.remove(number)).map(|(a, _)| a).collect();
        for asked in late {
            // What is asked for again takes its time again.
            self.node_mut(id).disturbed_us = now;
            self.proposal_failed(id, asked, ProposalFailure::Unknown);
        }
        for tp in self.partitions() {
            self.tick_partition(id, tp);
        }
        self.tick_groups(id);
        if now >= self.node(id).flushed_us + 300_000 {
            self.node_mut(id).wants_flush = true;
        }
        self.begin_flush(id);
    }

    fn keep_session(&mut self, id: NodeId) {
        let process = self.process(id);
        let node = self.node_mut(id);
        if let Some(epoch) = node.broker_epoch {
            if self.now >= self.node(id).heartbeat_us + 200_000 {
                self.node_mut(id).heartbeat_us = self.now;
                let offset = self.node(id).image.offset();
                self.heartbeat(process, Heartbeat { node: id, epoch, offset, ready: true });
            }
        } else if !node.asked.values().any(|(asked, _)| matches!(asked, Asked::Register)) {
            let mut incarnation = [id as u8; 16];
            incarnation[8..].copy_from_slice(&node.boot.to_be_bytes());
            let mut directory = [id as u8; 16];
            directory[12..].copy_from_slice(&node.disk.to_be_bytes());
            let command = Command::RegisterBroker {
                id,
                rack: None,
                endpoints: Vec::new(),
                incarnation: Uuid(incarnation),
                directory: Uuid(directory),
            };
            self.ask(id, Asked::Register, vec![command]);
        }
    }

    /// Gives commands to the quorum.
    pub(crate) fn ask(&mut self, id: NodeId, what: Asked, commands: Vec<Command>) {
        let process = self.process(id);
        let now = self.now;
        let node = self.node_mut(id);
        node.numbers += 1;
        let number = node.numbers;
        node.asked.insert(number, (what, now));
        self.submit(Origin::Node(process, number), commands);
    }

    fn on_image(&mut self, id: NodeId, term: u64, image: Arc<Image>) {
        let node = self.node_mut(id);
        let newer = term > node.term && image.offset() != node.image.offset()
            || term >= node.term && image.offset() > node.image.offset();
        if !newer {
            node.term = node.term.max(term);
            return self.take_results(id);
        }
        let offset = image.offset();
        node.term = term;
        node.image = image;
        self.trace.line(self.now, || format!("n{id} has metadata {offset}"));
        for tp in self.partitions() {
            self.follow_metadata(id, tp);
        }
        self.take_results(id);
    }

    /// What the quorum answered counts once this node's image has it.
    fn take_results(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let (offset, term) = (node.image.offset(), node.term);
        let (ready, early) =
            std::mem::take(&mut node.early).into_iter().partition(|r| r.2 <= offset || r.3 < term);
        node.early = early;
        let ready: Vec<(u64, Results, u64, u64)> = ready;
        for (number, results, ..) in ready {
            let Some((asked, _)) = self.node_mut(id).asked.remove(&number) else { continue };
            match (asked, results.first()) {
                (Asked::Register, Some(Ok(MetaReply::Registered { epoch }))) => {
                    self.node_mut(id).broker_epoch = Some(*epoch);
                    for tp in self.partitions() {
                        self.follow_metadata(id, tp);
                    }
                }
                (Asked::Isr { .. }, Some(Err(_))) => {
                    self.proposal_failed(id, asked, ProposalFailure::Refused);
                }
                _ => {}
            }
        }
    }

    fn proposal_failed(&mut self, id: NodeId, asked: Asked, how: ProposalFailure) {
        let Asked::Isr { tp, epoch, partition_epoch } = asked else { return };
        let now_ms = self.now / 1000;
        if let Some(Role::Leader(leading)) = self.node_mut(id).roles.get_mut(&tp)
            && leading.epoch == epoch
        {
            leading.machine.on_proposal_failed(partition_epoch, how, now_ms);
        }
    }

    /// The leader epoch as the mutant lets a node see it.
    pub(crate) fn seen_epoch(&self, epoch: i32) -> i32 {
        if self.mutant == Some(Mutant::ReuseEpoch) { epoch / 2 } else { epoch }
    }
}
