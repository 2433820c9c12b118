//! From a request over HTTP to what nodes are asked, and back.

use std::time::Instant;

use chronik_base::TopicId;
use chronik_http::ApiError;
use chronik_http::axum::http::StatusCode;
use serde_json::{Value, json};

use crate::collect::rank_text;
use crate::fields::{EXACT, HEADERS_ROOT, PARTITION, TIMESTAMP, VALUE_ROOT};
use crate::gather::{Gathered, Search, now_ms};
use crate::host::TopicInfo;
use crate::model::{
    KeyAnswer, RecordsAnswer, SearchAnswer, SearchRequest, Sort, TermBucket, Terms, TimeBucket,
};
use crate::query::{Ast, Target, Wanted, parse};
use crate::render;
use crate::shard::{From, Order, Rank, RecordsRequest, ShardError, ShardRequest};
use crate::time;
use std::sync::Arc;

/// Hits in one answer, if it is not said how many.
const LIMIT: usize = 20;
/// Hits in one answer, at most.
pub(crate) const LIMIT_MAX: usize = 1_000;
/// Values of one field that are counted, if it is not said how many.
const TERMS_LIMIT: u32 = 10;
/// And at most.
const TERMS_LIMIT_MAX: u32 = 1_000;
/// Fields whose values are counted by one query.
const TERMS_MAX: usize = 16;
/// Records with one key that are looked at for the latest of them.
const KEY_HITS: usize = 100;
/// Bytes of records in one answer of a partition.
const RECORDS_BYTES: usize = 4 << 20;

/// A 400 of this code.
pub(crate) fn bad(code: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, message)
}

