//! A leader: appends, streams, acknowledgements, and what it would like its ISR to be.

use std::sync::Arc;

use chronik_base::{ErrorCode, NodeId};
use chronik_meta::{AlterPartition, Command};
use chronik_replica::{
    Ack, Answer, Append, EpochLog, LeaderError, LeaderLog, ProposalFailure, Settled, StreamId, StreamStart,
    Subscription, SubscriptionRefusal, answer_subscription,
};

use crate::event::{Asker, Body, Connection, Reply, Request, Tp};
use crate::log::{Batch, Sequence};
use crate::mutant::Mutant;
use crate::node::{Asked, Leading, Outgoing, Role, Waiter};
use crate::world::{LAG_MS, OFFSETS, World, topic_id};

/// A wait for an acknowledgement ends after that, in milliseconds.
const TIMEOUT_MS: u64 = 6_000;
/// How much longer than `replica.lag.time.max.ms` an acknowledgement may take where nothing but followers is in its way, in microseconds.
const SLACK_US: u64 = 1_500_000;
/// Batches in one message.
const MESSAGE: usize = 8;

impl World {
    pub(crate) fn leading(&mut self, id: NodeId, tp: Tp) -> Option<&mut Leading> {
        match self.node_mut(id).roles.get_mut(&tp) {
            Some(Role::Leader(leading)) => Some(leading),
            _ => None,
        }
    }

    pub(crate) fn on_request(&mut self, id: NodeId, asker: Asker, tp: Tp, request: Request) {
        match request {
            Request::Group(request) => self.on_group_request(id, asker, request),
            Request::Produce { id: batch, count, producer, all } => {
                let batch = Batch { base: 0, count, epoch: 0, id: batch, producer, records: Arc::default() };
                let arrived_us = self.now;
                let waiter = |base, end| Waiter::Produce { asker, arrived_us, all, base, end };
                if let Err(error) = self.append(id, tp, batch, all, waiter) {
                    self.answer(id, asker, Reply::Produced(Err(error)));
                }
            }
        }
    }

