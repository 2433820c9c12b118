//! Everything there is in one history, and the loop that lets it happen.

use std::collections::BTreeMap;

use chronik_base::{NodeId, TopicId, Uuid};
use chronik_meta::{Command, Partition};

use crate::checker::{Checker, Violation};
use crate::client::Client;
use crate::event::{Event, NodeEvent, Origin, Process, Schedule, Tp};
use crate::mutant::Mutant;
use crate::net::Net;
use crate::node::Node;
use crate::plan::Plan;
use crate::quorum::Quorum;
use crate::rng::Rng;
use crate::trace::Trace;

/// The topics; the last one is that of the group coordinator.
pub(crate) const TOPICS: [&str; 3] = ["orders", "events", "__consumer_offsets"];
/// The number of the group coordinator's topic.
pub(crate) const OFFSETS: u8 = 2;
/// `replica.lag.time.max.ms` of every broker.
pub(crate) const LAG_MS: u64 = 2_000;
/// A history ends at the latest so long after its faults did, in microseconds.
const CALM_US: u64 = 40_000_000;
/// How often it is looked whether all has come to rest, in microseconds.
const LOOK_US: u64 = 500_000;

/// One history.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) schedule: Schedule,
    pub(crate) net: Net,
    pub(crate) quorum: Quorum,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) rng: Rng,
    pub(crate) healed: bool,
    /// Batches made so far: each has a number of its own.
    pub(crate) batch_ids: u64,
    /// The partitions as they were last seen at the quorum.
    seen: BTreeMap<Tp, Partition>,
}

