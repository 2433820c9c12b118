//! The leader of a partition: what its in-sync replicas hold, and the high watermark that follows from it.

use chronik_base::NodeId;

use crate::acks::{AckQueue, AckTimeout};
use crate::member::Member;
use crate::proposal::Proposals;
use crate::subscription::StreamId;

/// What a leader begins with.
#[derive(Clone, Copy, Debug)]
pub struct LeaderStart<'a> {
    /// This node.
    pub node: NodeId,
    /// The leader epoch that the quorum gave.
    pub epoch: i32,
    /// The partition epoch of that decision.
    pub partition_epoch: i32,
    /// Everyone who holds the partition or is about to, this node among them.
    pub replicas: &'a [NodeId],
    /// The in-sync replicas, this node among them.
    pub isr: &'a [NodeId],
    /// Where this node's log ends: the start offset of the leader epoch.
    pub log_end: i64,
    /// How far the log is flushed.
    pub flushed_end: i64,
    /// The high watermark that this node knew until now; 0 if none. Never above `log_end`.
    pub high_watermark: i64,
    /// The topic's `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// The monotonic clock, in milliseconds.
    pub now_ms: u64,
}

/// One partition's leader in one leader epoch. `T` names whoever waits for an acknowledgement.
#[derive(Debug)]
pub struct Leader<T> {
    pub(crate) node: NodeId,
    pub(crate) epoch: i32,
    pub(crate) partition_epoch: i32,
    pub(crate) epoch_start: i64,
    pub(crate) min_insync_replicas: usize,
    pub(crate) lag_time_max_ms: u64,
    /// All replicas but this one.
    pub(crate) followers: Vec<Member>,
    pub(crate) proposals: Proposals,
    /// The log's end, what is not written yet included.
    pub(crate) appended: i64,
    pub(crate) written: i64,
    pub(crate) flushed: i64,
    pub(crate) high_watermark: i64,
    pub(crate) on_write: AckQueue<T>,
    pub(crate) on_commit: AckQueue<T>,
}

/// How far the partition has come with one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The high watermark now.
    pub high_watermark: i64,
    /// True if it moved.
    pub advanced: bool,
}

/// How a wait for `acks=all` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Everything that it waited for is committed.
    Acknowledged,
    /// Too few replicas are in sync, or there, to commit it: `NOT_ENOUGH_REPLICAS_AFTER_APPEND`.
    NotEnoughReplicas,
}

/// A follower's subscription that was answered with a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamStart {
    /// The follower.
    pub node: NodeId,
    /// The leader epoch that it subscribed in.
    pub epoch: i32,
    /// The stream, as the follower named it.
    pub stream: StreamId,
    /// How far its log is flushed; checked against the leader's epochs by [`crate::answer_subscription`].
    pub flushed_end: i64,
}

/// Why the leader does not take a word as said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// It is of another leader epoch: fenced.
    #[error(
        "leader epoch {found} is not the current one, {current}: wait for newer metadata and subscribe again"
    )]
    Fenced {
        /// The epoch that was given.
        found: i32,
        /// The leader's.
        current: i32,
    },
    /// Fewer replicas are in sync, and there, than `min.insync.replicas` asks for.
    #[error("{in_sync} replicas are in sync, {present} of them connected; min.insync.replicas is {needed}")]
    NotEnoughReplicas {
        /// How many are in sync, the leader counted.
        in_sync: usize,
        /// How many of those are there: connected, or gone for less than [`crate::DISCONNECT_GRACE_MS`].
        present: usize,
        /// The setting.
        needed: usize,
    },
    /// The sender holds no replica.
    #[error("node {0} is not a replica of the partition")]
    NotReplica(NodeId),
    /// The word belongs to a stream that ended or never began.
    #[error("node {node} speaks of stream {found}, the current one is {}", Current(*current))]
    StaleStream {
        /// The sender.
        node: NodeId,
        /// The stream that was given.
        found: StreamId,
        /// The one that counts, if any.
        current: Option<StreamId>,
    },
}

struct Current(Option<StreamId>);

