//! What requests pass, whatever they are for: with routes made for it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use schemars::JsonSchema;
use serde::Deserialize;
use tower_service::Service;

use super::*;

#[derive(Deserialize, JsonSchema)]
struct Numbered {
    #[allow(dead_code, reason = "it is only read from JSON")]
    number: u32,
}

fn routes() -> Routes {
    Routes::new("test", "For tests")
        .add(Operation::get("/panics", "panics", "Panics"), async || -> &'static str {
            panic!("as it should")
        })
        .add(Operation::get("/waits", "waits", "Waits").time_limit(Duration::from_millis(10)), async || {
            std::future::pending::<&'static str>().await
        })
        .add(
            Operation::post("/small", "small", "Takes little").body::<Numbered>("A number").body_limit(32),
            async |_: Json<Numbered>| "taken",
        )
        .add(Operation::post("/writes", "writes", "Writes").writes(), async || "written")
        .add(
            Operation::get("/at/{place}", "at", "A place").path::<u16>("place", "Which"),
            async |Path(place): Path<u16>| place.to_string(),
        )
}

fn router_of(options: Options) -> Router {
    let options = Arc::new(options);
    let mut router = Router::new();
    for route in routes().routes {
        let path = route.operation.path;
        let rule = Arc::new(Rule { operation: route.operation, options: options.clone() });
        let limit = DefaultBodyLimit::max(rule.body_bytes_max());
        router = router.route(path, route.handler.layer(limit).layer(from_fn_with_state(rule, door::serve)));
    }
    router.fallback(not_found).layer(from_fn_with_state(options, door::enter))
}

async fn send(options: Options, request: Request) -> (u16, String, axum::http::HeaderMap) {
    let response = router_of(options).call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap(), parts.headers)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn code(options: Options, request: Request) -> (u16, String) {
    let (status, body, _) = send(options, request).await;
    let error: Option<ErrorBody> = serde_json::from_str(&body).ok();
    (status, error.map_or(body, |error| error.code))
}

#[tokio::test]
async fn failures_have_one_shape() {
    let (spaces, long) = (" ".repeat(33), format!("/at/7?{}", "x".repeat(URL_BYTES_MAX)));
    let ask = async |method, path, headers, body| {
        let (status, code) = code(Options::default(), request(method, path, headers, body)).await;
        (status, code)
    };
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(ask("GET", "/panics", &[], "").await, is(500, "failed"));
    assert_eq!(ask("GET", "/waits", &[], "").await, is(503, "timed_out"));
    assert_eq!(ask("GET", "/nothing", &[], "").await, is(404, "not_found"));
    assert_eq!(ask("GET", "/at/7", &[], "").await, is(200, "7"));
    assert_eq!(ask("GET", "/at/70000", &[], "").await, is(400, "bad_path"));
    assert_eq!(ask("POST", "/small", json, r#"{"number":1}"#).await, is(200, "taken"));
    assert_eq!(ask("POST", "/small", json, r#"{"number":-1}"#).await, is(400, "bad_body"));
    assert_eq!(ask("POST", "/small", json, "{").await, is(400, "bad_body"));
    assert_eq!(ask("POST", "/small", &[], r#"{"number":1}"#).await, is(415, "not_json"));
    assert_eq!(ask("POST", "/small", json, &spaces).await, is(413, "body_too_large"));
    assert_eq!(ask("GET", &long, &[], "").await, is(414, "url_too_long"));
}

#[tokio::test]
async fn strangers_are_refused() {
    let options = || Options {
        hosts: Hosts::new(["node".to_owned()]),
        origins: Origins::new(["https://friend.example".to_owned()]),
        writes: Writes::On,
        ..Options::default()
    };
    let ask = async |method, headers: &[(&str, &str)]| {
        code(options(), request(method, if method == "GET" { "/at/7" } else { "/writes" }, headers, "")).await
    };
    assert_eq!(ask("GET", &[("host", "node:9092")]).await.0, 200);
    assert_eq!(ask("GET", &[("host", "evil.example")]).await, (421, "unknown_host".to_owned()));
    assert_eq!(ask("GET", &[("host", "node"), ("host", "node")]).await, (400, "bad_host".to_owned()));
    let evil = ("origin", "https://evil.example");
    assert_eq!(ask("POST", &[("host", "node"), evil]).await, (403, "origin_refused".to_owned()));
    assert_eq!(ask("POST", &[("host", "node"), ("origin", "null")]).await.0, 403);
    assert_eq!(ask("POST", &[("host", "node:1"), ("origin", "http://node:1")]).await.0, 200);
    assert_eq!(ask("POST", &[("origin", "https://friend.example")]).await.0, 200);
    let (status, _, headers) = send(options(), request("GET", "/at/7", &[evil], "")).await;
    assert_eq!((status, headers.get("access-control-allow-origin")), (200, None));
    let friend = [("origin", "https://friend.example"), ("access-control-request-method", "POST")];
    let (status, _, headers) = send(options(), request("OPTIONS", "/writes", &friend, "")).await;
    assert_eq!(
        (status, headers["access-control-allow-origin"].to_str().unwrap()),
        (204, "https://friend.example")
    );
}

#[tokio::test]
async fn who_may_write_is_decided_in_one_place() {
    let ask = async |writes, is_local: Option<bool>| {
        let mut request = request("POST", "/writes", &[], "");
        if let Some(is_local) = is_local {
            let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
            request.extensions_mut().insert(Caller { peer, is_local });
        }
        code(Options { writes, ..Options::default() }, request).await.0
    };
    assert_eq!(ask(Writes::Local, Some(true)).await, 200);
    assert_eq!(ask(Writes::Local, Some(false)).await, 403);
    assert_eq!(ask(Writes::Local, None).await, 403);
    assert_eq!(ask(Writes::Off, Some(true)).await, 403);
    assert_eq!(ask(Writes::On, Some(false)).await, 200);
}

#[test]
fn the_document_says_what_is_served() {
    let routes = routes();
    let document = document::render(&[routes.group()]);
    let small = &document["paths"]["/small"]["post"];
    assert_eq!(
        small["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Numbered"
    );
    assert_eq!(
        small["responses"]["413"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/ErrorBody"
    );
    let place = &document["paths"]["/at/{place}"]["get"]["parameters"][0];
    assert_eq!((&place["in"], &place["required"]), (&"path".into(), &true.into()));
    assert_eq!((&place["schema"]["minimum"], &place["schema"]["maximum"]), (&0.into(), &65_535.into()));
    let number = &document["components"]["schemas"]["Numbered"]["properties"]["number"];
    assert_eq!(number["maximum"], u32::MAX);
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}
