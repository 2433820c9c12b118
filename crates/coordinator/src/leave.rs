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
        let mut group = self.groups.get_mut(&request.group_id);
        if group.as_ref().is_some_and(|group| group.is(GroupState::Dead)) {
            return LeaveGroupResponse::refusal(ErrorCode::CoordinatorNotAvailable);
        }
        let members = request.members.iter().map(|member| LeaveGroupMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error: match &mut group {
                Some(group) => leave_one(group, &mut self.ctx, member),
                None => ErrorCode::UnknownMemberId,
            },
        });
        LeaveGroupResponse { error: ErrorCode::None, members: members.collect() }
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
        rebalance::complete_if_all_joined(group, ctx);
        return ErrorCode::None;
    }
    if let Err(error) = group.check_member(&member_id, who.group_instance_id.as_deref()) {
        return error;
    }
    rebalance::remove_and_rebalance(group, ctx, &member_id);
    ErrorCode::None
}
