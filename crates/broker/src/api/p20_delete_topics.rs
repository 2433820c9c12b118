//! DeleteTopics (20), versions 1 to 6: by name, or by id from version 6 on (KIP-516).
//!
//! All topics of a request share a flush, and each has its own outcome. When it is answered, the topic is gone from the metadata and its logs
//! are gone from the node. `delete.topic.enable=false` refuses all. Unlike in Kafka, the topic of committed offsets can't be deleted. What the
//! metadata quorum has not decided by the request's timeout is `REQUEST_TIMED_OUT`, and may still be carried out; a timeout of 0 is none.

use std::collections::BTreeSet;

use chronik_base::{ErrorCode, TopicId, Uuid};
use chronik_meta::{Command, Image, Topic};
use chronik_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use chronik_protocol::{Decode, DecodeError, Reader, Str};

use crate::call::Call;
use crate::outcome::Outcome;
use crate::refusal::{Refusal, outcome_of};
use crate::topics::is_internal;

pub(crate) fn handle(call: &Call<'_>, reader: &mut Reader) -> Result<Outcome, DecodeError> {
    let request = DeleteTopicsRequest::decode(reader, call.version)?;
    let timeout_ms = request.timeout_ms;
    let wanted = if call.version >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let broker = call.broker.clone();
    let enabled = broker.dynamic().config.delete_topic_enable;
    let found = find_all(&broker.metadata.image(), &wanted, enabled, call.version);
    let commands: Vec<Command> = found
        .iter()
        .filter_map(|found| found.outcome.as_ref().ok())
        .map(|id| Command::DeleteTopic { id: *id })
        .collect();
    if commands.is_empty() {
        return Ok(call.ready(&answer(found)));
    }
    Ok(call.spawn(async move {
        let mut results = broker.commit_within(commands, timeout_ms).await.into_iter();
        let settled = found.into_iter().map(|mut found| {
            if found.outcome.is_ok()
                && let Some(Err(error)) = results.next()
            {
                found.outcome = Err(error.into());
            }
            found
        });
        answer(settled.collect())
    }))
}

/// A topic of the request, and its id if it is to be deleted.
struct Found {
    name: Option<Str>,
    topic_id: TopicId,
    outcome: Result<TopicId, Refusal>,
}

fn find_all(image: &Image, wanted: &[DeleteTopicState], enabled: bool, version: i16) -> Vec<Found> {
    let mut seen = BTreeSet::new();
    let find = |wanted: &DeleteTopicState| {
        let topic = find(image, wanted);
        let outcome = match &topic {
            Err(refusal) => Err(refusal.clone()),
            _ if !enabled && version >= 3 => Err(Refusal::new(
                ErrorCode::TopicDeletionDisabled,
                "Topic deletion is disabled (delete.topic.enable).",
            )),
            _ if !enabled => Err(Refusal::new(ErrorCode::InvalidRequest, "Topic deletion is disabled.")),
            Ok(topic) if is_internal(&topic.name) => {
                let message = format!("{} is kept by the broker itself and can't be deleted.", topic.name);
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
            Ok(topic) if !seen.insert(topic.id) => {
                Err(Refusal::new(ErrorCode::InvalidRequest, "The topic was already named in this request."))
            }
            Ok(topic) => Ok(topic.id),
        };
        let topic = topic.ok();
        Found {
            name: topic.map(|topic| Str::from(&*topic.name)).or_else(|| wanted.name.clone()),
            topic_id: topic.map_or(wanted.topic_id, |topic| topic.id),
            outcome,
        }
    };
    wanted.iter().map(find).collect()
}

fn find<'a>(image: &'a Image, wanted: &DeleteTopicState) -> Result<&'a Topic, Refusal> {
    match (&wanted.name, wanted.topic_id.is_zero()) {
        (Some(_), false) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."))
        }
        (None, true) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified."))
        }
        (Some(name), true) => image.topic(name).map(|topic| &**topic).ok_or_else(Refusal::unknown_topic),
        (None, false) => image.topic_by_id(&wanted.topic_id).map(|topic| &**topic).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")
        }),
    }
}

fn answer(found: Vec<Found>) -> DeleteTopicsResponse {
    let responses = found.into_iter().map(|found| {
        let (error_code, error_message) = outcome_of(&found.outcome);
        DeletableTopicResult { name: found.name, topic_id: found.topic_id, error_code, error_message }
    });
    DeleteTopicsResponse { responses: responses.collect(), ..DeleteTopicsResponse::default() }
}
