//! One partition as the broker sees it: its log, this node's role in it, and who waits for it.
//!
//! What a leader does is here; what a follower does is in `replication::replica`. Lock order: the role, then a feed's state.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use chronik_base::{ErrorCode, NodeId};
use chronik_log::{AppendError, Appended, PartitionKey, PartitionLog};
use chronik_protocol::Str;
use chronik_replica::{
    AckTimeout, FollowerLag, IsrProposal, Leader, LeaderError, Progress, ProposalFailure, Settled, StreamId,
    WaitingOn,
};

use crate::fetch_wait::Watchers;
use crate::produce_wait::{ProduceShare, Wakers};
use crate::replication::feed::Feed;
use crate::replication::role::{Role, RoleState};
use crate::sync::{Hold, Share};
use crate::topic_settings::TopicSettings;

/// When a produce request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acks {
    /// Never.
    None,
    /// When the leader's log has it.
    Leader,
    /// When every in-sync replica has flushed it.
    All,
}

impl Acks {
    /// The field of a produce request; other values are `INVALID_REQUIRED_ACKS`.
    pub(crate) fn from_wire(acks: i16) -> Option<Self> {
        match acks {
            0 => Some(Acks::None),
            1 => Some(Acks::Leader),
            -1 => Some(Acks::All),
            _ => None,
        }
    }
}

/// Why an append was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionAppendError {
    /// Another node leads the partition, or this one does in another epoch.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// Too few replicas are in sync for `acks=all`.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// The log refused it.
    #[error(transparent)]
    Log(#[from] AppendError),
}

impl PartitionAppendError {
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            PartitionAppendError::Leader(LeaderError::NotEnoughReplicas { .. }) => {
                ErrorCode::NotEnoughReplicas
            }
            PartitionAppendError::Leader(_) | PartitionAppendError::NotLeader => {
                ErrorCode::NotLeaderOrFollower
            }
            PartitionAppendError::Log(error) => error.error_code(),
        }
    }
}

/// A connection to a follower, and whether that is in sync.
#[derive(Clone)]
pub(crate) struct FeedOf {
    pub(crate) feed: Arc<Feed>,
    pub(crate) in_sync: bool,
}

/// A partition of which this node has a replica.
pub(crate) struct Partition {
    pub(crate) topic: Str,
    pub(crate) index: i32,
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) watchers: Watchers,
    settings: RwLock<Arc<TopicSettings>>,
    pub(crate) state: Mutex<RoleState>,
    pub(crate) high_watermark: AtomicI64,
    pub(crate) leader_epoch: AtomicI32,
    pub(crate) is_leader: AtomicBool,
    /// Where the log ended when this node became leader: until the high watermark is there, "latest" is not known.
    pub(crate) epoch_start: AtomicI64,
    /// Somebody waits for a commit: followers are to flush what they are sent.
    pub(crate) flush_wanted: AtomicBool,
    /// Whom a leader sends what is written.
    pub(crate) feeds: RwLock<Arc<[FeedOf]>>,
    /// True while the partition is on the list of those whose followers have marks to hear of.
    pub(crate) on_marks_list: AtomicBool,
    /// True while the partition is on the list of those whose waiters may time out.
    on_timeout_list: AtomicBool,
}

impl Partition {
    /// A partition whose role is still to be given by [`Partition::follow_metadata`].
    pub(crate) fn new(
        topic: Str,
        index: i32,
        log: Arc<PartitionLog>,
        settings: Arc<TopicSettings>,
    ) -> Arc<Self> {
        let partition = Arc::new(Self {
            topic,
            index,
            watchers: Watchers::default(),
            settings: RwLock::new(settings),
            high_watermark: AtomicI64::new(log.log_start_offset()),
            leader_epoch: AtomicI32::new(-1),
            is_leader: AtomicBool::new(false),
            epoch_start: AtomicI64::new(0),
            flush_wanted: AtomicBool::new(false),
            feeds: RwLock::new(Arc::new([])),
            on_marks_list: AtomicBool::new(false),
            state: Mutex::default(),
            log,
            on_timeout_list: AtomicBool::new(false),
        });
        let weak: std::sync::Weak<Self> = Arc::downgrade(&partition);
        partition.log.set_owner(weak);
        partition
    }

