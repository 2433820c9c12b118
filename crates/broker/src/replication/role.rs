//! This node's role in a partition, as the metadata gives it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chronik_base::{ErrorCode, NodeId};
use chronik_log::PartitionLog;
use chronik_replica::{EpochLog, Follower, Leader, LeaderStart, PartitionUpdate};

use crate::partition::{FeedOf, Partition, code_of};
use crate::produce_wait::{ProduceShare, Wakers};
use crate::sync::{Hold, Share};
use crate::timing::Timed;

/// What this node does in a partition.
#[derive(Default)]
pub(crate) enum Role {
    /// Nothing: the metadata has not said yet, or the partition is gone.
    #[default]
    None,
    Leader(Leader<ProduceShare>),
    /// Of another node, or of none while nobody leads (the leader is then -1).
    Follower(Follower),
}

/// The role, and what is to become of it.
#[derive(Default)]
pub(crate) struct RoleState {
    pub(crate) role: Role,
    /// The log is being cut to where it agrees with its leader's; the role stays what it is until that is done.
    pub(crate) is_cutting: bool,
    /// What the metadata said meanwhile.
    pub(crate) next: Option<chronik_meta::Partition>,
    /// Produce requests whose stages are noted.
    pub(crate) timed: Timed,
}

/// What a change of the metadata meant for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleChange {
    /// Nothing that others have to know.
    None,
    /// This node leads in a new epoch.
    Leads,
    /// This node follows, a new leader or in a new epoch.
    Follows,
}

/// What roles depend on beside the metadata.
#[derive(Clone, Copy)]
pub(crate) struct RoleContext {
    pub(crate) node: NodeId,
    /// The metadata know of this process. Before that they speak of the one that ran here last: leading in its epochs could give one
    /// offset two different records of one epoch.
    pub(crate) is_registered: bool,
    pub(crate) lag_time_max_ms: u64,
    pub(crate) now_ms: u64,
}

/// A log's epochs, for the state machines.
pub(crate) struct Epochs<'a>(pub(crate) &'a PartitionLog);

impl EpochLog for Epochs<'_> {
    fn log_start(&self) -> i64 {
        self.0.log_start_offset()
    }

    fn log_end(&self) -> i64 {
        self.0.log_end_offset()
    }

    fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.0.end_offset_for_epoch(epoch)
    }
}

impl Partition {
    /// Takes the role that the metadata gives. While the log is being cut it waits for the end of that.
    pub(crate) fn follow_metadata(
        &self,
        now: &chronik_meta::Partition,
        context: RoleContext,
        wakers: &mut Wakers,
    ) -> RoleChange {
        let change = {
            let mut state = self.state.hold();
            if state.is_cutting {
                state.next = Some(now.clone());
                return RoleChange::None;
            }
            self.take_role(&mut state.role, now, context, wakers)
        };
        if change != RoleChange::None {
            // Who waits at the tail looks again, and hears that the leader is another one.
            self.watchers.fire(wakers);
        }
        change
    }

    fn take_role(
        &self,
        role: &mut Role,
        now: &chronik_meta::Partition,
        context: RoleContext,
        wakers: &mut Wakers,
    ) -> RoleChange {
        let epoch = now.leader_epoch;
        let leads = now.leader == context.node && context.is_registered;
        let leader = if now.leader == context.node { -1 } else { now.leader };
        match role {
            Role::Leader(leader) if leads && leader.epoch() == epoch => {
                let update = PartitionUpdate {
                    leader_epoch: epoch,
                    partition_epoch: now.partition_epoch,
                    replicas: &now.replicas,
                    isr: &now.isr,
                };
                let updated = leader.on_partition(update, context.now_ms, |share, settled| {
                    wakers.add(share.settle(code_of(settled)));
                });
                if let Ok(progress) = updated {
                    self.note(leader, progress);
                    if progress.advanced {
                        self.watchers.fire(wakers);
                    }
                }
                self.keep_feeds(|feed| {
                    let kept = now.replicas.contains(&feed.feed.follower);
                    kept.then(|| now.isr.contains(&feed.feed.follower))
                });
                return RoleChange::None;
            }
            Role::Follower(follower) if !leads && follower.epoch() == epoch => return RoleChange::None,
            // What comes late is not news.
            Role::Leader(leader) if leader.epoch() > epoch => return RoleChange::None,
            Role::Follower(follower) if follower.epoch() > epoch => return RoleChange::None,
            Role::Leader(leader) => {
                self.is_leader.store(false, Ordering::Release);
                leader.fail_all(|share| wakers.add(share.settle(ErrorCode::NotLeaderOrFollower)));
            }
            Role::Follower(_) | Role::None => {}
        }
        self.keep_feeds(|_| None);
        self.leader_epoch.store(epoch, Ordering::Release);
        self.flush_wanted.store(false, Ordering::Release);
        let known = self.high_watermark();
        let log_end = self.log.log_end_offset();
        if !leads {
            let follower = Follower::new(leader, epoch, known, log_end);
            self.epoch_start.store(0, Ordering::Release);
            self.high_watermark.store(follower.high_watermark(), Ordering::Release);
            self.log.set_high_watermark(follower.high_watermark());
            *role = Role::Follower(follower);
            return RoleChange::Follows;
        }
        self.log.begin_epoch(epoch);
        let leader = Leader::new(LeaderStart {
            node: context.node,
            epoch,
            partition_epoch: now.partition_epoch,
            replicas: &now.replicas,
            isr: &now.isr,
            log_end,
            flushed_end: self.log.flushed_offset(),
            high_watermark: known,
            min_insync_replicas: self.settings().min_insync_replicas,
            lag_time_max_ms: context.lag_time_max_ms,
            now_ms: context.now_ms,
        });
        self.high_watermark.store(leader.high_watermark(), Ordering::Release);
        self.log.set_high_watermark(leader.high_watermark());
        self.epoch_start.store(leader.epoch_start(), Ordering::Release);
        *role = Role::Leader(leader);
        self.is_leader.store(true, Ordering::Release);
        RoleChange::Leads
    }

    /// Keeps the connections for which `in_sync` has an answer.
    pub(crate) fn keep_feeds(&self, in_sync: impl Fn(&FeedOf) -> Option<bool>) {
        let mut feeds = self.feeds.exclusive();
        if feeds.is_empty() {
            return;
        }
        *feeds = feeds
            .iter()
            .filter_map(|feed| Some(FeedOf { feed: feed.feed.clone(), in_sync: in_sync(feed)? }))
            .collect();
    }

    /// Sends what is written over `feed`, too.
    pub(crate) fn add_feed(&self, feed: FeedOf) {
        let mut feeds = self.feeds.exclusive();
        let others = feeds.iter().filter(|other| other.feed.follower != feed.feed.follower).cloned();
        *feeds = others.chain([feed.clone()]).collect();
    }

    /// Sends nothing more over `feed`.
    pub(crate) fn remove_feed(&self, feed: &Arc<crate::replication::feed::Feed>) {
        self.keep_feeds(|other| (!Arc::ptr_eq(&other.feed, feed)).then_some(other.in_sync));
    }
}
