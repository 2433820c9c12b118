//! DescribeGroups, ListGroups and DeleteGroups.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;

use crate::context::{Context, OffsetKey, Write};
use crate::coordinator::GroupCoordinator;
use crate::event::RequestId;
use crate::group::{Group, GroupState};
use crate::records::Record;
use crate::request::{DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest};
use crate::response::{
    DeleteGroupsResponse, DescribeGroupsResponse, GroupDescription, GroupListing, ListGroupsResponse,
    MemberDescription, Response,
};

/// From this version on DescribeGroups answers an unknown group with an error (KIP-1043).
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;
/// The type of all groups here, as ListGroups names it (KIP-848).
const GROUP_TYPE: &str = "classic";

impl GroupCoordinator {
    pub(crate) fn describe_groups(&mut self, id: RequestId, request: &DescribeGroupsRequest) {
        let describe = |group_id: &Arc<str>| match self.groups.get(group_id) {
            Some(group) => describe(group),
            None => {
                let error = if request.api_version >= GROUP_ID_NOT_FOUND_FROM {
                    ErrorCode::GroupIdNotFound
                } else {
                    ErrorCode::None
                };
                GroupDescription::without_members(error, group_id.clone(), Some(GroupState::Dead))
            }
        };
        let groups = request.groups.iter().map(describe).collect();
        self.ctx.reply(id, Response::DescribeGroups(DescribeGroupsResponse { groups }));
    }

    pub(crate) fn list_groups(&mut self, id: RequestId, request: &ListGroupsRequest) {
        let matches = |filter: &[Arc<str>], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let groups = self
            .groups
            .values()
            .filter(|group| {
                matches(&request.states_filter, group.state.name())
                    && matches(&request.types_filter, GROUP_TYPE)
            })
            .map(|group| GroupListing {
                group_id: group.id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state,
            })
            .collect();
        self.ctx.reply(id, Response::ListGroups(ListGroupsResponse { error: ErrorCode::None, groups }));
    }

    pub(crate) fn delete_groups(&mut self, id: RequestId, request: &DeleteGroupsRequest) {
        let ctx = &mut self.ctx;
        let mut results = Vec::with_capacity(request.groups.len());
        let mut records = Vec::new();
        let mut deleted = Vec::new();
        for group_id in &request.groups {
            let error = match self.groups.get_mut(group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) => match group.state {
                    GroupState::Dead => ErrorCode::GroupIdNotFound,
                    GroupState::Empty => {
                        records.append(&mut begin_deletion(group, ctx));
                        deleted.push(group_id.clone());
                        ErrorCode::None
                    }
                    _ => ErrorCode::NonEmptyGroup,
                },
            };
            results.push((group_id.clone(), error));
        }
        let response = Response::DeleteGroups(DeleteGroupsResponse { groups: results });
        if records.is_empty() {
            ctx.reply(id, response);
        } else {
            ctx.persist(records, Write::DeleteGroups { groups: deleted, reply: Some((id, response)) });
        }
    }
}

/// Closes a group without members; the records, to be written with the next token, remove it from the log.
pub(crate) fn begin_deletion(group: &mut Group, ctx: &mut Context) -> Vec<Record> {
    group.state = GroupState::Dead;
    for (_, timer) in std::mem::take(&mut group.pending_joins) {
        ctx.timers.cancel(Some(timer));
    }
    group.offset_write = Some(ctx.next_token());
    let mut records: Vec<Record> = group
        .offsets
        .begin_removal(ctx.next_token())
        .into_iter()
        .map(|(topic, partition)| OffsetKey { group: group.id.clone(), topic, partition }.record(None))
        .collect();
    records.push(Record::GroupMetadata { group: group.id.clone(), value: None });
    records
}

fn describe(group: &Group) -> GroupDescription {
    let stable = group.is(GroupState::Stable);
    let protocol = group.protocol.clone().filter(|_| stable);
    let members = group.members().map(|member| MemberDescription {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: match &protocol {
            Some(protocol) => member.metadata(protocol),
            None => Bytes::new(),
        },
        assignment: member.assignment.clone(),
    });
    GroupDescription {
        error: ErrorCode::None,
        group_id: group.id.clone(),
        state: Some(group.state),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: members.collect(),
        protocol: protocol.unwrap_or_default(),
    }
}
