//! Elasticsearch's aggregations: the index has them, under other names of fields.

use serde_json::{Map, Value, json};

use super::EsError;
use crate::ask::column;
use crate::fields::TIMESTAMP;

/// Aggregations within aggregations, at most.
const DEPTH_MAX: usize = 8;
/// Aggregations of one query.
const COUNT_MAX: usize = 64;

const KINDS: &[&str] = &[
    "terms",
    "date_histogram",
    "histogram",
    "range",
    "min",
    "max",
    "sum",
    "avg",
    "stats",
    "value_count",
    "percentiles",
    "cardinality",
];

/// Makes aggregations of the index of Elasticsearch's.
pub(crate) fn read(value: &Value, path: &str) -> Result<Value, EsError> {
    let mut count = 0;
    level(value, path, 0, &mut count)
}

fn level(value: &Value, path: &str, depth: usize, count: &mut usize) -> Result<Value, EsError> {
    let named = value.as_object().ok_or_else(|| EsError::new(path, "expected an object"))?;
    if depth >= DEPTH_MAX {
        return Err(EsError::new(path, format!("aggregations may be nested {DEPTH_MAX} deep")));
    }
    let mut all = Map::new();
    for (name, definition) in named {
        let path = &format!("{path}.{name}");
        *count += 1;
        if *count > COUNT_MAX {
            return Err(EsError::new(path, format!("there are more than {COUNT_MAX} aggregations")));
        }
        let entries = definition.as_object().ok_or_else(|| EsError::new(path, "expected an object"))?;
        let mut made = Map::new();
        for (kind, inner) in entries {
            let path = &format!("{path}.{kind}");
            match kind.as_str() {
                "aggs" | "aggregations" => {
                    made.insert("aggs".to_owned(), level(inner, path, depth + 1, count)?);
                }
                "meta" => {}
                known if KINDS.contains(&known) => {
                    made.insert(kind.clone(), one(known, inner, path)?);
                }
                _ => {
                    return Err(EsError::new(
                        path,
                        format!("is not known here: expected {}", KINDS.join(", ")),
                    ));
                }
            }
        }
        all.insert(name.clone(), Value::Object(made));
    }
    Ok(Value::Object(all))
}

fn one(kind: &str, value: &Value, path: &str) -> Result<Value, EsError> {
    let entries = value.as_object().ok_or_else(|| EsError::new(path, "expected an object"))?;
    let mut made = Map::new();
    for (name, value) in entries {
        match (kind, name.as_str()) {
            (_, "field") => {
                let field = value.as_str().ok_or_else(|| EsError::new(path, "field is no text"))?;
                let column = column(field).map_err(|problem| EsError::new(path, problem))?;
                made.insert("field".to_owned(), Value::String(column));
            }
            ("date_histogram", "interval" | "calendar_interval" | "fixed_interval") => {
                let interval = fixed(value).ok_or_else(|| {
                    EsError::new(
                        path,
                        format!("the interval {value} is none: expected one such as 30s, 1m, 1h or 1d"),
                    )
                })?;
                made.insert("fixed_interval".to_owned(), Value::String(interval));
            }
            ("date_histogram", "min_doc_count" | "offset" | "keyed" | "hard_bounds" | "extended_bounds")
            | (
                "histogram",
                "interval" | "min_doc_count" | "offset" | "keyed" | "hard_bounds" | "extended_bounds",
            )
            | ("terms", "size" | "order" | "min_doc_count" | "missing")
            | ("range", "ranges" | "keyed")
            | ("percentiles", "percents" | "keyed")
            | (_, "missing") => {
                made.insert(name.clone(), ordered(value.clone()));
            }
            ("date_histogram", "format" | "time_zone") | ("terms", "shard_size" | "collect_mode") => {}
            _ => return Err(EsError::new(&format!("{path}.{name}"), "is not known here")),
        }
    }
    if !made.contains_key("field") {
        return Err(EsError::new(path, "names no field"));
    }
    if kind == "date_histogram" && !made.contains_key("fixed_interval") {
        return Err(EsError::new(path, "has no fixed_interval"));
    }
    if kind == "date_histogram" && made.get("field") == Some(&json!(TIMESTAMP)) {
        // Every record has a timestamp.
        made.remove("missing");
    }
    Ok(Value::Object(made))
}

/// `_term` is what clients of old call `_key`.
fn ordered(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(name, value)| (if name == "_term" { "_key".to_owned() } else { name }, value))
            .collect(),
        other => other,
    }
}

fn fixed(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let text = match text {
        "second" => "1s",
        "minute" => "1m",
        "hour" => "1h",
        "day" => "1d",
        "week" | "1w" => "7d",
        other => other,
    };
    crate::time::span(text).filter(|span| *span > 0).map(|_| text.to_owned())
}

/// Keys of buckets that are whole numbers are written as such.
pub(crate) fn tidy(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(name, value)| {
                let whole = value
                    .as_f64()
                    .filter(|number| name == "key" && number.fract() == 0.0 && number.abs() < 9e15);
                let value = match whole {
                    Some(number) => json!(number as i64),
                    None => tidy(value),
                };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(tidy).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_intervals_are_translated() {
        let made = read(
            &json!({"t": {"date_histogram": {"field": "@timestamp", "calendar_interval": "hour", "format": "epoch_millis"},
                          "aggs": {"l": {"terms": {"field": "level.keyword", "size": 5, "order": {"_term": "asc"}}}}}}),
            "aggs",
        );
        assert_eq!(
            made,
            Ok(json!({"t": {"date_histogram": {"field": "timestamp", "fixed_interval": "1h"},
                            "aggs": {"l": {"terms": {"field": "exact.v.level", "size": 5, "order": {"_key": "asc"}}}}}}))
        );
        let error = read(&json!({"a": {"top_hits": {}}}), "aggs").unwrap_err();
        assert_eq!(error.path, "aggs.a.top_hits");
    }
}
