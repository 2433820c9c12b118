//! Heartbeat (12), versions 0 to 4: a member is alive, and learns of rebalances. Static members from version 3 on (KIP-345).

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::groups::{arc, ask};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = HeartbeatRequest::decode(reader, call.version)?;
    let group_id: Arc<str> = arc(&request.group_id);
    let request = coordinator::HeartbeatRequest {
        group_id: group_id.clone(),
        generation: request.generation_id,
        member_id: arc(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(arc),
    };
    let requests = vec![(group_id, coordinator::Request::Heartbeat(request))];
    Ok(ask(call, requests, |responses| {
        let error = match responses.into_iter().next() {
            Some(coordinator::Response::Heartbeat(response)) => response.error,
            _ => ErrorCode::UnknownServerError,
        };
        HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() }
    }))
}
