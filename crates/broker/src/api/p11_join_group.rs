//! JoinGroup (11), versions 0 to 9: a member wants to be in the group's next generation; answered when the rebalance ends.
//!
//! A new dynamic member is told its id first from version 4 on (KIP-394), static members from version 5 on (KIP-345), a
//! static leader that comes back skips the assignment from version 9 on (KIP-814). The reason of version 8 is not kept. How
//! a group works is in `chronik_coordinator`.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::groups::{arc, ask, client_host, text};
use crate::outcome::Outcome;
use crate::random;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = JoinGroupRequest::decode(reader, call.version)?;
    let group_id: Arc<str> = arc(&request.group_id);
    let protocols = request.protocols.into_iter();
    let request = coordinator::JoinGroupRequest {
        api_version: call.version,
        group_id: group_id.clone(),
        member_id: arc(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(arc),
        client_id: call.client_id.as_deref().map(arc).unwrap_or_default(),
        client_host: client_host(call.connection),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: arc(&request.protocol_type),
        protocols: protocols.map(|protocol| (arc(&protocol.name), protocol.metadata)).collect(),
        random: random::uuid().0,
    };
    let requests = vec![(group_id, coordinator::Request::JoinGroup(request))];
    Ok(ask(call, requests, |responses| match responses.into_iter().next() {
        Some(coordinator::Response::JoinGroup(response)) => answer(response),
        _ => JoinGroupResponse {
            error_code: ErrorCode::UnknownServerError.code(),
            ..JoinGroupResponse::default()
        },
    }))
}

fn answer(response: coordinator::JoinGroupResponse) -> JoinGroupResponse {
    let members = response.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: response.error.code(),
        generation_id: response.generation,
        protocol_type: response.protocol_type.as_deref().map(text),
        protocol_name: response.protocol_name.as_deref().map(text),
        leader: text(&response.leader),
        skip_assignment: response.skip_assignment,
        member_id: text(&response.member_id),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}
