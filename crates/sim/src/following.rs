//! A follower: its subscription, what it takes, and what it says.

use std::sync::Arc;

use chronik_base::NodeId;
use chronik_replica::{
    Ack, Answer, Append, EpochLog, Follower, FollowerAction, FollowerError, FollowerState, StreamId,
};

use crate::event::{Body, Connection, Tp};
use crate::log::Batch;
use crate::mutant::Mutant;
use crate::node::{Following, Role};
use crate::world::World;

/// A subscription without an answer is made again after that, in microseconds.
const ANSWER_US: u64 = 1_000_000;

impl World {
    fn following(&mut self, id: NodeId, tp: Tp) -> Option<&mut Following> {
        match self.node_mut(id).roles.get_mut(&tp) {
            Some(Role::Follower(following)) => Some(following),
            _ => None,
        }
    }

    /// Asks the leader for a stream, where there is a connection to it.
    pub(crate) fn subscribe(&mut self, id: NodeId, tp: Tp) {
        let now = self.now;
        let full = self.node(id).disk_full;
        let Some(following) = self.following(id, tp) else { return };
        let leader = following.machine.leader();
        following.retry_us = now + ANSWER_US;
        let Some(on) = self.net.connection(id, leader) else { return };
        let stream = self.node_mut(id).next_stream();
        // A leader that has this replica in sync again would wait for it.
        if full {
            return self.send(id, on, tp, Body::Unable(stream));
        }
        let node = self.node_mut(id);
        let (Some(Role::Follower(following)), Some(log)) = (node.roles.get_mut(&tp), node.logs.get(&tp))
        else {
            return;
        };
        let asked = following.machine.subscribe(stream, log, log.flushed());
        self.trace.line(now, || format!("n{id} asks n{leader} {tp} {asked:?}"));
        self.send(id, on, tp, Body::Subscribe(asked));
    }

    pub(crate) fn on_message(&mut self, id: NodeId, on: Connection, tp: Tp, body: Body) {
        let from = if on.from == id { on.to } else { on.from };
        match body {
            Body::Subscribe(asked) => self.on_subscribe(id, from, on, tp, asked),
            Body::Ack(ack) => self.on_ack(id, from, tp, ack),
            Body::Unable(stream) => self.on_unable(id, from, tp, stream),
            Body::Answer(stream, answer) => self.on_answer(id, tp, stream, answer),
            Body::Append(append, batches, flush) => self.on_append(id, from, tp, append, batches, flush),
        }
    }

    fn on_answer(&mut self, id: NodeId, tp: Tp, stream: StreamId, answer: Answer) {
        let now = self.now;
        let node = self.node_mut(id);
        let (Some(Role::Follower(following)), Some(log)) = (node.roles.get_mut(&tp), node.logs.get_mut(&tp))
        else {
            return;
        };
        let before = following.machine.high_watermark();
        let Ok(action) = following.machine.on_answer(stream, answer, log) else { return };
        match action {
            FollowerAction::TruncateTo(end) => log.truncate(end),
            FollowerAction::ResetTo(start) => log.reset(start),
            FollowerAction::Stream => {
                let ack = following.machine.ack();
                self.after_following(id, tp, before);
                if let Some(ack) = ack {
                    self.acknowledge(id, tp, ack);
                }
                return;
            }
            FollowerAction::Refused(_) => {
                following.retry_us = now + 100_000;
                return;
            }
        }
        self.trace.line(now, || format!("n{id} {tp} {action:?}"));
        self.subscribe(id, tp);
    }

    fn on_append(
        &mut self,
        id: NodeId,
        from: NodeId,
        tp: Tp,
        mut append: Append,
        batches: Vec<Arc<Batch>>,
        flush: bool,
    ) {
        let now = self.now;
        let mutant = self.mutant;
        let node = self.node_mut(id);
        let full = node.disk_full;
        let (Some(Role::Follower(following)), Some(log)) = (node.roles.get_mut(&tp), node.logs.get_mut(&tp))
        else {
            return;
        };
        let machine = &mut following.machine;
        if mutant == Some(Mutant::AppendEpochUnchecked)
            && let Some(stream) = machine.stream().filter(|_| machine.state() == FollowerState::Streaming)
        {
            append.epoch = machine.epoch();
            append.stream = stream;
        }
        let before = machine.high_watermark();
        if full && !batches.is_empty() {
            let over = machine.stream().map(|stream| (machine.leader(), stream));
            machine.on_disconnected();
            following.retry_us = now + 200_000;
            if let Some((leader, stream)) = over
                && let Some(on) = self.net.connection(id, leader)
            {
                self.send(id, on, tp, Body::Unable(stream));
            }
            return;
        }
        match machine.on_append(&append) {
            Ok(()) => {}
            Err(FollowerError::Gap { .. }) => return self.subscribe(id, tp),
            Err(_) => return,
        }
        for batch in batches {
            log.append(batch);
        }
        log.delete_below(append.log_start.min(before));
        node.wants_flush |= flush;
        let ack = match mutant {
            Some(Mutant::AckBeforeFlush) => machine.on_flushed(log.log_end()),
            _ => None,
        };
        self.trace.line(now, || format!("n{id} takes from n{from} {tp} {append:?}"));
        self.after_following(id, tp, before);
        if let Some(ack) = ack {
            self.acknowledge(id, tp, ack);
        }
        self.begin_flush(id);
    }

