//! OffsetCommit, OffsetFetch and OffsetDelete, and what becomes of the offsets of a deleted topic.

use std::sync::Arc;

use chronik_base::{ErrorCode, TopicId};

use crate::context::{Context, OffsetKey, Write};
use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::records::{OffsetCommitRecord, Record};
use crate::request::{OffsetCommitPartition, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};
use crate::response::{
    OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, OffsetFetchTopic, Response, TopicErrors,
};

/// From this version on a member of an unknown group is told that the group is unknown (KIP-848).
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

/// Removals and commits to write, and the keys they are about.
#[derive(Default)]
pub(crate) struct Batch {
    keys: Vec<OffsetKey>,
    records: Vec<Record>,
}

impl Batch {
    /// Adds a commit, or without a value a removal.
    pub(crate) fn add(
        &mut self,
        ctx: &mut Context,
        group: &mut Group,
        key: OffsetKey,
        value: Option<OffsetCommitRecord>,
    ) {
        if group.offsets.begin(&key.topic, key.partition, ctx.next_token(), value.clone()) {
            ctx.topic_came(&key.topic, &group.id);
        }
        group.offset_write = Some(ctx.next_token());
        self.records.push(key.record(value));
        self.keys.push(key);
    }

    /// Has the records written; without any, the answer can go at once.
    pub(crate) fn write(self, ctx: &mut Context, reply: Option<(RequestId, Response)>) {
        if !self.records.is_empty() {
            ctx.persist(self.records, Write::Offsets { keys: self.keys, reply });
        } else if let Some((id, response)) = reply {
            ctx.reply(id, response);
        }
    }
}

