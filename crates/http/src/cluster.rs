//! What a node knows of its cluster.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chronik_status::{ClusterStatus, PARTITIONS_DEFAULT, PromoteRequest};
use serde::Deserialize;

use crate::{NodeStatus, refused};

/// The most partitions that a report of lag lists, whatever is asked for.
const LIMIT_MAX: usize = 100_000;

/// Where the requests are described.
const SEE: &str = "/";

/// The parameters of a request for lag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LagQuery {
    topic: Option<String>,
    #[serde(default)]
    all: bool,
    limit: Option<usize>,
}

pub(crate) async fn status(State(node): State<Arc<dyn NodeStatus>>) -> Json<ClusterStatus> {
    Json(node.cluster_status())
}

pub(crate) async fn lag(
    State(node): State<Arc<dyn NodeStatus>>,
    query: Result<Query<LagQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error.body_text(), SEE),
    };
    let limit = query.limit.unwrap_or(PARTITIONS_DEFAULT).min(LIMIT_MAX);
    Json(node.lag(query.topic.as_deref(), query.all, limit)).into_response()
}

/// The body must say that it is JSON: no page of another site can make a browser send that unasked.
pub(crate) async fn promote(
    State(node): State<Arc<dyn NodeStatus>>,
    request: Result<Json<PromoteRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(error) => return refused(error.status(), error.body_text(), SEE),
    };
    match node.promote(request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => (StatusCode::CONFLICT, Json(refusal)).into_response(),
    }
}
