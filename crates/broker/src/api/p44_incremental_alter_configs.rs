//! IncrementalAlterConfigs (44), versions 0 to 1: sets, removes, or changes settings of topics and nodes one by one (KIP-339).
//!
//! SET, DELETE, and for lists APPEND and SUBTRACT, which begin with what is in force. A resource or one of its settings that is
//! named twice is refused. All resources share a flush, and each has its own outcome. Settings of any broker can be altered at any
//! node. Gaps: as for DescribeConfigs.

use std::collections::BTreeSet;

use chronik_base::ErrorCode;
use chronik_config::{AlterOp, alter};
use chronik_meta::{Command, Image};
use chronik_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader};

use crate::Broker;
use crate::call::Call;
use crate::config_resource::Resource;
use crate::outcome::Outcome;
use crate::refusal::{NO_TIMEOUT, Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = IncrementalAlterConfigsRequest::decode(reader, call.version)?;
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
    let current = resource.current(image);
    let settings = &broker.dynamic().settings;
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(wanted.configs.len());
    for config in &wanted.configs {
        if !seen.insert(&*config.name) {
            let message = format!("Error due to duplicate config keys: {}", config.name);
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let op = AlterOp::from_code(config.config_operation).ok_or_else(|| {
            let message = format!("Unknown operation type {} for {}", config.config_operation, config.name);
            Refusal::new(ErrorCode::InvalidRequest, message)
        })?;
        let change = alter(resource.scope(), &config.name, op, config.value.as_deref(), &current, settings)
            .map_err(|error| resource.refusal(&error))?;
        changes.push(change);
    }
    resource.command(broker, image, changes)
}

fn answer(
    request: &IncrementalAlterConfigsRequest,
    settled: impl Iterator<Item = Result<(), Refusal>>,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().zip(settled).map(|(resource, outcome)| {
        let (error_code, error_message) = outcome_of(&outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    }
}
