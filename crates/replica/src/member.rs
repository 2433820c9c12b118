//! A follower as its leader sees it.

use chronik_base::NodeId;

use crate::subscription::StreamId;

/// A member of the ISR that is disconnected for no longer than this still counts for `min.insync.replicas`, in milliseconds: a connection that
/// breaks and comes back must not fail producers.
pub const DISCONNECT_GRACE_MS: u64 = 500;

/// How a follower is doing, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It never subscribed in this leader epoch.
    NeverSubscribed,
    /// It receives the stream and is behind.
    CatchingUp,
    /// It receives the stream and has flushed all that the leader's log held when that was last looked at.
    CaughtUp,
    /// Its stream ended.
    Disconnected,
    /// Nobody listens at its address.
    Refused,
    /// It is there and can't write what it is sent: its disk is full, or failed.
    Unable,
}

/// Whether the follower is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Never,
    Up,
    Down,
    Refused,
    Unable,
}

/// What the leader knows of one follower.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    /// In the ISR that the quorum decided on.
    pub(crate) in_isr: bool,
    /// In an ISR that this leader proposed on the current partition epoch and that may still come into force.
    pub(crate) maybe_in_isr: bool,
    /// Everything below it is on its disk and equal to the leader's log.
    pub(crate) flushed: i64,
    /// The stream that it reads; `None` before its first one in this leader epoch.
    pub(crate) stream: Option<StreamId>,
    link: Link,
    /// When `link` became what it is.
    pub(crate) link_since_ms: u64,
    pub(crate) last_ack_ms: Option<u64>,
    /// The last time of which it is known that the follower came to hold all that the leader's log held then. While there is no goal, it still does.
    caught_up_ms: u64,
    /// What it has to reach, in the order of time; only the first `goal_count` count. Several, so that one that is reached late does not give the next a
    /// whole time anew.
    goals: [Goal; GOALS],
    goal_count: usize,
}

/// Moments that are kept of a follower that is behind: a part of `replica.lag.time.max.ms` apart, so that is how exactly it is kept.
const GOALS: usize = 4;

/// What a follower that is behind has to reach next, and in time: everything that the leader's log held at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Goal {
    end: i64,
    since_ms: u64,
}

impl Member {
    /// A replica that has not subscribed yet. It has the time since `now_ms` to do so.
    pub(crate) fn new(node: NodeId, in_isr: bool, now_ms: u64) -> Self {
        Self {
            node,
            in_isr,
            maybe_in_isr: false,
            flushed: 0,
            stream: None,
            link: Link::Never,
            link_since_ms: now_ms,
            last_ack_ms: None,
            caught_up_ms: now_ms,
            goals: [Goal::default(); GOALS],
            goal_count: 0,
        }
    }

    /// In the ISR, or perhaps: it holds the high watermark back.
    pub(crate) fn counts(&self) -> bool {
        self.in_isr || self.maybe_in_isr
    }

