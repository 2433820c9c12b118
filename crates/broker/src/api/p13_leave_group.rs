//! LeaveGroup (13), versions 0 to 5: a member leaves; from version 3 on several, also static ones by their instance id alone,
//! as administrators remove them (KIP-345). The reasons of version 5 are not kept.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::groups::{arc, ask, text};
use crate::outcome::Outcome;

const MEMBERS_FROM: i16 = 3;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = LeaveGroupRequest::decode(reader, call.version)?;
    let several = call.version >= MEMBERS_FROM;
    let members = if several {
        request.members
    } else {
        vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }]
    };
    let group_id: Arc<str> = arc(&request.group_id);
    let members = members.iter().map(|member| coordinator::MemberIdentity {
        member_id: arc(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(arc),
    });
    let request = coordinator::LeaveGroupRequest { group_id: group_id.clone(), members: members.collect() };
    let requests = vec![(group_id, coordinator::Request::LeaveGroup(request))];
    Ok(ask(call, requests, move |responses| match responses.into_iter().next() {
        Some(coordinator::Response::LeaveGroup(response)) => answer(response, several),
        _ => LeaveGroupResponse {
            error_code: ErrorCode::UnknownServerError.code(),
            ..LeaveGroupResponse::default()
        },
    }))
}

fn answer(response: coordinator::LeaveGroupResponse, several: bool) -> LeaveGroupResponse {
    let only = response.members.first().map_or(ErrorCode::None, |member| member.error);
    let error = if several || !response.error.is_ok() { response.error } else { only };
    let members = response.members.into_iter().map(|member| MemberResponse {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        error_code: member.error.code(),
    });
    LeaveGroupResponse {
        error_code: error.code(),
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}
