//! The group coordinator on the node that leads its partition. Its records are replicated like any others.

use std::sync::Arc;

use chronik_base::{ErrorCode, NodeId};
use chronik_coordinator::{Action, Event, Now, Request, RequestId, Response, WriteToken};
use chronik_replica::EpochLog;

use crate::event::{Asker, Reply, Tp};
use crate::log::Batch;
use crate::node::{Role, Waiter};
use crate::world::{OFFSETS, World};

/// The coordinator's partition.
pub(crate) const GROUPS: Tp = Tp { topic: OFFSETS, index: 0 };

impl World {
    fn group_now(&self, id: NodeId) -> Now {
        let wall_ms = self.now as i64 / 1000 + self.node(id).clock_jump_ms;
        Now { monotonic_ms: self.now / 1000, wall_ms }
    }

    /// Once all that the log held when the node began to lead is committed, the coordinator reads it and serves.
    pub(crate) fn load_groups(&mut self, id: NodeId) {
        let now = self.group_now(id);
        let node = self.node_mut(id);
        let Some(groups) = node.groups.as_mut().filter(|groups| !groups.loaded) else { return };
        let (Some(Role::Leader(leading)), Some(log)) = (node.roles.get(&GROUPS), node.logs.get(&GROUPS))
        else {
            return;
        };
        if leading.machine.high_watermark() < leading.machine.epoch_start() {
            return;
        }
        groups.loaded = true;
        for batch in log.batches() {
            for record in batch.records.iter() {
                groups.machine.load_record(record.clone());
            }
        }
        let end = log.log_end();
        let actions = groups.machine.loaded(now);
        self.trace.line(self.now, || format!("n{id} coordinates, from {end} offsets"));
        self.run_group_actions(id, actions);
    }

    pub(crate) fn on_group_request(&mut self, id: NodeId, asker: Asker, request: Request) {
        let now = self.group_now(id);
        let Some(groups) = self.node_mut(id).groups.as_mut() else {
            return self.answer(id, asker, Reply::Produced(Err(ErrorCode::NotCoordinator)));
        };
        groups.requests += 1;
        let number = groups.requests;
        groups.askers.insert(number, (asker, committing(&request)));
        let actions = groups.machine.handle(now, Event::Request { id: RequestId(number), request });
        self.run_group_actions(id, actions);
    }

    pub(crate) fn on_persisted(&mut self, id: NodeId, token: WriteToken, result: Result<(), ErrorCode>) {
        let now = self.group_now(id);
        if let Some(groups) = self.node_mut(id).groups.as_mut() {
            let actions = groups.machine.handle(now, Event::Persisted { token, result });
            self.run_group_actions(id, actions);
        }
    }

    pub(crate) fn tick_groups(&mut self, id: NodeId) {
        let now = self.group_now(id);
        if let Some(groups) = self.node_mut(id).groups.as_mut()
            && groups.machine.next_deadline().is_some_and(|at| at <= now.monotonic_ms)
        {
            let actions = groups.machine.handle(now, Event::Tick);
            self.run_group_actions(id, actions);
        }
    }

    pub(crate) fn resign_groups(&mut self, id: NodeId) {
        if let Some(mut groups) = self.node_mut(id).groups.take() {
            let actions = groups.machine.resign();
            for action in actions {
                if let Action::Reply { request, response } = action
                    && let Some((asker, _)) = groups.askers.remove(&request.0)
                {
                    self.answer(id, asker, Reply::Group(response));
                }
            }
        }
    }

    fn run_group_actions(&mut self, id: NodeId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply { request, response } => self.reply_from_group(id, request.0, response),
                Action::Persist { token, records } => {
                    self.batch_ids += 1;
                    let batch = Batch {
                        base: 0,
                        count: records.len() as i64,
                        epoch: 0,
                        id: self.batch_ids,
                        producer: None,
                        records: Arc::new(records),
                    };
                    let waiter = |base, end| Waiter::Group(token, base, end);
                    if let Err(error) = self.append(id, GROUPS, batch, true, waiter) {
                        self.on_persisted(id, token, Err(error));
                    }
                }
            }
        }
    }

    fn reply_from_group(&mut self, id: NodeId, request: u64, response: Response) {
        let Some(groups) = self.node_mut(id).groups.as_mut() else { return };
        let Some((asker, offset)) = groups.askers.remove(&request) else { return };
        let epoch = groups.epoch;
        let current = self.decided(GROUPS).is_some_and(|partition| partition.leader_epoch == epoch);
        let group = self.clients[asker.client].group();
        self.trace.line(self.now, || format!("n{id} answers client {} {response:?}", asker.client));
        match &response {
            Response::OffsetCommit(committed) => {
                let errors = committed.topics.iter().flat_map(|topic| &topic.partitions);
                if errors.clone().all(|(_, error)| *error == ErrorCode::None) {
                    self.checker.on_offset_committed(group, offset);
                }
            }
            // A coordinator that is deposed and does not know yet may show what was; the current one must not.
            Response::OffsetFetch(fetched) if current && fetched.error == ErrorCode::None => {
                let offsets = fetched.topics.iter().flat_map(|topic| &topic.partitions);
                let shown = offsets.filter_map(|(_, found)| found.as_ref()).map(|found| found.offset).next();
                self.checker.on_offset_fetched(group, shown.unwrap_or(-1));
            }
            _ => {}
        }
        self.answer(id, asker, Reply::Group(response));
    }
}

/// The offset that a request is to commit.
fn committing(request: &Request) -> i64 {
    let Request::OffsetCommit(request) = request else { return -1 };
    let offsets = request.topics.iter().flat_map(|topic| &topic.partitions);
    offsets.map(|partition| partition.offset).max().unwrap_or(-1)
}
