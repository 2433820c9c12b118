//! CreatePartitions (37), versions 0 to 3: adds partitions to topics (KIP-195).
//!
//! `count` is the number that there are to be. With assignments there must be one for each new partition, with as many replicas as
//! the topic's first partition has. Checks and messages are Kafka's; `validate_only` stops after them. The topic of committed offsets keeps
//! its number: a group's partition follows from it. What the metadata quorum has not decided by the request's timeout is `REQUEST_TIMED_OUT`, and may still
//! be carried out; a timeout of 0 is none.

use std::collections::BTreeMap;

use chronik_base::ErrorCode;
use chronik_meta::{Command, Image};
use chronik_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::assignment::{automatic, check_manual, check_room};
use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};
use crate::topics::is_internal;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = CreatePartitionsRequest::decode(reader, call.version)?;
    let broker = call.broker.clone();
    let planned =
        plan_all(&broker.metadata.image(), &request, broker.dynamic().config.max_partitions_per_node);
    let (names, plans): (Vec<Str>, Vec<Result<Command, Refusal>>) = planned.into_iter().unzip();
    let timeout_ms = request.timeout_ms;
    if request.validate_only || plans.iter().all(Result::is_err) {
        return Ok(call.ready(&answer(names, plans.into_iter().map(|plan| plan.map(|_| ())).collect())));
    }
    Ok(call.spawn(async move {
        let outcomes = broker.commit_planned(plans, timeout_ms).await;
        answer(names, outcomes)
    }))
}

type Planned = Vec<(Str, Result<Command, Refusal>)>;

fn plan_all(image: &Image, request: &CreatePartitionsRequest, limit: usize) -> Planned {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut promised = 0;
    let mut planned = Planned::new();
    for topic in &request.topics {
        let plan = match times.get(&*topic.name) {
            None => continue,
            Some(1) => plan(image, topic, promised, limit),
            Some(_) => {
                times.remove(&*topic.name);
                Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
            }
        };
        if let Ok(Command::CreatePartitions { assignments, .. }) = &plan {
            promised += assignments.len();
        }
        planned.push((topic.name.clone(), plan));
    }
    planned
}

fn plan(
    image: &Image,
    wanted: &CreatePartitionsTopic,
    promised: usize,
    limit: usize,
) -> Result<Command, Refusal> {
    let topic = image.topic(&wanted.name).ok_or_else(Refusal::unknown_topic)?;
    if is_internal(&topic.name) {
        let message = format!("{} keeps its number of partitions: groups are assigned by it.", topic.name);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let current = topic.partitions.len();
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    let count = match usize::try_from(wanted.count) {
        Ok(count) if count > current => count,
        Ok(count) if count == current => return refuse(format!("Topic already has {current} partition(s).")),
        _ => {
            return refuse(format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                topic.name, wanted.count
            ));
        }
    };
    let additional = count - current;
    check_room(image, promised, additional, limit)?;
    let replicas = topic.partitions.get(0).map_or(1, |partition| partition.replicas.len());
    let assignments = match &wanted.assignments {
        None => automatic(image, current, additional, replicas)?,
        Some(lists) => {
            let lists: Vec<Vec<i32>> = lists.iter().map(|list| list.broker_ids.clone()).collect();
            if lists.len() != additional {
                return Err(Refusal::new(
                    ErrorCode::InvalidReplicaAssignment,
                    format!(
                        "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                        lists.len()
                    ),
                ));
            }
            check_manual(image, &lists, Some(replicas))?;
            lists
        }
    };
    let first = i32::try_from(current).unwrap_or(i32::MAX);
    Ok(Command::CreatePartitions { topic: topic.id, first, assignments })
}

fn answer(names: Vec<Str>, outcomes: Vec<Result<(), Refusal>>) -> CreatePartitionsResponse {
    let results = names.into_iter().zip(outcomes).map(|(name, outcome)| {
        let (error_code, error_message) = outcome_of(&outcome);
        CreatePartitionsTopicResult { name, error_code, error_message }
    });
    CreatePartitionsResponse { results: results.collect(), ..CreatePartitionsResponse::default() }
}
