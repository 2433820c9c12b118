//! The HTTP routes of a node: health, metrics, and an index of them.
//!
//! | route | answer |
//! |---|---|
//! | `GET /health/live` | 200 while the process runs |
//! | `GET /health/ready` | 200 while every request can be served, else 503 and why not |
//! | `GET /metrics` | every metric, as Prometheus text |
//! | `GET /` | what is served here, as JSON |
//!
//! Whatever else is asked for is answered with 404 and JSON that points to `/`.

use std::sync::Arc;

use axum::Json;
pub use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chronik_broker::Broker;
use serde::Serialize;

/// The largest body of a request, in bytes. No route takes one yet.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// What Prometheus expects of its text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the routes show.
pub trait NodeStatus: Send + Sync + 'static {
    /// Why the node doesn't serve everything; `None` when it does.
    fn not_ready(&self) -> Option<String>;

    /// Every metric, as Prometheus text.
    fn metrics(&self) -> String;
}

impl NodeStatus for Broker {
    fn not_ready(&self) -> Option<String> {
        Broker::not_ready(self)
    }

    fn metrics(&self) -> String {
        self.render_metrics()
    }
}

#[derive(Serialize)]
struct Index {
    name: &'static str,
    version: &'static str,
    routes: [&'static str; 3],
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Problem {
    error: &'static str,
    see: &'static str,
}

/// The routes over `node`.
pub fn router(node: Arc<dyn NodeStatus>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

async fn index() -> Json<Index> {
    Json(Index {
        name: "chronik",
        version: env!("CARGO_PKG_VERSION"),
        routes: ["/health/live", "/health/ready", "/metrics"],
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

async fn not_found() -> Response {
    let problem = Problem { error: "there is nothing at this path", see: "/" };
    (StatusCode::NOT_FOUND, Json(problem)).into_response()
}

async fn method_not_allowed() -> Response {
    let problem = Problem { error: "this path takes GET only", see: "/" };
    (StatusCode::METHOD_NOT_ALLOWED, Json(problem)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower_service::Service;

    use super::*;

    struct Fake(Option<&'static str>);

    impl NodeStatus for Fake {
        fn not_ready(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
    }

    async fn ask(node: Fake, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router(Arc::new(node)).call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn health_says_why_not() {
        assert_eq!(ask(Fake(None), "GET", "/health/ready").await, (200, r#"{"status":"ready"}"#.to_owned()));
        let (status, body) = ask(Fake(Some("the disk is full")), "GET", "/health/ready").await;
        assert_eq!((status, body.as_str()), (503, r#"{"status":"not ready","reason":"the disk is full"}"#));
        assert_eq!(ask(Fake(Some("the disk is full")), "GET", "/health/live").await.0, 200);
    }

    #[tokio::test]
    async fn other_requests_are_answered_with_json() {
        assert_eq!(ask(Fake(None), "GET", "/metrics").await, (200, "# EOF\n".to_owned()));
        assert!(ask(Fake(None), "GET", "/").await.1.contains("/metrics"));
        assert_eq!(ask(Fake(None), "GET", "/nothing").await.0, 404);
        assert_eq!(ask(Fake(None), "POST", "/metrics").await.0, 405);
    }
}
