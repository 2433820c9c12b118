//! The HTTP routes of a node: health, metrics, what it knows of its cluster, and an index of them.
//!
//! | route | answer |
//! |---|---|
//! | `GET /health/live` | 200 while the process runs |
//! | `GET /health/ready` | 200 while every request can be served, else 503 and why not |
//! | `GET /metrics` | every metric, as Prometheus text |
//! | `GET /v1/cluster/status` | what the node knows of the cluster, and what is wrong with it |
//! | `GET /v1/cluster/lag` | how far followers of what it leads are behind; `topic=NAME`, `all=true`, `limit=N` |
//! | `POST /v1/cluster/promote` | the node goes on as the only voter, or says what that would do; 409 where it can't |
//! | `GET /` | what is served here, as JSON |
//!
//! Answers are JSON, in the shapes of `chronik-status`. Whatever else is asked for is answered with 404 and JSON that points to `/`.

mod cluster;

use std::sync::Arc;

use axum::Json;
pub use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chronik_base::BoxFuture;
use chronik_status::{ClusterStatus, LagReport, PromoteAnswer, PromoteRequest, Refusal};
use serde::Serialize;

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// What Prometheus expects of its text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the routes show.
pub trait NodeStatus: Send + Sync + 'static {
    /// Why the node doesn't serve everything; `None` when it does.
    fn not_ready(&self) -> Option<String>;

    /// Every metric, as Prometheus text.
    fn metrics(&self) -> String;

    /// What the node knows of its cluster.
    fn cluster_status(&self) -> ClusterStatus;

    /// How far the followers of what the node leads are behind, of one topic or of all: partitions with a lag, or `all`, `limit` of them at the most.
    fn lag(&self, topic: Option<&str>, all: bool, limit: usize) -> LagReport;

    /// Makes the node the only voter, or says what that would do.
    fn promote(&self, request: PromoteRequest) -> BoxFuture<Result<PromoteAnswer, Refusal>>;
}

#[derive(Serialize)]
struct Index {
    name: &'static str,
    version: &'static str,
    routes: [&'static str; 6],
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The routes over `node`.
pub fn router(node: Arc<dyn NodeStatus>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/cluster/status", get(cluster::status))
        .route("/v1/cluster/lag", get(cluster::lag))
        .route("/v1/cluster/promote", post(cluster::promote))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

async fn index() -> Json<Index> {
    Json(Index {
        name: "chronik",
        version: env!("CARGO_PKG_VERSION"),
        routes: [
            "/health/live",
            "/health/ready",
            "/metrics",
            "/v1/cluster/status",
            "/v1/cluster/lag",
            "/v1/cluster/promote",
        ],
    })
}

async fn live() -> Json<Health> {
    Json(Health { status: "live", reason: None })
}

async fn ready(State(node): State<Arc<dyn NodeStatus>>) -> Response {
    match node.not_ready() {
        None => Json(Health { status: "ready", reason: None }).into_response(),
        Some(reason) => {
            let health = Health { status: "not ready", reason: Some(reason) };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
    }
}

async fn metrics(State(node): State<Arc<dyn NodeStatus>>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], node.metrics()).into_response()
}

/// An answer that says what is wrong, and where to look.
fn refused(status: StatusCode, error: impl Into<String>, see: impl Into<String>) -> Response {
    (status, Json(Refusal { error: error.into(), see: see.into() })).into_response()
}

async fn not_found() -> Response {
    refused(StatusCode::NOT_FOUND, "there is nothing at this path", "/")
}

async fn method_not_allowed() -> Response {
    refused(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method", "/")
}

#[cfg(test)]
mod tests;
