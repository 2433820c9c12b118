//! The leader of a partition: what its in-sync replicas hold, and the high watermark that follows from it.

use chronik_base::NodeId;

use crate::acks::{AckQueue, AckTimeout};

/// One partition's leader in one leader epoch.
#[derive(Debug)]
pub struct Leader<T> {
    node: NodeId,
    epoch: i32,
    min_insync_replicas: usize,
    /// In-sync replicas other than this node, with the offset that each has flushed.
    followers: Vec<(NodeId, i64)>,
    written: i64,
    flushed: i64,
    high_watermark: i64,
    on_write: AckQueue<T>,
    on_commit: AckQueue<T>,
}

/// How far the partition has come with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The high watermark now.
    pub high_watermark: i64,
    /// True if it moved.
    pub advanced: bool,
}

/// Why the leader does not take a word as said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// It is of another leader epoch: fenced.
    #[error("leader epoch {found} is not the current one, {current}")]
    Fenced {
        /// The epoch that was given.
        found: i32,
        /// The leader's.
        current: i32,
    },
    /// Fewer replicas are in sync than `min.insync.replicas` asks for.
    #[error("{in_sync} replicas are in sync; min.insync.replicas is {needed}")]
    NotEnoughReplicas {
        /// How many are in sync, the leader counted.
        in_sync: usize,
        /// The setting.
        needed: usize,
    },
    /// The sender is no in-sync replica.
    #[error("node {0} is not in the ISR")]
    NotInSync(NodeId),
}

impl<T> Leader<T> {
    /// The leader `node` in epoch `epoch`, whose log ends at `log_end` and is flushed that far, with `isr` in sync.
    pub fn new(node: NodeId, epoch: i32, isr: &[NodeId], log_end: i64, min_insync_replicas: usize) -> Self {
        let followers: Vec<_> = isr.iter().filter(|&&id| id != node).map(|&id| (id, 0)).collect();
        let mut leader = Self {
            node,
            epoch,
            min_insync_replicas,
            followers,
            written: log_end,
            flushed: log_end,
            high_watermark: 0,
            on_write: AckQueue::default(),
            on_commit: AckQueue::default(),
        };
        leader.advance();
        leader
    }

    /// The leader epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Everything below it is flushed on every in-sync replica; consumers read no further.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The topic's `min.insync.replicas` changed.
    pub fn set_min_insync_replicas(&mut self, needed: usize) {
        self.min_insync_replicas = needed;
    }

    /// Whether `acks=all` may be appended now: at least `min.insync.replicas` replicas are in sync.
    pub fn check_in_sync(&self) -> Result<(), LeaderError> {
        let in_sync = self.followers.len() + 1;
        if in_sync < self.min_insync_replicas {
            return Err(LeaderError::NotEnoughReplicas { in_sync, needed: self.min_insync_replicas });
        }
        Ok(())
    }

    /// `who` waits until everything below `end_offset` is in the leader's log (`acks=1`).
    pub fn wait_for_write(&mut self, end_offset: i64, now_ms: u64, deadline_ms: u64, who: T) -> Option<T> {
        if end_offset <= self.written {
            return Some(who);
        }
        self.on_write.push(end_offset, now_ms, deadline_ms, who);
        None
    }

    /// `who` waits until the high watermark reaches `end_offset` (`acks=all`). Handed back if it already has.
    pub fn wait_for_commit(&mut self, end_offset: i64, now_ms: u64, deadline_ms: u64, who: T) -> Option<T> {
        if end_offset <= self.high_watermark {
            return Some(who);
        }
        self.on_commit.push(end_offset, now_ms, deadline_ms, who);
        None
    }

    /// The leader's own log is written up to `end_offset`.
    pub fn on_written(&mut self, end_offset: i64, to: impl FnMut(T)) {
        self.written = self.written.max(end_offset);
        self.on_write.acknowledge(self.written, to);
    }

    /// The leader's own log is flushed up to `end_offset`.
    pub fn on_flushed(&mut self, end_offset: i64, mut to: impl FnMut(T)) -> Progress {
        self.flushed = self.flushed.max(end_offset);
        self.on_written(end_offset, &mut to);
        self.settle(to)
    }