    /// Appends at the leader; whoever waits is answered by [`World::answer_waiter`].
    pub(crate) fn append(
        &mut self,
        id: NodeId,
        tp: Tp,
        mut batch: Batch,
        all: bool,
        waiter: impl FnOnce(i64, i64) -> Waiter,
    ) -> Result<(), ErrorCode> {
        let now_ms = self.now / 1000;
        let node = self.node_mut(id);
        let full = node.disk_full;
        let Some(Role::Leader(leading)) = node.roles.get_mut(&tp) else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        let Some(log) = node.logs.get_mut(&tp) else { return Err(ErrorCode::KafkaStorageError) };
        if all && leading.machine.check_in_sync(now_ms).is_err() {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        batch.base = log.log_end();
        batch.epoch = leading.machine.epoch();
        let (base, end) = match log.sequence(batch.producer) {
            Sequence::Gap => {
                // A deposed leader that does not know yet may miss what its successor has.
                let epoch = leading.epoch;
                if self.decided(tp).is_some_and(|decided| decided.leader_epoch == epoch) {
                    self.checker.on_gap(tp, id, batch.producer);
                }
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            Sequence::Duplicate(end) => (end - batch.count, end),
            Sequence::Fresh if full => return Err(ErrorCode::KafkaStorageError),
            Sequence::Fresh => {
                let range = (batch.base, batch.end());
                log.append(Arc::new(batch));
                range
            }
        };
        let deadline = now_ms + TIMEOUT_MS;
        let waiter = waiter(base, end);
        let mut settled = Vec::new();
        let at_once = match all {
            true => leading.machine.wait_for_commit(end, now_ms, deadline, waiter),
            false => leading.machine.wait_for_write(end, now_ms, deadline, waiter),
        };
        settled.extend(at_once);
        leading.machine.on_written(log.log_end(), |who| settled.push(who));
        node.wants_flush |= all;
        let settled = settled.into_iter().map(|who| (who, Settled::Acknowledged)).collect();
        self.settle(id, tp, settled);
        self.pump(id, tp);
        self.begin_flush(id);
        Ok(())
    }

    /// Tells whoever waited how it ended, and checks that it did not take longer than it may.
    pub(crate) fn answer_waiter(&mut self, id: NodeId, who: Waiter, result: Result<(), ErrorCode>) {
        match who {
            Waiter::Produce { asker, arrived_us, all, .. } => {
                if all {
                    self.check_wait(id, arrived_us, result);
                }
                self.answer(id, asker, Reply::Produced(result));
            }
            Waiter::Group(token, ..) => {
                let deposed = self.mutant == Some(Mutant::CommitAtDeposed);
                self.on_persisted(id, token, if deposed { Ok(()) } else { result });
            }
        }
    }

    fn check_wait(&mut self, id: NodeId, arrived_us: u64, result: Result<(), ErrorCode>) {
        let waited = self.now - arrived_us;
        let disturbed = self.node(id).disturbed_us.max(self.quorum.disturbed_us);
        let cut_off = self.quorum.unheard.contains(&id) || self.quorum.deaf.contains(&id) || !self.quorum.up;
        let slow =
            self.node(id).disk_slow || self.quorum.slow.contains(&id) || self.quorum.late.contains_key(&id);
        if waited > LAG_MS * 1000 + SLACK_US && disturbed < arrived_us && !cut_off && !slow {
            let text = format!("a producer waited {} ms at n{id} and was told {result:?}", waited / 1000);
            self.checker.report(None, text);
        }
    }

    pub(crate) fn on_subscribe(
        &mut self,
        id: NodeId,
        from: NodeId,
        on: Connection,
        tp: Tp,
        asked: Subscription,
    ) {
        let now_ms = self.now / 1000;
        let mutant = self.mutant;
        let node = self.node_mut(id);
        let (Some(Role::Leader(leading)), Some(log)) = (node.roles.get_mut(&tp), node.logs.get(&tp)) else {
            let refusal = Answer::Refused(SubscriptionRefusal::NotLeader);
            return self.send(id, on, tp, Body::Answer(asked.stream, refusal));
        };
        let machine = &mut leading.machine;
        let epoch = asked.epoch;
        let mut asked = asked;
        if mutant == Some(Mutant::FetchEpochUnchecked) {
            asked.epoch = machine.epoch();
        }
        let high_watermark = machine.high_watermark();
        let mut answer =
            answer_subscription(&asked, LeaderLog { epoch: machine.epoch(), high_watermark, log });
        if mutant == Some(Mutant::NoTruncation) && matches!(answer, Answer::Diverged { .. }) {
            answer = Answer::Stream { high_watermark, log_start: log.log_start() };
        }
        let before = high_watermark;
        let mut settled = Vec::new();
        if matches!(answer, Answer::Stream { .. }) {
            let (stream, flushed_end) = (asked.stream, asked.flushed_end);
            let start = StreamStart { node: from, epoch: asked.epoch, stream, flushed_end };
            match machine
                .on_follower_subscribed(start, now_ms, |who| settled.push((who, Settled::Acknowledged)))
            {
                Ok(_) => {
                    let next = asked.log_end;
                    let outgoing = Outgoing { stream, on, next, told_high_watermark: high_watermark, epoch };
                    leading.streams.insert(from, outgoing);
                }
                Err(LeaderError::NotReplica(node)) => {
                    answer = Answer::Refused(SubscriptionRefusal::NotReplica(node));
                }
                Err(_) => return,
            }
        }
        self.trace.line(self.now, || format!("n{id} answers n{from} {tp} {asked:?}: {answer:?}"));
        self.send(id, on, tp, Body::Answer(asked.stream, answer));
        self.after_progress(id, tp, before);
        self.settle(id, tp, settled);
        self.propose(id, tp);
        self.pump(id, tp);
    }

    pub(crate) fn on_ack(&mut self, id: NodeId, from: NodeId, tp: Tp, mut ack: Ack) {
        let now_ms = self.now / 1000;
        let mutant = self.mutant;
        let Some(leading) = self.leading(id, tp) else { return };
        let before = leading.machine.high_watermark();
        let mut settled = Vec::new();
        match mutant {
            Some(Mutant::AckEpochUnchecked) => {
                // The stream's name holds the epoch's place where that isn't looked at; so neither is.
                ack.epoch = leading.machine.epoch();
                ack.stream = leading.streams.get(&from).map_or(ack.stream, |outgoing| outgoing.stream);
            }
            Some(Mutant::FetchEpochUnchecked) => {
                let known = leading.streams.get(&from).is_some_and(|outgoing| outgoing.epoch == ack.epoch);
                if known {
                    ack.epoch = leading.machine.epoch();
                }
            }
            Some(Mutant::RemovedMemberCounts) if !leading.machine.isr().any(|member| member == from) => {
                let members: Vec<_> = leading.machine.isr().collect();
                for member in members {
                    let Some(stream) = leading.streams.get(&member).map(|outgoing| outgoing.stream) else {
                        continue;
                    };
                    let _ = leading.machine.on_follower_flushed(
                        member,
                        ack.epoch,
                        stream,
                        ack.flushed_end,
                        now_ms,
                        |who| settled.push((who, Settled::Acknowledged)),
                    );
                }
            }
            _ => {}
        }
        let taken = leading.machine.on_follower_flushed(
            from,
            ack.epoch,
            ack.stream,
            ack.flushed_end,
            now_ms,
            |who| settled.push((who, Settled::Acknowledged)),
        );
        self.trace.line(self.now, || format!("n{id} hears from n{from} {tp} {ack:?}: {taken:?}"));
        self.after_progress(id, tp, before);
        self.settle(id, tp, settled);
        self.propose(id, tp);
    }

    pub(crate) fn on_unable(&mut self, id: NodeId, from: NodeId, tp: Tp, stream: StreamId) {
        let now_ms = self.now / 1000;
        let Some(leading) = self.leading(id, tp) else { return };
        leading.machine.on_follower_unable(from, stream, now_ms);
        if leading.streams.get(&from).is_some_and(|outgoing| outgoing.stream == stream) {
            leading.streams.remove(&from);
        }
        self.trace.line(self.now, || format!("n{id} hears that n{from} can't write {tp}"));
        self.propose(id, tp);
    }

    /// The high watermark may have moved from `before`.
    pub(crate) fn after_progress(&mut self, id: NodeId, tp: Tp, before: i64) {
        let now = self.node(id).high_watermark(tp);
        if now > before
            && let Some(log) = self.nodes[id as usize - 1].logs.get(&tp)
        {
            self.trace.line(self.now, || format!("n{id} {tp} high watermark {before} -> {now}"));
            self.checker.on_committed(tp, id, log, before, now);
        }
        if let Some(epoch) = self.leading(id, tp).map(|leading| leading.machine.epoch()) {
            self.checker.on_leaders_word(tp, epoch, now);
        }
        if tp.topic == OFFSETS {
            self.load_groups(id);
        }
    }

    /// Asks the quorum for another ISR, if the leader would like one.
    pub(crate) fn propose(&mut self, id: NodeId, tp: Tp) {
        let now_ms = self.now / 1000;
        let mutant = self.mutant;
        let node = self.node_mut(id);
        let image = node.image.clone();
        let Some(Role::Leader(leading)) = node.roles.get_mut(&tp) else { return };
        let eligible =
            |node, epoch| image.broker(node).is_some_and(|broker| broker.epoch == epoch && broker.may_lead());
        let Some(proposal) = leading.machine.propose(now_ms, eligible) else { return };
        if mutant == Some(Mutant::ForgetProposal) {
            leading.machine.on_proposal_failed(proposal.partition_epoch, ProposalFailure::Refused, now_ms);
        }
        let epoch_of = |node| image.broker(node).map_or(-1, |broker| broker.epoch);
        let with_epoch = |(node, epoch)| (node, if epoch < 0 { epoch_of(node) } else { epoch });
        let leader_epoch = leading.epoch;
        let partition_epoch = proposal.partition_epoch;
        self.trace.line(self.now, || format!("n{id} {tp} proposes {:?}", proposal.isr));
        let command = Command::AlterPartition(AlterPartition {
            topic: topic_id(tp.topic),
            partition: tp.index,
            leader: id,
            leader_epoch,
            partition_epoch,
            isr: proposal.isr.into_iter().map(with_epoch).collect(),
        });
        self.ask(id, Asked::Isr { tp, epoch: leader_epoch, partition_epoch }, vec![command]);
    }

    /// Sends each follower what it does not have yet.
    pub(crate) fn pump(&mut self, id: NodeId, tp: Tp) {
        self.stream_out(id, tp, false);
    }

    /// With `news`, also the high watermark where it is news.
    fn stream_out(&mut self, id: NodeId, tp: Tp, news: bool) {
        let node = self.node_mut(id);
        let (Some(Role::Leader(leading)), Some(log)) = (node.roles.get_mut(&tp), node.logs.get(&tp)) else {
            return;
        };
        let high_watermark = leading.machine.high_watermark();
        let wants_flush = leading.machine.wants_flush();
        let mut messages = Vec::new();
        for outgoing in leading.streams.values_mut() {
            while outgoing.next < log.log_end() || news && outgoing.told_high_watermark < high_watermark {
                let batches: Vec<_> = log.from(outgoing.next).iter().take(MESSAGE).cloned().collect();
                let base_offset = batches.first().map_or(outgoing.next, |batch| batch.base);
                let end_offset = batches.last().map_or(outgoing.next, |batch| batch.end());
                let append = Append {
                    epoch: outgoing.epoch,
                    stream: outgoing.stream,
                    base_offset,
                    end_offset,
                    high_watermark,
                    log_start: log.log_start(),
                };
                outgoing.next = outgoing.next.max(end_offset);
                outgoing.told_high_watermark = high_watermark;
                messages.push((outgoing.on, Body::Append(append, batches, wants_flush)));
            }
        }
        for (on, body) in messages {
            self.send(id, on, tp, body);
        }
    }

    /// What is due at a leader now and then.
    pub(crate) fn tick_leader(&mut self, id: NodeId, tp: Tp) {
        let now_ms = self.now / 1000;
        let Some(leading) = self.leading(id, tp) else { return };
        let before = leading.machine.high_watermark();
        let due = leading.machine.next_tick_ms();
        let was_proposing = leading.machine.is_proposing();
        let mut settled = Vec::new();
        leading.machine.tick(now_ms, |who, how| settled.push((who, how)));
        let mut late = Vec::new();
        leading.machine.expire(now_ms, |timeout| late.push(timeout.who));
        let failed = settled.iter().any(|(_, how)| *how == Settled::NotEnoughReplicas);
        self.after_progress(id, tp, before);
        self.settle(id, tp, settled);
        for who in late {
            self.answer_waiter(id, who, Err(ErrorCode::RequestTimedOut));
        }
        self.propose(id, tp);
        let proposes = self.leading(id, tp).is_some_and(|leading| leading.machine.is_proposing());
        if (failed || proposes && !was_proposing) && due.is_none_or(|due| due > now_ms) {
            self.checker.report(Some(tp), format!("n{id} had something due at {now_ms} ms and said {due:?}"));
        }
        self.stream_out(id, tp, true);
    }
}