    fn after_following(&mut self, id: NodeId, tp: Tp, before: i64) {
        let now = self.node(id).high_watermark(tp);
        if now > before
            && let Some(log) = self.nodes[id as usize - 1].logs.get(&tp)
        {
            self.checker.on_committed(tp, id, log, before, now);
        }
    }

    pub(crate) fn acknowledge(&mut self, id: NodeId, tp: Tp, ack: Ack) {
        let Some(leader) = self.following(id, tp).map(|following| following.machine.leader()) else { return };
        if let Some(on) = self.net.connection(id, leader) {
            self.send(id, on, tp, Body::Ack(ack));
        }
    }

    pub(crate) fn tick_partition(&mut self, id: NodeId, tp: Tp) {
        match self.node(id).roles.get(&tp) {
            Some(Role::Leader(_)) => self.tick_leader(id, tp),
            Some(Role::Follower(Following { machine, retry_us, .. }))
                if machine.state() != FollowerState::Streaming && *retry_us <= self.now =>
            {
                self.subscribe(id, tp);
            }
            _ => {}
        }
    }

    pub(crate) fn on_connected(&mut self, id: NodeId, on: Connection) {
        for tp in self.partitions() {
            let waits = |following: &&mut Following| {
                on.from == id
                    && following.machine.leader() == on.to
                    && following.machine.state() != FollowerState::Streaming
            };
            if self.following(id, tp).filter(waits).is_some() {
                self.subscribe(id, tp);
            }
        }
    }

    pub(crate) fn on_disconnected(&mut self, id: NodeId, on: Connection) {
        let now_ms = self.now / 1000;
        for tp in self.partitions() {
            match self.node_mut(id).roles.get_mut(&tp) {
                Some(Role::Follower(following)) if on.from == id && following.machine.leader() == on.to => {
                    // A newer connection may have been made before the end of this one was heard of.
                    Follower::on_disconnected(&mut following.machine);
                    following.retry_us = 0;
                }
                Some(Role::Leader(leading)) if on.to == id => {
                    let stream = leading.streams.get(&on.from).filter(|s| s.on == on).map(|s| s.stream);
                    if let Some(stream) = stream {
                        leading.streams.remove(&on.from);
                        leading.machine.on_follower_disconnected(on.from, stream, now_ms);
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn on_refused(&mut self, id: NodeId, by: NodeId) {
        let now_ms = self.now / 1000;
        for tp in self.partitions() {
            if let Some(leading) = self.leading(id, tp) {
                leading.machine.on_follower_refused(by, now_ms);
                self.propose(id, tp);
            }
        }
    }
}

impl World {
    /// The node's disk begins to flush all that is written, if somebody wants it and it is not at it.
    pub(crate) fn begin_flush(&mut self, id: NodeId) {
        let now = self.now;
        let process = self.process(id);
        let node = self.node_mut(id);
        if !node.wants_flush || node.flush.is_some() {
            return;
        }
        node.wants_flush = false;
        node.flushed_us = now;
        let dirty = node.logs.iter().filter(|(_, log)| log.flushed() < log.log_end());
        let dirty: Vec<_> = dirty.map(|(tp, log)| (*tp, log.log_end(), log.cuts)).collect();
        if dirty.is_empty() {
            return;
        }
        node.flush = Some(dirty);
        node.flushes += 1;
        let typical = if node.disk_slow { 300_000 } else { 1_500 };
        let at = now + node.rng.about(typical);
        let event = crate::event::NodeEvent::Flushed(node.flushes);
        self.schedule.at(at, crate::event::Event::Node(process, event));
    }

    pub(crate) fn on_disk_flushed(&mut self, id: NodeId, number: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        if node.flushes != number {
            return;
        }
        let Some(flushed) = node.flush.take() else { return };
        if now > node.flushed_us + 200_000 {
            node.disturbed_us = now;
        }
        for (tp, end, cuts) in flushed {
            let node = self.node_mut(id);
            let Some(log) = node.logs.get_mut(&tp) else { continue };
            log.on_flushed(end, cuts);
            let flushed = log.flushed();
            match node.roles.get_mut(&tp) {
                Some(Role::Leader(leading)) => {
                    let before = leading.machine.high_watermark();
                    let mut settled = Vec::new();
                    leading.machine.on_flushed(flushed, |who| {
                        settled.push((who, chronik_replica::Settled::Acknowledged))
                    });
                    self.after_progress(id, tp, before);
                    self.settle(id, tp, settled);
                }
                Some(Role::Follower(following)) => {
                    if let Some(ack) = following.machine.on_flushed(flushed) {
                        self.acknowledge(id, tp, ack);
                    }
                }
                None => {}
            }
        }
        self.begin_flush(id);
    }
}