    /// An in-sync follower says in leader epoch `epoch` that it has flushed up to `end_offset`.
    pub fn on_follower_flushed(
        &mut self,
        follower: NodeId,
        epoch: i32,
        end_offset: i64,
        to: impl FnMut(T),
    ) -> Result<Progress, LeaderError> {
        if epoch != self.epoch {
            return Err(LeaderError::Fenced { found: epoch, current: self.epoch });
        }
        let held = self
            .followers
            .iter_mut()
            .find(|(id, _)| *id == follower)
            .map(|(_, held)| held)
            .ok_or(LeaderError::NotInSync(follower))?;
        *held = (*held).max(end_offset);
        Ok(self.settle(to))
    }

    /// Hands out whoever waits past its deadline, whichever acknowledgement it is.
    pub fn expire(&mut self, now_ms: u64, mut to: impl FnMut(AckTimeout<T>)) {
        self.on_write.expire(now_ms, &mut to);
        self.on_commit.expire(now_ms, &mut to);
    }

    /// Hands out everyone who waits: nothing more will be acknowledged in this epoch.
    pub fn fail_all(&mut self, mut to: impl FnMut(T)) {
        self.on_write.fail_all(&mut to);
        self.on_commit.fail_all(&mut to);
    }

    /// The log was cut back to `end_offset` after a write that failed; what was flushed is not cut.
    pub fn on_cut(&mut self, end_offset: i64) {
        self.written = self.written.min(end_offset.max(self.flushed));
    }

    /// Whether anybody waits.
    pub fn has_waiters(&self) -> bool {
        !self.on_write.is_empty() || !self.on_commit.is_empty()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    fn settle(&mut self, to: impl FnMut(T)) -> Progress {
        let advanced = self.advance();
        self.on_commit.acknowledge(self.high_watermark, to);
        Progress { high_watermark: self.high_watermark, advanced }
    }

    fn advance(&mut self) -> bool {
        let everywhere = self.followers.iter().fold(self.flushed, |least, (_, held)| least.min(*held));
        let advanced = everywhere > self.high_watermark;
        // It never goes back: a member that joins the ISR has caught up to it first.
        self.high_watermark = self.high_watermark.max(everywhere);
        advanced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_the_high_watermark_is_what_is_flushed() {
        let mut leader = Leader::new(1, 0, &[1], 10, 1);
        assert_eq!(leader.high_watermark(), 10);
        assert_eq!(leader.wait_for_write(12, 0, 10, "acks=1"), None);
        assert_eq!(leader.wait_for_commit(12, 0, 10, "acks=all"), None);
        let mut out = Vec::new();
        leader.on_written(12, |who| out.push(who));
        assert_eq!(out, ["acks=1"]);
        assert_eq!(leader.high_watermark(), 10, "written is not flushed");
        let progress = leader.on_flushed(12, |who| out.push(who));
        assert_eq!(progress, Progress { high_watermark: 12, advanced: true });
        assert_eq!(out, ["acks=1", "acks=all"]);
        assert_eq!(leader.wait_for_commit(12, 0, 10, "late"), Some("late"));
    }

    #[test]
    fn every_member_of_the_isr_counts_and_nobody_else() {
        let mut leader = Leader::new(1, 3, &[1, 2, 3], 0, 2);
        assert_eq!(leader.wait_for_commit(5, 0, 10, ()), None);
        let mut out = 0;
        leader.on_flushed(5, |()| out += 1);
        leader.on_follower_flushed(2, 3, 5, |()| out += 1).unwrap();
        assert_eq!((out, leader.high_watermark()), (0, 0));
        let fenced = leader.on_follower_flushed(3, 2, 5, |()| out += 1);
        assert_eq!(fenced, Err(LeaderError::Fenced { found: 2, current: 3 }));
        let stranger = leader.on_follower_flushed(4, 3, 5, |()| out += 1);
        assert_eq!(stranger, Err(LeaderError::NotInSync(4)));
        leader.on_follower_flushed(3, 3, 5, |()| out += 1).unwrap();
        assert_eq!((out, leader.high_watermark()), (1, 5));
    }

    #[test]
    fn refuses_all_while_too_few_are_in_sync() {
        let mut leader = Leader::<()>::new(1, 0, &[1], 0, 2);
        assert_eq!(leader.check_in_sync(), Err(LeaderError::NotEnoughReplicas { in_sync: 1, needed: 2 }));
        leader.set_min_insync_replicas(1);
        assert_eq!(leader.check_in_sync(), Ok(()));
    }

    #[test]
    fn a_cut_forgets_what_was_not_written() {
        let mut leader = Leader::<()>::new(1, 0, &[1], 10, 1);
        leader.on_written(20, |()| {});
        leader.on_cut(15);
        assert_eq!(leader.wait_for_write(16, 0, 10, ()), None);
        assert!(leader.has_waiters());
    }
}
