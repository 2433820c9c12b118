//! Connections between nodes: in order while they live, and what they still deliver when they are dead.

use std::collections::{BTreeMap, BTreeSet};

use chronik_base::NodeId;

use crate::event::{Body, Connection, Event, NodeEvent, Process, Tp};
use crate::rng::Rng;
use crate::world::World;

/// One pair's connection; the dialler is first in its key.
#[derive(Debug, Default)]
struct Link {
    up: bool,
    number: u64,
    /// When the last message arrives, to the one that was dialled and to the dialler: later ones come later.
    last_us: [u64; 2],
    /// What a cut holds back.
    held: Vec<(NodeId, Tp, Body)>,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    rng: Rng,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// How often each direction is cut, as cuts overlap.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    slow: BTreeSet<(NodeId, NodeId)>,
    numbers: u64,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, 2),
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            slow: BTreeSet::new(),
            numbers: 0,
        }
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|count| *count > 0)
    }

    fn delay(&mut self, from: NodeId, to: NodeId) -> u64 {
        let typical = if self.slow.contains(&(from, to)) { 120_000 } else { 400 };
        self.rng.about(typical)
    }

    /// The connection that `dialler` made to `to`, if it is there.
    pub(crate) fn connection(&self, dialler: NodeId, to: NodeId) -> Option<Connection> {
        let link = self.links.get(&(dialler, to)).filter(|link| link.up)?;
        Some(Connection { from: dialler, to, number: link.number })
    }
}

impl World {
    /// Sends on a connection, if it still is there.
    pub(crate) fn send(&mut self, sender: NodeId, on: Connection, tp: Tp, body: Body) {
        let receiver = if on.from == sender { on.to } else { on.from };
        let delay = self.net.delay(sender, receiver);
        let cut = self.net.is_cut(sender, receiver);
        let Some(link) = self.net.links.get_mut(&(on.from, on.to)) else { return };
        if !link.up || link.number != on.number {
            return;
        }
        if cut || !link.held.is_empty() {
            link.held.push((sender, tp, body));
            return;
        }
        let last = &mut link.last_us[usize::from(sender == on.to)];
        *last = (*last + 1).max(self.now + delay);
        let at = *last;
        self.deliver(at, receiver, on, tp, body);
    }

    fn deliver(&mut self, at: u64, receiver: NodeId, on: Connection, tp: Tp, body: Body) {
        let process = self.process(receiver);
        self.schedule.at(at, Event::Node(process, NodeEvent::Message(on, tp, body)));
    }

    /// What a dead connection had under way: lost, late, or twice.
    fn deliver_late(&mut self, receiver: NodeId, on: Connection, tp: Tp, body: Body) {
        for _ in 0..self.net.rng.below(3) {
            let at = self.now + self.net.rng.about(400_000);
            self.deliver(at, receiver, on, tp, body.clone());
        }
    }

    /// A message arrived: whether it comes through. One of a connection that broke meanwhile may be lost or come later.
    pub(crate) fn arrives(&mut self, receiver: NodeId, on: Connection, tp: Tp, body: &Body) -> bool {
        if self.net.connection(on.from, on.to) == Some(on) {
            return true;
        }
        match self.net.rng.below(4) {
            0 => true,
            1 | 2 => {
                let at = self.now + self.net.rng.about(300_000);
                self.deliver(at, receiver, on, tp, body.clone());
                false
            }
            _ => false,
        }
    }

