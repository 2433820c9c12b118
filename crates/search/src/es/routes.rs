//! The routes of Elasticsearch's API, below `/v1/es`.

use std::sync::Arc;

use bytes::Bytes;
use chronik_http::axum::Json as PlainJson;
use chronik_http::axum::extract::State;
use chronik_http::axum::http::{HeaderName, StatusCode};
use chronik_http::axum::response::{IntoResponse, Response};
use chronik_http::{Operation, Path, Routes};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::Refusal;
use crate::document::kinds;
use crate::fields::VALUE_ROOT;
use crate::gather::Search;

/// Clients look for this before they go on.
const PRODUCT: (HeaderName, &str) = (HeaderName::from_static("x-elastic-product"), "Elasticsearch");
/// The version that clients are told: what is served is a part of it.
const VERSION: &str = "8.15.0";
/// The largest body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Searches in one `_msearch`.
const SEARCHES_MAX: usize = 32;

/// An answer in Elasticsearch's shape.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
struct Answer(Map<String, Value>);

/// Adds the routes.
pub(crate) fn add(routes: Routes<Arc<Search>>) -> Routes<Arc<Search>> {
    let index = "The topic's name";
    let refused = "In Elasticsearch's shape: what was wrong, and where";
    let search = |operation: Operation| {
        operation
            .path::<String>("index", index)
            .body_as::<Answer>("application/json", "A search in Elasticsearch's query DSL")
            .body_limit(BODY_BYTES_MAX)
            .answers::<Answer>("What was found, in Elasticsearch's shape")
            .refuses_as::<Answer>(400, refused)
            .refuses_as::<Answer>(404, "There is no such topic")
            .refuses_as::<Answer>(409, "The topic or the node is not searched")
            .refuses_as::<Answer>(503, "The index is not ready")
    };
    routes
        .add(
            Operation::get("/v1/es", "es_info", "Tells Elasticsearch's clients what they talk to")
                .answers::<Answer>("The name and the version"),
            info,
        )
        .add(
            Operation::get("/v1/es/", "es_info_at_root", "Tells Elasticsearch's clients what they talk to")
                .answers::<Answer>("The name and the version"),
            info,
        )
        .add(
            search(Operation::post(
                "/v1/es/{index}/_search",
                "es_search",
                "Searches a topic as Elasticsearch does",
            )),
            one,
        )
        .add(
            search(Operation::post(
                "/v1/es/{index}/_count",
                "es_count",
                "Counts records of a topic as Elasticsearch does",
            )),
            count,
        )
        .add(
            Operation::post(
                "/v1/es/_msearch",
                "es_msearch",
                "Several searches, each a line of header and one of body",
            )
            .body_as::<Answer>("application/x-ndjson", "Lines of JSON")
            .body_limit(BODY_BYTES_MAX)
            .answers::<Answer>("What each found")
            .refuses_as::<Answer>(400, refused),
            several,
        )
        .add(
            Operation::get(
                "/v1/es/{index}/_mapping",
                "es_mapping",
                "Names the fields that are known of a topic",
            )
            .path::<String>("index", index)
            .answers::<Answer>("The fields and their types")
            .refuses_as::<Answer>(404, "There is no such topic")
            .refuses_as::<Answer>(409, "The topic or the node is not searched"),
            mapping,
        )
}

async fn info() -> Response {
    ok(json!({
        "name": "chronik",
        "cluster_name": "chronik",
        "version": {"number": VERSION, "build_flavor": "default", "lucene_version": "9.11.1",
                    "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0"},
        "tagline": "You Know, for Search",
    }))
}

async fn one(State(search): State<Arc<Search>>, Path(index): Path<String>, body: Bytes) -> Response {
    answer(run(&search, &index, &body).await)
}

