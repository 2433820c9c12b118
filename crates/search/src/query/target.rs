//! What the name of a field in a query stands for.

use serde::{Deserialize, Serialize};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// The key and everything in the value; where no field is named.
    Any,
    /// The record's key, as a whole.
    Key,
    /// Everything in the value.
    Value,
    /// A field of a JSON value.
    Json(String),
    /// A header.
    Header(String),
    /// The record's timestamp.
    Timestamp,
    /// The record's partition.
    Partition,
    /// The record's offset.
    Offset,
}

impl Target {
    /// Fields of the record go by their names, fields of a JSON value by theirs, or with `value.` before it.
    pub(crate) fn of(name: &str) -> Target {
        match name {
            "key" | "_key" => Target::Key,
            "value" | "_value" => Target::Value,
            "timestamp" | "@timestamp" | "_timestamp" => Target::Timestamp,
            "partition" | "_partition" => Target::Partition,
            "offset" | "_offset" => Target::Offset,
            "*" | "_all" => Target::Any,
            _ => match name.split_once('.') {
                Some(("headers" | "_headers", header)) => Target::Header(header.to_owned()),
                Some(("value" | "_value", field)) => Target::Json(without_suffix(field)),
                _ => Target::Json(without_suffix(name)),
            },
        }
    }
}

/// Elasticsearch's clients ask for `field.keyword`, where they mean the field as one word.
fn without_suffix(name: &str) -> String {
    name.strip_suffix(".keyword").unwrap_or(name).to_owned()
}