impl Search {
    /// The topic, if there is one.
    pub(crate) fn find(&self, name: &str) -> Result<TopicInfo, ApiError> {
        self.host.topic(name).ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "unknown_topic", format!("there is no topic {name:?}"))
                .hint("`chronik topic list` shows the topics")
        })
    }

    /// The topic, if it can be searched.
    pub(crate) fn find_searched(&self, name: &str) -> Result<TopicInfo, ApiError> {
        let topic = self.find(name)?;
        if self.engine.is_none() {
            let message = "this node answers no searches: search.enabled = false";
            return Err(ApiError::new(StatusCode::CONFLICT, "search_off", message)
                .hint("ask another node, or start this one with search.enabled = true"));
        }
        if !topic.enabled {
            let message = format!("topic {name:?} is not searched: its setting search.enabled is false");
            return Err(ApiError::new(StatusCode::CONFLICT, "search_off", message).hint(format!(
                "`chronik topic alter {name} --set search.enabled=true` makes it searchable"
            )));
        }
        Ok(topic)
    }

    /// Answers a search.
    ///
    /// # Errors
    /// There is no such topic, it is not searched, or the request is at fault: each says what to do.
    pub async fn search(
        self: &Arc<Self>,
        topic: &str,
        request: SearchRequest,
    ) -> Result<SearchAnswer, ApiError> {
        let began = Instant::now();
        let topic = self.find_searched(topic)?;
        let now_ms = now_ms();
        let query = parse(&request.q).map_err(|error| {
            bad("bad_query", error.to_string())
                .position(error.position as u64)
                .hint("docs/search.md describes the query language; \"quotes\" take the meaning from signs")
        })?;
        let order = match request.sort {
            Sort::Newest => Order::Newest,
            Sort::Oldest => Order::Oldest,
            Sort::Score => Order::Score,
        };
        let limit = request.limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if limit > LIMIT_MAX {
            return Err(bad("bad_limit", format!("limit is {limit}, the most is {LIMIT_MAX}"))
                .hint("`next` of an answer is the cursor of the hits that come behind"));
        }
        let wanted = request.highlight.then(|| Wanted::of(&query));
        let shards = ShardRequest {
            topic: topic.id.to_hex(),
            partitions: partitions(&topic, &request.partitions)?,
            time: (at(&request.since, "since", now_ms, false)?, at(&request.until, "until", now_ms, true)?),
            offsets: (offset(request.from_offset), offset(request.to_offset)),
            order,
            limit,
            after: request.cursor.as_deref().map(|text| cursor(text, order)).transpose()?,
            aggregations: aggregations(&request)?.map(|wanted| wanted.to_string()),
            timeout_ms: self.options.timeout_ms,
            now_ms,
            with_records: true,
            query,
        };
        let gathered = self.gather(&topic, &shards).await.map_err(api_error)?;
        let mut answer = SearchAnswer {
            topic: topic.name,
            count: gathered.count,
            next: gathered.upto.map(|rank| rank_text(order, &rank)),
            partial: !gathered.problems.is_empty(),
            ..SearchAnswer::default()
        };
        fill_aggregations(&mut answer, &request, gathered.aggregations.as_ref());
        answer.hits = gathered.hits.into_iter().map(|hit| render::hit(hit, wanted.as_ref())).collect();
        answer.problems = gathered.problems;
        answer.index = gathered.index;
        answer.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(answer)
    }

    /// The latest record of a key: of all partitions that have one, the newest.
    ///
    /// # Errors
    /// As [`Search::search`]; or no record has the key.
    pub async fn latest(self: &Arc<Self>, topic: &str, key: &str) -> Result<KeyAnswer, ApiError> {
        let topic = self.find_searched(topic)?;
        let shards = ShardRequest {
            partitions: partitions(&topic, &[])?,
            order: Order::Offset,
            limit: KEY_HITS,
            ..self.plain(&topic.id, Ast::Word(Target::Key, key.to_owned()))
        };
        let Gathered { hits, index, problems, .. } = self.gather(&topic, &shards).await.map_err(api_error)?;
        // Long keys share a term, so the record has the last word.
        let records = hits.into_iter().map(|hit| hit.record);
        let mut latest: std::collections::BTreeMap<i32, _> = std::collections::BTreeMap::new();
        for record in records.filter(|record| record.key.as_deref() == Some(key.as_bytes())) {
            // Those of one partition come with the highest offset first.
            latest.entry(record.partition).or_insert(record);
        }
        let newest = latest.into_values().max_by_key(|record| (record.timestamp, record.offset));
        let Some(record) = newest else {
            let message = format!("no record of topic {:?} has the key {key:?}", topic.name);
            let hint = match problems.first() {
                Some(problem) => format!("not everything was searched: {problem}"),
                None => "a record is found at most a second after it was committed".to_owned(),
            };
            return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_key", message).hint(hint));
        };
        Ok(KeyAnswer {
            topic: topic.name,
            record: render::record(record),
            partial: !problems.is_empty(),
            problems,
            index,
        })
    }

    /// Records of a partition from an offset or a time on.
    pub(crate) async fn records(
        &self,
        topic: &str,
        partition: u32,
        from: From,
        limit: usize,
    ) -> Result<RecordsAnswer, ApiError> {
        let topic = self.find(topic)?;
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        if index >= topic.replicas.len() {
            let message = format!(
                "topic {:?} has no partition {partition}, it has {}",
                topic.name,
                topic.replicas.len()
            );
            return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_partition", message));
        }
        let request = RecordsRequest {
            topic: topic.id.to_hex(),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            from,
            limit,
            max_bytes: RECORDS_BYTES,
        };
        let read = self.read(&topic, request).await.map_err(api_error)?;
        Ok(RecordsAnswer {
            topic: topic.name,
            partition,
            records: read.records.into_iter().map(render::record).collect(),
            next_offset: read.next_offset,
            log_start_offset: read.log_start,
            high_watermark: read.high_watermark,
        })
    }

    /// A request for everything that `query` finds, to be completed.
    pub(crate) fn plain(&self, topic: &TopicId, query: Ast) -> ShardRequest {
        ShardRequest {
            topic: topic.to_hex(),
            partitions: Vec::new(),
            query,
            time: (None, None),
            offsets: (None, None),
            order: Order::Newest,
            limit: LIMIT,
            after: None,
            aggregations: None,
            timeout_ms: self.options.timeout_ms,
            now_ms: now_ms(),
            with_records: true,
        }
    }
}

/// The partitions that are named, or all.
pub(crate) fn partitions(topic: &TopicInfo, named: &[u32]) -> Result<Vec<i32>, ApiError> {
    let count = u32::try_from(topic.replicas.len()).unwrap_or(u32::MAX);
    if let Some(other) = named.iter().find(|partition| **partition >= count) {
        return Err(bad(
            "unknown_partition",
            format!("topic {:?} has no partition {other}, it has {count}", topic.name),
        ));
    }
    let mut wanted: Vec<i32> = if named.is_empty() { (0..count).collect() } else { named.to_vec() }
        .into_iter()
        .filter_map(|partition| i32::try_from(partition).ok())
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

fn offset(offset: Option<u64>) -> Option<i64> {
    offset.map(|offset| i64::try_from(offset).unwrap_or(i64::MAX))
}

/// A bound of the time.
fn at(text: &Option<String>, name: &str, now_ms: i64, end: bool) -> Result<Option<i64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let time = time::parse(text, now_ms)
        .ok_or_else(|| bad("bad_time", format!("{name} is {text:?}: expected {}", time::EXPECTED)))?;
    Ok(Some(if end { time.end_ms } else { time.start_ms }))
}