/// The identifier of a topic.
pub(crate) fn topic_id(topic: u8) -> TopicId {
    Uuid([topic + 1; 16])
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, mutant: Option<Mutant>, trace: bool) -> Self {
        let nodes = (1..=plan.nodes).map(|id| Node::new(id, seed)).collect();
        let mut world = Self {
            now: 0,
            mutant,
            schedule: Schedule::default(),
            net: Net::new(seed),
            quorum: Quorum::new(seed),
            nodes,
            clients: Client::all(&plan, seed),
            checker: Checker::new(&plan),
            trace: Trace::new(trace),
            rng: Rng::new(seed, 4),
            healed: false,
            batch_ids: 0,
            seen: BTreeMap::new(),
            plan,
        };
        for (at, fault) in world.plan.faults.clone() {
            world.schedule.at(at, Event::Fault(fault));
        }
        for (node, at) in (1..).zip(world.plan.starts_us.clone()) {
            world.schedule.at(at, Event::Start(node));
        }
        world.schedule.at(world.plan.heal_us, Event::Heal);
        world.schedule.at(100_000, Event::QuorumTick(1));
        world.start_clients();
        world
    }

    /// The topics, once their replicas are there.
    pub(crate) fn create_topics(&mut self) {
        let mut commands = Vec::new();
        for (topic, (name, assignments)) in (0u8..).zip(TOPICS.iter().zip(&self.plan.topics)) {
            let unclean = self.plan.unclean || self.mutant == Some(Mutant::ElectOutsideIsr);
            let min = self.plan.min_insync.get(usize::from(topic)).copied().unwrap_or(1);
            let configs = [
                ("min.insync.replicas".to_owned(), min.to_string()),
                ("unclean.leader.election.enable".to_owned(), unclean.to_string()),
            ];
            commands.push(Command::CreateTopic {
                name: (*name).to_owned(),
                id: topic_id(topic),
                created: 0,
                assignments: assignments.clone(),
                configs: configs.into(),
            });
        }
        self.submit(Origin::Nobody, commands);
    }

    /// Lets everything happen until it has come to rest; what broke a promise, if anything did.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        let outcome = self.run_to_rest();
        if let Err(violation) = &outcome {
            self.trace.line(self.now, || format!("VIOLATION {violation}"));
        }
        outcome
    }

    fn run_to_rest(&mut self) -> Result<(), Violation> {
        let mut look = self.plan.heal_us + 3_000_000;
        let end = self.plan.heal_us + CALM_US;
        while let Some((at, event)) = self.schedule.pop() {
            if at >= look {
                look += LOOK_US;
                if self.healed {
                    match self.check_rest() {
                        Ok(()) => return self.check_end(),
                        Err(restless) if at >= end => return Err(restless),
                        Err(_) => {}
                    }
                }
            }
            self.now = at;
            self.step(event);
            if let Some(violation) = self.checker.take() {
                return Err(violation);
            }
        }
        Err(Violation::at(None, "the simulation came to an end by itself".to_owned()))
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Node(process, event) => self.node_event(process, event),
            Event::Dial(process, to) => self.dial(process, to),
            Event::Silent(connection) => self.silent(connection),
            Event::Submit(origin, commands) => self.on_submit(origin, commands),
            Event::Heartbeat(process, beat) => self.on_heartbeat(process, beat),
            Event::Committed(term) => self.on_committed(term),
            Event::QuorumTick(term) => self.quorum_tick(term),
            Event::BrokerGone(node, refused) => self.on_broker_gone(node, refused),
            Event::Client(client) => self.client_next(client),
            Event::ClientTimeout(asker) => self.client_timeout(asker),
            Event::Answered(asker, reply) => self.client_answered(asker, reply),
            Event::Fault(fault) => self.begin_fault(fault),
            Event::End(fault) => self.end_fault(&fault),
            Event::Start(node) => self.start(node),
            Event::Stop(process) => self.stop_in_order(process),
            Event::Heal => self.heal(),
        }
    }

    /// An event for a process: lost if that process is gone, kept if it is paused.
    fn node_event(&mut self, process: Process, event: NodeEvent) {
        if !self.is_running(process) {
            return;
        }
        if self.node(process.node).paused {
            self.node_mut(process.node).inbox.push(event);
        } else {
            self.handle(process.node, event);
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// The process that runs, or ran last, on a node.
    pub(crate) fn process(&self, id: NodeId) -> Process {
        Process { node: id, boot: self.node(id).boot }
    }

    pub(crate) fn is_on(&self, id: NodeId) -> bool {
        self.node(id).on
    }

    pub(crate) fn is_running(&self, process: Process) -> bool {
        let node = self.node(process.node);
        node.on && node.boot == process.boot
    }

    /// Every partition of the plan.
    pub(crate) fn partitions(&self) -> Vec<Tp> {
        let topics = (0u8..).zip(&self.plan.topics);
        topics.flat_map(|(topic, of)| (0..of.len() as i32).map(move |index| Tp { topic, index })).collect()
    }

    /// A partition as the quorum has it.
    pub(crate) fn decided(&self, tp: Tp) -> Option<&Partition> {
        self.quorum.image.topic_by_id(&topic_id(tp.topic))?.partitions.get(tp.index)
    }

    /// Tells the checker and the trace what the quorum changed.
    pub(crate) fn trace_partitions(&mut self) {
        for tp in self.partitions() {
            let Some(now) = self.decided(tp).cloned() else { continue };
            let before = self.seen.get(&tp);
            if before == Some(&now) {
                continue;
            }
            if self.plan.unclean {
                let of = |p: &Partition, id| p.isr.contains(&id) || p.eligible_leaders.contains(&id);
                let unclean = now.leader != -1 && before.is_some_and(|before| !of(before, now.leader));
                if unclean {
                    self.checker.allow_loss(tp);
                }
            }
            self.trace.line(self.now, || {
                format!(
                    "{tp} leader {} epoch {} partition epoch {} replicas {:?} isr {:?} eligible {:?}",
                    now.leader,
                    now.leader_epoch,
                    now.partition_epoch,
                    now.replicas,
                    now.isr,
                    now.eligible_leaders
                )
            });
            self.seen.insert(tp, now);
        }
    }
}
