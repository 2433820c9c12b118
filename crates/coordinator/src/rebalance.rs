//! The course of a rebalance: it begins, members join, the generation changes, members fetch their assignments.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;

use crate::config::MAX_INITIAL_DELAYS;
use crate::context::{Context, Write};
use crate::group::{Group, GroupState, InitialDelay};
use crate::response::{JoinGroupMember, JoinGroupResponse};
use crate::timers::Timer;

/// While only absent static members are left, a rebalance looks for them at most so often, in milliseconds: their rebalance
/// timeout may be next to nothing, and their sessions long.
const ABSENT_MEMBERS_WAIT_MIN_MS: u64 = 1_000;

/// Somebody joined or changed: begins a rebalance, or ends it if it was the last one that was missing.
pub(crate) fn begin_or_complete(group: &mut Group, ctx: &mut Context) {
    match group.state {
        GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => begin(group, ctx),
        GroupState::PreparingRebalance => complete_if_all_joined(group, ctx),
        GroupState::Dead => {}
    }
}

/// Begins a rebalance: members learn it from their heartbeats and are to join anew.
pub(crate) fn begin(group: &mut Group, ctx: &mut Context) {
    if group.is(GroupState::CompletingRebalance) {
        drop_assignments(group, ctx, ErrorCode::RebalanceInProgress);
    }
    ctx.timers.cancel(group.sync_timer.take());
    ctx.timers.cancel(group.join_timer.take());
    group.assignment_write = None;
    let initial = group.is(GroupState::Empty);
    group.enter(GroupState::PreparingRebalance, ctx.now.wall_ms);
    let timeout = group.rebalance_timeout_ms().max(1);
    let delay = ctx.config.initial_rebalance_delay_ms;
    if initial && delay == 0 {
        complete(group, ctx);
    } else if initial {
        let limit = ctx.after(delay.saturating_mul(MAX_INITIAL_DELAYS).min(timeout));
        group.initial_delay = Some(InitialDelay { new_member: false, limit });
        set_join_timer(group, ctx, delay.min(timeout));
    } else {
        group.initial_delay = None;
        set_join_timer(group, ctx, timeout);
        complete_if_all_joined(group, ctx);
    }
}

/// Ends the rebalance's first half if nobody is missing. The first rebalance of an empty group waits on: nobody
/// knows yet who will come.
pub(crate) fn complete_if_all_joined(group: &mut Group, ctx: &mut Context) {
    if group.is(GroupState::PreparingRebalance) && group.initial_delay.is_none() && group.all_joined() {
        complete(group, ctx);
    }
}

/// The time to join is over.
pub(crate) fn on_join_timer(group: &mut Group, ctx: &mut Context) {
    group.join_timer = None;
    if !group.is(GroupState::PreparingRebalance) {
        return;
    }
    let now = ctx.now.monotonic_ms;
    match &mut group.initial_delay {
        Some(delay) if delay.new_member && now < delay.limit => {
            delay.new_member = false;
            let wait = ctx.config.initial_rebalance_delay_ms.min(delay.limit - now);
            set_join_timer(group, ctx, wait);
        }
        _ => complete(group, ctx),
    }
}

/// The time to fetch assignments is over: who did not is no member any more.
pub(crate) fn on_sync_timer(group: &mut Group, ctx: &mut Context) {
    group.sync_timer = None;
    let in_generation = matches!(group.state, GroupState::CompletingRebalance | GroupState::Stable);
    if !in_generation || group.pending_syncs.is_empty() {
        return;
    }
    for member in std::mem::take(&mut group.pending_syncs) {
        remove_member(group, ctx, &member);
    }
    begin(group, ctx);
}

/// Takes a member out and has the others take over what it did.
pub(crate) fn remove_and_rebalance(group: &mut Group, ctx: &mut Context, member: &str) {
    remove_member(group, ctx, member);
    match group.state {
        GroupState::CompletingRebalance | GroupState::Stable => begin(group, ctx),
        GroupState::PreparingRebalance => complete_if_all_joined(group, ctx),
        GroupState::Empty | GroupState::Dead => {}
    }
}