impl std::fmt::Display for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(stream) => stream.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl<T> Leader<T> {
    /// The leader that the quorum made with `start`. Alone in its ISR, it is committed as far as its log is flushed.
    pub fn new(start: LeaderStart<'_>) -> Self {
        let LeaderStart { node, now_ms, log_end, flushed_end, .. } = start;
        let followers = start
            .replicas
            .iter()
            .chain(start.isr.iter().filter(|id| !start.replicas.contains(id)))
            .filter(|&&id| id != node)
            .map(|&id| Member::new(id, start.isr.contains(&id), now_ms))
            .collect();
        let mut leader = Self {
            node,
            epoch: start.epoch,
            partition_epoch: start.partition_epoch,
            epoch_start: log_end,
            min_insync_replicas: start.min_insync_replicas,
            lag_time_max_ms: start.lag_time_max_ms,
            followers,
            proposals: Proposals::default(),
            appended: log_end,
            written: log_end,
            flushed: flushed_end.min(log_end),
            high_watermark: start.high_watermark.min(log_end).max(0),
            on_write: AckQueue::default(),
            on_commit: AckQueue::default(),
        };
        leader.advance();
        leader
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The leader epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The partition epoch of the last decision of the quorum that arrived.
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Where the log ended when this leader began.
    pub fn epoch_start(&self) -> i64 {
        self.epoch_start
    }

    /// Everything below it is flushed on every in-sync replica; consumers read no further.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The topic's `min.insync.replicas` changed. Takes effect on waits with the next event.
    pub fn set_min_insync_replicas(&mut self, needed: usize) {
        self.min_insync_replicas = needed;
    }

    /// `replica.lag.time.max.ms` changed.
    pub fn set_lag_time_max_ms(&mut self, ms: u64) {
        self.lag_time_max_ms = ms;
    }

    /// The in-sync replicas that the quorum decided on: this node, then the others in the order of the replicas.
    pub fn isr(&self) -> impl Iterator<Item = NodeId> {
        std::iter::once(self.node).chain(self.followers.iter().filter(|m| m.in_isr).map(|m| m.node))
    }

    /// Whether `acks=all` may be appended now: at least `min.insync.replicas` replicas are in sync and connected (or not for long
    /// disconnected), so that a producer is refused at once also while the quorum that would shrink the ISR is down.
    ///
    /// # Errors
    /// [`LeaderError::NotEnoughReplicas`].
    pub fn check_in_sync(&self, now_ms: u64) -> Result<(), LeaderError> {
        let needed = self.min_insync_replicas;
        if needed <= 1 {
            return Ok(());
        }
        let mut in_sync = 1;
        let mut present = 1;
        for member in self.followers.iter().filter(|member| member.in_isr) {
            in_sync += 1;
            present += usize::from(member.is_present(now_ms));
        }
        if in_sync < needed || present < needed {
            return Err(LeaderError::NotEnoughReplicas { in_sync, present, needed });
        }
        Ok(())
    }

    /// The leader's own log has grown to `end_offset`, written or not: the time that followers have for it begins. Whoever waits for it says so by that; for
    /// an append that nobody waits for it is to be said.
    pub fn on_appended(&mut self, end_offset: i64, now_ms: u64) {
        if end_offset > self.appended {
            self.appended = end_offset;
            let lag_ms = self.lag_time_max_ms;
            self.followers.iter_mut().for_each(|member| member.look(end_offset, now_ms, lag_ms));
        }
    }

    /// `who` waits until everything below `end_offset` is in the leader's log (`acks=1`). Handed back if it already is.
    pub fn wait_for_write(&mut self, end_offset: i64, now_ms: u64, deadline_ms: u64, who: T) -> Option<T> {
        self.on_appended(end_offset, now_ms);
        if end_offset <= self.written {
            return Some(who);
        }
        self.on_write.push(end_offset, now_ms, deadline_ms, who);
        None
    }

    /// `who` waits until the high watermark reaches `end_offset` (`acks=all`). Handed back if it already has.
    pub fn wait_for_commit(&mut self, end_offset: i64, now_ms: u64, deadline_ms: u64, who: T) -> Option<T> {
        self.on_appended(end_offset, now_ms);
        if end_offset <= self.high_watermark {
            return Some(who);
        }
        self.on_commit.push(end_offset, now_ms, deadline_ms, who);
        None
    }

    /// The leader's own log is written up to `end_offset`.
    pub fn on_written(&mut self, end_offset: i64, to: impl FnMut(T)) {
        self.written = self.written.max(end_offset);
        self.appended = self.appended.max(end_offset);
        self.on_write.acknowledge(self.written, to);
    }

    /// The leader's own log is flushed up to `end_offset`.
    pub fn on_flushed(&mut self, end_offset: i64, mut to: impl FnMut(T)) -> Progress {
        self.flushed = self.flushed.max(end_offset);
        self.on_written(end_offset, &mut to);
        self.settle(to)
    }

    /// A follower's subscription was answered with a stream. Its log equals the leader's up to where it is flushed.
    ///
    /// # Errors
    /// [`LeaderError::Fenced`], [`LeaderError::NotReplica`], and [`LeaderError::StaleStream`] where a newer subscription of the node came before.
    pub fn on_follower_subscribed(
        &mut self,
        start: StreamStart,
        now_ms: u64,
        to: impl FnMut(T),
    ) -> Result<Progress, LeaderError> {
        self.check_epoch(start.epoch)?;
        let (log_end, lag_ms) = (self.appended, self.lag_time_max_ms);
        let member = self.member(start.node)?;
        if member.stream.is_some_and(|current| start.stream <= current) {
            let (found, current) = (start.stream, member.stream);
            return Err(LeaderError::StaleStream { node: start.node, found, current });
        }
        member.on_subscribed(start.stream, start.flushed_end, now_ms);
        member.look(log_end, now_ms, lag_ms);
        Ok(self.settle(to))
    }

    /// A follower says in leader epoch `epoch`, of its stream `stream`, that it has flushed everything below `end_offset`. In the ISR
    /// or not: one that catches up comes back.
    ///
    /// # Errors
    /// [`LeaderError::Fenced`], [`LeaderError::NotReplica`], [`LeaderError::StaleStream`]: nothing moves.
    pub fn on_follower_flushed(
        &mut self,
        follower: NodeId,
        epoch: i32,
        stream: StreamId,
        end_offset: i64,
        now_ms: u64,
        to: impl FnMut(T),
    ) -> Result<Progress, LeaderError> {
        self.check_epoch(epoch)?;
        let (log_end, lag_ms) = (self.appended, self.lag_time_max_ms);
        let member = self.member(follower)?;
        if member.stream != Some(stream) {
            let current = member.stream;
            return Err(LeaderError::StaleStream { node: follower, found: stream, current });
        }
        member.on_flushed(end_offset, now_ms);
        member.look(log_end, now_ms, lag_ms);
        Ok(self.settle(to))
    }

    /// The follower's stream ended. What it flushed counts on; it does not count as present for long. A stream that another one followed is
    /// nobody's any more.
    pub fn on_follower_disconnected(&mut self, follower: NodeId, stream: StreamId, now_ms: u64) {
        if let Ok(member) = self.member(follower)
            && member.stream == Some(stream)
        {
            member.on_disconnected(now_ms);
        }
    }

    /// Nobody listens at the follower's address: its process is gone, and it leaves the ISR at once (with the next proposal).
    pub fn on_follower_refused(&mut self, follower: NodeId, now_ms: u64) {
        if let Ok(member) = self.member(follower) {
            member.on_refused(now_ms);
        }
    }

    /// The follower says that its disk takes nothing of its stream, or that it will not subscribe (then `stream` is a name that it has not used):
    /// nothing that it lacks will come by waiting, so it leaves the ISR at once (with the next proposal), and comes back when it subscribes
    /// again and has caught up.
    pub fn on_follower_unable(&mut self, follower: NodeId, stream: StreamId, now_ms: u64) {
        if let Ok(member) = self.member(follower)
            && member.stream.is_none_or(|current| stream >= current)
        {
            member.on_unable(now_ms);
        }
    }

    /// Time has passed: hands out whoever waits for `acks=all` while too few replicas are there. Due at [`Leader::next_tick_ms`]; a tick that comes
    /// early does no harm. Look at [`Leader::propose`] afterwards.
    pub fn tick(&mut self, now_ms: u64, to: impl FnMut(T, Settled)) {
        let (log_end, lag_ms) = (self.appended, self.lag_time_max_ms);
        self.followers.iter_mut().for_each(|member| member.look(log_end, now_ms, lag_ms));
        self.settle_or_fail(now_ms, to);
    }

    /// When something is due though nothing happens: a follower that is to leave the ISR, a wait that can't be met, a proposal to be
    /// made again. `None`: not before the next event.
    pub fn next_tick_ms(&self) -> Option<u64> {
        let mut next: Option<u64> = None;
        let mut at = |due: Option<u64>| {
            if let Some(due) = due {
                next = Some(next.map_or(due, |next: u64| next.min(due)));
            }
        };
        let waits = !self.on_commit.is_empty() && self.min_insync_replicas > 1;
        for member in self.followers.iter().filter(|member| member.in_isr) {
            if waits {
                at(member.absent_at());
            }
            if let Some(due) = self.out_of_sync_at(member) {
                at(self.proposals.not_before(due));
            }
        }
        if self.wants_to_grow() || self.wants_to_settle() {
            at(self.proposals.not_before(0));
        }
        next
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

    /// Hands out whoever waits for records at `end_offset` and above: they were taken back. What is below is there, and is waited for on.
    pub fn fail_above(&mut self, end_offset: i64, mut to: impl FnMut(T)) {
        self.on_write.fail_above(end_offset, &mut to);
        self.on_commit.fail_above(end_offset, &mut to);
    }

    /// The log was cut back to `end_offset` after a write that failed; what was flushed is not cut. If any of it was sent to a follower, this leader must
    /// give up its epoch: no two records of one epoch may ever have one offset.
    pub fn on_cut(&mut self, end_offset: i64) {
        self.written = self.written.min(end_offset.max(self.flushed));
        self.appended = self.appended.min(end_offset.max(self.flushed));
        let log_end = self.appended;
        self.followers.iter_mut().for_each(|member| member.on_cut(log_end));
    }

    /// Whether there is any replica beside this one.
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Whether anybody waits.
    pub fn has_waiters(&self) -> bool {
        !self.on_write.is_empty() || !self.on_commit.is_empty()
    }

    /// Whether somebody waits for a commit, so that followers are to flush what they get instead of waiting for `flush.ms`.
    pub fn wants_flush(&self) -> bool {
        !self.on_commit.is_empty()
    }

    pub(crate) fn check_epoch(&self, epoch: i32) -> Result<(), LeaderError> {
        if epoch != self.epoch {
            return Err(LeaderError::Fenced { found: epoch, current: self.epoch });
        }
        Ok(())
    }

    pub(crate) fn out_of_sync_at(&self, member: &Member) -> Option<u64> {
        member.out_of_sync_at(self.appended, self.high_watermark, self.lag_time_max_ms)
    }

    fn member(&mut self, node: NodeId) -> Result<&mut Member, LeaderError> {
        self.followers.iter_mut().find(|member| member.node == node).ok_or(LeaderError::NotReplica(node))
    }

    fn settle(&mut self, to: impl FnMut(T)) -> Progress {
        let advanced = self.advance();
        self.on_commit.acknowledge(self.high_watermark, to);
        Progress { high_watermark: self.high_watermark, advanced }
    }

    pub(crate) fn settle_or_fail(&mut self, now_ms: u64, mut to: impl FnMut(T, Settled)) -> Progress {
        let progress = self.settle(|who| to(who, Settled::Acknowledged));
        if !self.on_commit.is_empty() && self.check_in_sync(now_ms).is_err() {
            self.on_commit.fail_all(|who| to(who, Settled::NotEnoughReplicas));
        }
        progress
    }

    /// True while the ISR that was decided on is too small to commit anything (KIP-966). A topic with fewer replicas than
    /// `min.insync.replicas` commits with all of them: producers with `acks=all` are refused there, others may be read.
    fn is_below_min(&self) -> bool {
        let needed = self.min_insync_replicas.min(self.followers.len() + 1);
        needed > 1 && 1 + self.followers.iter().filter(|member| member.in_isr).count() < needed
    }

    fn advance(&mut self) -> bool {
        let mut everywhere = self.flushed;
        for member in self.followers.iter().filter(|member| member.counts()) {
            everywhere = everywhere.min(member.flushed);
        }
        // It never goes back: a member that joins the ISR has caught up to it first.
        if everywhere <= self.high_watermark || self.is_below_min() {
            return false;
        }
        self.high_watermark = everywhere;
        true
    }
}
