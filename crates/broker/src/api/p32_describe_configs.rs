//! DescribeConfigs (32), versions 1 to 4: the settings of topics and of this node, with their sources and synonyms (KIP-226, KIP-569).
//!
//! A broker resource without a name has what was altered for all nodes; another node's has to be asked of that node, as in Kafka, because only it knows
//! its file. A list of names, if it is not empty, picks settings. Gaps: broker
//! loggers, client metrics and groups have no settings here and are refused with `INVALID_REQUEST`.

use std::collections::BTreeSet;

use chronik_base::ErrorCode;
use chronik_config::{Described, describe_cluster_defaults, describe_node, describe_topic};
use chronik_meta::Image;
use chronik_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::Broker;
use crate::call::Call;
use crate::config_resource::Resource;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DescribeConfigsRequest::decode(reader, call.version)?;
    let image = call.broker.metadata.image();
    // Each resource once, as its settings are far larger than its name.
    let mut seen = BTreeSet::new();
    let once = request
        .resources
        .iter()
        .filter(|resource| seen.insert((resource.resource_type, &*resource.resource_name)));
    let results = once.map(|resource| {
        let described = describe(call.broker, &image, resource);
        let (error_code, error_message) = outcome_of(&described);
        let wanted = resource.configuration_keys.as_ref().filter(|names| !names.is_empty());
        let configs = described
            .unwrap_or_default()
            .into_iter()
            .filter(|described| wanted.is_none_or(|names| names.iter().any(|name| **name == *described.name)))
            .map(|described| entry(described, &request));
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: configs.collect(),
        }
    });
    let results = results.collect();
    Ok(call.ready(&DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }))
}

fn describe(
    broker: &Broker,
    image: &Image,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refusal> {
    let resource = Resource::find(broker, image, wanted.resource_type, &wanted.resource_name)?;
    let current = resource.current(image);
    let settings = &broker.dynamic().settings;
    Ok(match resource {
        Resource::Topic(_) => describe_topic(&current, settings),
        Resource::Node(id) if id == broker.node_id => describe_node(settings),
        Resource::Node(id) => {
            let own = broker.node_id;
            let message = format!("Unexpected broker id, expected {own} or empty string, but received {id}");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        Resource::AllNodes => describe_cluster_defaults(&current),
    })
}

fn entry(described: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = described.synonyms.into_iter().filter(|_| request.include_synonyms);
    DescribeConfigsResourceResult {
        name: Str::from(described.name),
        value: described.value.map(Str::from),
        read_only: described.read_only,
        config_source: described.source as i8,
        is_sensitive: false,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: Str::from(synonym.name),
                value: Some(Str::from(synonym.value)),
                source: synonym.source as i8,
            })
            .collect(),
        config_type: described.config_type,
        documentation: request.include_documentation.then(|| Str::from(described.documentation)),
    }
}
