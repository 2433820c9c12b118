//! The routes of search.

use std::sync::Arc;

use chronik_http::axum::extract::State;
use chronik_http::{ApiError, Json, Operation, Path, Query, Routes};
use serde::Deserialize;

use crate::ask::bad;
use crate::es;
use crate::gather::Search;
use crate::model::{KeyAnswer, RecordsAnswer, SearchAnswer, SearchRequest, Sort};
use crate::shard::From;
use crate::time;

/// The largest body of a search.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Records in one answer, if it is not said how many, and at most.
const RECORDS: u32 = 100;
const RECORDS_MAX: u32 = 10_000;

/// The parameters of a search in a URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    #[serde(default)]
    q: String,
    since: Option<String>,
    until: Option<String>,
    #[serde(default)]
    partitions: String,
    from_offset: Option<u64>,
    to_offset: Option<u64>,
    #[serde(default)]
    sort: Sort,
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    highlight: bool,
    histogram: Option<String>,
    #[serde(default)]
    terms: String,
    terms_limit: Option<u32>,
}

/// The parameters of a request for records.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsQuery {
    offset: Option<u64>,
    timestamp: Option<String>,
    limit: Option<u32>,
}

/// The routes.
pub fn routes(search: Arc<Search>) -> Routes {
    let topic = "The topic's name";
    let off = "The topic or the node is not searched (search.enabled)";
    let routes = Routes::new("search", "Finds records of topics, and reads them")
        .add(
            Operation::get("/v1/search/{topic}", "search", "Searches a topic")
                .path::<String>("topic", topic)
                .query::<String>("q", "The query; without one, every record is a hit")
                .query::<String>("since", "No record that is older: a time, or now-15m")
                .query::<String>("until", "No record that is newer")
                .query::<String>("partitions", "Only these partitions, separated by commas")
                .query::<u64>("from_offset", "No lower offset")
                .query::<u64>("to_offset", "No offset at or above this one")
                .query::<Sort>("sort", "The order of hits")
                .query::<u32>("limit", "Hits at most, up to 1000; 20 if it is not said")
                .query::<String>("cursor", "Where an answer's `next` goes on")
                .query::<bool>("highlight", "Show what was found within the values")
                .query::<String>("histogram", "Count records by time, in steps such as 1m")
                .query::<String>("terms", "Count records by the values of these fields, separated by commas")
                .query::<u32>("terms_limit", "How many values of each, up to 1000; 10 if it is not said")
                .answers::<SearchAnswer>("What was found")
                .refuses(404, "There is no such topic")
                .refuses(409, off),
            get,
        )
        .add(
            Operation::post("/v1/search/{topic}", "search_with_body", "Searches a topic")
                .path::<String>("topic", topic)
                .body::<SearchRequest>("The search")
                .body_limit(BODY_BYTES_MAX)
                .answers::<SearchAnswer>("What was found")
                .refuses(404, "There is no such topic")
                .refuses(409, off),
            post,
        )
        .add(
            Operation::get(
                "/v1/topics/{topic}/partitions/{partition}/records",
                "read_records",
                "Reads records of a partition, from an offset or a time on",
            )
            .path::<String>("topic", topic)
            .path::<u32>("partition", "The partition")
            .query::<u64>("offset", "The first offset; without one, the first there is")
            .query::<String>("timestamp", "Instead of an offset: the first record of this time or later")
            .query::<u32>("limit", "Records at most, up to 10000; 100 if it is not said")
            .answers::<RecordsAnswer>("The records")
            .refuses(404, "There is no such topic, partition or offset"),
            records,
        )
        .add(
            Operation::get(
                "/v1/topics/{topic}/keys/{key}",
                "latest_of_key",
                "Reads the latest record of a key",
            )
            .path::<String>("topic", topic)
            .path::<String>("key", "The key, as text")
            .answers::<KeyAnswer>("The record")
            .refuses(404, "There is no such topic, or no record with the key")
            .refuses(409, off),
            key,
        );
    es::add(routes).with_state(search)
}

async fn get(
    State(search): State<Arc<Search>>,
    Path(topic): Path<String>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<SearchAnswer>, ApiError> {
    let mut partitions = Vec::new();
    for part in query.partitions.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let number = part.parse();
        partitions.push(
            number.map_err(|_| bad("bad_partition", format!("partitions has {part:?}: expected numbers")))?,
        );
    }
    let names = query.terms.split(',').map(str::trim).filter(|name| !name.is_empty());
    let request = SearchRequest {
        q: query.q,
        since: query.since,
        until: query.until,
        partitions,
        from_offset: query.from_offset,
        to_offset: query.to_offset,
        sort: query.sort,
        limit: query.limit,
        cursor: query.cursor,
        highlight: query.highlight,
        histogram: query.histogram,
        terms: names.map(str::to_owned).collect(),
        terms_limit: query.terms_limit,
    };
    search.search(&topic, request).await.map(Json)
}

async fn post(
    State(search): State<Arc<Search>>,
    Path(topic): Path<String>,
    Json(request): Json<SearchRequest>,
) -> Result<Json<SearchAnswer>, ApiError> {
    search.search(&topic, request).await.map(Json)
}

async fn records(
    State(search): State<Arc<Search>>,
    Path((topic, partition)): Path<(String, u32)>,
    Query(query): Query<RecordsQuery>,
) -> Result<Json<RecordsAnswer>, ApiError> {
    let from = match (query.offset, &query.timestamp) {
        (Some(_), Some(_)) => {
            return Err(bad("bad_start", "offset and timestamp exclude each other: leave out one of them"));
        }
        (Some(offset), None) => From::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        (None, Some(text)) => {
            let time = time::parse(text, crate::gather::now_ms());
            let time = time.ok_or_else(|| {
                bad("bad_time", format!("timestamp is {text:?}: expected {}", time::EXPECTED))
            })?;
            From::Time(time.start_ms)
        }
        (None, None) => From::Start,
    };
    let limit = query.limit.unwrap_or(RECORDS);
    if limit == 0 || limit > RECORDS_MAX {
        return Err(bad("bad_limit", format!("limit is {limit}: expected 1 to {RECORDS_MAX}")));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    search.records(&topic, partition, from, limit).await.map(Json)
}

async fn key(
    State(search): State<Arc<Search>>,
    Path((topic, key)): Path<(String, String)>,
) -> Result<Json<KeyAnswer>, ApiError> {
    search.latest(&topic, &key).await.map(Json)
}
