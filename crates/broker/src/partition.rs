//! One partition as the broker sees it: its log, its leader's state, and who waits for it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_log::{AppendError, Appended, PartitionLog};
use chronik_protocol::Str;
use chronik_replica::{AckTimeout, Leader, LeaderError};

use crate::fetch_wait::Watchers;
use crate::produce_wait::{ProduceShare, Wakers};
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
            PartitionAppendError::Leader(_) => ErrorCode::NotLeaderOrFollower,
            PartitionAppendError::Log(error) => error.error_code(),
        }
    }
}

/// A partition that this node leads.
pub(crate) struct Partition {
    pub(crate) topic: Str,
    pub(crate) index: i32,
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) watchers: Watchers,
    settings: RwLock<Arc<TopicSettings>>,
    leader: Mutex<Leader<ProduceShare>>,
    high_watermark: AtomicI64,
    leader_epoch: i32,
    /// True while the partition is on the list of those whose waiters may time out.
    on_timeout_list: AtomicBool,
}

impl Partition {
    pub(crate) fn new(
        topic: Str,
        index: i32,
        log: Arc<PartitionLog>,
        settings: Arc<TopicSettings>,
        leader: Leader<ProduceShare>,
    ) -> Arc<Self> {
        let partition = Arc::new(Self {
            topic,
            index,
            watchers: Watchers::default(),
            settings: RwLock::new(settings),
            high_watermark: AtomicI64::new(leader.high_watermark()),
            leader_epoch: leader.epoch(),
            leader: Mutex::new(leader),
            log,
            on_timeout_list: AtomicBool::new(false),
        });
        let weak: std::sync::Weak<Self> = Arc::downgrade(&partition);
        partition.log.set_owner(weak);
        partition
    }

    /// The topic's settings in force.
    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.shared().clone()
    }

    /// New settings of the topic.
    pub(crate) fn set_settings(&self, settings: Arc<TopicSettings>) {
        self.leader.hold().set_min_insync_replicas(settings.min_insync_replicas);
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

    /// The partition's leader epoch, as far as this node knows.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// True if this node leads the partition.
    pub(crate) fn is_leader(&self) -> bool {
        self.led_epoch().is_some()
    }

    /// The epoch in which this node leads the partition, if it does.
    pub(crate) fn led_epoch(&self) -> Option<i32> {
        Some(self.leader_epoch)
    }

    /// What the leader epoch in a client's request means for it (KIP-320); -1 is "don't check".
    pub(crate) fn check_leader_epoch(&self, clients: i32) -> ErrorCode {
        match clients {
            -1 => ErrorCode::None,
            older if older < self.leader_epoch => ErrorCode::FencedLeaderEpoch,
            newer if newer > self.leader_epoch => ErrorCode::UnknownLeaderEpoch,
            _ => ErrorCode::None,
        }
    }

    /// True while records wait for a flush that would let consumers read them.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.log.log_end_offset() > self.high_watermark()
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
        let mut leader = self.leader.hold();
        let fenced = epoch.filter(|epoch| *epoch != leader.epoch());
        let appended = match fenced {
            Some(found) => Err(LeaderError::Fenced { found, current: leader.epoch() }),
            None if acks == Acks::All => leader.check_in_sync(time.now_ms),
            None => Ok(()),
        }
        .map_err(PartitionAppendError::from)
        .and_then(|()| Ok(self.log.append_leader(batch, leader.epoch(), time.wall_ms)?));
        match &appended {
            Ok(appended) => {
                let end = appended.last_offset + 1;
                let at_once = match acks {
                    Acks::None => Some(share),
                    Acks::Leader => leader.wait_for_write(end, time.now_ms, time.deadline_ms, share),
                    Acks::All => leader.wait_for_commit(end, time.now_ms, time.deadline_ms, share),
                };
                if let Some(share) = at_once {
                    share.settle(ErrorCode::None);
                }
            }
            Err(error) => {
                share.settle(error.error_code());
            }
        }
        appended
    }

    /// The log is written up to `end`.
    pub(crate) fn on_written(&self, end: i64, wakers: &mut Wakers) {
        self.leader.hold().on_written(end, |share| wakers.add(share.settle(ErrorCode::None)));
    }

    /// The log is flushed up to `end`.
    pub(crate) fn on_flushed(&self, end: i64, wakers: &mut Wakers) {
        let progress = {
            let mut leader = self.leader.hold();
            let progress = leader.on_flushed(end, |share| wakers.add(share.settle(ErrorCode::None)));
            self.high_watermark.store(progress.high_watermark, Ordering::Release);
            progress
        };
        if progress.advanced {
            self.watchers.fire(wakers);
        }
    }

    /// Appends from `from` on failed.
    pub(crate) fn on_failed(&self, from: i64, wakers: &mut Wakers) {
        let mut leader = self.leader.hold();
        leader.on_cut(from);
        leader.fail_all(|share| wakers.add(share.settle(ErrorCode::KafkaStorageError)));
    }

    /// The partition is deleted: everyone who waits hears so.
    pub(crate) fn on_deleted(&self, wakers: &mut Wakers) {
        self.leader.hold().fail_all(|share| wakers.add(share.settle(ErrorCode::UnknownTopicOrPartition)));
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

    /// Answers whoever waits for too long, and tells whether anybody still waits.
    pub(crate) fn expire(&self, now_ms: u64, wakers: &mut Wakers, mut told: impl FnMut(i64, u64)) -> bool {
        let mut leader = self.leader.hold();
        leader.expire(now_ms, |AckTimeout { who, last_offset, waited_ms }| {
            told(last_offset, waited_ms);
            wakers.add(who.settle(ErrorCode::RequestTimedOut));
        });
        leader.has_waiters()
    }
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
