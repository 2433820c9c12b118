//! JoinGroup: who wants to be in the next generation.

use std::sync::Arc;

use chronik_base::{ErrorCode, Uuid};

use crate::context::{Context, Write};
use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::member::Member;
use crate::rebalance;
use crate::request::JoinGroupRequest;
use crate::timers::Timer;

/// From this version on a dynamic member is told its id first and joins with it then (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader can be told that there is no assignment to compute (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl GroupCoordinator {
    pub(crate) fn join_group(&mut self, id: RequestId, request: &JoinGroupRequest) {
        let ctx = &mut self.ctx;
        let member_id = &request.member_id;
        if request.group_id.is_empty() {
            return ctx.refuse_join(id, ErrorCode::InvalidGroupId, member_id.clone());
        }
        let timeouts = ctx.config.min_session_timeout_ms..=ctx.config.max_session_timeout_ms;
        if !timeouts.contains(&request.session_timeout_ms) {
            return ctx.refuse_join(id, ErrorCode::InvalidSessionTimeout, member_id.clone());
        }
        let now = ctx.now.wall_ms;
        let group = if member_id.is_empty() {
            self.groups
                .entry(request.group_id.clone())
                .or_insert_with_key(|group_id| Group::new(group_id.clone(), Some(now)))
        } else {
            match self.groups.get_mut(&request.group_id) {
                Some(group) => group,
                None => return ctx.refuse_join(id, ErrorCode::UnknownMemberId, member_id.clone()),
            }
        };
        if !has_room(group, member_id, ctx.config.max_group_size) {
            rebalance::remove_member(group, ctx, member_id);
            ctx.refuse_join(id, ErrorCode::GroupMaxSizeReached, Arc::default());
            return rebalance::complete_if_all_joined(group, ctx);
        }
        if group.is(GroupState::Dead) {
            return ctx.refuse_join(id, ErrorCode::CoordinatorNotAvailable, member_id.clone());
        }
        if !group.supports(&request.protocol_type, &request.protocols) {
            return ctx.refuse_join(id, ErrorCode::InconsistentGroupProtocol, member_id.clone());
        }
        if member_id.is_empty() {
            join_first_time(group, ctx, id, request);
        } else {
            join_with_id(group, ctx, id, request);
        }
    }
}

/// True if the group takes this member. During a rebalance only those count that have joined already, so that a
/// group that became too large sheds those who come last.
fn has_room(group: &Group, member_id: &str, max_size: usize) -> bool {
    let member = group.member(member_id);
    match group.state {
        GroupState::Empty | GroupState::Dead => true,
        GroupState::PreparingRebalance => {
            member.is_some_and(|member| member.join.is_some()) || group.awaiting_join() < max_size
        }
        GroupState::CompletingRebalance | GroupState::Stable => member.is_some() || group.size() < max_size,
    }
}

fn join_first_time(group: &mut Group, ctx: &mut Context, id: RequestId, request: &JoinGroupRequest) {
    let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
    let member_id = new_member_id(prefix, request.random);
    match &request.group_instance_id {
        Some(instance_id) => match group.static_member(instance_id) {
            Some(old_id) => replace_static_member(group, ctx, id, request, &old_id, member_id),
            None => add_member(group, ctx, id, request, member_id),
        },
        None if request.api_version >= MEMBER_ID_REQUIRED_FROM => {
            let wait = u64::try_from(request.session_timeout_ms).unwrap_or(0);
            let timer = Timer::Session { group: group.id.clone(), member: member_id.clone() };
            group.pending_joins.insert(member_id.clone(), ctx.timers.set(ctx.after(wait), timer));
            ctx.refuse_join(id, ErrorCode::MemberIdRequired, member_id);
        }
        None => add_member(group, ctx, id, request, member_id),
    }
}

