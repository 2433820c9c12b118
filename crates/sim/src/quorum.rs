//! The metadata quorum as a linearizable register: commands are decided on one after the other, are durable before anybody hears of them, and
//! take their time. It can be out of order, and led by another node from one moment to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronik_base::NodeId;
use chronik_meta::{Command, Heartbeat, Image, MetaError, Reply as MetaReply, Results, Sessions};

use crate::event::{Asker, Event, NodeEvent, Origin, Process, Reply};
use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::world::World;

/// How long a broker may be silent, in milliseconds.
const SESSION_MS: u64 = 1_500;

/// The register.
#[derive(Debug)]
pub(crate) struct Quorum {
    pub(crate) rng: Rng,
    pub(crate) image: Arc<Image>,
    /// What is durable; the same as `image` unless the quorum answers too early.
    durable: Arc<Image>,
    pub(crate) term: u64,
    pub(crate) up: bool,
    sessions: Sessions,
    pending: Vec<(Origin, Vec<Command>)>,
    committing: bool,
    /// Whom the quorum does not hear, and who does not hear it.
    pub(crate) unheard: BTreeSet<NodeId>,
    pub(crate) deaf: BTreeSet<NodeId>,
    pub(crate) slow: BTreeSet<NodeId>,
    /// How late some brokers hear of it, in microseconds.
    pub(crate) late: BTreeMap<NodeId, u64>,
    /// The last image that each broker said it has.
    has: BTreeMap<NodeId, u64>,
    /// The last time that it was out of order.
    pub(crate) disturbed_us: u64,
}

impl Quorum {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, 3),
            image: Arc::default(),
            durable: Arc::default(),
            term: 1,
            up: true,
            sessions: Sessions::new(SESSION_MS, 0),
            pending: Vec::new(),
            committing: false,
            unheard: BTreeSet::new(),
            deaf: BTreeSet::new(),
            slow: BTreeSet::new(),
            late: BTreeMap::new(),
            has: BTreeMap::new(),
            disturbed_us: 0,
        }
    }

    fn delay_to(&mut self, node: NodeId) -> u64 {
        let typical = if self.slow.contains(&node) { 700_000 } else { 3_000 };
        let delay = self.rng.about(typical);
        self.late.get(&node).copied().unwrap_or(delay)
    }
}

impl World {
    /// Commands go to the quorum; now and then they are lost, or arrive twice.
    pub(crate) fn submit(&mut self, origin: Origin, commands: Vec<Command>) {
        if let Origin::Node(process, _) = origin
            && self.quorum.unheard.contains(&process.node)
        {
            return;
        }
        let copies = match self.quorum.rng.below(100) {
            0..3 => 0,
            3..7 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = self.now + self.quorum.rng.about(3_000);
            self.schedule.at(at, Event::Submit(origin, commands.clone()));
        }
    }

    pub(crate) fn on_submit(&mut self, origin: Origin, commands: Vec<Command>) {
        if !self.quorum.up {
            return;
        }
        self.quorum.pending.push((origin, commands));
        if self.mutant == Some(Mutant::AnswerBeforeDurable) {
            self.decide();
        }
        self.begin_commit();
    }

    fn begin_commit(&mut self) {
        if !self.quorum.committing && self.quorum.up {
            self.quorum.committing = true;
            let at = self.now + self.quorum.rng.about(4_000);
            self.schedule.at(at, Event::Committed(self.quorum.term));
        }
    }

    pub(crate) fn on_committed(&mut self, term: u64) {
        if term != self.quorum.term || !self.quorum.up {
            return;
        }
        self.quorum.committing = false;
        self.decide();
        self.quorum.durable = self.quorum.image.clone();
    }

    /// Applies what is pending, tells who asked, and has the brokers hear of it.
    fn decide(&mut self) {
        let before = self.quorum.image.clone();
        for (origin, commands) in std::mem::take(&mut self.quorum.pending) {
            let results = self.apply(&commands);
            self.answer_origin(origin, results);
        }
        if before.offset() != self.quorum.image.offset() {
            self.publish();
        }
    }

    fn apply(&mut self, commands: &[Command]) -> Results {
        let mut results = Vec::new();
        for command in commands {
            let result = self.quorum.image.check(command);
            let result = result.map(|()| {
                let mut next = (*self.quorum.image).clone();
                let reply = next.apply(command);
                self.quorum.image = Arc::new(next);
                reply
            });
            let image = &self.quorum.image;
            self.trace.line(self.now, || match &result {
                Ok(_) => format!("quorum {} {command:?}", image.offset()),
                Err(error) => format!("quorum refuses {command:?}: {error}"),
            });
            results.push(result);
        }
        self.trace_partitions();
        results
    }

