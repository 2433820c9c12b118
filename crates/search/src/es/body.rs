//! The body of a `_search`, and its answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tantivy::time::OffsetDateTime;
use tantivy::time::format_description::well_known::Rfc3339;

use super::{EsError, aggregations, query};
use crate::ask::partitions;
use crate::collect::{parse_rank, rank_text};
use crate::gather::Search;
use crate::model::Record;
use crate::query::Ast;
use crate::render;
use crate::shard::{Order, RawHit, ShardError, ShardRequest};

/// `from` and `size` together.
const HITS_MAX: usize = 10_000;

/// What a body asks for.
pub(crate) struct Body {
    query: Ast,
    size: usize,
    from: usize,
    order: Order,
    after: Option<crate::shard::Rank>,
    aggregations: Option<Value>,
}

/// An error in Elasticsearch's shape: its status, type and reason.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) reason: String,
}

impl std::convert::From<EsError> for Refusal {
    fn from(error: EsError) -> Self {
        Self { status: 400, kind: "parsing_exception", reason: error.to_string() }
    }
}

impl Body {
    /// Reads a body.
    pub(crate) fn read(value: &Value) -> Result<Self, EsError> {
        let entries = value.as_object().ok_or_else(|| EsError::new("body", "expected an object"))?;
        let mut body = Self {
            query: Ast::All,
            size: 10,
            from: 0,
            order: Order::Newest,
            after: None,
            aggregations: None,
        };
        for (name, value) in entries {
            let number = || {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| EsError::new(name, format!("is {value}: expected a whole number")))
            };
            match name.as_str() {
                "query" => body.query = query::read(value, "query", 0)?,
                "size" => body.size = number()?,
                "from" => body.from = number()?,
                "sort" => body.order = order(value)?,
                "aggs" | "aggregations" => body.aggregations = Some(aggregations::read(value, name)?),
                "track_total_hits" | "_source" | "timeout" | "search_after" | "fields"
                | "docvalue_fields" | "stored_fields" | "script_fields" | "highlight" | "version"
                | "explain" | "profile" | "track_scores" => {}
                _ => return Err(EsError::new(name, "is not known here")),
            }
        }
        if body.from.saturating_add(body.size) > HITS_MAX {
            return Err(EsError::new("size", format!("from and size together are more than {HITS_MAX}")));
        }
        if let Some(after) = entries.get("search_after") {
            let text = after.as_array().and_then(|values| values.last()).and_then(Value::as_str);
            let rank = text.and_then(|text| parse_rank(body.order, text));
            body.after = Some(rank.ok_or_else(|| {
                EsError::new("search_after", "expected the `sort` of a hit, in the same order")
            })?);
        }
        Ok(body)
    }
}

/// By time or by score; what comes behind that decides nothing.
fn order(value: &Value) -> Result<Order, EsError> {
    let first = match value {
        Value::Array(list) => match list.first() {
            Some(first) => first,
            None => return Ok(Order::Score),
        },
        other => other,
    };
    let (field, direction) = match first {
        Value::String(field) => (field.as_str(), None),
        Value::Object(entries) => match entries.iter().next() {
            Some((field, Value::String(direction))) => (field.as_str(), Some(direction.as_str())),
            Some((field, options)) => (field.as_str(), options.get("order").and_then(Value::as_str)),
            None => return Err(EsError::new("sort", "names no field")),
        },
        _ => return Err(EsError::new("sort", "expected a field")),
    };
    match (field, direction) {
        ("_score", None | Some("desc")) => Ok(Order::Score),
        ("@timestamp" | "timestamp" | "_timestamp", Some("desc")) => Ok(Order::Newest),
        ("@timestamp" | "timestamp" | "_timestamp" | "_doc", None | Some("asc")) => Ok(Order::Oldest),
        ("_doc", _) => Ok(Order::Newest),
        _ => Err(EsError::new(
            "sort",
            format!("is by {field:?}: expected @timestamp, or _score from the highest down"),
        )),
    }
}

