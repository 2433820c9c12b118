//! What is asked over HTTP, and answered: the JSON of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How hits are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The newest record first.
    #[default]
    Newest,
    /// The oldest record first.
    Oldest,
    /// What fits best first.
    Score,
}

/// A search in one topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchRequest {
    /// The query, such as `level:error AND user.id:42`. Without one, every record is a hit.
    pub q: String,
    /// No record that is older: a time such as `2026-11-25T12:00:00Z`, a day, milliseconds since 1970, or `now-15m`.
    pub since: Option<String>,
    /// No record that is newer.
    pub until: Option<String>,
    /// Only these partitions; all of them, if none is named.
    pub partitions: Vec<u32>,
    /// No lower offset.
    pub from_offset: Option<u64>,
    /// No offset at or above this one.
    pub to_offset: Option<u64>,
    /// The order of hits.
    pub sort: Sort,
    /// Hits at most, up to 1,000; 20 if it is not said.
    #[schemars(range(max = 1000))]
    pub limit: Option<u32>,
    /// Where an answer's `next` goes on.
    pub cursor: Option<String>,
    /// Show what was found within the values.
    pub highlight: bool,
    /// Count records by time, in steps such as `1m`, `1h` or `1d`.
    pub histogram: Option<String>,
    /// Count records by the values of these fields.
    pub terms: Vec<String>,
    /// How many values of each, the most frequent ones; 10 if it is not said, up to 1,000.
    #[schemars(range(max = 1000))]
    pub terms_limit: Option<u32>,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Record {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp: i64,
    /// Its key as text, if it has one.
    pub key: Option<String>,
    /// Its value: JSON where it is JSON, else text. `null` for none.
    pub value: serde_json::Value,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Option<String>>,
    /// The fields above that were no text, and in which bytes that are not were replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_text: Vec<String>,
}

/// A record that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hit {
    /// The record.
    #[serde(flatten)]
    pub record: Record,
    /// How well it fits, where hits are ordered by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Parts of its fields, with what was found between `<em>` and `</em>`. Nothing is escaped.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub highlights: BTreeMap<String, Vec<String>>,
}

/// How far the index of a partition is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PartitionIndex {
    /// The partition.
    pub partition: u32,
    /// The node that was asked.
    pub node: i32,
    /// Records below this offset can be found.
    pub indexed_to: i64,
    /// Offset after the last committed record.
    pub high_watermark: i64,
}

/// Records of a span of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeBucket {
    /// Where it begins, in milliseconds since 1970.
    pub timestamp: i64,
    /// How many there are.
    pub count: u64,
}

/// Records with a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TermBucket {
    /// The value.
    pub value: serde_json::Value,
    /// How many there are.
    pub count: u64,
}

/// The values of a field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Terms {
    /// The most frequent ones.
    pub values: Vec<TermBucket>,
    /// Records with another value.
    pub others: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SearchAnswer {
    /// The topic.
    pub topic: String,
    /// Records that fit the query.
    pub count: u64,
    /// The first of them.
    pub hits: Vec<Hit>,
    /// The cursor of the hits that come next, if there are any.
    pub next: Option<String>,
    /// True if this is not everything: `problems` say why.
    pub partial: bool,
    /// What went wrong on the way.
    pub problems: Vec<String>,
    /// Up to which offsets was searched.
    pub index: Vec<PartitionIndex>,
    /// Counts by time, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Vec<TimeBucket>>,
    /// Counts by values, if they were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, Terms>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Records of one partition, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RecordsAnswer {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The records.
    pub records: Vec<Record>,
    /// Where the next ones begin.
    pub next_offset: i64,
    /// The first offset there is.
    pub log_start_offset: i64,
    /// Offset after the last committed record.
    pub high_watermark: i64,
}

/// The latest record of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeyAnswer {
    /// The topic.
    pub topic: String,
    /// The record. A value of `null` means that the key was deleted.
    pub record: Record,
    /// True if not all partitions could be asked: `problems` say why.
    pub partial: bool,
    /// What went wrong on the way.
    pub problems: Vec<String>,
    /// Up to which offsets was searched.
    pub index: Vec<PartitionIndex>,
}
