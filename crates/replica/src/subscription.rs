//! How a follower's log is joined to its leader's: by leader epochs (KIP-101, KIP-279), never by a high watermark.

use chronik_base::NodeId;

/// One stream of one follower of one partition. Ordered: a later stream of a node is greater than every earlier one, also over restarts, because each
/// registration raises the broker epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The follower's broker epoch.
    pub broker_epoch: i64,
    /// Counted up by the follower's process with each subscription.
    pub number: u64,
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.broker_epoch, self.number)
    }
}

/// What a follower asks its leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The leader epoch that the follower knows.
    pub epoch: i32,
    /// Its name for the stream; answer, batches and acknowledgements carry it.
    pub stream: StreamId,
    /// Where its log ends: the offset that it wants next.
    pub log_end: i64,
    /// How far its log is flushed; at most `log_end`.
    pub flushed_end: i64,
    /// The leader epoch of the last batch in its log; -1 if it has none.
    pub last_epoch: i32,
}

/// The leader's answer to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The logs agree: batches from the follower's log end on follow.
    Stream {
        /// The leader's high watermark.
        high_watermark: i64,
        /// The first offset of the leader's log.
        log_start: i64,
    },
    /// The logs differ. The largest epoch of the leader's log that is not above the follower's last one ends there.
    Diverged {
        /// That epoch; -1 where the leader's log has none so early.
        epoch: i32,
        /// Where it ends.
        end_offset: i64,
        /// The first offset of the leader's log.
        log_start: i64,
    },
    /// The follower's log ends before the leader's begins: it is to start anew at `log_start`.
    Reset {
        /// The first offset of the leader's log.
        log_start: i64,
    },
    /// No stream.
    Refused(SubscriptionRefusal),
}

/// Why a follower gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionRefusal {
    /// The follower's leader epoch is an old one: it waits for newer metadata.
    #[error("leader epoch {found} is stale, the current one is {current}: wait for newer metadata")]
    StaleEpoch {
        /// The follower's.
        found: i32,
        /// The leader's.
        current: i32,
    },
    /// The follower knows of a later leader: this one is deposed, or has not heard yet that it was elected again.
    #[error("leader epoch {found} is newer than {current}, the last that this leader knows: ask again")]
    NewerEpoch {
        /// The follower's.
        found: i32,
        /// The leader's.
        current: i32,
    },
    /// The node that was asked does not lead the partition.
    #[error("the node does not lead the partition: wait for newer metadata")]
    NotLeader,
    /// The asking node holds no replica by the leader's metadata.
    #[error("node {0} is not a replica of the partition by this leader's metadata: ask again")]
    NotReplica(NodeId),
}

/// The epochs of a log, which both sides of a subscription look into.
pub trait EpochLog {
    /// The first offset.
    fn log_start(&self) -> i64;
    /// The offset after the last record.
    fn log_end(&self) -> i64;
    /// The largest leader epoch of the log's batches that is not above `epoch`, and the offset at which the next one begins (the log's end for the
    /// last). `None` where the log has no batch of so early an epoch.
    fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)>;
}

/// What the leader's side of a subscription depends on.
#[derive(Clone, Copy, Debug)]
pub struct LeaderLog<'a, L: ?Sized> {
    /// The leader epoch.
    pub epoch: i32,
    /// The high watermark, for the follower to know.
    pub high_watermark: i64,
    /// The log.
    pub log: &'a L,
}

/// The leader's answer to `asked`. With [`Answer::Stream`] tell the leader ([`crate::Leader::on_follower_subscribed`], which also checks that the node is
/// a replica) and send batches from `asked.log_end` on.
pub fn answer_subscription<L: EpochLog + ?Sized>(asked: &Subscription, leader: LeaderLog<'_, L>) -> Answer {
    let (found, current) = (asked.epoch, leader.epoch);
    if found < current {
        return Answer::Refused(SubscriptionRefusal::StaleEpoch { found, current });
    }
    if found > current {
        return Answer::Refused(SubscriptionRefusal::NewerEpoch { found, current });
    }
    let log = leader.log;
    let (log_start, log_end) = (log.log_start(), log.log_end());
    let stream = Answer::Stream { high_watermark: leader.high_watermark, log_start };
    if asked.log_end < log_start {
        return Answer::Reset { log_start };
    }
    if asked.last_epoch < 0 {
        // An empty log has nothing that could differ; but it may have been started anew beyond what this leader holds.
        return if asked.log_end <= log_end { stream } else { Answer::Reset { log_start } };
    }
    match log.end_of_epoch(asked.last_epoch) {
        Some((epoch, end_offset)) if epoch == asked.last_epoch && asked.log_end <= end_offset => stream,
        Some((epoch, end_offset)) => Answer::Diverged { epoch, end_offset, log_start },
        // Whatever the leader has of that time is before its log's start, and so is all that the logs may share.
        None if asked.log_end == log_start => stream,
        None => Answer::Diverged { epoch: -1, end_offset: log_start, log_start },
    }
}