/// Takes a member out. What it still waits for is refused, so that its client joins anew if it is alive.
pub(crate) fn remove_member(group: &mut Group, ctx: &mut Context, member: &str) {
    let Some(mut member) = group.remove(member) else { return };
    ctx.end_session(&mut member);
    if let Some(join) = member.join.take() {
        ctx.refuse_join(join, ErrorCode::UnknownMemberId, Arc::default());
    }
    if let Some(sync) = member.sync.take() {
        ctx.refuse_sync(sync, ErrorCode::UnknownMemberId);
    }
}

/// Takes all assignments back and refuses those who wait for theirs.
pub(crate) fn drop_assignments(group: &mut Group, ctx: &mut Context, error: ErrorCode) {
    let id = group.id.clone();
    for member in group.members_mut() {
        member.assignment = Bytes::new();
        if let Some(sync) = member.sync.take() {
            ctx.refuse_sync(sync, error);
            ctx.keep_session(&id, member);
        }
    }
}

/// What a member is told of the current generation.
pub(crate) fn joined(group: &Group, member: &Arc<str>, members: Vec<JoinGroupMember>) -> JoinGroupResponse {
    JoinGroupResponse {
        error: ErrorCode::None,
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol.clone(),
        leader: group.leader.clone().unwrap_or_default(),
        skip_assignment: false,
        member_id: member.clone(),
        members,
    }
}

/// Ends the first half: who did not join is out, static members excepted until their session ends.
fn complete(group: &mut Group, ctx: &mut Context) {
    ctx.timers.cancel(group.join_timer.take());
    let missing: Vec<Arc<str>> = group
        .members()
        .filter(|member| member.join.is_none() && member.instance_id.is_none())
        .map(|member| member.id.clone())
        .collect();
    for member in missing {
        remove_member(group, ctx, &member);
    }
    if group.size() > 0 && !group.elect_joined_leader() {
        // Only static members are left, and none of them has come yet.
        let timeout = group.rebalance_timeout_ms().max(ABSENT_MEMBERS_WAIT_MIN_MS);
        set_join_timer(group, ctx, timeout);
        return;
    }
    group.initial_delay = None;
    group.pending_syncs.clear();
    group.generation = group.generation.wrapping_add(1).max(1);
    if group.size() == 0 {
        become_empty(group, ctx);
    } else {
        announce_generation(group, ctx);
    }
}

fn become_empty(group: &mut Group, ctx: &mut Context) {
    group.protocol = None;
    group.leader = None;
    group.read_subscriptions();
    group.enter(GroupState::Empty, ctx.now.wall_ms);
    group.in_log = true;
    let record = group.record(|member| member.assignment.clone());
    ctx.persist_group(&group.id, record, Write::EmptyGroup);
}

fn announce_generation(group: &mut Group, ctx: &mut Context) {
    group.protocol = group.select_protocol();
    group.read_subscriptions();
    group.enter(GroupState::CompletingRebalance, ctx.now.wall_ms);
    let id = group.id.clone();
    for member_id in group.member_ids() {
        if let Some(join) = group.take_join(&member_id) {
            let members = if group.is_leader(&member_id) { group.members_for_leader() } else { Vec::new() };
            ctx.reply_join(join, joined(group, &member_id, members));
        }
        if let Some(member) = group.member_mut(&member_id) {
            member.is_new = false;
            ctx.keep_session(&id, member);
        }
        group.pending_syncs.insert(member_id);
    }
    let deadline = ctx.after(group.rebalance_timeout_ms().max(1));
    group.sync_timer = Some(ctx.timers.set(deadline, Timer::Sync { group: id }));
}

fn set_join_timer(group: &mut Group, ctx: &mut Context, ms: u64) {
    ctx.timers.cancel(group.join_timer.take());
    group.join_timer = Some(ctx.timers.set(ctx.after(ms), Timer::Join { group: group.id.clone() }));
}