    fn answer_origin(&mut self, origin: Origin, results: Results) {
        match origin {
            Origin::Node(process, number) => {
                if !self.quorum.deaf.contains(&process.node) && !self.quorum.rng.chance(15) {
                    let at = self.now + self.quorum.delay_to(process.node);
                    let (offset, term) = (self.quorum.image.offset(), self.quorum.term);
                    let event = NodeEvent::Results(number, results, offset, term);
                    self.schedule.at(at, Event::Node(process, event));
                }
            }
            Origin::Client(asker) => {
                let first = match results.first() {
                    Some(Ok(MetaReply::ProducerIds { first, .. })) => Some(*first),
                    _ => None,
                };
                self.answer_client(asker, Reply::ProducerId(first));
            }
            Origin::Nobody => {}
        }
    }

    fn answer_client(&mut self, asker: Asker, reply: Reply) {
        let at = self.now + self.quorum.rng.about(2_000);
        self.schedule.at(at, Event::Answered(asker, reply));
    }

    fn publish(&mut self) {
        for node in 1..=self.plan.nodes {
            self.publish_to(node);
        }
    }

    fn publish_to(&mut self, node: NodeId) {
        if self.is_on(node) && !self.quorum.deaf.contains(&node) {
            let at = self.now + self.quorum.delay_to(node);
            let event = NodeEvent::Image(self.quorum.term, self.quorum.image.clone());
            let process = self.process(node);
            self.schedule.at(at, Event::Node(process, event));
        }
    }

    pub(crate) fn heartbeat(&mut self, process: Process, beat: Heartbeat) {
        if !self.quorum.unheard.contains(&process.node) && !self.quorum.rng.chance(10) {
            let at = self.now + self.quorum.rng.about(2_000);
            self.schedule.at(at, Event::Heartbeat(process, beat));
        }
    }

    pub(crate) fn on_heartbeat(&mut self, process: Process, beat: Heartbeat) {
        if !self.quorum.up {
            return;
        }
        self.quorum.has.insert(beat.node, beat.offset);
        let image = self.quorum.image.clone();
        match self.quorum.sessions.on_heartbeat(&image, &beat, self.now / 1000) {
            Ok(Some(command)) => self.on_submit(Origin::Nobody, vec![command]),
            Ok(None) => {}
            Err(MetaError::StaleBrokerEpoch { .. }) => {
                let at = self.now + self.quorum.delay_to(process.node);
                self.schedule.at(at, Event::Node(process, NodeEvent::RegisterAgain(beat.epoch)));
            }
            Err(_) => {}
        }
        if beat.offset < image.offset() {
            self.publish_to(beat.node);
        }
    }

    pub(crate) fn quorum_tick(&mut self, term: u64) {
        if term != self.quorum.term {
            return;
        }
        self.schedule.at(self.now + 100_000, Event::QuorumTick(term));
        if self.quorum.up {
            let image = self.quorum.image.clone();
            let here = |node: &NodeId| image.broker(*node).is_some_and(|broker| broker.may_lead());
            if image.topic_count() < self.plan.topics.len()
                && self.plan.topics.iter().flatten().flatten().all(here)
            {
                self.create_topics();
            }
            let commands = self.quorum.sessions.tick(&image, self.now / 1000);
            if !commands.is_empty() {
                self.on_submit(Origin::Nobody, commands);
            }
        }
    }

    /// A broker's process went: the quorum's connection to it breaks, and dialling it is refused if its machine is there to refuse.
    pub(crate) fn broker_gone(&mut self, node: NodeId, machine_on: bool) {
        let at = self.now + self.quorum.rng.about(10_000);
        self.schedule.at(at, Event::BrokerGone(node, false));
        if machine_on && self.quorum.rng.chance(700) {
            self.schedule.at(at + 40_000, Event::BrokerGone(node, true));
        }
    }

    pub(crate) fn on_broker_gone(&mut self, node: NodeId, refused: bool) {
        if refused && !self.is_on(node) {
            self.quorum.sessions.on_refused(node);
        } else if !refused {
            self.quorum.sessions.on_disconnected(node, self.now / 1000);
        }
    }

    /// Another node leads the quorum. What was under way is decided on without an answer, or is lost.
    pub(crate) fn quorum_failover(&mut self) {
        self.quorum.term += 1;
        self.quorum.committing = false;
        self.quorum.disturbed_us = self.now;
        self.quorum.sessions = Sessions::new(SESSION_MS, self.now / 1000);
        if self.mutant == Some(Mutant::AnswerBeforeDurable) {
            self.quorum.image = self.quorum.durable.clone();
        }
        for (_, commands) in std::mem::take(&mut self.quorum.pending) {
            if self.quorum.rng.chance(500) {
                self.apply(&commands);
            }
        }
        self.quorum.durable = self.quorum.image.clone();
        self.publish();
        self.schedule.at(self.now + 100_000, Event::QuorumTick(self.quorum.term));
    }

    pub(crate) fn quorum_up(&mut self, up: bool) {
        self.quorum.disturbed_us = self.now;
        if !up && self.quorum.up {
            self.quorum.up = false;
            self.quorum_failover();
        } else if up && !self.quorum.up {
            self.quorum.up = true;
            self.quorum.sessions = Sessions::new(SESSION_MS, self.now / 1000);
        }
    }
}
