//! Clients: producers that must not lose, double or reorder anything, consumers, and groups that commit offsets.

use std::sync::Arc;

use chronik_base::{ErrorCode, NodeId, TopicId};
use chronik_coordinator as group;
use chronik_meta::Command;
use chronik_replica::EpochLog;

use crate::event::{Asker, Event, NodeEvent, Origin, Reply, Request, Tp};
use crate::groups::GROUPS;
use crate::node::Role;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::world::World;

/// A client that is not answered asks again after that, in microseconds.
const PATIENCE_US: u64 = 2_500_000;
/// So long after the faults groups go on to commit, in microseconds.
const LAST_COMMITS_US: u64 = 2_000_000;
/// Offsets that a consumer takes at once.
const READ: usize = 10;

/// What a client does.
#[derive(Debug)]
enum Kind {
    Producer {
        tp: Tp,
        all: bool,
        idempotent: bool,
        id: Option<i64>,
        sequence: i32,
        batch: Option<(u64, i64)>,
    },
    Consumer {
        positions: Vec<(Tp, i64)>,
    },
    Group {
        committing: i64,
        fetching: bool,
    },
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    rng: Rng,
    kind: Kind,
    attempt: u64,
    waiting: bool,
}

impl Client {
    pub(crate) fn all(plan: &Plan, seed: u64) -> Vec<Self> {
        let mut rng = Rng::new(seed, 5);
        let topics = (0u8..).zip(&plan.topics).take(2);
        let tps: Vec<Tp> = topics
            .flat_map(|(topic, of)| (0..of.len() as i32).map(move |index| Tp { topic, index }))
            .collect();
        let producer =
            |tp, all| Kind::Producer { tp, all, idempotent: all, id: None, sequence: 0, batch: None };
        let mut kinds = Vec::new();
        for &tp in &tps {
            kinds.extend((0..rng.between(1, 2)).map(|_| producer(tp, true)));
            if rng.chance(400) {
                kinds.push(producer(tp, false));
            }
        }
        for _ in 0..2 {
            kinds.push(Kind::Consumer { positions: tps.iter().map(|tp| (*tp, 0)).collect() });
            kinds.push(Kind::Group { committing: 0, fetching: false });
        }
        let client = |(number, kind)| {
            let rng = Rng::new(seed, 1000 + number as u64);
            Self { number, rng, kind, attempt: 0, waiting: false }
        };
        kinds.into_iter().enumerate().map(client).collect()
    }

    /// The group that the client commits for: one of its own.
    pub(crate) fn group(&self) -> usize {
        self.number
    }

    /// What it still waits for, if it waits for an acknowledgement.
    pub(crate) fn unfinished(&self) -> Option<Tp> {
        match &self.kind {
            Kind::Producer { tp, batch: Some(_), .. } => Some(*tp),
            _ => None,
        }
    }
}

impl World {
    /// Wakes every client once.
    pub(crate) fn start_clients(&mut self) {
        for client in 0..self.clients.len() {
            let at = self.now + self.rng.between(0, 300_000);
            self.schedule.at(at, Event::Client(client));
        }
    }

    fn again(&mut self, client: usize, typical_us: u64) {
        let at = self.now + self.clients[client].rng.about(typical_us);
        self.schedule.at(at, Event::Client(client));
    }

    /// The leader of a partition as some node that is up tells it.
    fn guess_leader(&mut self, client: usize, tp: Tp) -> Option<NodeId> {
        let up: Vec<NodeId> =
            self.nodes.iter().filter(|node| node.on && !node.paused).map(|n| n.id).collect();
        let asked = *self.clients[client].rng.pick(&up)?;
        let leader = self.node(asked).partition(tp)?.leader;
        (leader > 0).then_some(leader)
    }

    /// The client goes on: with something new, or once more with what it has.
    pub(crate) fn client_next(&mut self, number: usize) {
        if self.clients[number].waiting {
            return;
        }
        let client = &mut self.clients[number];
        match &mut client.kind {
            Kind::Producer { tp, all, idempotent, id, sequence, batch } => {
                if *idempotent && id.is_none() {
                    let asker = self.begin_attempt(number);
                    let command = Command::AllocateProducerIds { count: 1 };
                    return self.submit(Origin::Client(asker), vec![command]);
                }
                if batch.is_none() && self.healed {
                    return;
                }
                let (batch, count) = *batch.get_or_insert_with(|| {
                    self.batch_ids += 1;
                    (self.batch_ids, client.rng.between(1, 3) as i64)
                });
                let producer = id.map(|id| (id, *sequence));
                let request = Request::Produce { id: batch, count, producer, all: *all };
                let tp = *tp;
                self.request(number, tp, request);
            }
            Kind::Consumer { .. } => self.consume(number),
            Kind::Group { committing, fetching } => {
                if self.now > self.plan.heal_us + LAST_COMMITS_US && !*fetching {
                    return;
                }
                let request = offsets_request(number, *committing, *fetching);
                self.request(number, GROUPS, Request::Group(request));
            }
        }
    }

    fn begin_attempt(&mut self, number: usize) -> Asker {
        let client = &mut self.clients[number];
        client.attempt += 1;
        client.waiting = true;
        let asker = Asker { client: number, attempt: client.attempt };
        self.schedule.at(self.now + PATIENCE_US, Event::ClientTimeout(asker));
        asker
    }