impl Search {
    /// Answers a `_search` of a topic.
    pub(crate) async fn es_search(self: &Arc<Self>, index: &str, body: &Value) -> Result<Value, Refusal> {
        let began = Instant::now();
        let mut body = Body::read(body)?;
        let topic = self.find_searched(index).map_err(|error| Refusal {
            status: error.status().as_u16(),
            kind: if error.status().as_u16() == 404 { "index_not_found_exception" } else { "search_off" },
            reason: format!("{}; {}", error.body().message, error.body().hint),
        })?;
        let shards = ShardRequest {
            partitions: partitions(&topic, &[]).unwrap_or_default(),
            order: body.order,
            limit: body.from + body.size,
            after: body.after,
            aggregations: body.aggregations.as_ref().map(Value::to_string),
            ..self.plain(&topic.id, std::mem::replace(&mut body.query, Ast::All))
        };
        let found = self.gather(&topic, &shards).await.map_err(|error| match error {
            ShardError::Query(reason) => {
                Refusal { status: 400, kind: "search_phase_execution_exception", reason }
            }
            other => Refusal {
                status: 503,
                kind: "no_shard_available_action_exception",
                reason: other.to_string(),
            },
        })?;
        let total = topic.replicas.len();
        let searched = found.index.len();
        let order = body.order;
        let hits: Vec<Value> =
            found.hits.into_iter().skip(body.from).map(|raw| hit(&topic.name, order, raw)).collect();
        let failures: Vec<Value> = found
            .problems
            .iter()
            .map(|problem| json!({"reason": {"type": "partial", "reason": problem}}))
            .collect();
        let cut = found.problems.iter().any(|problem| problem.contains("cut off"));
        let mut answer = json!({
            "took": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "timed_out": cut,
            "_shards": {"total": total, "successful": searched, "skipped": 0, "failed": total - searched.min(total)},
            "hits": {
                "total": {"value": found.count, "relation": if cut { "gte" } else { "eq" }},
                "max_score": hits.first().and_then(|hit| hit.get("_score")).cloned(),
                "hits": hits,
            },
        });
        if let (Some(aggregations), Some(entries)) = (found.aggregations, answer.as_object_mut()) {
            entries.insert("aggregations".to_owned(), aggregations::tidy(aggregations));
        }
        if let Some(shards) = answer.get_mut("_shards").and_then(Value::as_object_mut)
            && !failures.is_empty()
        {
            shards.insert("failures".to_owned(), Value::Array(failures));
        }
        Ok(answer)
    }
}

fn hit(index: &str, order: Order, raw: RawHit) -> Value {
    let sort = match order {
        Order::Score => json!(raw.score),
        _ => json!(raw.record.timestamp),
    };
    let rank = rank_text(order, &raw.rank);
    let score = raw.score;
    let record = render::record(raw.record);
    json!({
        "_index": index,
        "_id": format!("{}-{}", record.partition, record.offset),
        "_score": score,
        "_source": source(record),
        "sort": [sort, rank],
    })
}

/// The value's fields, and where the record is under names that begin with `_`.
fn source(record: Record) -> Value {
    let mut source = match record.value {
        Value::Object(entries) => entries,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    let time = i128::from(record.timestamp) * 1_000_000;
    let time =
        OffsetDateTime::from_unix_timestamp_nanos(time).ok().and_then(|time| time.format(&Rfc3339).ok());
    source.entry("@timestamp".to_owned()).or_insert(json!(time));
    source.insert("_partition".to_owned(), json!(record.partition));
    source.insert("_offset".to_owned(), json!(record.offset));
    if let Some(key) = record.key {
        source.insert("_key".to_owned(), json!(key));
    }
    if !record.headers.is_empty() {
        source.insert("_headers".to_owned(), json!(record.headers));
    }
    Value::Object(source)
}
