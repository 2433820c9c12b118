//! AlterConfigs (33), versions 0 to 2: replaces all settings of a topic, or all that were altered of a node.
//!
//! What the request does not name goes back to its default; IncrementalAlterConfigs is what clients should use. All resources
//! share a flush, and each has its own outcome. Settings of any broker can be altered at any node. Gaps: as for DescribeConfigs.

use std::collections::{BTreeMap, BTreeSet};

use chronik_base::ErrorCode;
use chronik_config::ConfigChange;
use chronik_meta::{Command, Image};
use chronik_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::config_resource::Resource;
use crate::outcome::Outcome;
use crate::refusal::{NO_TIMEOUT, Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = AlterConfigsRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    let image = broker.metadata.image();
    let mut seen = BTreeSet::new();
    let mut planned = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        planned.push(if seen.insert((resource.resource_type, &*resource.resource_name)) {
            plan(&broker, &image, resource)
        } else {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once"))
        });
    }
    if request.validate_only || planned.iter().all(Result::is_err) {
        let settled = planned.into_iter().map(|plan| plan.map(|_| ()));
        return Ok(call.ready(&answer(&request, settled)));
    }
    Ok(call.spawn(async move {
        let settled = broker.commit_planned(planned, NO_TIMEOUT).await;
        answer(&request, settled.into_iter())
    }))
}

fn plan(broker: &Broker, image: &Image, wanted: &AlterConfigsResource) -> Result<Command, Refusal> {
    let resource = Resource::find(broker, image, wanted.resource_type, &wanted.resource_name)?;
    let mut changes: BTreeMap<String, Option<String>> =
        resource.current(image).keys().map(|name| (name.clone(), None)).collect();
    for config in &wanted.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for config: {}", config.name);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        };
        changes.insert(config.name.to_string(), Some(value.to_string()));
    }
    let changes: Vec<ConfigChange> = changes.into_iter().collect();
    resource.command(broker, image, changes)
}

fn answer(
    request: &AlterConfigsRequest,
    settled: impl Iterator<Item = Result<(), Refusal>>,
) -> AlterConfigsResponse {
    let responses = request.resources.iter().zip(settled).map(|(resource, outcome)| {
        let (error_code, error_message) = outcome_of(&outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    AlterConfigsResponse { responses: responses.collect(), ..AlterConfigsResponse::default() }
}
