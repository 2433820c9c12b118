//! DeleteGroups (42), versions 0 to 3: removes groups without members, with their offsets; answered once that is in the offsets
//! topic. `NON_EMPTY_GROUP` for a group with members, `GROUP_ID_NOT_FOUND` for one that there is not.

use std::sync::Arc;

use chronik_coordinator as coordinator;
use chronik_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::call::Call;
use crate::groups::{arc, ask, group_error_message, text};
use crate::outcome::Outcome;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DeleteGroupsRequest::decode(reader, call.version)?;
    let requests = request.groups_names.iter().map(|group| {
        let group: Arc<str> = arc(group);
        let request = coordinator::DeleteGroupsRequest { groups: vec![group.clone()] };
        (group, coordinator::Request::DeleteGroups(request))
    });
    Ok(ask(call, requests.collect(), |responses| {
        let groups = responses.into_iter().flat_map(|response| match response {
            coordinator::Response::DeleteGroups(response) => response.groups,
            _ => Vec::new(),
        });
        let results = groups.map(|(group, error)| DeletableGroupResult {
            group_id: text(&group),
            error_code: error.code(),
            error_message: group_error_message(error, &group),
        });
        DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() }
    }))
}
