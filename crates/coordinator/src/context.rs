//! What the handlers of all groups share: time, timers, writes under way, and the actions they cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;

use crate::config::CoordinatorConfig;
use crate::event::{Action, Now, RequestId, WriteToken};
use crate::member::Member;
use crate::records::{GroupMetadataRecord, OffsetCommitRecord, Record};
use crate::request::OffsetFetchRequest;
use crate::response::{HeartbeatResponse, JoinGroupResponse, Response, SyncGroupResponse};
use crate::timers::{Timer, Timers};

/// One offset of one group.
#[derive(Clone, Debug)]
pub(crate) struct OffsetKey {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

/// What is to be done when records are safely in the log, or are not.
#[derive(Debug)]
pub(crate) enum Write {
    /// A group without members: nobody waits.
    EmptyGroup,
    /// What the leader assigned to each member in a generation.
    Assignment { group: Arc<str>, generation: i32, assignment: BTreeMap<Arc<str>, Bytes> },
    /// A static member came back with a new id and waits to be told.
    StaticMember {
        group: Arc<str>,
        generation: i32,
        member: Arc<str>,
        request: RequestId,
        response: JoinGroupResponse,
    },
    /// Offsets were committed or removed.
    Offsets { keys: Vec<OffsetKey>, reply: Option<(RequestId, Response)> },
    /// Groups were removed.
    DeleteGroups { groups: Vec<Arc<str>>, reply: Option<(RequestId, Response)> },
}

impl Write {
    /// The answer that waits for the write. A static member's join is answered by way of its member.
    pub(crate) fn into_reply(self) -> Option<(RequestId, Response)> {
        match self {
            Write::Offsets { reply, .. } | Write::DeleteGroups { reply, .. } => reply,
            Write::EmptyGroup | Write::Assignment { .. } | Write::StaticMember { .. } => None,
        }
    }
}

/// A write and how it ended, if it has.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    pub(crate) write: Write,
    pub(crate) result: Option<Result<(), ErrorCode>>,
    /// Fetches of offsets that came after it: a client that sends a commit and a fetch without waiting in between
    /// finds what it committed.
    pub(crate) fetches: Vec<(RequestId, OffsetFetchRequest)>,
}

/// What the handlers of all groups share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: CoordinatorConfig,
    pub(crate) now: Now,
    pub(crate) timers: Timers,
    pub(crate) writes: BTreeMap<WriteToken, PendingWrite>,
    pub(crate) actions: Vec<Action>,
    /// Groups that have offsets of a topic.
    pub(crate) groups_by_topic: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    next_token: WriteToken,
}

impl Context {
    pub(crate) fn new(config: CoordinatorConfig) -> Self {
        Self {
            config,
            now: Now::default(),
            timers: Timers::default(),
            writes: BTreeMap::new(),
            actions: Vec::new(),
            groups_by_topic: BTreeMap::new(),
            next_token: WriteToken(0),
        }
    }

    /// Forgets everything but the settings and which tokens were given out.
    pub(crate) fn clear(&mut self) {
        self.timers.clear();
        self.writes.clear();
        self.groups_by_topic.clear();
    }

    /// The monotonic time in `ms` milliseconds.
    pub(crate) fn after(&self, ms: u64) -> u64 {
        self.now.monotonic_ms.saturating_add(ms)
    }

    // Answers.

    pub(crate) fn reply(&mut self, request: RequestId, response: Response) {
        self.actions.push(Action::Reply { request, response });
    }

    pub(crate) fn reply_join(&mut self, request: RequestId, response: JoinGroupResponse) {
        self.reply(request, Response::JoinGroup(response));
    }

    /// Refuses a join; `member_id` is what Kafka sends back with this error.
    pub(crate) fn refuse_join(&mut self, request: RequestId, error: ErrorCode, member_id: Arc<str>) {
        self.reply_join(request, JoinGroupResponse::refusal(error, member_id));
    }

    pub(crate) fn reply_sync(&mut self, request: RequestId, response: SyncGroupResponse) {
        self.reply(request, Response::SyncGroup(response));
    }

    pub(crate) fn refuse_sync(&mut self, request: RequestId, error: ErrorCode) {
        self.reply_sync(request, SyncGroupResponse::refusal(error));
    }

    pub(crate) fn reply_heartbeat(&mut self, request: RequestId, error: ErrorCode) {
        self.reply(request, Response::Heartbeat(HeartbeatResponse { error }));
    }

    // Writes.

    /// The token of the next write.
    pub(crate) fn next_token(&self) -> WriteToken {
        self.next_token
    }

    /// Has records written; `write` says what follows.
    pub(crate) fn persist(&mut self, records: Vec<Record>, write: Write) -> WriteToken {
        let token = self.next_token;
        self.next_token = WriteToken(token.0 + 1);
        self.writes.insert(token, PendingWrite { write, result: None, fetches: Vec::new() });
        self.actions.push(Action::Persist { token, records });
        token
    }

    /// Has a group's metadata written.
    pub(crate) fn persist_group(
        &mut self,
        group: &Arc<str>,
        record: GroupMetadataRecord,
        write: Write,
    ) -> WriteToken {
        self.persist(vec![Record::GroupMetadata { group: group.clone(), value: Some(record) }], write)
    }

    // Sessions.

    /// Starts a member's session anew, to last `ms` milliseconds.
    pub(crate) fn start_session(&mut self, group: &Arc<str>, member: &mut Member, ms: u64) {
        member.session_deadline = self.after(ms);
        match member.session_timer {
            // When the timer fires too early, it is set anew: a heartbeat costs no work on the ordered timers.
            Some(timer) if timer.deadline() <= member.session_deadline => {}
            timer => {
                self.timers.cancel(timer);
                self.set_session_timer(group, member);
            }
        }
    }

    /// A member showed that it is alive.
    pub(crate) fn keep_session(&mut self, group: &Arc<str>, member: &mut Member) {
        self.start_session(group, member, member.session_timeout_ms);
    }

    pub(crate) fn set_session_timer(&mut self, group: &Arc<str>, member: &mut Member) {
        let timer = Timer::Session { group: group.clone(), member: member.id.clone() };
        member.session_timer = Some(self.timers.set(member.session_deadline, timer));
    }

    pub(crate) fn end_session(&mut self, member: &mut Member) {
        self.timers.cancel(member.session_timer.take());
    }

    // Offsets.

    pub(crate) fn topic_came(&mut self, topic: &Arc<str>, group: &Arc<str>) {
        self.groups_by_topic.entry(topic.clone()).or_default().insert(group.clone());
    }

    pub(crate) fn topic_went(&mut self, topic: &str, group: &str) {
        if let Some(groups) = self.groups_by_topic.get_mut(topic) {
            groups.remove(group);
            if groups.is_empty() {
                self.groups_by_topic.remove(topic);
            }
        }
    }
}

impl OffsetKey {
    /// The record that sets the offset, or removes it.
    pub(crate) fn record(&self, value: Option<OffsetCommitRecord>) -> Record {
        Record::OffsetCommit {
            group: self.group.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            value,
        }
    }
}

/// What clients are told when the log refuses a write.
pub(crate) fn client_error(log_error: ErrorCode) -> ErrorCode {
    match log_error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => {
            ErrorCode::UnknownServerError
        }
        other => other,
    }
}
