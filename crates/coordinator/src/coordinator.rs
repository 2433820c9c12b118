//! The coordinator of all groups of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_base::ErrorCode;

use crate::config::CoordinatorConfig;
use crate::context::Context;
use crate::event::{Action, Event, Now, RequestId};
use crate::group::{Group, GroupState};
use crate::member::Member;
use crate::rebalance;
use crate::records::{GroupMetadataRecord, OffsetCommitRecord, Record};
use crate::request::Request;
use crate::response::Response;
use crate::timers::Timer;

/// Whether the coordinator may serve its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Loading,
    Serving,
    Resigned,
}

/// The coordinator of all groups of one partition of `__consumer_offsets`.
///
/// It begins by loading: give it the partition's records in order with [`load_record`](Self::load_record), then
/// say [`loaded`](Self::loaded). Until then it answers `COORDINATOR_LOAD_IN_PROGRESS`.
#[derive(Debug)]
pub struct GroupCoordinator {
    role: Role,
    pub(crate) groups: BTreeMap<Arc<str>, Group>,
    pub(crate) ctx: Context,
    /// The last group that the search for expired offsets has looked at; `None` between two searches.
    pub(crate) expiry_cursor: Option<Arc<str>>,
}

impl GroupCoordinator {
    /// A coordinator that waits to be loaded.
    pub fn new(config: CoordinatorConfig) -> Self {
        Self { role: Role::Loading, groups: BTreeMap::new(), ctx: Context::new(config), expiry_cursor: None }
    }

