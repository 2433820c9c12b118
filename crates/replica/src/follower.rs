//! The follower of a partition: from the subscription to the acknowledgement.

use chronik_base::NodeId;

use crate::subscription::{Answer, EpochLog, StreamId, Subscription, SubscriptionRefusal};

/// Where a follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerState {
    /// It has no stream: subscribe.
    Idle,
    /// It asked for one.
    Subscribing,
    /// It receives one.
    Streaming,
}

/// What the leader's answer asks of the follower's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerAction {
    /// Cut the log there, durably, and subscribe again.
    TruncateTo(i64),
    /// Throw the log away, start anew at that offset, durably, and subscribe again.
    ResetTo(i64),
    /// Batches from the log's end on follow. Send what [`Follower::ack`] has to say.
    Stream,
    /// No stream: subscribe again later, or once newer metadata came.
    Refused(SubscriptionRefusal),
}

/// Why a follower doesn't take what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    /// It is of another leader epoch.
    #[error(
        "leader epoch {found} is not the current one, {current}: the sender is deposed, or newer metadata is on its way"
    )]
    Fenced {
        /// The epoch that was given.
        found: i32,
        /// The follower's.
        current: i32,
    },
    /// It belongs to a stream that this follower gave up or never asked for. To be ignored.
    #[error("stream {found} is not the current one")]
    StaleStream {
        /// The stream that was given.
        found: StreamId,
    },
    /// Batches are missing in between, or came twice: subscribe again.
    #[error("offset {found} came where {expected} was to come: subscribe again")]
    Gap {
        /// The first offset of what came.
        found: i64,
        /// The one that the log needs next.
        expected: i64,
    },
}

/// Batches as they arrive. `end_offset` equal to `base_offset`: none, only news of the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader epoch of the sender.
    pub epoch: i32,
    /// The stream.
    pub stream: StreamId,
    /// The first offset.
    pub base_offset: i64,
    /// The offset after the last one.
    pub end_offset: i64,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// The first offset of the leader's log: what is below may be deleted.
    pub log_start: i64,
}

/// What the follower tells its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The leader epoch.
    pub epoch: i32,
    /// The stream.
    pub stream: StreamId,
    /// Everything below is flushed.
    pub flushed_end: i64,
}

/// One partition's follower in one leader epoch.
#[derive(Debug)]
pub struct Follower {
    leader: NodeId,
    epoch: i32,
    /// The leader's word, which may be ahead of this log.
    leaders_high_watermark: i64,
    log_end: i64,
    flushed: i64,
    /// What the leader knows to be flushed.
    acked: i64,
    leader_log_start: i64,
    state: FollowerState,
    stream: Option<StreamId>,
}

impl Follower {
    /// A follower of `leader` in leader epoch `epoch`, with the high watermark that this node knew until now.
    pub fn new(leader: NodeId, epoch: i32, high_watermark: i64, log_end: i64) -> Self {
        Self {
            leader,
            epoch,
            leaders_high_watermark: high_watermark,
            log_end,
            flushed: 0,
            acked: 0,
            leader_log_start: 0,
            state: FollowerState::Idle,
            stream: None,
        }
    }

    /// The leader.
    pub fn leader(&self) -> NodeId {
        self.leader
    }

    /// The leader epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Where it stands.
    pub fn state(&self) -> FollowerState {
        self.state
    }

    /// The stream that it asked for or receives.
    pub fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// What is known to be committed of this log.
    pub fn high_watermark(&self) -> i64 {
        self.leaders_high_watermark.min(self.log_end)
    }

    /// The first offset of the leader's log, once it said so.
    pub fn leader_log_start(&self) -> i64 {
        self.leader_log_start
    }

    /// The log's end as this follower counts it: the offset that is to come next.
    pub fn log_end(&self) -> i64 {
        self.log_end
    }