async fn count(State(search): State<Arc<Search>>, Path(index): Path<String>, body: Bytes) -> Response {
    let counted = match read(&body) {
        Ok(mut body) => {
            if let Some(entries) = body.as_object_mut() {
                entries.insert("size".to_owned(), json!(0));
            }
            search.es_search(&index, &body).await
        }
        Err(refusal) => Err(refusal),
    };
    answer(counted.map(|found| {
        let total = found.pointer("/hits/total/value").cloned().unwrap_or(Value::Null);
        json!({"count": total, "_shards": found.get("_shards")})
    }))
}

async fn several(State(search): State<Arc<Search>>, body: Bytes) -> Response {
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || !lines.len().is_multiple_of(2) || lines.len() > 2 * SEARCHES_MAX {
        let reason =
            format!("{} lines: expected pairs of a header and a body, up to {SEARCHES_MAX}", lines.len());
        return answer(Err(Refusal { status: 400, kind: "illegal_argument_exception", reason }));
    }
    let mut responses = Vec::new();
    for pair in lines.chunks_exact(2) {
        let [header, body] = pair else { continue };
        let index = read(header).ok().and_then(|header| match header.get("index") {
            Some(Value::String(index)) => Some(index.clone()),
            Some(Value::Array(list)) => list.first().and_then(Value::as_str).map(str::to_owned),
            _ => None,
        });
        let found = run(&search, &index.unwrap_or_default(), body).await;
        responses.push(match found {
            Ok(Value::Object(mut found)) => {
                found.insert("status".to_owned(), json!(200));
                Value::Object(found)
            }
            Ok(other) => other,
            Err(refusal) => refused(&refusal),
        });
    }
    ok(json!({"took": 0, "responses": responses}))
}

async fn mapping(State(search): State<Arc<Search>>, Path(index): Path<String>) -> Response {
    let topic = match search.find_searched(&index) {
        Ok(topic) => topic,
        Err(error) => {
            return answer(Err(Refusal {
                status: error.status().as_u16(),
                kind: "index_not_found_exception",
                reason: error.body().message.clone(),
            }));
        }
    };
    let mut properties = Map::from_iter([("@timestamp".to_owned(), json!({"type": "date"}))]);
    let known = search.engine.as_ref().and_then(|engine| engine.shared.topic(&topic.id)?.snapshot);
    for (path, bits) in known.iter().flat_map(|snapshot| snapshot.state.paths.iter()) {
        let Some((VALUE_ROOT, name)) = path.split_once('.') else { continue };
        let kind = match *bits {
            bits if bits & kinds::WORD != 0 => "keyword",
            bits if bits & kinds::TEXT != 0 => "text",
            bits if bits & kinds::NUMBER != 0 => "double",
            bits if bits & kinds::DATE != 0 => "date",
            _ => "boolean",
        };
        properties.insert(name.to_owned(), json!({"type": kind}));
    }
    let mappings = json!({"mappings": {"properties": properties}});
    ok(Value::Object(Map::from_iter([(topic.name, mappings)])))
}

async fn run(search: &Arc<Search>, index: &str, body: &[u8]) -> Result<Value, Refusal> {
    let body = read(body)?;
    search.es_search(index, &body).await
}

/// A body; none is an empty one.
fn read(body: &[u8]) -> Result<Value, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|error| Refusal {
        status: 400,
        kind: "parsing_exception",
        reason: format!("the body is no JSON: {error}"),
    })
}

fn answer(found: Result<Value, Refusal>) -> Response {
    match found {
        Ok(found) => ok(found),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [PRODUCT], PlainJson(refused(&refusal))).into_response()
        }
    }
}

fn refused(refusal: &Refusal) -> Value {
    let cause = json!({"type": refusal.kind, "reason": refusal.reason});
    json!({
        "error": {"root_cause": [cause.clone()], "type": refusal.kind, "reason": refusal.reason},
        "status": refusal.status,
    })
}

fn ok(found: Value) -> Response {
    ([PRODUCT], PlainJson(found)).into_response()
}
