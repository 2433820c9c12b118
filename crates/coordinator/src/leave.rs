//! LeaveGroup: members go, by themselves or removed by an administrator.
//!
//! The answer does not wait for the log: who left and is found in the log again after a restart ends by its session.

use std::sync::Arc;

use chronik_base::ErrorCode;

use crate::context::Context;
use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::rebalance;
use crate::request::{LeaveGroupRequest, MemberIdentity};
use crate::response::{LeaveGroupMember, LeaveGroupResponse, Response};

impl GroupCoordinator {
    pub(crate) fn leave_group(&mut self, id: RequestId, request: &LeaveGroupRequest) {
        let response = self.leave(request);
        self.ctx.reply(id, Response::LeaveGroup(response));
    }

    fn leave(&mut self, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        if request.group_id.is_empty() {
            return LeaveGroupResponse::refusal(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get_mut(&request.group_id);
        if group.as_ref().is_some_and(|group| group.is(GroupState::Dead)) {
            return LeaveGroupResponse::refusal(ErrorCode::CoordinatorNotAvailable);
        }
        let Some(group) = group else {
            let members = request.members.iter().map(|who| outcome(who, ErrorCode::UnknownMemberId));
            return LeaveGroupResponse { error: ErrorCode::None, members: members.collect() };
        };
        let size_before = group.size();
        let mut members = Vec::with_capacity(request.members.len());
        for who in &request.members {
            members.push(outcome(who, leave_one(group, &mut self.ctx, who)));
        }
        // One rebalance for all who left.
        match group.state {
            GroupState::CompletingRebalance | GroupState::Stable if group.size() < size_before => {
                rebalance::begin(group, &mut self.ctx);
            }
            _ => rebalance::complete_if_all_joined(group, &mut self.ctx),
        }
        LeaveGroupResponse { error: ErrorCode::None, members }
    }
}

fn outcome(who: &MemberIdentity, error: ErrorCode) -> LeaveGroupMember {
    LeaveGroupMember {
        member_id: who.member_id.clone(),
        group_instance_id: who.group_instance_id.clone(),
        error,
    }
}

fn leave_one(group: &mut Group, ctx: &mut Context, who: &MemberIdentity) -> ErrorCode {
    let member_id: Arc<str> = if who.member_id.is_empty() {
        match who.group_instance_id.as_deref().and_then(|instance_id| group.static_member(instance_id)) {
            Some(member_id) => member_id,
            None => return ErrorCode::UnknownMemberId,
        }
    } else {
        who.member_id.clone()
    };
    if let Some(timer) = group.pending_joins.remove(&member_id) {
        ctx.timers.cancel(Some(timer));
        return ErrorCode::None;
    }
    if let Err(error) = group.check_member(&member_id, who.group_instance_id.as_deref()) {
        return error;
    }
    rebalance::remove_member(group, ctx, &member_id);
    ErrorCode::None
}