impl GroupCoordinator {
    pub(crate) fn commit_offsets(&mut self, id: RequestId, request: &OffsetCommitRequest) {
        let now = self.ctx.now;
        let known = self.groups.contains_key(&request.group_id);
        if !known && request.generation >= 0 {
            let error = if request.api_version >= GROUP_ID_NOT_FOUND_FROM {
                ErrorCode::GroupIdNotFound
            } else {
                ErrorCode::IllegalGeneration
            };
            let response = OffsetCommitResponse::refusal(error, request);
            return self.ctx.reply(id, Response::OffsetCommit(response));
        }
        let ctx = &mut self.ctx;
        let group = self
            .groups
            .entry(request.group_id.clone())
            .or_insert_with_key(|group_id| Group::new(group_id.clone(), Some(now.wall_ms)));
        if let Err(error) = check_commit(group, request) {
            return ctx.reply(id, Response::OffsetCommit(OffsetCommitResponse::refusal(error, request)));
        }
        // A commit is a sign of life, too.
        if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) {
            let group_id = group.id.clone();
            if let Some(member) = group.member_mut(&request.member_id) {
                ctx.keep_session(&group_id, member);
            }
        }
        let expires =
            (request.retention_time_ms >= 0).then(|| now.wall_ms.saturating_add(request.retention_time_ms));
        let mut batch = Batch::default();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error = if metadata_fits(partition, ctx.config.offset_metadata_max) {
                    let key = OffsetKey {
                        group: group.id.clone(),
                        topic: topic.topic.clone(),
                        partition: partition.partition,
                    };
                    let value = OffsetCommitRecord {
                        offset: partition.offset,
                        leader_epoch: partition.leader_epoch,
                        topic_id: topic.topic_id,
                        metadata: partition.metadata.clone().unwrap_or_default(),
                        commit_timestamp_ms: now.wall_ms,
                        expire_timestamp_ms: expires,
                    };
                    batch.add(ctx, group, key, Some(value));
                    ErrorCode::None
                } else {
                    ErrorCode::OffsetMetadataTooLarge
                };
                partitions.push((partition.partition, error));
            }
            topics.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        batch.write(ctx, Some((id, Response::OffsetCommit(OffsetCommitResponse { topics }))));
    }

    pub(crate) fn fetch_offsets(&mut self, id: RequestId, request: &OffsetFetchRequest) {
        let group = self.groups.get(&request.group_id);
        if let Some(token) = group.and_then(|group| group.offset_write)
            && let Some(write) = self.ctx.writes.get_mut(&token)
        {
            return write.fetches.push((id, request.clone()));
        }
        let offsets = group.map(|group| &group.offsets);
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|wanted| OffsetFetchTopic {
                    topic: wanted.topic.clone(),
                    partitions: wanted
                        .partitions
                        .iter()
                        .map(|partition| {
                            let committed = offsets.and_then(|o| o.get(&wanted.topic, *partition));
                            let committed = committed.filter(|o| same_topic(o.topic_id, wanted.topic_id));
                            (*partition, committed.cloned())
                        })
                        .collect(),
                })
                .collect(),
            None => {
                let mut topics: Vec<OffsetFetchTopic> = Vec::new();
                for (topic, partition, committed) in offsets.into_iter().flat_map(|o| o.committed()) {
                    let committed = (partition, Some(committed.clone()));
                    match topics.last_mut() {
                        Some(last) if last.topic == *topic => last.partitions.push(committed),
                        _ => topics
                            .push(OffsetFetchTopic { topic: topic.clone(), partitions: vec![committed] }),
                    }
                }
                topics
            }
        };
        let response = OffsetFetchResponse { error: ErrorCode::None, topics };
        self.ctx.reply(id, Response::OffsetFetch(response));
    }

    pub(crate) fn delete_offsets(&mut self, id: RequestId, request: &OffsetDeleteRequest) {
        let ctx = &mut self.ctx;
        let checked = match self.groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            None => Err(ErrorCode::GroupIdNotFound),
            Some(group) => match group.state {
                GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
                GroupState::Empty => Ok(group),
                _ if group.is_consumer_group() => Ok(group),
                _ => Err(ErrorCode::NonEmptyGroup),
            },
        };
        let group = match checked {
            Ok(group) => group,
            Err(error) => {
                return ctx.reply(id, Response::OffsetDelete(OffsetDeleteResponse::refusal(error)));
            }
        };
        let mut batch = Batch::default();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let subscribed = group.is_subscribed(&topic.topic);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for &partition in &topic.partitions {
                if !subscribed && group.offsets.may_have(&topic.topic, partition) {
                    let key = OffsetKey { group: group.id.clone(), topic: topic.topic.clone(), partition };
                    batch.add(ctx, group, key, None);
                }
                let error = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
                partitions.push((partition, error));
            }
            topics.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        let response = OffsetDeleteResponse { error: ErrorCode::None, topics };
        batch.write(ctx, Some((id, Response::OffsetDelete(response))));
    }

    /// Removes the offsets that any group has of a topic.
    pub(crate) fn topic_deleted(&mut self, topic: &Arc<str>) {
        let ctx = &mut self.ctx;
        let mut batch = Batch::default();
        for group_id in ctx.groups_by_topic.get(topic).cloned().unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&group_id) else { continue };
            for partition in group.offsets.to_remove(topic) {
                let key = OffsetKey { group: group_id.clone(), topic: topic.clone(), partition };
                batch.add(ctx, group, key, None);
            }
        }
        batch.write(ctx, None);
    }
}

fn check_commit(group: &Group, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
    if group.is(GroupState::Dead) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    // A client that is no member (an administrator, a consumer with assigned partitions) may commit as long as
    // there are no members.
    if request.generation < 0 && group.is(GroupState::Empty) {
        return Ok(());
    }
    if request.generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some() {
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != group.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
    } else if !group.is(GroupState::Empty) {
        return Err(ErrorCode::UnknownMemberId);
    }
    if group.is(GroupState::CompletingRebalance) {
        return Err(ErrorCode::RebalanceInProgress);
    }
    Ok(())
}

/// False if an offset was committed for an earlier topic of the same name.
fn same_topic(committed: TopicId, wanted: TopicId) -> bool {
    committed == wanted || committed.is_zero() || wanted.is_zero()
}

fn metadata_fits(partition: &OffsetCommitPartition, max: usize) -> bool {
    // A text has at most as many UTF-16 units as it has bytes.
    partition.metadata.as_deref().is_none_or(|text| text.len() <= max || text.encode_utf16().count() <= max)
}