    /// Which partition this is.
    pub(crate) fn key(&self) -> PartitionKey {
        self.log.key()
    }

    /// The topic's settings in force.
    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.shared().clone()
    }

    /// New settings of the topic.
    pub(crate) fn set_settings(&self, settings: Arc<TopicSettings>) {
        if let Role::Leader(leader) = &mut self.state.hold().role {
            leader.set_min_insync_replicas(settings.min_insync_replicas);
        }
        self.log.set_options(settings.log_options.clone());
        *self.settings.exclusive() = settings;
    }

    /// Consumers read below it.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// No transaction is open below it. Without transactions that is the high watermark.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.high_watermark()
    }

    /// The high watermark as an answer to "latest", if it is known: a new leader first has to hear from its followers, and until
    /// then what it knows may lie before what its predecessor told (KIP-207).
    pub(crate) fn latest(&self) -> Result<i64, ErrorCode> {
        let high_watermark = self.high_watermark();
        if high_watermark < self.epoch_start.load(Ordering::Acquire) {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(high_watermark)
    }

    /// Where the log ended when this node became leader.
    pub(crate) fn epoch_start(&self) -> i64 {
        self.epoch_start.load(Ordering::Acquire)
    }

    /// The partition's leader epoch, as far as this node knows.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// True if this node leads the partition.
    pub(crate) fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Acquire)
    }

    /// The epoch in which this node leads the partition, if it does.
    pub(crate) fn led_epoch(&self) -> Option<i32> {
        // Leadership is taken away before the epoch changes, and given after: a stale yes comes with the epoch that it was for.
        let epoch = self.leader_epoch();
        self.is_leader().then_some(epoch)
    }

    /// What the leader epoch in a client's request means for it (KIP-320); -1 is "don't check".
    pub(crate) fn check_leader_epoch(&self, clients: i32) -> ErrorCode {
        let current = self.leader_epoch();
        match clients {
            -1 => ErrorCode::None,
            older if older < current => ErrorCode::FencedLeaderEpoch,
            newer if newer > current => ErrorCode::UnknownLeaderEpoch,
            _ => ErrorCode::None,
        }
    }

    /// True while records wait for a flush that would let consumers read them.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.log.log_end_offset() > self.high_watermark()
    }

    /// Whether followers are to flush what they are sent now.
    pub(crate) fn wants_flush(&self) -> bool {
        self.flush_wanted.load(Ordering::Acquire) || !self.watchers.is_empty()
    }

    /// The connections to followers.
    pub(crate) fn feeds(&self) -> Arc<[FeedOf]> {
        self.feeds.shared().clone()
    }

    /// Somebody waits for what was sent to followers already: they are to flush it.
    pub(crate) fn ask_followers_to_flush(&self) {
        for FeedOf { feed, .. } in self.feeds().iter() {
            feed.ask_for_flush(self.key());
        }
    }

    /// Appends a validated batch. `share` is settled once the acknowledgement that `acks` asks for is there; at once where
    /// it already is, or where the append is refused (with that error). With `epoch`, only while this node leads in that epoch.
    pub(crate) fn append(
        &self,
        batch: Bytes,
        acks: Acks,
        epoch: Option<i32>,
        share: ProduceShare,
        time: AppendTime,
    ) -> Result<Appended, PartitionAppendError> {
        // The log hears of its writes through the same lock, so an append is never acknowledged or failed before its
        // waiter is in the queue.
        let mut state = self.state.hold();
        let led = match &mut state.role {
            Role::Leader(leader) if epoch.is_none_or(|epoch| epoch == leader.epoch()) => {
                if acks == Acks::All { leader.check_in_sync(time.now_ms) } else { Ok(()) }
                    .map_err(PartitionAppendError::from)
                    .map(|()| leader)
            }
            _ => Err(PartitionAppendError::NotLeader),
        };
        let appended = match led {
            Ok(leader) => match self.log.append_leader(batch, leader.epoch(), time.wall_ms) {
                Ok(appended) => Ok((appended, leader)),
                Err(error) => Err(error.into()),
            },
            Err(error) => {
                self.log.note_refused(&batch, error.error_code(), time.wall_ms);
                Err(error)
            }
        };
        match appended {
            Ok((appended, leader)) => {
                let end = appended.last_offset + 1;
                let timed = if acks == Acks::All { share.timed() } else { None };
                let at_once = match acks {
                    Acks::None => {
                        leader.on_appended(end, time.now_ms);
                        Some(share)
                    }
                    Acks::Leader => leader.wait_for_write(end, time.now_ms, time.deadline_ms, share),
                    Acks::All => leader.wait_for_commit(end, time.now_ms, time.deadline_ms, share),
                };
                match at_once {
                    Some(share) => {
                        share.settle(ErrorCode::None);
                    }
                    None if acks == Acks::All => {
                        if let Some(wait) = timed {
                            state.timed.push(end, wait);
                        }
                        self.flush_wanted.store(true, Ordering::Release);
                        drop(state);
                        if appended.duplicate {
                            self.ask_followers_to_flush();
                        }
                    }
                    None => {}
                }
                Ok(appended)
            }
            Err(error) => {
                share.settle(error.error_code());
                Err(error)
            }
        }
    }

    /// The log is written up to `end`.
    pub(crate) fn on_written(&self, end: i64, wakers: &mut Wakers) {
        {
            let mut state = self.state.hold();
            state.timed.on_written(end);
            let Role::Leader(leader) = &mut state.role else { return };
            leader.on_written(end, |share| wakers.add(share.settle(ErrorCode::None)));
        }
        let key = self.key();
        for FeedOf { feed, in_sync } in self.feeds.shared().iter() {
            feed.poke(key, *in_sync);
        }
    }

    /// The log is flushed up to `end`. True if the high watermark moved.
    pub(crate) fn on_flushed(&self, end: i64, wakers: &mut Wakers) -> Flushed {
        let mut state = self.state.hold();
        state.timed.on_flushed(end);
        match &mut state.role {
            Role::Leader(leader) => {
                let progress = leader.on_flushed(end, |share| wakers.add(share.settle(ErrorCode::None)));
                self.note(leader, progress);
                drop(state);
                if progress.advanced {
                    self.watchers.fire(wakers);
                }
                Flushed::Leader { advanced: progress.advanced }
            }
            Role::Follower(follower) => match follower.on_flushed(end) {
                Some(ack) => Flushed::Follower { leader: follower.leader(), ack },
                None => Flushed::Nothing,
            },
            Role::None => Flushed::Nothing,
        }
    }

    /// An in-sync follower, or one that would be, has flushed further. True if the high watermark moved.
    pub(crate) fn on_ack(
        &self,
        follower: NodeId,
        ack: &chronik_replica::Ack,
        now_ms: u64,
        wakers: &mut Wakers,
    ) -> Result<bool, LeaderError> {
        let mut state = self.state.hold();
        let Role::Leader(leader) = &mut state.role else { return Ok(false) };
        let progress = leader.on_follower_flushed(
            follower,
            ack.epoch,
            ack.stream,
            ack.flushed_end,
            now_ms,
            |share| {
                wakers.add(share.settle(ErrorCode::None));
            },
        )?;
        self.note(leader, progress);
        drop(state);
        if progress.advanced {
            self.watchers.fire(wakers);
        }
        Ok(progress.advanced)
    }

    /// What the leader says now, for those who don't hold the lock.
    pub(crate) fn note(&self, leader: &Leader<ProduceShare>, progress: Progress) {
        self.high_watermark.store(progress.high_watermark, Ordering::Release);
        self.log.set_high_watermark(progress.high_watermark);
        self.flush_wanted.store(leader.wants_flush(), Ordering::Release);
    }

    /// Appends from `from` on failed. Gives the leader and the stream where this node follows: what it lost has to be sent again, so
    /// that stream is over.
    pub(crate) fn on_failed(&self, from: i64, wakers: &mut Wakers) -> Option<(NodeId, StreamId)> {
        let mut state = self.state.hold();
        state.timed.clear();
        match &mut state.role {
            Role::Leader(leader) => {
                leader.on_cut(from);
                // Only these: producers take the error for "not persisted" and send the records again, under another epoch.
                leader.fail_above(from, |share| wakers.add(share.settle(ErrorCode::KafkaStorageError)));
                None
            }
            Role::Follower(follower) => {
                let over = follower.stream().map(|stream| (follower.leader(), stream));
                follower.on_disconnected();
                over
            }
            Role::None => None,
        }
    }

    /// The partition is deleted, or leaves this node: everyone who waits hears so.
    pub(crate) fn on_deleted(&self, error: ErrorCode, wakers: &mut Wakers) {
        {
            let mut state = self.state.hold();
            self.is_leader.store(false, Ordering::Release);
            if let Role::Leader(leader) = &mut state.role {
                leader.fail_all(|share| wakers.add(share.settle(error)));
            }
            state.role = Role::None;
            state.timed.clear();
        }
        self.watchers.fire(wakers);
    }

    /// Notes that somebody may be waiting; true if that is news.
    pub(crate) fn mark_waiting(&self) -> bool {
        !self.on_timeout_list.load(Ordering::Relaxed) && !self.on_timeout_list.swap(true, Ordering::AcqRel)
    }

    /// Takes [`Partition::mark_waiting`] back, before its waiters are looked at.
    pub(crate) fn unmark_waiting(&self) {
        self.on_timeout_list.store(false, Ordering::Release);
    }

    /// Time has passed: answers whoever waits for too long or can't be served any more.
    pub(crate) fn tick(
        &self,
        now_ms: u64,
        wakers: &mut Wakers,
        mut told: impl FnMut(i64, u64, Option<WaitingOn>),
    ) -> Ticked {
        let mut state = self.state.hold();
        let Role::Leader(leader) = &mut state.role else { return Ticked::default() };
        let waiting_on = leader.waiting_on(now_ms);
        leader.expire(now_ms, |AckTimeout { who, last_offset, waited_ms }| {
            told(last_offset, waited_ms, waiting_on);
            wakers.add(who.settle(ErrorCode::RequestTimedOut));
        });
        leader.tick(now_ms, |share, settled| wakers.add(share.settle(code_of(settled))));
        // A setting that was altered may be all that the high watermark waited for.
        let high_watermark = leader.high_watermark();
        let advanced = high_watermark > self.high_watermark();
        self.note(leader, Progress { high_watermark, advanced });
        let ticked = Ticked {
            again: leader.has_waiters() || leader.next_tick_ms().is_some(),
            is_replicated: leader.has_followers(),
        };
        drop(state);
        if advanced {
            self.watchers.fire(wakers);
        }
        ticked
    }

    /// The change of the in-sync replicas that is to be proposed now, if any.
    pub(crate) fn propose(&self, now_ms: u64, eligible: impl Fn(NodeId, i64) -> bool) -> Option<IsrProposal> {
        match &mut self.state.hold().role {
            Role::Leader(leader) => leader.propose(now_ms, eligible),
            _ => None,
        }
    }

    /// What was proposed is not done.
    pub(crate) fn on_proposal_failed(&self, partition_epoch: i32, failure: ProposalFailure, now_ms: u64) {
        if let Role::Leader(leader) = &mut self.state.hold().role {
            leader.on_proposal_failed(partition_epoch, failure, now_ms);
        }
    }

    /// How far each follower is behind; nothing where this node does not lead.
    pub(crate) fn lag(&self, now_ms: u64) -> Vec<FollowerLag> {
        match &self.state.hold().role {
            Role::Leader(leader) => leader.lag(now_ms).collect(),
            _ => Vec::new(),
        }
    }
}

/// What the passing of time left of a partition to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticked {
    /// It has to be looked at again.
    pub(crate) again: bool,
    /// It has followers, whose state may ask for another ISR.
    pub(crate) is_replicated: bool,
}

/// How a wait for `acks=all` ended, for the producer.
pub(crate) fn code_of(settled: Settled) -> ErrorCode {
    match settled {
        Settled::Acknowledged => ErrorCode::None,
        Settled::NotEnoughReplicas => ErrorCode::NotEnoughReplicasAfterAppend,
    }
}

/// What a flush of the log meant.
#[derive(Debug)]
pub(crate) enum Flushed {
    Nothing,
    Leader {
        advanced: bool,
    },
    /// The leader is to hear of it.
    Follower {
        leader: NodeId,
        ack: chronik_replica::Ack,
    },
}

/// The times that one append is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendTime {
    /// Wall clock, for records.
    pub(crate) wall_ms: i64,
    /// Monotonic clock, for waits.
    pub(crate) now_ms: u64,
    /// When a wait ends unacknowledged, on the monotonic clock.
    pub(crate) deadline_ms: u64,
}
