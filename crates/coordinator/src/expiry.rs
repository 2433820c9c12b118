//! Offsets that nobody needs any more (KIP-211), and groups that are left with nothing.
//!
//! The search goes over some groups at a time, so that it never holds up the requests that come in between.

use std::ops::Bound;
use std::sync::Arc;

use chronik_base::Timestamp;

use crate::admin;
use crate::context::{Context, OffsetKey, Write};
use crate::coordinator::GroupCoordinator;
use crate::group::{Group, GroupState};
use crate::offsets::Batch;
use crate::records::OffsetCommitRecord;
use crate::timers::Timer;

/// Groups that one step of the search looks at.
const GROUPS_PER_STEP: usize = 100;

impl GroupCoordinator {
    /// Searches the next groups; the search goes on in a millisecond, or begins anew after the interval.
    pub(crate) fn on_expiry_timer(&mut self) {
        let start = match &self.expiry_cursor {
            Some(last) => Bound::Excluded(last.clone()),
            None => Bound::Unbounded,
        };
        let ctx = &mut self.ctx;
        let mut looked_at = 0;
        let mut last = None;
        for (id, group) in
            self.groups.range_mut::<Arc<str>, _>((start, Bound::Unbounded)).take(GROUPS_PER_STEP)
        {
            expire(group, ctx);
            looked_at += 1;
            last = Some(id.clone());
        }
        self.expiry_cursor = last.filter(|_| looked_at == GROUPS_PER_STEP);
        let wait = match self.expiry_cursor {
            Some(_) => 1,
            None => ctx.config.offsets_retention_check_interval_ms.max(1),
        };
        ctx.timers.set(ctx.after(wait), Timer::Expiry);
    }
}

fn expire(group: &mut Group, ctx: &mut Context) {
    if !offsets_can_expire(group) {
        return;
    }
    let mut expired = Vec::new();
    let mut kept = 0usize;
    for (topic, partitions) in group.offsets.topics() {
        if group.is_subscribed(topic) {
            kept += partitions.len();
            continue;
        }
        for (&partition, entry) in partitions {
            match entry.settled() {
                Some(committed) if has_expired(group, committed, ctx) => {
                    expired.push(OffsetKey { group: group.id.clone(), topic: topic.clone(), partition });
                }
                _ => kept += 1,
            }
        }
    }
    if group.is(GroupState::Empty) && kept == 0 && group.pending_joins.is_empty() {
        let records = admin::begin_deletion(group, ctx);
        ctx.persist(records, Write::DeleteGroups { groups: vec![group.id.clone()], reply: None });
    } else {
        let mut batch = Batch::default();
        for key in expired {
            batch.add(ctx, group, key, None);
        }
        batch.write(ctx, None);
    }
}

fn offsets_can_expire(group: &Group) -> bool {
    match (&group.protocol_type, group.state) {
        // Nobody was ever a member: somebody just keeps offsets here.
        (None, state) => state != GroupState::Dead,
        (Some(_), GroupState::Empty) => true,
        // Members may have stopped consuming a topic.
        (Some(_), GroupState::Stable) => group.is_consumer_group() && group.subscribed.is_some(),
        _ => false,
    }
}

fn has_expired(group: &Group, committed: &OffsetCommitRecord, ctx: &Context) -> bool {
    let now = ctx.now.wall_ms;
    if let Some(expires) = committed.expire_timestamp_ms {
        return now >= expires;
    }
    let unused_since: Timestamp = match group.state_since {
        Some(since) if group.protocol_type.is_some() && group.is(GroupState::Empty) => since,
        _ => committed.commit_timestamp_ms,
    };
    now.saturating_sub(unused_since) >= ctx.config.offsets_retention_ms
}