    /// Takes an event; what is to be done comes back in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.ctx.now = now;
        match event {
            Event::Request { id, request } => self.request(id, request),
            Event::Persisted { token, result } => self.persisted(token, result),
            Event::TopicDeleted { topic } => {
                if self.role == Role::Serving {
                    self.topic_deleted(&topic);
                }
            }
            Event::Tick => self.tick(),
        }
        std::mem::take(&mut self.ctx.actions)
    }

    /// When the next [`Event::Tick`] is due, on the monotonic clock; it may change with every event. A tick that
    /// comes early does no harm.
    pub fn next_deadline(&self) -> Option<u64> {
        self.ctx.timers.next_deadline()
    }

    /// Takes over a record of the log. Only what is loaded before [`loaded`](Self::loaded) counts.
    pub fn load_record(&mut self, record: Record) {
        if self.role != Role::Loading {
            return;
        }
        match record {
            Record::OffsetCommit { group, topic, partition, value } => {
                self.load_offset(&group, &topic, partition, value);
            }
            Record::GroupMetadata { group, value } => self.load_group(group, value),
        }
    }

    /// All records are loaded: from now on the groups are served. Members of before have their session timeout to
    /// find the coordinator.
    pub fn loaded(&mut self, now: Now) -> Vec<Action> {
        if self.role == Role::Loading {
            self.ctx.now = now;
            self.role = Role::Serving;
            self.groups.retain(|_, group| !group.is_unused());
            for group in self.groups.values_mut() {
                let id = group.id.clone();
                for member in group.members_mut() {
                    self.ctx.keep_session(&id, member);
                }
                if group.size() > self.ctx.config.max_group_size {
                    rebalance::begin(group, &mut self.ctx);
                }
            }
            let interval = self.ctx.config.offsets_retention_check_interval_ms.max(1);
            self.ctx.timers.set(self.ctx.after(interval), Timer::Expiry);
        }
        std::mem::take(&mut self.ctx.actions)
    }

    /// The partition is led elsewhere: whatever waits is answered `NOT_COORDINATOR`, and so is every request to
    /// come; all groups are forgotten. Ends of writes that come later are ignored.
    pub fn resign(&mut self) -> Vec<Action> {
        self.role = Role::Resigned;
        let error = ErrorCode::NotCoordinator;
        for group in self.groups.values_mut() {
            for member in group.members_mut() {
                if let Some(join) = member.join.take() {
                    self.ctx.refuse_join(join, error, member.id.clone());
                }
                if let Some(sync) = member.sync.take() {
                    self.ctx.refuse_sync(sync, error);
                }
            }
        }
        self.groups.clear();
        for (_, pending) in std::mem::take(&mut self.ctx.writes) {
            if let Some((id, mut response)) = pending.write.into_reply() {
                response.fail(error);
                self.ctx.reply(id, response);
            }
            for (id, request) in pending.fetches {
                self.ctx.reply(id, Response::refusal(error, &Request::OffsetFetch(request)));
            }
        }
        self.ctx.clear();
        self.expiry_cursor = None;
        std::mem::take(&mut self.ctx.actions)
    }

    /// The partition is led here again after [`resign`](Self::resign): its records are to be loaded anew.
    pub fn start_loading(&mut self) {
        if self.role == Role::Resigned {
            self.role = Role::Loading;
        }
    }

    /// True while writes are under way. Whoever may wait before [`resign`](Self::resign) waits for them, so that nobody
    /// is told of a failure that is none.
    pub fn has_writes(&self) -> bool {
        !self.ctx.writes.is_empty()
    }

    /// The state of a group, if there is one of this id.
    pub fn group_state(&self, group_id: &str) -> Option<GroupState> {
        self.groups.get(group_id).map(|group| group.state)
    }

    /// The generation of a group, if there is one of this id.
    pub fn group_generation(&self, group_id: &str) -> Option<i32> {
        self.groups.get(group_id).map(|group| group.generation)
    }

    /// How many groups are in each state, in the order of [`GroupState::ALL`]. Looks at every group.
    pub fn groups_by_state(&self) -> [(GroupState, usize); 5] {
        GroupState::ALL.map(|state| (state, self.groups.values().filter(|group| group.is(state)).count()))
    }

    /// Every committed offset: group, topic, partition, what was committed. Looks at every group.
    pub fn committed_offsets(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, i32, &OffsetCommitRecord)> + '_ {
        self.groups.iter().flat_map(|(id, group)| {
            group
                .offsets
                .committed()
                .map(move |(topic, partition, committed)| (id, topic, partition, committed))
        })
    }

    /// Topics of which some group has offsets. Compare them with those that exist once
    /// [`loaded`](Self::loaded) is done: a topic may have been deleted while nobody listened.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> + '_ {
        self.ctx.groups_by_topic.keys()
    }

    fn request(&mut self, id: RequestId, request: Request) {
        match self.role {
            Role::Serving => {}
            Role::Loading => {
                let response = Response::refusal(ErrorCode::CoordinatorLoadInProgress, &request);
                return self.ctx.reply(id, response);
            }
            Role::Resigned => {
                return self.ctx.reply(id, Response::refusal(ErrorCode::NotCoordinator, &request));
            }
        }
        match &request {
            Request::JoinGroup(request) => {
                self.join_group(id, request);
                self.forget_if_unused(&request.group_id);
            }
            Request::SyncGroup(request) => self.sync_group(id, request),
            Request::Heartbeat(request) => self.heartbeat(id, request),
            Request::LeaveGroup(request) => {
                self.leave_group(id, request);
                self.forget_if_unused(&request.group_id);
            }
            Request::OffsetCommit(request) => {
                self.commit_offsets(id, request);
                self.forget_if_unused(&request.group_id);
            }
            Request::OffsetFetch(request) => self.fetch_offsets(id, request),
            Request::OffsetDelete(request) => self.delete_offsets(id, request),
            Request::DescribeGroups(request) => self.describe_groups(id, request),
            Request::ListGroups(request) => self.list_groups(id, request),
            Request::DeleteGroups(request) => self.delete_groups(id, request),
        }
    }

    fn tick(&mut self) {
        let now = self.ctx.now.monotonic_ms;
        while let Some(timer) = self.ctx.timers.pop_due(now) {
            match timer {
                Timer::Session { group, member } => {
                    self.on_session_timer(&group, &member);
                    self.forget_if_unused(&group);
                }
                Timer::Join { group } => {
                    if let Some(group) = self.groups.get_mut(&group) {
                        rebalance::on_join_timer(group, &mut self.ctx);
                    }
                }
                Timer::Sync { group } => {
                    if let Some(group) = self.groups.get_mut(&group) {
                        rebalance::on_sync_timer(group, &mut self.ctx);
                    }
                }
                Timer::Expiry => self.on_expiry_timer(),
            }
        }
    }

    fn on_session_timer(&mut self, group: &Arc<str>, member_id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let ctx = &mut self.ctx;
        if group.pending_joins.remove(member_id).is_some() {
            return rebalance::complete_if_all_joined(group, ctx);
        }
        let group_id = group.id.clone();
        let Some(member) = group.member_mut(member_id) else { return };
        member.session_timer = None;
        if member.session_deadline > ctx.now.monotonic_ms {
            ctx.set_session_timer(&group_id, member);
        } else if member.is_new || (member.join.is_none() && member.sync.is_none()) {
            // Who waits for others is alive; its session starts anew when it is answered.
            rebalance::remove_and_rebalance(group, ctx, member_id);
        }
    }

    pub(crate) fn forget_if_unused(&mut self, group_id: &str) {
        if self.groups.get(group_id).is_some_and(Group::is_unused) {
            self.groups.remove(group_id);
        }
    }

    fn load_offset(
        &mut self,
        group_id: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetCommitRecord>,
    ) {
        match value {
            Some(value) => {
                let group =
                    self.groups.entry(group_id.clone()).or_insert_with(|| Group::new(group_id.clone(), None));
                if group.offsets.load(topic, partition, Some(value)) {
                    self.ctx.topic_came(topic, group_id);
                }
            }
            None => {
                if let Some(group) = self.groups.get_mut(group_id)
                    && group.offsets.load(topic, partition, None)
                {
                    self.ctx.topic_went(topic, group_id);
                }
            }
        }
    }

    fn load_group(&mut self, id: Arc<str>, value: Option<GroupMetadataRecord>) {
        // Offsets have records of their own and outlive this one.
        let offsets = self.groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
        let mut group = Group::new(id.clone(), None);
        group.offsets = offsets;
        if let Some(record) = value {
            let protocol_type = Some(record.protocol_type).filter(|protocol_type| !protocol_type.is_empty());
            let protocol = record.protocol.clone().unwrap_or_default();
            for member in record.members {
                group.add(
                    Member::loaded(member, protocol.clone()),
                    &protocol_type.clone().unwrap_or_default(),
                );
            }
            group.state = if group.size() == 0 { GroupState::Empty } else { GroupState::Stable };
            group.state_since = record.state_timestamp_ms;
            group.generation = record.generation;
            group.protocol_type = protocol_type;
            group.protocol = record.protocol;
            group.leader = record.leader;
            group.in_log = true;
            group.read_subscriptions();
        }
        self.groups.insert(id, group);
    }
}
