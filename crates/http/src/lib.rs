//! HTTP: what all routes of a node have in common, and the routes of the node itself.
//!
//! - Routes come in groups ([`Routes`]): each is an [`Operation`], which says what is to be known of it, with a handler. Limits and the
//!   OpenAPI document (`GET /v1/openapi.json`) are made of the same operations that are served.
//! - Whatever goes wrong is answered in one shape ([`ErrorBody`]): a code for programs, a message and a hint for people.
//! - `door.rs` is what requests pass on their way in: limits, the names the node is known by (`hosts.rs`), pages of other sites
//!   (`cors.rs`). Whether somebody may change state is decided in `access.rs`, where authentication will be added.
//!
//! | route | answer |
//! |---|---|
//! | `GET /health/live` | 200 while the process runs |
//! | `GET /health/ready` | 200 while every request can be served, else 503 and why not |
//! | `GET /metrics` | every metric, as OpenMetrics or Prometheus text |
//! | `GET /v1/cluster/status` | what the node knows of the cluster, and what is wrong with it |
//! | `GET /v1/cluster/lag` | how far followers of what it leads are behind; `topic=NAME`, `all=true`, `limit=N` |
//! | `POST /v1/cluster/promote` | the node goes on as the only voter, or says what that would do; 409 where it can't |
//! | `GET /v1/openapi.json` | what is served here, as an OpenAPI document |
//! | `GET /` | the same in short |

mod access;
mod cors;
mod document;
mod door;
#[cfg(test)]
mod door_tests;
mod error;
mod extract;
mod hosts;
mod metrics;
mod node;
mod operation;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use axum;
pub use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
pub use schemars;
use schemars::JsonSchema;
use serde::Serialize;

pub use access::{Caller, Writes};
pub use cors::Origins;
use document::{Document, Group};
use door::Rule;
pub use door::{Options, URL_BYTES_MAX};
pub use error::{ApiError, ErrorBody};
use extract::SEE;
pub use extract::{Json, Path, Query};
pub use hosts::Hosts;
pub use node::NodeStatus;
pub use operation::Operation;
pub use routes::Routes;

#[derive(Clone, Serialize, JsonSchema)]
struct Index {
    name: &'static str,
    version: &'static str,
    /// What can be asked for: the method and the path of each.
    routes: Vec<String>,
}

/// What the node tells of its routes: the document and the index.
struct Description {
    document: Document,
    index: Index,
}

/// The routes of `node`, and those of other parts of it.
pub fn router(node: Arc<dyn NodeStatus>, options: Options, others: Vec<Routes>) -> Router {
    let options = Arc::new(options);
    let mut groups = vec![node::observability(node.clone()), node::cluster(node)];
    groups.extend(others);
    // The description describes itself as well.
    let own = description_routes();
    let described: Vec<Group<'_>> = groups.iter().map(Routes::group).chain([own.group()]).collect();
    let description = Arc::new(Description::of(&described));
    groups.push(own.with_state(description));
    let mut router = Router::new();
    for route in groups.into_iter().flat_map(|group| group.routes) {
        let path = route.operation.path;
        let rule = Arc::new(Rule { operation: route.operation, options: options.clone() });
        let limit = DefaultBodyLimit::max(rule.body_bytes_max());
        router = router.route(path, route.handler.layer(limit).layer(from_fn_with_state(rule, door::serve)));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(options, door::enter))
}

impl Description {
    fn of(groups: &[Group<'_>]) -> Self {
        let operations = groups.iter().flat_map(|group| &group.operations);
        let routes = operations.map(|one| format!("{} {}", one.method, one.path)).collect();
        let index = Index { name: "chronik", version: env!("CARGO_PKG_VERSION"), routes };
        Self { document: Document(document::render(groups)), index }
    }
}

fn description_routes() -> Routes<Arc<Description>> {
    Routes::new("description", "What is served")
        .add(Operation::get("/", "index", "What is served, in short").answers::<Index>("Every route"), index)
        .add(
            Operation::get("/v1/openapi.json", "openapi", "What is served, as an OpenAPI document")
                .answers::<Document>("This document"),
            openapi,
        )
}

async fn index(State(description): State<Arc<Description>>) -> Json<Index> {
    Json(description.index.clone())
}

async fn openapi(State(description): State<Arc<Description>>) -> Json<serde_json::Value> {
    Json(description.document.0.clone())
}

async fn not_found(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {path}")).hint(SEE)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("{path} does not take {method}");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).hint(SEE)
}
