//! From a frame to its handler, through the one table of what is served.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_protocol::messages::api_versions::ApiVersionsResponse;
use chronik_protocol::{ApiKey, Reader, RequestHeader};

use crate::api;
use crate::call::{Answerer, Call};
use crate::outcome::{CloseReason, Outcome};
use crate::timing::waits_by_design;
use crate::{Broker, ConnectionContext};

pub(crate) fn dispatch(broker: &Arc<Broker>, connection: &Arc<ConnectionContext>, frame: Bytes) -> Outcome {
    let began = Instant::now();
    let mut reader = Reader::new(frame);
    let header = match RequestHeader::decode(&mut reader) {
        Ok(header) => header,
        Err(error) => return close("unreadable request header", error.to_string()),
    };
    let entry = header.key().and_then(|key| Some((key, api::find(key)?)));
    let Some((key, served)) = entry else {
        return close("unknown API", format!("api key {} is not served", header.api_key));
    };
    let answerer = Answerer { key, version: header.api_version, correlation_id: header.correlation_id };
    if !served.versions.contains(&header.api_version) {
        if key == ApiKey::ApiVersions {
            // The one API that answers whatever version is asked for, in version 0, so that the client can find a
            // version that both understand (KIP-511).
            let body = ApiVersionsResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                api_keys: api::p18_api_versions::served_versions(),
                ..ApiVersionsResponse::default()
            };
            return Outcome::Ready(answerer.frame_in_version(&body, 0));
        }
        return close(
            "unsupported version",
            format!(
                "{} version {}; versions {} to {} are served",
                key.name(),
                header.api_version,
                served.versions.start(),
                served.versions.end()
            ),
        );
    }
    broker.metrics.request(key);
    let call = Call {
        broker,
        connection,
        version: header.api_version,
        client_id: header.client_id,
        answerer,
        began,
    };
    match (served.handler)(&call, &mut reader) {
        Ok(outcome) => timed(&call, outcome),
        Err(error) => {
            close("unreadable request", format!("{} version {}: {error}", key.name(), header.api_version))
        }
    }
}

/// Counts how long the request takes.
fn timed(call: &Call<'_>, outcome: Outcome) -> Outcome {
    let (broker, answerer, began) = (call.broker, call.answerer, call.began);
    match outcome {
        Outcome::Pending(work) if answerer.key != ApiKey::Produce => {
            let (broker, connection) = (broker.clone(), call.connection.clone());
            Outcome::Pending(Box::pin(async move {
                let response = work.await;
                if waits_by_design(answerer.key) {
                    broker.answered_waiter(answerer, began);
                } else {
                    broker.answered(answerer, began, &connection);
                }
                response
            }))
        }
        Outcome::Ready(_) | Outcome::NoAnswer => {
            broker.answered(answerer, began, call.connection);
            outcome
        }
        // A produce request that waits knows best what it waits for; one that ends its connection has no answer.
        Outcome::Pending(_) | Outcome::Close(_) => outcome,
    }
}

fn close(kind: &'static str, detail: String) -> Outcome {
    Outcome::Close(CloseReason { kind, detail })
}
