//! CreateTopics (19), versions 2 to 7: makes topics, with settings, and with the brokers of each partition where the client says.
//!
//! -1 partitions or replicas stand for `num.partitions` and `default.replication.factor` (KIP-464). All topics of a request share a
//! flush, and each has its own outcome. Checks and messages are Kafka's; `validate_only` stops after them. The answer has the
//! settings in force (KIP-525) and the topic's id. What the metadata quorum has not decided by the request's timeout is `REQUEST_TIMED_OUT`, and
//! may still be carried out; a timeout of 0 is none. When it is answered, this node knows the topic, and leads what it is to lead of it; others learn of it.

use std::collections::BTreeMap;

use chronik_base::{ErrorCode, NodeId, Timestamp, TopicId, Uuid};
use chronik_config::{describe_topic, validate_topic};
use chronik_meta::{Assignments, Command, Configs, Image, topic_name_problem};
use chronik_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::assignment::{automatic, check_manual, check_room};
use crate::broker::Dynamic;
use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::{Broker, random};

/// Kafka keeps its metadata in a topic of this name, and lets nobody make it.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = CreateTopicsRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    let planned = plan_all(&broker, &request);
    let timeout_ms = request.timeout_ms;
    if request.validate_only || planned.iter().all(|(_, plan)| plan.is_err()) {
        let image = broker.metadata.image();
        let topics = planned.into_iter().map(|(name, plan)| {
            let checked = plan.and_then(|plan| {
                image.check(&plan.command(&name, random::uuid(), broker.clock.wall_ms()))?;
                Ok(plan)
            });
            answer(&broker, name, checked, Uuid::ZERO)
        });
        let topics = topics.collect();
        return Ok(call.ready(&CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }));
    }
    Ok(call.spawn(async move {
        let topics = create(&broker, planned, timeout_ms).await;
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
    }))
}

/// What is to be made.
struct Plan {
    assignments: Assignments,
    configs: Configs,
}

impl Plan {
    fn command(&self, name: &str, id: TopicId, created: Timestamp) -> Command {
        let (assignments, configs) = (self.assignments.clone(), self.configs.clone());
        Command::CreateTopic { name: name.to_owned(), id, created, assignments, configs }
    }
}

type Planned = Vec<(Str, Result<Plan, Refusal>)>;

fn plan_all(broker: &Broker, request: &CreateTopicsRequest) -> Planned {
    let image = broker.metadata.image();
    let dynamic = broker.dynamic();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut promised = 0;
    let mut planned = Planned::new();
    for topic in &request.topics {
        let plan = match times.get(&*topic.name) {
            None => continue,
            Some(1) => plan(&image, &dynamic, topic, promised),
            Some(_) => {
                times.remove(&*topic.name);
                Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
            }
        };
        promised += plan.as_ref().map_or(0, |plan| plan.assignments.len());
        planned.push((topic.name.clone(), plan));
    }
    planned
}

fn plan(image: &Image, dynamic: &Dynamic, topic: &CreatableTopic, promised: usize) -> Result<Plan, Refusal> {
    if &*topic.name == METADATA_TOPIC {
        let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if let Some(problem) = topic_name_problem(&topic.name) {
        return Err(Refusal::new(ErrorCode::InvalidTopicException, problem));
    }
    image.check_name(&topic.name)?;
    let assignments = if topic.assignments.is_empty() {
        let count = match topic.num_partitions {
            -1 => dynamic.config.num_partitions,
            count => count,
        };
        let count = positive(count.into()).ok_or_else(|| {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Refusal::new(ErrorCode::InvalidPartitions, message)
        })?;
        let replicas = match topic.replication_factor {
            -1 => dynamic.settings.default_replication_factor(image.brokers().count()),
            replicas => positive(replicas.into()).ok_or_else(|| {
                let message = "Replication factor must be larger than 0, or -1 to use the default value.";
                Refusal::new(ErrorCode::InvalidReplicationFactor, message)
            })?,
        };
        check_room(image, promised, count, dynamic.config.max_partitions_per_node)?;
        automatic(image, 0, count, replicas)?
    } else {
        let assignments = manual(topic)?;
        check_manual(image, &assignments, None)?;
        check_room(image, promised, assignments.len(), dynamic.config.max_partitions_per_node)?;
        assignments
    };
    let mut configs = Configs::new();
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            Refusal::new(ErrorCode::InvalidConfig, message)
        })?;
        configs.insert(config.name.to_string(), value.to_string());
    }
    validate_topic(&configs, &dynamic.settings)
        .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
    Ok(Plan { assignments, configs })
}

fn positive(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0)
}

/// The client's own assignment, ordered by partition.
fn manual(topic: &CreatableTopic) -> Result<Assignments, Refusal> {
    let refuse = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(Refusal::new(ErrorCode::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return refuse("replication factor");
    }
    if topic.num_partitions != -1 {
        return refuse("numPartitions");
    }
    let mut by_index: BTreeMap<i32, &Vec<NodeId>> = BTreeMap::new();
    for CreatableReplicaAssignment { partition_index, broker_ids } in &topic.assignments {
        if by_index.insert(*partition_index, broker_ids).is_some() {
            let message =
                format!("Found multiple manual partition assignments for partition {partition_index}");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if !by_index.keys().copied().eq(0..i32::try_from(by_index.len()).unwrap_or(0)) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(by_index.into_values().cloned().collect())
}

async fn create(broker: &Broker, planned: Planned, timeout_ms: i32) -> Vec<CreatableTopicResult> {
    let created = broker.clock.wall_ms();
    let mut commands = Vec::new();
    let mut ids = Vec::new();
    for (name, plan) in &planned {
        if let Ok(plan) = plan {
            let id = random::uuid();
            ids.push(id);
            commands.push(plan.command(name, id, created));
        }
    }
    let mut done = ids.into_iter().zip(broker.commit_within(commands, timeout_ms).await);
    let outcomes = planned.into_iter().map(|(name, plan)| match plan {
        Err(refusal) => answer(broker, name, Err(refusal), Uuid::ZERO),
        Ok(plan) => match done.next() {
            Some((id, Ok(_))) if broker.topics.by_id(id).is_some() => answer(broker, name, Ok(plan), id),
            Some((_, Err(error))) => answer(broker, name, Err(error.into()), Uuid::ZERO),
            _ => {
                let message = "the topic exists, but this node cannot open its partitions: see its log";
                answer(broker, name, Err(Refusal::new(ErrorCode::KafkaStorageError, message)), Uuid::ZERO)
            }
        },
    });
    outcomes.collect()
}

fn answer(broker: &Broker, name: Str, plan: Result<Plan, Refusal>, topic_id: Uuid) -> CreatableTopicResult {
    let plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => {
            return CreatableTopicResult {
                name,
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                ..CreatableTopicResult::default()
            };
        }
    };
    let configs = describe_topic(&plan.configs, &broker.dynamic().settings).into_iter().map(|described| {
        CreatableTopicConfigs {
            name: Str::from(described.name),
            value: described.value.map(Str::from),
            read_only: described.read_only,
            config_source: described.source as i8,
            is_sensitive: false,
        }
    });
    CreatableTopicResult {
        name,
        topic_id,
        error_message: None,
        num_partitions: i32::try_from(plan.assignments.len()).unwrap_or(i32::MAX),
        replication_factor: plan
            .assignments
            .first()
            .and_then(|list| i16::try_from(list.len()).ok())
            .unwrap_or(-1),
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}