    /// Its broker epoch as it said itself; -1 if it did not subscribe since this leader began.
    pub(crate) fn broker_epoch(&self) -> i64 {
        self.stream.map_or(-1, |stream| stream.broker_epoch)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether producers may count on it: connected, or not for long disconnected.
    pub(crate) fn is_present(&self, now_ms: u64) -> bool {
        self.absent_at().is_none_or(|at| now_ms < at)
    }

    /// When it is to be counted absent unless it connects: `None` while it is connected.
    pub(crate) fn absent_at(&self) -> Option<u64> {
        match self.link {
            Link::Up => None,
            Link::Refused | Link::Unable => Some(self.link_since_ms),
            Link::Never | Link::Down => Some(self.link_since_ms.saturating_add(DISCONNECT_GRACE_MS)),
        }
    }

    pub(crate) fn on_subscribed(&mut self, stream: StreamId, flushed: i64, now_ms: u64) {
        self.stream = Some(stream);
        self.flushed = flushed;
        self.link = Link::Up;
        self.link_since_ms = now_ms;
    }

    pub(crate) fn on_flushed(&mut self, end: i64, now_ms: u64) {
        self.flushed = self.flushed.max(end);
        self.last_ack_ms = Some(now_ms);
    }

    /// The leader's log ends at `leader_end` now.
    pub(crate) fn look(&mut self, leader_end: i64, now_ms: u64, lag_time_max_ms: u64) {
        let open = self.goals.get(..self.goal_count).unwrap_or_default();
        let reached = open.iter().take_while(|goal| self.flushed >= goal.end).count();
        match open.get(..reached).and_then(<[Goal]>::last) {
            Some(goal) => self.caught_up_ms = goal.since_ms,
            // Until now it held all that there was.
            None if open.is_empty() => self.caught_up_ms = self.caught_up_ms.max(now_ms),
            None => {}
        }
        self.goals.rotate_left(reached);
        self.goal_count -= reached;
        if self.flushed >= leader_end {
            return;
        }
        let apart = lag_time_max_ms / GOALS as u64;
        let last = self.goals.get(..self.goal_count).and_then(<[Goal]>::last);
        if last.is_none_or(|last| now_ms >= last.since_ms.saturating_add(apart))
            && let Some(free) = self.goals.get_mut(self.goal_count)
        {
            *free = Goal { end: leader_end, since_ms: now_ms };
            self.goal_count += 1;
        }
    }

    /// The first moment of which it does not hold yet what there was.
    fn behind_since_ms(&self) -> Option<u64> {
        self.goals.get(..self.goal_count)?.first().map(|goal| goal.since_ms)
    }

    /// The leader's log was cut back to `leader_end`.
    pub(crate) fn on_cut(&mut self, leader_end: i64) {
        for goal in &mut self.goals {
            goal.end = goal.end.min(leader_end);
        }
    }

    /// Time since it last held everything that the leader's log held, in milliseconds.
    pub(crate) fn behind_ms(&self, leader_end: i64, now_ms: u64) -> u64 {
        if self.flushed >= leader_end { 0 } else { now_ms.saturating_sub(self.caught_up_ms) }
    }

    pub(crate) fn on_disconnected(&mut self, now_ms: u64) {
        if self.link == Link::Up {
            self.link = Link::Down;
            self.link_since_ms = now_ms;
        }
    }

    /// A stream that lives says more than a dial that failed.
    pub(crate) fn on_refused(&mut self, now_ms: u64) {
        if !matches!(self.link, Link::Refused | Link::Up) {
            self.link = Link::Refused;
            self.link_since_ms = now_ms;
        }
    }

    /// Its disk takes no writes. It subscribes again when that has passed.
    pub(crate) fn on_unable(&mut self, now_ms: u64) {
        if !matches!(self.link, Link::Refused | Link::Unable) {
            self.link = Link::Unable;
            self.link_since_ms = now_ms;
        }
    }

    /// When it is to leave the ISR if nothing changes; `None` while it is connected and caught up.
    pub(crate) fn out_of_sync_at(
        &self,
        leader_end: i64,
        committed: i64,
        lag_time_max_ms: u64,
    ) -> Option<u64> {
        match self.link {
            Link::Refused | Link::Unable => Some(self.link_since_ms),
            // A member that comes back with less than is committed has lost what it once acknowledged.
            Link::Up if self.in_isr && self.flushed < committed => Some(self.link_since_ms),
            Link::Up if self.flushed >= leader_end => None,
            Link::Up => self.behind_since_ms().map(|since_ms| since_ms.saturating_add(lag_time_max_ms)),
            // One that was there and is gone holds nobody up for longer than the grace: it comes back as soon as it is there again.
            Link::Down => Some(self.link_since_ms.saturating_add(DISCONNECT_GRACE_MS.min(lag_time_max_ms))),
            // One that was never there can't say that it is caught up, however little it misses.
            Link::Never => {
                let since_ms = self.behind_since_ms().unwrap_or(u64::MAX).min(self.link_since_ms);
                Some(since_ms.saturating_add(lag_time_max_ms))
            }
        }
    }

    pub(crate) fn state(&self, leader_end: i64) -> MemberState {
        match self.link {
            Link::Never => MemberState::NeverSubscribed,
            Link::Down => MemberState::Disconnected,
            Link::Refused => MemberState::Refused,
            Link::Unable => MemberState::Unable,
            Link::Up if self.flushed >= leader_end => MemberState::CaughtUp,
            Link::Up => MemberState::CatchingUp,
        }
    }
}
