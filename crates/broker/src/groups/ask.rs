//! From a handler to the coordinators of its groups and back.

use std::sync::Arc;

use chronik_coordinator::{Request, Response};
use chronik_protocol::Encode;
use tokio::sync::oneshot;

use crate::Broker;
use crate::call::{Answerer, Call};
use crate::groups::shard::Shard;
use crate::outcome::{self, Outcome};

/// An answer, or where it will come.
enum Asked {
    Answered(Response),
    Waiting(oneshot::Receiver<Response>),
}

impl Asked {
    fn new(shard: &Arc<Shard>, broker: &Broker, request: Request) -> Self {
        let mut answer = shard.submit(broker, request);
        match answer.try_recv() {
            Ok(response) => Asked::Answered(response),
            Err(_) => Asked::Waiting(answer),
        }
    }
}

/// Asks the coordinators of groups; the answers come in the order of the requests. Where no coordinator has to be waited
/// for, the requests have taken effect when this returns, so that what follows on the connection comes after them.
pub(crate) fn ask<B: Encode + Send + 'static>(
    call: &Call<'_>,
    requests: Vec<(Arc<str>, Request)>,
    into: impl FnOnce(Vec<Response>) -> B + Send + 'static,
) -> Outcome {
    let broker = call.broker.clone();
    let shards: Option<Vec<_>> =
        requests.iter().map(|(group, _)| broker.groups.loaded_shard(group)).collect();
    match shards {
        Some(shards) => {
            let requests = requests.into_iter().map(|(_, request)| request);
            let asked =
                shards.iter().zip(requests).map(|(shard, request)| Asked::new(shard, &broker, request));
            finish(call, asked.collect(), into)
        }
        None => {
            let answerer = call.answerer;
            let task = tokio::spawn(async move {
                let mut asked = Vec::with_capacity(requests.len());
                for (group, request) in requests {
                    asked.push(match broker.groups.shard(&broker, &group).await {
                        Ok(shard) => Asked::new(&shard, &broker, request),
                        Err(error) => Asked::Answered(Response::refusal(error, &request)),
                    });
                }
                frame(answerer, asked, into).await
            });
            Outcome::Pending(Box::pin(async move { task.await.unwrap_or_else(|_| without_answer()) }))
        }
    }
}

/// Asks every coordinator the same. While there is no offsets topic, nobody answers.
pub(crate) fn ask_all<B: Encode + Send + 'static>(
    call: &Call<'_>,
    request: &Request,
    into: impl FnOnce(Vec<Response>) -> B + Send + 'static,
) -> Outcome {
    let shards = call.broker.groups.shards();
    let asked = shards.iter().map(|shard| Asked::new(shard, call.broker, request.clone()));
    finish(call, asked.collect(), into)
}

fn finish<B: Encode + Send + 'static>(
    call: &Call<'_>,
    asked: Vec<Asked>,
    into: impl FnOnce(Vec<Response>) -> B + Send + 'static,
) -> Outcome {
    if asked.iter().all(|asked| matches!(asked, Asked::Answered(_))) {
        let answered = asked.into_iter().filter_map(|asked| match asked {
            Asked::Answered(response) => Some(response),
            Asked::Waiting { .. } => None,
        });
        return call.ready(&into(answered.collect()));
    }
    Outcome::Pending(Box::pin(frame(call.answerer, asked, into)))
}

async fn frame<B: Encode>(
    answerer: Answerer,
    asked: Vec<Asked>,
    into: impl FnOnce(Vec<Response>) -> B,
) -> outcome::Response {
    let mut responses = Vec::with_capacity(asked.len());
    for asked in asked {
        responses.push(match asked {
            Asked::Answered(response) => response,
            Asked::Waiting(answer) => match answer.await {
                Ok(response) => response,
                Err(_) => return without_answer(),
            },
        });
    }
    answerer.frame(&into(responses))
}

/// A coordinator that goes without an answer belongs to a node that ends.
fn without_answer() -> outcome::Response {
    outcome::Response { chunks: Vec::new(), close: true }
}
