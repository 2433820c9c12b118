//! ListGroups (16), versions 0 to 5: the groups of this node, all or by state (KIP-518) and type (KIP-848). Every group is a
//! `classic` one. While a coordinator loads, the answer is `COORDINATOR_LOAD_IN_PROGRESS` with what the others have.

use chronik_base::ErrorCode;
use chronik_coordinator as coordinator;
use chronik_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::call::Call;
use crate::groups::{arc, ask_all, text};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = ListGroupsRequest::decode(reader, call.version)?;
    let texts = |filter: &[Str]| filter.iter().map(|text| arc(text)).collect();
    let request = coordinator::Request::ListGroups(coordinator::ListGroupsRequest {
        states_filter: texts(&request.states_filter),
        types_filter: texts(&request.types_filter),
    });
    Ok(ask_all(call, &request, answer))
}

fn answer(responses: Vec<coordinator::Response>) -> ListGroupsResponse {
    let mut answer = ListGroupsResponse::default();
    for response in responses {
        let coordinator::Response::ListGroups(response) = response else { continue };
        // What another node coordinates is no error: it lists that itself.
        if !matches!(response.error, ErrorCode::None | ErrorCode::NotCoordinator) {
            answer.error_code = response.error.code();
        }
        answer.groups.extend(response.groups.into_iter().map(|group| ListedGroup {
            group_id: text(&group.group_id),
            protocol_type: text(&group.protocol_type),
            group_state: text(group.state.name()),
            group_type: Str::from_static("classic"),
        }));
    }
    answer
}