    /// Asks for a stream from the end of the log on, under a name that was never used before. Whatever belongs to an earlier stream is refused from now on.
    pub fn subscribe(
        &mut self,
        stream: StreamId,
        log: &(impl EpochLog + ?Sized),
        flushed_end: i64,
    ) -> Subscription {
        let log_end = log.log_end();
        self.log_end = log_end;
        // What was cut off is not committed in this log, even when it grows over that offset again.
        self.leaders_high_watermark = self.leaders_high_watermark.min(log_end);
        self.flushed = flushed_end.min(log_end);
        self.acked = self.flushed;
        self.state = FollowerState::Subscribing;
        self.stream = Some(stream);
        Subscription {
            epoch: self.epoch,
            stream,
            log_end,
            flushed_end: self.acked,
            last_epoch: log.end_of_epoch(i32::MAX).map_or(-1, |(epoch, _)| epoch),
        }
    }

    /// The connection to the leader broke, or the log refused an append: to be subscribed again.
    pub fn on_disconnected(&mut self) {
        self.state = FollowerState::Idle;
        self.stream = None;
    }

    /// The leader's answer to the subscription `stream`.
    ///
    /// # Errors
    /// [`FollowerError::StaleStream`]: it answers an earlier subscription, and is to be ignored.
    pub fn on_answer(
        &mut self,
        stream: StreamId,
        answer: Answer,
        log: &(impl EpochLog + ?Sized),
    ) -> Result<FollowerAction, FollowerError> {
        if self.stream != Some(stream) || self.state != FollowerState::Subscribing {
            return Err(FollowerError::StaleStream { found: stream });
        }
        match answer {
            Answer::Stream { high_watermark, log_start } => {
                self.state = FollowerState::Streaming;
                self.learn(high_watermark, log_start);
                return Ok(FollowerAction::Stream);
            }
            Answer::Refused(refusal) => {
                self.on_disconnected();
                return Ok(FollowerAction::Refused(refusal));
            }
            Answer::Reset { .. } | Answer::Diverged { .. } => self.on_disconnected(),
        }
        Ok(match answer {
            Answer::Diverged { epoch, end_offset, log_start } => {
                // Both sides hold the same up to where the epoch ends in the shorter one (KIP-279).
                match log.end_of_epoch(epoch).map(|(_, own_end)| end_offset.min(own_end)) {
                    Some(common) if common >= log.log_start() => FollowerAction::TruncateTo(common),
                    // Nothing is shared: start where the leader's log does.
                    _ => FollowerAction::ResetTo(log_start),
                }
            }
            Answer::Reset { log_start } => FollowerAction::ResetTo(log_start),
            Answer::Stream { .. } | Answer::Refused(_) => FollowerAction::Stream,
        })
    }

    /// Batches came. On `Ok` they are to be appended to the log as they are.
    ///
    /// # Errors
    /// [`FollowerError`]; on a gap the follower is idle and is to subscribe again.
    pub fn on_append(&mut self, append: &Append) -> Result<(), FollowerError> {
        if append.epoch != self.epoch {
            return Err(FollowerError::Fenced { found: append.epoch, current: self.epoch });
        }
        if self.stream != Some(append.stream) || self.state != FollowerState::Streaming {
            return Err(FollowerError::StaleStream { found: append.stream });
        }
        if append.base_offset != self.log_end || append.end_offset < append.base_offset {
            let expected = self.log_end;
            self.on_disconnected();
            return Err(FollowerError::Gap { found: append.base_offset, expected });
        }
        self.log_end = append.end_offset;
        self.learn(append.high_watermark, append.log_start);
        Ok(())
    }

    /// The log is flushed up to `end`. What to tell the leader, if that is news and there is a stream.
    pub fn on_flushed(&mut self, end: i64) -> Option<Ack> {
        self.flushed = self.flushed.max(end.min(self.log_end));
        self.ack()
    }

    /// What the leader does not know yet: to be sent. To be asked for also once the stream begins, since a flush may have ended between the
    /// subscription and its answer.
    pub fn ack(&mut self) -> Option<Ack> {
        let stream = self.stream.filter(|_| self.state == FollowerState::Streaming)?;
        if self.flushed <= self.acked {
            return None;
        }
        self.acked = self.flushed;
        Some(Ack { epoch: self.epoch, stream, flushed_end: self.flushed })
    }

    fn learn(&mut self, high_watermark: i64, log_start: i64) {
        self.leaders_high_watermark = self.leaders_high_watermark.max(high_watermark);
        self.leader_log_start = self.leader_log_start.max(log_start);
    }
}
