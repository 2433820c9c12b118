//! Heartbeat: a member is alive, and learns that it is to join anew.

use chronik_base::ErrorCode;

use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::request::HeartbeatRequest;

impl GroupCoordinator {
    pub(crate) fn heartbeat(&mut self, id: RequestId, request: &HeartbeatRequest) {
        let ctx = &mut self.ctx;
        if request.group_id.is_empty() {
            return ctx.reply_heartbeat(id, ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return ctx.reply_heartbeat(id, ErrorCode::UnknownMemberId);
        };
        let result = check(group, request);
        if matches!(result, Ok(()) | Err(ErrorCode::RebalanceInProgress)) {
            let group_id = group.id.clone();
            if let Some(member) = group.member_mut(&request.member_id) {
                ctx.keep_session(&group_id, member);
            }
        }
        ctx.reply_heartbeat(id, result.err().unwrap_or(ErrorCode::None));
    }
}

fn check(group: &Group, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    if group.is(GroupState::Dead) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    match group.state {
        GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
        GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
    }
}