    pub(crate) fn dial(&mut self, process: Process, to: NodeId) {
        let from = process.node;
        if !self.is_running(process) || self.net.connection(from, to).is_some() {
            return;
        }
        let again = self.now + self.net.rng.about(120_000);
        let passes = !self.net.is_cut(from, to) && !self.net.is_cut(to, from);
        if !passes || !self.is_on(to) {
            if passes && self.node(to).machine_on && self.net.rng.chance(700) {
                let at = self.now + self.net.delay(to, from);
                self.schedule.at(at, Event::Node(process, NodeEvent::Refused(to)));
            }
            self.schedule.at(again, Event::Dial(process, to));
            return;
        }
        self.net.numbers += 1;
        let number = self.net.numbers;
        let last_us = [self.now; 2];
        self.net.links.insert((from, to), Link { up: true, number, last_us, held: Vec::new() });
        let connection = Connection { from, to, number };
        for end in [from, to] {
            let at = self.now + self.net.delay(from, to);
            let process = self.process(end);
            self.schedule.at(at, Event::Node(process, NodeEvent::Connected(connection)));
        }
    }

    /// A connection breaks; each end hears of it in its time.
    fn break_link(&mut self, key: (NodeId, NodeId), slowly: bool) {
        let Some(link) = self.net.links.get_mut(&key).filter(|link| link.up) else { return };
        link.up = false;
        let connection = Connection { from: key.0, to: key.1, number: link.number };
        for (sender, tp, body) in std::mem::take(&mut link.held) {
            let receiver = if sender == key.0 { key.1 } else { key.0 };
            self.deliver_late(receiver, connection, tp, body);
        }
        for end in [key.0, key.1] {
            let typical = if slowly { 500_000 } else { 3_000 };
            let at = self.now + self.net.rng.about(typical);
            let process = self.process(end);
            self.schedule.at(at, Event::Node(process, NodeEvent::Disconnected(connection)));
        }
        let process = self.process(key.0);
        let at = self.now + self.net.rng.about(100_000);
        self.schedule.at(at, Event::Dial(process, key.1));
    }

    /// Every connection of a node breaks: `slowly` where its machine can't say so.
    pub(crate) fn break_links_of(&mut self, node: NodeId, slowly: bool) {
        let keys: Vec<_> = self.net.links.keys().filter(|(a, b)| *a == node || *b == node).copied().collect();
        for key in keys {
            self.break_link(key, slowly);
        }
    }

    pub(crate) fn reset_links(&mut self, a: NodeId, b: NodeId) {
        self.break_link((a, b), false);
        self.break_link((b, a), false);
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        *self.net.cuts.entry((from, to)).or_default() += 1;
        for key in [(from, to), (to, from)] {
            if let Some(connection) = self.net.connection(key.0, key.1) {
                let at = self.now + self.net.rng.about(500_000);
                self.schedule.at(at, Event::Silent(connection));
            }
        }
    }

    pub(crate) fn mend(&mut self, from: NodeId, to: NodeId) {
        if let Some(count) = self.net.cuts.get_mut(&(from, to)) {
            *count = count.saturating_sub(1);
        }
        if self.net.is_cut(from, to) {
            return;
        }
        for key in [(from, to), (to, from)] {
            let Some(link) = self.net.links.get_mut(&key).filter(|link| link.up) else { continue };
            let connection = Connection { from: key.0, to: key.1, number: link.number };
            let held = std::mem::take(&mut link.held);
            for (sender, tp, body) in held {
                self.send(sender, connection, tp, body);
            }
        }
    }

    pub(crate) fn mend_all(&mut self) {
        let cuts: Vec<_> = self.net.cuts.keys().copied().collect();
        for (from, to) in cuts {
            if let Some(count) = self.net.cuts.get_mut(&(from, to)) {
                *count = (*count).min(1);
            }
            self.mend(from, to);
        }
        self.net.slow.clear();
    }

    pub(crate) fn set_slow(&mut self, from: NodeId, to: NodeId, slow: bool) {
        if slow {
            self.net.slow.insert((from, to));
        } else {
            self.net.slow.remove(&(from, to));
        }
    }

    /// A connection over a cut has been silent for long.
    pub(crate) fn silent(&mut self, on: Connection) {
        let still = self.net.connection(on.from, on.to) == Some(on);
        if still && (self.net.is_cut(on.from, on.to) || self.net.is_cut(on.to, on.from)) {
            self.break_link((on.from, on.to), true);
        }
    }
}
