//! SyncGroup: the leader brings the assignment, everybody fetches their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;

use crate::context::{Context, Write};
use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::member::owned;
use crate::request::SyncGroupRequest;
use crate::response::SyncGroupResponse;

/// From this version on the request must name protocol type and protocol (KIP-559).
const PROTOCOL_REQUIRED_FROM: i16 = 5;

impl GroupCoordinator {
    pub(crate) fn sync_group(&mut self, id: RequestId, request: &SyncGroupRequest) {
        let ctx = &mut self.ctx;
        if request.api_version >= PROTOCOL_REQUIRED_FROM
            && (request.protocol_type.is_none() || request.protocol_name.is_none())
        {
            return ctx.refuse_sync(id, ErrorCode::InconsistentGroupProtocol);
        }
        if request.group_id.is_empty() {
            return ctx.refuse_sync(id, ErrorCode::InvalidGroupId);
        }
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return ctx.refuse_sync(id, ErrorCode::UnknownMemberId);
        };
        if let Err(error) = check(group, request) {
            return ctx.refuse_sync(id, error);
        }
        note_sync(group, ctx, &request.member_id);
        if group.is(GroupState::Stable) {
            if let Some(response) = assignment_of(group, &request.member_id) {
                ctx.reply_sync(id, response);
            }
            return;
        }
        if let Some(member) = group.member_mut(&request.member_id)
            && let Some(earlier) = member.sync.replace(id)
        {
            ctx.refuse_sync(earlier, ErrorCode::RebalanceInProgress);
        }
        if group.is_leader(&request.member_id) && group.assignment_write.is_none() {
            write_assignment(group, ctx, request);
        }
    }
}

fn check(group: &Group, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    fn differs(theirs: Option<&str>, ours: Option<&str>) -> bool {
        matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs != ours)
    }
    if group.is(GroupState::Dead) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    if differs(request.protocol_type.as_deref(), group.protocol_type.as_deref())
        || differs(request.protocol_name.as_deref(), group.protocol.as_deref())
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    match group.state {
        GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
        GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
    }
}

/// A member asked for its assignment; when all have, nobody need be waited for.
fn note_sync(group: &mut Group, ctx: &mut Context, member: &str) {
    group.pending_syncs.remove(member);
    if group.pending_syncs.is_empty() {
        ctx.timers.cancel(group.sync_timer.take());
    }
}

fn write_assignment(group: &mut Group, ctx: &mut Context, request: &SyncGroupRequest) {
    let assignment: BTreeMap<_, _> = request
        .assignments
        .iter()
        .filter(|(member, _)| group.has_member(member))
        .map(|(member, assignment)| (member.clone(), owned(assignment)))
        .collect();
    let record = group.record(|member| assignment.get(&member.id).cloned().unwrap_or_default());
    let write = Write::Assignment { group: group.id.clone(), generation: group.generation, assignment };
    group.in_log = true;
    group.assignment_write = Some(ctx.persist_group(&group.id, record, write));
}

/// The generation's assignment is in the log: everybody who waits gets theirs.
pub(crate) fn on_assignment_written(
    group: &mut Group,
    ctx: &mut Context,
    mut assignment: BTreeMap<Arc<str>, Bytes>,
) {
    group.assignment_write = None;
    let id = group.id.clone();
    for member in group.members_mut() {
        member.assignment = assignment.remove(&member.id).unwrap_or_default();
    }
    group.enter(GroupState::Stable, ctx.now.wall_ms);
    for member_id in group.member_ids() {
        let Some(sync) = group.member_mut(&member_id).and_then(|member| member.sync.take()) else { continue };
        if let Some(response) = assignment_of(group, &member_id) {
            ctx.reply_sync(sync, response);
        }
        // A session that ended while the member waited was not counted, so it starts anew.
        if let Some(member) = group.member_mut(&member_id) {
            ctx.keep_session(&id, member);
        }
    }
}

fn assignment_of(group: &Group, member: &str) -> Option<SyncGroupResponse> {
    Some(SyncGroupResponse {
        error: ErrorCode::None,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol.clone(),
        assignment: group.member(member)?.assignment.clone(),
    })
}
