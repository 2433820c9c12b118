//! SyncGroup (14), versions 0 to 5: the leader brings the assignment, every member fetches its own; answered once the
//! assignment is in the offsets topic. Static members from version 3 on (KIP-345); version 5 names the protocol (KIP-559).

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::groups::{arc, ask, text};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = SyncGroupRequest::decode(reader, call.version)?;
    let group_id: Arc<str> = arc(&request.group_id);
    let assignments = request.assignments.into_iter();
    let request = coordinator::SyncGroupRequest {
        api_version: call.version,
        group_id: group_id.clone(),
        generation: request.generation_id,
        member_id: arc(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(arc),
        protocol_type: request.protocol_type.as_deref().map(arc),
        protocol_name: request.protocol_name.as_deref().map(arc),
        assignments: assignments.map(|member| (arc(&member.member_id), member.assignment)).collect(),
    };
    let requests = vec![(group_id, coordinator::Request::SyncGroup(request))];
    Ok(ask(call, requests, |responses| match responses.into_iter().next() {
        Some(coordinator::Response::SyncGroup(response)) => SyncGroupResponse {
            error_code: response.error.code(),
            protocol_type: response.protocol_type.as_deref().map(text),
            protocol_name: response.protocol_name.as_deref().map(text),
            assignment: response.assignment,
            ..SyncGroupResponse::default()
        },
        _ => SyncGroupResponse {
            error_code: ErrorCode::UnknownServerError.code(),
            ..SyncGroupResponse::default()
        },
    }))
}
