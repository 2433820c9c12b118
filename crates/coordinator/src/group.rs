//! The state of one group. Nothing here answers anybody or sets a timer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{ErrorCode, Timestamp};

use crate::event::{RequestId, WriteToken};
use crate::group_offsets::GroupOffsets;
use crate::member::Member;
use crate::records::GroupMetadataRecord;
use crate::request::JoinGroupRequest;
use crate::response::JoinGroupMember;
use crate::subscription::subscribed_topics;
use crate::timers::TimerHandle;

/// The protocol type of Kafka's consumers.
pub(crate) const CONSUMER: &str = "consumer";

/// The state of a classic group. `Display` gives Kafka's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// Nobody is a member; there may be offsets.
    Empty,
    /// A rebalance began: members are to join anew.
    PreparingRebalance,
    /// All have joined; the leader computes the assignment.
    CompletingRebalance,
    /// Everybody has an assignment, or can fetch it.
    Stable,
    /// The group is being deleted, or never was.
    Dead,
}

impl GroupState {
    /// All states.
    pub const ALL: [GroupState; 5] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
    ];

    /// Kafka's name, for example `PreparingRebalance`.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the first rebalance of an empty group waits for further members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitialDelay {
    /// Somebody joined since the timer was last set.
    pub(crate) new_member: bool,
    /// The latest end of the wait, on the monotonic clock.
    pub(crate) limit: u64,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    /// When the group entered its state, by the wall clock; unknown in records of an old version.
    pub(crate) state_since: Option<Timestamp>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Member id by instance id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were handed out (KIP-394) and have not joined yet.
    pub(crate) pending_joins: BTreeMap<Arc<str>, TimerHandle>,
    /// Members of this generation that have not asked for their assignment.
    pub(crate) pending_syncs: BTreeSet<Arc<str>>,
    /// How many members support a protocol.
    supported: BTreeMap<Arc<str>, usize>,
    /// How many members wait for the rebalance to end.
    awaiting_join: usize,
    pub(crate) join_timer: Option<TimerHandle>,
    pub(crate) sync_timer: Option<TimerHandle>,
    /// Set during the first rebalance after the group was empty.
    pub(crate) initial_delay: Option<InitialDelay>,
    /// The write of this generation's assignment, once the leader has sent it.
    pub(crate) assignment_write: Option<WriteToken>,
    /// Topics that the members consume; `None` if that is not known.
    pub(crate) subscribed: Option<BTreeSet<Arc<str>>>,
    pub(crate) offsets: GroupOffsets,
    /// The last write that changes the offsets; it may have ended.
    pub(crate) offset_write: Option<WriteToken>,
    /// The log may hold a metadata record of the group.
    pub(crate) in_log: bool,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now: Option<Timestamp>) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            supported: BTreeMap::new(),
            awaiting_join: 0,
            join_timer: None,
            sync_timer: None,
            initial_delay: None,
            assignment_write: None,
            subscribed: None,
            offsets: GroupOffsets::default(),
            offset_write: None,
            in_log: false,
        }
    }

    pub(crate) fn is(&self, state: GroupState) -> bool {
        self.state == state
    }

    pub(crate) fn enter(&mut self, state: GroupState, now: Timestamp) {
        self.state = state;
        self.state_since = Some(now);
    }

    // Members.

    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub(crate) fn member_ids(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub(crate) fn has_member(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub(crate) fn static_member(&self, instance_id: &str) -> Option<Arc<str>> {
        self.static_members.get(instance_id).cloned()
    }

    pub(crate) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Adds a member; the first one fixes the protocol type and leads.
    pub(crate) fn add(&mut self, member: Member, protocol_type: &Arc<str>) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.awaiting_join += usize::from(member.join.is_some());
        self.count_protocols(&member, true);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; if it led, another one does.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count_protocols(&member, false);
        self.awaiting_join -= usize::from(member.join.is_some());
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|current| **current == *id)
        {
            self.static_members.remove(instance_id);
        }
        self.pending_syncs.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new id; everything else stays as it is.
    pub(crate) fn rename(&mut self, old: &str, new: Arc<str>) {
        let Some(mut member) = self.members.remove(old) else { return };
        member.id = new.clone();
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        self.members.insert(new, member);
    }

    /// Takes over what a member's join says; `join` is to be answered when the rebalance ends. Gives back the
    /// member's earlier join, if one was waiting.
    pub(crate) fn update(
        &mut self,
        id: &str,
        request: &JoinGroupRequest,
        join: RequestId,
    ) -> Option<RequestId> {
        let mut member = self.members.remove(id)?;
        self.count_protocols(&member, false);
        member.update(request);
        self.count_protocols(&member, true);
        let earlier = member.join.replace(join);
        self.awaiting_join += usize::from(earlier.is_none());
        self.members.insert(member.id.clone(), member);
        earlier
    }

    /// Takes a member's waiting join, to answer it.
    pub(crate) fn take_join(&mut self, id: &str) -> Option<RequestId> {
        let join = self.members.get_mut(id)?.join.take()?;
        self.awaiting_join -= 1;
        Some(join)
    }

    pub(crate) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// True if nobody is missing who has a member id.
    pub(crate) fn all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_joins.is_empty()
    }

    /// The longest time that any member may take to rejoin.
    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Checks that a member is who it says it is (KIP-345).
    pub(crate) fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.has_member(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Makes sure that the leader is a member that has rejoined; false if there is none.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let leader_joined = self
            .leader
            .as_deref()
            .and_then(|leader| self.member(leader))
            .is_some_and(|leader| leader.join.is_some());
        if !leader_joined {
            let Some(joined) = self.members.values().find(|member| member.join.is_some()) else {
                return false;
            };
            self.leader = Some(joined.id.clone());
        }
        true
    }

    // Protocols.

    fn count_protocols(&mut self, member: &Member, joins: bool) {
        for (name, _) in &member.protocols {
            if joins {
                *self.supported.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// True if a member with these protocols would have one in common with all members.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.is(GroupState::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.supported.get(name).copied().unwrap_or(0) == self.members.len())
    }

    /// The protocol with the most votes among those that every member supports; of several, the leader's favourite.
    pub(crate) fn select_protocol(&self) -> Option<Arc<str>> {
        let candidates: BTreeSet<Arc<str>> = self
            .supported
            .iter()
            .filter(|(_, count)| **count == self.members.len())
            .map(|(name, _)| name.clone())
            .collect();
        let mut votes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.retain(|_, count| *count == most);
        let tied: BTreeSet<Arc<str>> = votes.into_keys().collect();
        self.leader
            .as_deref()
            .and_then(|leader| self.member(leader))
            .and_then(|leader| leader.vote(&tied))
            .or_else(|| tied.first().cloned())
    }

    /// Finds out which topics the members consume.
    pub(crate) fn read_subscriptions(&mut self) {
        self.subscribed = match (&self.protocol_type, &self.protocol) {
            (Some(protocol_type), _) if **protocol_type != *CONSUMER => None,
            (Some(_), _) if self.members.is_empty() => Some(BTreeSet::new()),
            (Some(_), Some(protocol)) => {
                let mut topics = BTreeSet::new();
                let readable = self
                    .members
                    .values()
                    .all(|member| subscribed_topics(&member.metadata(protocol), &mut topics));
                readable.then_some(topics)
            }
            _ => None,
        };
    }

    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// True if the members consume the topic, or may: a consumer group whose subscriptions cannot be read counts.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    // Views.

    /// The members as the leader sees them.
    pub(crate) fn members_for_leader(&self) -> Vec<JoinGroupMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinGroupMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    /// The group as a record, with the assignment that `assignment` gives each member.
    pub(crate) fn record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadataRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupMetadataRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_since,
            members: self
                .members
                .values()
                .map(|member| member.record(protocol, assignment(member)))
                .collect(),
        }
    }

    /// True if nothing of the group is worth keeping: it has no member, no offset, and nothing in the log.
    pub(crate) fn is_unused(&self) -> bool {
        self.is(GroupState::Empty)
            && !self.in_log
            && self.members.is_empty()
            && self.pending_joins.is_empty()
            && self.offsets.is_empty()
    }
}
