//! DescribeGroups (15), versions 0 to 6: state, protocol and members of groups. An unknown group is a dead one, and from version
//! 6 on also an error (KIP-1043). Asked for authorized operations, it answers that everything is allowed: there are no ACLs.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::authorized::GROUP_OPERATIONS;
use crate::call::Call;
use crate::groups::{arc, ask, group_error_message, text};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeGroupsRequest::decode(reader, call.version)?;
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
    let requests = request.groups.iter().map(|group| {
        let group: Arc<str> = arc(group);
        let request =
            coordinator::DescribeGroupsRequest { api_version: call.version, groups: vec![group.clone()] };
        (group, coordinator::Request::DescribeGroups(request))
    });
    Ok(ask(call, requests.collect(), move |responses| {
        let groups = responses.into_iter().flat_map(|response| match response {
            coordinator::Response::DescribeGroups(response) => response.groups,
            _ => Vec::new(),
        });
        DescribeGroupsResponse {
            groups: groups.map(|group| answer(group, operations)).collect(),
            ..DescribeGroupsResponse::default()
        }
    }))
}

fn answer(group: coordinator::GroupDescription, operations: i32) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| DescribedGroupMember {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        error_code: group.error.code(),
        error_message: group_error_message(group.error, &group.group_id),
        group_id: text(&group.group_id),
        group_state: group.state.map_or_else(Str::default, |state| text(state.name())),
        protocol_type: text(&group.protocol_type),
        protocol_data: text(&group.protocol),
        members: members.collect(),
        authorized_operations: if group.error == ErrorCode::None { operations } else { i32::MIN },
    }
}
