//! The node's own routes: health, metrics, and what it knows of its cluster.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chronik_base::BoxFuture;
use chronik_status::{ClusterStatus, LagReport, PARTITIONS_DEFAULT, PromoteAnswer, PromoteRequest, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::failed;
use crate::error::ApiError;
use crate::extract::{Json, Query};
use crate::metrics;
use crate::operation::{JSON, Operation};
use crate::routes::Routes;

/// The most partitions that a report of lag lists, whatever is asked for.
const LIMIT_MAX: usize = 100_000;

/// What the routes show.
pub trait NodeStatus: Send + Sync + 'static {
    /// Why the node doesn't serve everything; `None` when it does.
    fn not_ready(&self) -> Option<String>;

    /// Every metric, as OpenMetrics text.
    fn metrics(&self) -> String;

    /// What the node knows of its cluster.
    fn cluster_status(&self) -> ClusterStatus;

    /// How far the followers of what the node leads are behind, of one topic or of all: partitions with a lag, or `all`, `limit` of them at the most.
    fn lag(&self, topic: Option<&str>, all: bool, limit: usize) -> LagReport;

    /// Makes the node the only voter, or says what that would do.
    fn promote(&self, request: PromoteRequest) -> BoxFuture<Result<PromoteAnswer, Refusal>>;
}

/// The node, as handlers have it.
pub(crate) type Node = Arc<dyn NodeStatus>;

#[derive(Serialize, JsonSchema)]
struct Health {
    /// `live`, `ready` or `not ready`.
    status: &'static str,
    /// Why the node doesn't serve everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The parameters of a request for lag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LagQuery {
    topic: Option<String>,
    #[serde(default)]
    all: bool,
    limit: Option<usize>,
}

/// Health and metrics.
pub(crate) fn observability(node: Node) -> Routes {
    Routes::new("observability", "Health and metrics")
        .add(
            Operation::get("/health/live", "health_live", "Whether the process runs")
                .answers::<Health>("It runs"),
            live,
        )
        .add(
            Operation::get("/health/ready", "health_ready", "Whether every request can be served")
                .answers::<Health>("It serves everything")
                .answers_with::<Health>(503, JSON, "It doesn't, and says why"),
            ready,
        )
        .add(
            Operation::get("/metrics", "metrics", "Every metric")
                .answers_as::<String>("text/plain", "The metrics")
                .answers_as::<String>("application/openmetrics-text", "The metrics"),
            metrics::metrics,
        )
        .with_state(node)
}

/// What the node knows of its cluster.
pub(crate) fn cluster(node: Node) -> Routes {
    Routes::new("cluster", "What the node knows of its cluster, and changes of it")
        .add(
            Operation::get("/v1/cluster/status", "cluster_status", "What the node knows of the cluster")
                .answers::<ClusterStatus>("Nodes, partitions that are not as they should be, and what is wrong"),
            status,
        )
        .add(
            Operation::get(
                "/v1/cluster/lag",
                "cluster_lag",
                "How far the followers of what the node leads are behind",
            )
            .query::<String>("topic", "Only this topic")
            .query::<bool>("all", "Also the partitions without a lag")
            .query::<u64>("limit", "Partitions at most: 1,000 by default, 100,000 whatever is asked for")
            .answers::<LagReport>("The lag of each follower, and of each partition"),
            lag,
        )
        .add(
            Operation::post(
                "/v1/cluster/promote",
                "cluster_promote",
                "The node goes on as the only voter of the metadata, or says what that would do",
            )
            .body::<PromoteRequest>("Without `voters_are_gone` nothing is done")
            .answers::<PromoteAnswer>("What was done, or would be")
            .refuses(409, "The node can't")
            .writes(),
            promote,
        )
        .with_state(node)
}

/// Runs what may take milliseconds where it holds nobody up.
pub(crate) async fn on_own_thread<T: Send + 'static>(
    node: Node,
    work: impl FnOnce(&dyn NodeStatus) -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(move || work(&*node)).await.map_err(|_| failed())
}

async fn live() -> Json<Health> {
    Json(Health { status: "live", reason: None })
}

async fn ready(State(node): State<Node>) -> Response {
    match node.not_ready() {
        None => Json(Health { status: "ready", reason: None }).into_response(),
        Some(reason) => {
            let health = Health { status: "not ready", reason: Some(reason) };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
    }
}

async fn status(State(node): State<Node>) -> Result<Json<ClusterStatus>, ApiError> {
    on_own_thread(node, |node| node.cluster_status()).await.map(Json)
}

async fn lag(State(node): State<Node>, Query(query): Query<LagQuery>) -> Result<Json<LagReport>, ApiError> {
    let limit = query.limit.unwrap_or(PARTITIONS_DEFAULT).min(LIMIT_MAX);
    on_own_thread(node, move |node| node.lag(query.topic.as_deref(), query.all, limit)).await.map(Json)
}

async fn promote(
    State(node): State<Node>,
    Json(request): Json<PromoteRequest>,
) -> Result<Json<PromoteAnswer>, ApiError> {
    let answer = node.promote(request).await;
    answer.map(Json).map_err(|refusal| {
        ApiError::new(StatusCode::CONFLICT, "not_promoted", refusal.error)
            .hint(format!("see {}", refusal.see))
    })
}