    fn request(&mut self, number: usize, tp: Tp, request: Request) {
        let Some(leader) = self.guess_leader(number, tp) else { return self.again(number, 60_000) };
        let asker = self.begin_attempt(number);
        let rng = &mut self.clients[number].rng;
        let (delay, lost) = (rng.about(500), rng.chance(5));
        let process = self.process(leader);
        if lost || !self.is_on(leader) {
            // A refused connection is known at once, a lost request by the time that passes.
            if !lost {
                self.clients[number].waiting = false;
                self.again(number, 40_000);
            }
            return;
        }
        self.schedule.at(self.now + delay, Event::Node(process, NodeEvent::Request(asker, tp, request)));
    }

    /// A node answers a client; some answers are lost.
    pub(crate) fn answer(&mut self, id: NodeId, asker: Asker, reply: Reply) {
        let rng = &mut self.node_mut(id).rng;
        let (delay, lost) = (rng.about(500), rng.chance(5));
        if !lost {
            self.schedule.at(self.now + delay, Event::Answered(asker, reply));
        }
    }

    pub(crate) fn client_timeout(&mut self, asker: Asker) {
        let client = &mut self.clients[asker.client];
        if client.waiting && client.attempt == asker.attempt {
            client.waiting = false;
            self.give_up_unrepeatable(asker.client);
            self.client_next(asker.client);
        }
    }

    /// A producer that is not idempotent goes on with something else, or the record may be there twice.
    fn give_up_unrepeatable(&mut self, number: usize) {
        if let Kind::Producer { idempotent: false, batch, .. } = &mut self.clients[number].kind {
            *batch = None;
        }
    }

    pub(crate) fn client_answered(&mut self, asker: Asker, reply: Reply) {
        let number = asker.client;
        let client = &mut self.clients[number];
        if !client.waiting || client.attempt != asker.attempt {
            return;
        }
        client.waiting = false;
        match (&mut client.kind, reply) {
            (Kind::Producer { id, sequence, .. }, Reply::ProducerId(Some(new))) => {
                (*id, *sequence) = (Some(new), 0);
                self.checker.on_producer_id(new);
                self.again(number, 1_000);
            }
            (Kind::Producer { sequence, batch, .. }, Reply::Produced(Ok(()))) => {
                *sequence += 1;
                *batch = None;
                self.again(number, 8_000);
            }
            (Kind::Producer { tp, id, .. }, Reply::Produced(Err(ErrorCode::OutOfOrderSequenceNumber))) => {
                if self.checker.may_lose(*tp) {
                    *id = None;
                }
                self.again(number, 40_000);
            }
            (Kind::Group { committing, fetching }, Reply::Group(response)) => {
                match response {
                    group::Response::OffsetCommit(done) => {
                        let mut errors = done.topics.iter().flat_map(|topic| &topic.partitions);
                        if errors.all(|(_, error)| *error == ErrorCode::None) {
                            *committing += 1;
                            *fetching = client.rng.chance(400);
                        }
                    }
                    _ => *fetching = false,
                }
                self.again(number, 25_000);
            }
            _ => {
                self.give_up_unrepeatable(number);
                self.again(number, 40_000);
            }
        }
    }

    /// Reads at the leader or at any other replica, up to what is committed there.
    fn consume(&mut self, number: usize) {
        self.again(number, 30_000);
        let Kind::Consumer { positions } = &self.clients[number].kind else { return };
        let positions = positions.clone();
        for (at, (tp, position)) in positions.into_iter().enumerate() {
            let up: Vec<_> = self.nodes.iter().filter(|node| node.on && !node.paused).map(|n| n.id).collect();
            let Some(&id) = self.clients[number].rng.pick(&up) else { return };
            let node = &self.nodes[id as usize - 1];
            let (Some(role), Some(log)) = (node.roles.get(&tp), node.logs.get(&tp)) else { continue };
            let committed = match role {
                Role::Leader(leading) => leading.machine.high_watermark(),
                Role::Follower(following) => following.machine.high_watermark(),
            };
            let mut next = position.max(log.log_start());
            for batch in log.from(next).iter().take_while(|batch| batch.end() <= committed).take(READ) {
                self.checker.on_read(tp, id, batch);
                next = batch.end();
            }
            if let Kind::Consumer { positions } = &mut self.clients[number].kind
                && let Some(position) = positions.get_mut(at)
            {
                position.1 = next;
            }
        }
    }
}

/// Commits an offset for the group of its own, or asks for it.
fn offsets_request(number: usize, committing: i64, fetching: bool) -> group::Request {
    let group_id: Arc<str> = format!("group-{number}").into();
    let topic: Arc<str> = crate::world::TOPICS[0].into();
    if fetching {
        return group::Request::OffsetFetch(group::OffsetFetchRequest {
            group_id,
            topics: Some(vec![group::TopicPartitions {
                topic,
                topic_id: TopicId::ZERO,
                partitions: vec![0],
            }]),
            require_stable: false,
        });
    }
    let offset =
        group::OffsetCommitPartition { partition: 0, offset: committing, leader_epoch: -1, metadata: None };
    let topic = group::OffsetCommitTopic { topic, topic_id: TopicId::ZERO, partitions: vec![offset] };
    group::Request::OffsetCommit(group::OffsetCommitRequest {
        api_version: 8,
        group_id,
        generation: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        topics: vec![topic],
    })
}