fn cursor(text: &str, order: Order) -> Result<Rank, ApiError> {
    crate::collect::parse_rank(order, text).ok_or_else(|| {
        bad("bad_cursor", format!("the cursor {text:?} is not of an answer in this order"))
            .hint("a cursor is the `next` of an answer to the same query with the same sort")
    })
}

/// The column that counts of a field are made of.
pub(crate) fn column(name: &str) -> Result<String, String> {
    match Target::of(name) {
        Target::Timestamp => Ok(TIMESTAMP.to_owned()),
        Target::Partition => Ok(PARTITION.to_owned()),
        Target::Json(path) => Ok(format!("{EXACT}.{VALUE_ROOT}.{path}")),
        Target::Header(header) => Ok(format!("{EXACT}.{HEADERS_ROOT}.{header}")),
        Target::Any | Target::Key | Target::Value | Target::Offset => Err(format!(
            "records can't be counted by {name:?}: a field of JSON values, a header, timestamp or partition can"
        )),
    }
}

fn aggregations(request: &SearchRequest) -> Result<Option<Value>, ApiError> {
    let mut wanted = serde_json::Map::new();
    if let Some(interval) = &request.histogram {
        let usable = time::span(interval).filter(|span| *span > 0);
        usable.ok_or_else(|| {
            bad(
                "bad_interval",
                format!("histogram is {interval:?}: expected a length of time such as 1m, 1h or 1d"),
            )
        })?;
        // Weeks are not known there.
        let millis = usable.unwrap_or(1);
        wanted.insert(
            "histogram".to_owned(),
            json!({"date_histogram": {"field": TIMESTAMP, "fixed_interval": format!("{millis}ms"), "min_doc_count": 1}}),
        );
    }
    if request.terms.len() > TERMS_MAX {
        return Err(bad(
            "too_many_terms",
            format!("terms names {} fields, the most is {TERMS_MAX}", request.terms.len()),
        ));
    }
    let size = request.terms_limit.unwrap_or(TERMS_LIMIT);
    if size == 0 || size > TERMS_LIMIT_MAX {
        return Err(bad(
            "bad_terms_limit",
            format!("terms_limit is {size}: expected 1 to {TERMS_LIMIT_MAX}"),
        ));
    }
    for (index, field) in request.terms.iter().enumerate() {
        let field = column(field).map_err(|message| bad("bad_field", message))?;
        wanted.insert(format!("terms{index}"), json!({"terms": {"field": field, "size": size}}));
    }
    Ok((!wanted.is_empty()).then_some(Value::Object(wanted)))
}

fn fill_aggregations(answer: &mut SearchAnswer, request: &SearchRequest, found: Option<&Value>) {
    let Some(found) = found else { return };
    let buckets = |name: &str| {
        let list = found.get(name).and_then(|one| one.get("buckets")).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let count = |bucket: &Value| bucket.get("doc_count").and_then(Value::as_u64).unwrap_or(0);
    if request.histogram.is_some() {
        let bucket = |bucket: &Value| TimeBucket {
            timestamp: bucket.get("key").and_then(Value::as_f64).map_or(0, |key| key as i64),
            count: count(bucket),
        };
        answer.histogram = Some(buckets("histogram").iter().map(bucket).collect());
    }
    for (index, field) in request.terms.iter().enumerate() {
        let name = format!("terms{index}");
        let bucket = |bucket: &Value| {
            let value =
                bucket.get("key_as_string").filter(|_| !bucket.get("key").is_some_and(Value::is_string));
            TermBucket {
                value: value.or(bucket.get("key")).cloned().unwrap_or(Value::Null),
                count: count(bucket),
            }
        };
        let values = buckets(&name).iter().map(bucket).collect();
        let others = found.get(&name).and_then(|one| one.get("sum_other_doc_count")).and_then(Value::as_u64);
        answer.terms.insert(field.clone(), Terms { values, others: others.unwrap_or(0) });
    }
}

pub(crate) fn api_error(error: ShardError) -> ApiError {
    let message = error.to_string();
    match error {
        ShardError::Query(_) => bad("bad_query", message),
        ShardError::OutOfRange { .. } => ApiError::new(StatusCode::NOT_FOUND, "offset_out_of_range", message)
            .hint("retention, compaction or DeleteRecords may have removed it"),
        ShardError::NotReady(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
            .hint("try again soon, or at another node"),
        ShardError::Failed(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message),
    }
}
