//! `chronik topic describe`: a topic's partitions, with what moves and who may lead, and the configs that were set for it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chronik_base::NodeId;
use chronik_client::{Client, ClientError, To};
use chronik_protocol::Str;
use chronik_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use chronik_protocol::messages::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use chronik_protocol::messages::metadata::MetadataResponseTopic;
use serde::Serialize;

use crate::connect::{ConnectArgs, Refusals, error_name};
use crate::moving::{self, Ongoing};
use crate::output;
use crate::plan::listed;

/// The number of a topic among the resources that have configs.
pub const TOPIC_RESOURCE: i8 = 2;

/// DescribeConfigs names a value that was set for this topic by this number.
const SET_FOR_THE_TOPIC: i8 = 1;

#[derive(Serialize)]
struct Described {
    name: String,
    id: String,
    configs: Vec<Config>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Config {
    name: String,
    value: Option<String>,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    /// Replicas that left the ISR and still have every committed record (KIP-966).
    eligible_leaders: Vec<i32>,
    /// Replicas that a reassignment adds.
    adding: Vec<i32>,
    /// Replicas that a reassignment removes.
    removing: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Describes these topics, or all that are not internal.
pub async fn run(connect: &ConnectArgs, client: &Client, names: &[String]) -> anyhow::Result<ExitCode> {
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = client.metadata((!names.is_empty()).then_some(&wanted[..]), false).await?;
    let ongoing = none_where_unserved(moving::ongoing(client, None).await)?;
    let mut refusals = Refusals::default();
    let mut topics = Vec::new();
    for topic in &answer.topics {
        let name = topic.name.as_deref().unwrap_or_default();
        if names.is_empty() && topic.is_internal
            || !refusals.check(topic.error_code, None, || format!("topic {name}"))
        {
            continue;
        }
        topics.push(described(client, topic, name, &ongoing).await?);
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    if connect.json {
        output::json(&topics);
    } else {
        topics.iter().for_each(print_described);
    }
    Ok(refusals.exit_code())
}

async fn described(
    client: &Client,
    topic: &MetadataResponseTopic,
    name: &str,
    ongoing: &Ongoing,
) -> anyhow::Result<Described> {
    let eligible = none_where_unserved(eligible_leaders(client, name).await)?;
    let mut partitions = Vec::new();
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let moving = ongoing.get(&(name.to_owned(), index));
        let has_leader = partition.leader_id >= 0;
        let offset_at = async |timestamp| {
            if has_leader { client.offset_at(name, index, timestamp).await } else { Ok(None) }
        };
        partitions.push(Partition {
            partition: index,
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            isr: partition.isr_nodes.clone(),
            eligible_leaders: eligible.get(&index).cloned().unwrap_or_default(),
            adding: moving.map(|moving| moving.adding_replicas.clone()).unwrap_or_default(),
            removing: moving.map(|moving| moving.removing_replicas.clone()).unwrap_or_default(),
            start_offset: offset_at(chronik_client::EARLIEST).await.unwrap_or_default(),
            end_offset: offset_at(chronik_client::LATEST).await.unwrap_or_default(),
            error: (partition.error_code != 0).then(|| error_name(partition.error_code)),
        });
    }
    partitions.sort_by_key(|partition| partition.partition);
    let configs = configs_of(client, name).await?;
    Ok(Described { name: name.to_owned(), id: topic.topic_id.to_string(), configs, partitions })
}

/// What older brokers don't serve, they don't have.
fn none_where_unserved<T: Default>(answer: Result<T, ClientError>) -> Result<T, ClientError> {
    match answer {
        Err(ClientError::Unsupported { .. }) => Ok(T::default()),
        other => other,
    }
}

/// The eligible leader replicas of each partition that has some.
async fn eligible_leaders(client: &Client, name: &str) -> Result<BTreeMap<i32, Vec<NodeId>>, ClientError> {
    let mut eligible = BTreeMap::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: Str::from(name) }],
            cursor,
            ..DescribeTopicPartitionsRequest::default()
        };
        let answer = client.send(To::Any, &request).await?;
        for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            let replicas = partition.eligible_leader_replicas.unwrap_or_default();
            eligible.insert(partition.partition_index, replicas);
        }
        match answer.next_cursor {
            Some(next) if *next.topic_name == *name => cursor = Some(next),
            _ => return Ok(eligible),
        }
    }
}

/// The configs that were set for a topic.
async fn configs_of(client: &Client, name: &str) -> anyhow::Result<Vec<Config>> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: Str::from(name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer = client.send(To::Any, &request).await?;
    let set = answer
        .results
        .iter()
        .flat_map(|result| &result.configs)
        .filter(|config| config.config_source == SET_FOR_THE_TOPIC)
        .map(|config| Config {
            name: config.name.to_string(),
            value: config.value.as_ref().map(ToString::to_string),
        });
    Ok(set.collect())
}

fn print_described(topic: &Described) {
    output::line(&format!("topic {} (id {})", topic.name, topic.id));
    for config in &topic.configs {
        output::line(&format!("  {} = {}", config.name, config.value.as_deref().unwrap_or_default()));
    }
    let number = |offset: Option<i64>| offset.map(|offset| offset.to_string()).unwrap_or_default();
    let signed = |sign: char, ids: &[i32]| ids.iter().map(|id| format!("{sign}{id}")).collect::<Vec<_>>();
    let rows = topic.partitions.iter().map(|partition| {
        [
            partition.partition.to_string(),
            match &partition.error {
                None => partition.leader.to_string(),
                Some(error) => error.clone(),
            },
            partition.leader_epoch.to_string(),
            listed(&partition.replicas),
            listed(&partition.isr),
            listed(&partition.eligible_leaders),
            [signed('+', &partition.adding), signed('-', &partition.removing)].concat().join(" "),
            number(partition.start_offset),
            number(partition.end_offset),
        ]
    });
    output::table(
        ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "ELIGIBLE", "MOVING", "START", "END"],
        rows,
    );
}
