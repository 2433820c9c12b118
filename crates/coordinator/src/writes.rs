//! What follows when records are safely in the log, or are not.

use std::sync::Arc;

use chronik_base::ErrorCode;

use crate::context::{PendingWrite, Write, client_error};
use crate::coordinator::GroupCoordinator;
use crate::event::{RequestId, WriteToken};
use crate::group::GroupState;
use crate::rebalance;
use crate::response::Response;
use crate::sync;

impl GroupCoordinator {
    /// Notes how a write ended. Whatever order the ends are reported in, they take effect in the log's order.
    pub(crate) fn persisted(&mut self, token: WriteToken, result: Result<(), ErrorCode>) {
        match self.ctx.writes.get_mut(&token) {
            Some(write) => write.result = Some(result),
            // A write of before the coordinator resigned: its request was answered then.
            None => return,
        }
        while let Some(first) = self.ctx.writes.first_entry() {
            let token = *first.key();
            let Some(result) = first.get().result else { break };
            let PendingWrite { write, fetches, .. } = first.remove();
            self.apply(token, write, result.map_err(client_error));
            for (id, request) in fetches {
                self.fetch_offsets(id, &request);
            }
        }
    }

    fn apply(&mut self, token: WriteToken, write: Write, result: Result<(), ErrorCode>) {
        let ctx = &mut self.ctx;
        match write {
            Write::EmptyGroup => {}
            Write::Assignment { group, generation, assignment } => {
                let Some(group) = self.groups.get_mut(&group) else { return };
                // Another rebalance may have begun; those who waited know.
                if group.assignment_write != Some(token)
                    || group.generation != generation
                    || !group.is(GroupState::CompletingRebalance)
                {
                    return;
                }
                match result {
                    Ok(()) => sync::on_assignment_written(group, ctx, assignment),
                    Err(error) => {
                        rebalance::drop_assignments(group, ctx, error);
                        rebalance::begin(group, ctx);
                    }
                }
            }
            Write::StaticMember { group, generation, member, request, response } => {
                let Some(group) = self.groups.get_mut(&group) else { return };
                // A rebalance that began meanwhile answers the join when it ends.
                if !group.is(GroupState::Stable)
                    || group.generation != generation
                    || group.member(&member).is_none_or(|member| member.join != Some(request))
                {
                    return;
                }
                group.take_join(&member);
                match result {
                    Ok(()) => ctx.reply_join(request, response),
                    // The member keeps its new id, which nobody is told: its client comes again and replaces it.
                    Err(error) => ctx.refuse_join(request, error, Arc::default()),
                }
            }
            Write::Offsets { keys, reply } => {
                for key in keys {
                    if let Some(group) = self.groups.get_mut(&key.group)
                        && group.offsets.end(&key.topic, key.partition, token, result.is_ok())
                    {
                        self.ctx.topic_went(&key.topic, &key.group);
                    }
                    self.forget_if_unused(&key.group);
                }
                self.answer(reply, result);
            }
            Write::DeleteGroups { groups, reply } => {
                for id in groups {
                    let Some(group) = self.groups.get_mut(&id) else { continue };
                    let gone = match result {
                        Ok(()) => group.offsets.topics().keys().cloned().collect(),
                        Err(_) => group.offsets.abort_removal(token),
                    };
                    for topic in gone {
                        ctx.topic_went(&topic, &id);
                    }
                    match result {
                        Ok(()) => drop(self.groups.remove(&id)),
                        Err(_) => group.state = GroupState::Empty,
                    }
                }
                self.answer(reply, result);
            }
        }
    }

    fn answer(&mut self, reply: Option<(RequestId, Response)>, result: Result<(), ErrorCode>) {
        if let Some((id, mut response)) = reply {
            if let Err(error) = result {
                response.fail(error);
            }
            self.ctx.reply(id, response);
        }
    }
}