fn join_with_id(group: &mut Group, ctx: &mut Context, id: RequestId, request: &JoinGroupRequest) {
    let member_id = &request.member_id;
    if request.group_instance_id.is_none()
        && let Some(timer) = group.pending_joins.remove(member_id)
    {
        ctx.timers.cancel(Some(timer));
        return add_member(group, ctx, id, request, member_id.clone());
    }
    if let Err(error) = group.check_member(member_id, request.group_instance_id.as_deref()) {
        return ctx.refuse_join(id, error, member_id.clone());
    }
    let same = group.member(member_id).is_some_and(|member| member.matches(&request.protocols));
    let leads = group.is_leader(member_id);
    match group.state {
        GroupState::PreparingRebalance => update_member(group, ctx, id, request),
        // The answer to its first join may have been lost: it is given again.
        GroupState::CompletingRebalance if same => {
            let members = if leads { group.members_for_leader() } else { Vec::new() };
            ctx.reply_join(id, rebalance::joined(group, member_id, members));
        }
        // A leader joins again when what it assigns has changed, for example a topic's partitions.
        GroupState::Stable if same && !leads => {
            ctx.reply_join(id, rebalance::joined(group, member_id, Vec::new()));
        }
        GroupState::CompletingRebalance | GroupState::Stable => update_member(group, ctx, id, request),
        GroupState::Empty | GroupState::Dead => {
            ctx.refuse_join(id, ErrorCode::UnknownMemberId, member_id.clone());
        }
    }
}

fn add_member(
    group: &mut Group,
    ctx: &mut Context,
    id: RequestId,
    request: &JoinGroupRequest,
    member_id: Arc<str>,
) {
    if let Some(delay) = &mut group.initial_delay {
        delay.new_member = true;
    }
    let mut member = Member::joining(member_id, request);
    member.join = Some(id);
    // The session cannot end yet: the client sends no heartbeat before this join is answered. Nor can it be seen
    // whether the client is still there, so this wait is bounded.
    ctx.start_session(&group.id, &mut member, ctx.config.new_member_join_timeout_ms);
    group.add(member, &request.protocol_type);
    rebalance::begin_or_complete(group, ctx);
}

fn update_member(group: &mut Group, ctx: &mut Context, id: RequestId, request: &JoinGroupRequest) {
    if let Some(earlier) = group.update(&request.member_id, request, id) {
        ctx.refuse_join(earlier, ErrorCode::RebalanceInProgress, request.member_id.clone());
    }
    rebalance::begin_or_complete(group, ctx);
}

/// A static member came back and does not know its id: it takes the place of its former self, who is fenced.
fn replace_static_member(
    group: &mut Group,
    ctx: &mut Context,
    id: RequestId,
    request: &JoinGroupRequest,
    old_id: &str,
    new_id: Arc<str>,
) {
    let led_by = group.leader.clone();
    if let Some(join) = group.take_join(old_id) {
        ctx.refuse_join(join, ErrorCode::FencedInstanceId, old_id.into());
    }
    if let Some(old) = group.member_mut(old_id) {
        if let Some(sync) = old.sync.take() {
            ctx.refuse_sync(sync, ErrorCode::FencedInstanceId);
        }
        ctx.end_session(old);
    }
    group.rename(old_id, new_id.clone());
    group.update(&new_id, request, id);
    let group_id = group.id.clone();
    if let Some(member) = group.member_mut(&new_id) {
        ctx.keep_session(&group_id, member);
    }
    match group.state {
        GroupState::Stable if group.select_protocol() == group.protocol => {
            // Nothing that was assigned changes: no rebalance, only the log must know the new id before the client.
            let leads = group.is_leader(&new_id);
            let response = if request.api_version >= SKIP_ASSIGNMENT_FROM {
                let members = if leads { group.members_for_leader() } else { Vec::new() };
                let mut response = rebalance::joined(group, &new_id, members);
                response.skip_assignment = leads;
                response
            } else {
                // Older clients would compute an assignment if they were told that they lead.
                let mut response = rebalance::joined(group, &new_id, Vec::new());
                response.leader = led_by.unwrap_or_default();
                response
            };
            let write = Write::StaticMember {
                group: group_id.clone(),
                generation: group.generation,
                member: new_id,
                request: id,
                response,
            };
            ctx.persist_group(&group_id, group.record(|member| member.assignment.clone()), write);
        }
        // The leader may be assigning to the old id just now.
        GroupState::CompletingRebalance => rebalance::begin(group, ctx),
        _ => rebalance::begin_or_complete(group, ctx),
    }
}

/// An id like Kafka's: a prefix that people recognise and 36 characters of a random UUID.
fn new_member_id(prefix: &str, random: [u8; 16]) -> Arc<str> {
    let hex = Uuid::from_random(random).to_hex();
    let mut id = String::with_capacity(prefix.len() + 37);
    id.push_str(prefix);
    for (position, digit) in hex.char_indices() {
        if matches!(position, 0 | 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id.into()
}

#[cfg(test)]
mod tests {
    use super::new_member_id;

    #[test]
    fn member_ids_look_like_kafkas() {
        assert_eq!(&*new_member_id("app", [0xab; 16]), "app-abababab-abab-4bab-abab-abababababab");
    }
}
