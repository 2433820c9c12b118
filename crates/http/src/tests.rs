//! The routes over a node that is none.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use chronik_base::BoxFuture;
use chronik_status::{ClusterStatus, LagReport, PromoteAnswer, PromoteRequest, Refusal};
use tower_service::Service;

use super::*;

#[derive(Default)]
struct Fake {
    not_ready: Option<&'static str>,
}

impl NodeStatus for Fake {
    fn not_ready(&self) -> Option<String> {
        self.not_ready.map(str::to_owned)
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn cluster_status(&self) -> ClusterStatus {
        ClusterStatus { node_id: 7, ..ClusterStatus::default() }
    }

    /// Gives back what was asked for.
    fn lag(&self, topic: Option<&str>, all: bool, limit: usize) -> LagReport {
        let partitions_left_out = limit as u64;
        let named = chronik_status::PartitionLag {
            topic: topic.unwrap_or_default().to_owned(),
            partition: i32::from(all),
            ..chronik_status::PartitionLag::default()
        };
        LagReport { node_id: 7, partitions: vec![named], partitions_left_out, ..LagReport::default() }
    }

    fn promote(&self, request: PromoteRequest) -> BoxFuture<Result<PromoteAnswer, Refusal>> {
        Box::pin(std::future::ready(if request.unclean {
            Err(Refusal { error: "not this one".to_owned(), see: "elsewhere".to_owned() })
        } else {
            Ok(PromoteAnswer { node_id: 7, done: request.voters_are_gone, ..PromoteAnswer::default() })
        }))
    }
}

/// Writes are allowed whoever asks.
fn local() -> Options {
    Options { writes: Writes::On, ..Options::default() }
}

async fn send(node: Fake, request: Request<Body>) -> (u16, String) {
    let response = router(Arc::new(node), local(), Vec::new()).call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(node: Fake, method: &str, path: &str) -> (u16, String) {
    send(node, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

async fn post_json(path: &str, body: &str) -> (u16, String) {
    let request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
    send(Fake::default(), request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn health_says_why_not() {
    let ready = ask(Fake::default(), "GET", "/health/ready").await;
    assert_eq!(ready, (200, r#"{"status":"ready"}"#.to_owned()));
    let full = || Fake { not_ready: Some("the disk is full") };
    let (status, body) = ask(full(), "GET", "/health/ready").await;
    assert_eq!((status, body.as_str()), (503, r#"{"status":"not ready","reason":"the disk is full"}"#));
    assert_eq!(ask(full(), "GET", "/health/live").await.0, 200);
}

#[tokio::test]
async fn other_requests_are_answered_with_json() {
    assert_eq!(ask(Fake::default(), "GET", "/metrics").await, (200, String::new()));
    assert!(ask(Fake::default(), "GET", "/").await.1.contains("/v1/cluster/status"));
    let (status, body) = ask(Fake::default(), "GET", "/nothing").await;
    let hint = "what is served is described at /v1/openapi.json";
    let expected =
        format!(r#"{{"code":"not_found","message":"there is nothing at /nothing","hint":"{hint}"}}"#);
    assert_eq!((status, body), (404, expected));
    assert_eq!(ask(Fake::default(), "POST", "/metrics").await.0, 405);
}

#[tokio::test]
async fn the_cluster_is_told() {
    let (status, body) = ask(Fake::default(), "GET", "/v1/cluster/status").await;
    let told: ClusterStatus = serde_json::from_str(&body).unwrap();
    assert_eq!((status, told.node_id), (200, 7));
}

#[tokio::test]
async fn lag_takes_its_parameters_and_no_others() {
    let asked = async |path: &str| {
        let (status, body) = ask(Fake::default(), "GET", path).await;
        let report: LagReport = serde_json::from_str(&body).unwrap();
        let first = report.partitions.first().cloned().unwrap_or_default();
        (status, first.topic, first.partition == 1, report.partitions_left_out)
    };
    assert_eq!(asked("/v1/cluster/lag").await, (200, String::new(), false, 1_000));
    let all = asked("/v1/cluster/lag?topic=a.b&all=true&limit=5").await;
    assert_eq!(all, (200, "a.b".to_owned(), true, 5));
    for wrong in ["limit=x", "all=perhaps", "topics=a"] {
        let (status, body) = ask(Fake::default(), "GET", &format!("/v1/cluster/lag?{wrong}")).await;
        let error: ErrorBody = serde_json::from_str(&body).unwrap();
        assert_eq!((status, error.code.as_str()), (400, "bad_parameter"), "{wrong}");
    }
}

#[tokio::test]
async fn promotion_is_asked_for_as_json() {
    let path = "/v1/cluster/promote";
    let (status, body) = post_json(path, "{}").await;
    let answer: PromoteAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer.node_id, answer.done), (200, 7, false));
    assert!(post_json(path, r#"{"voters_are_gone":true}"#).await.1.contains(r#""done":true"#));
    let (status, body) = post_json(path, r#"{"unclean":true}"#).await;
    assert_eq!(
        (status, body.as_str()),
        (409, r#"{"code":"not_promoted","message":"not this one","hint":"see elsewhere"}"#)
    );
    assert_eq!(post_json(path, "{").await.0, 400);
    // Without the type of the body, and far too large.
    assert_eq!(ask(Fake::default(), "POST", path).await.0, 415);
    assert_eq!(post_json(path, &format!("\"{}\"", "x".repeat(64 << 10))).await.0, 413);
    assert_eq!(ask(Fake::default(), "GET", path).await.0, 405);
}
