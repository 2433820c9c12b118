//! Records and hits as JSON shows them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{Hit, Record};
use crate::query::{Target, Wanted};
use crate::shard::{RawHit, RawRecord};

/// Fields of one hit that are looked through for what was found.
const FIELDS_MAX: usize = 256;

/// A record as JSON shows it.
pub(crate) fn record(raw: RawRecord) -> Record {
    let mut not_text = Vec::new();
    let mut text = |bytes: Vec<u8>, name: &str| {
        String::from_utf8(bytes).unwrap_or_else(|error| {
            not_text.push(name.to_owned());
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    };
    let key = raw.key.map(|key| text(key, "key"));
    let value = match raw.value {
        None => Value::Null,
        Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(text(bytes, "value"))),
    };
    let mut headers = BTreeMap::new();
    for (name, value) in raw.headers {
        let name = text(name, "headers");
        let value = value.map(|value| text(value, "headers"));
        headers.insert(name, value);
    }
    not_text.dedup();
    Record {
        partition: raw.partition.unsigned_abs(),
        offset: raw.offset,
        timestamp: raw.timestamp,
        key,
        value,
        headers,
        not_text,
    }
}

/// A hit as JSON shows it, with parts of its fields where `wanted` is given.
pub(crate) fn hit(raw: RawHit, wanted: Option<&Wanted>) -> Hit {
    let record = record(raw.record);
    let mut highlights = BTreeMap::new();
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        let mut add = |name: String, target: &Target, text: &str| {
            let found = wanted.fragments(target, text);
            if !found.is_empty() && highlights.len() < FIELDS_MAX {
                highlights.insert(name, found);
            }
        };
        if let Some(key) = &record.key {
            add("key".to_owned(), &Target::Key, key);
        }
        for (name, value) in &record.headers {
            let target = Target::Header(name.clone());
            add(format!("headers.{name}"), &target, value.as_deref().unwrap_or_default());
        }
        match &record.value {
            Value::Object(_) => each_text(&record.value, &mut String::new(), &mut |path, text| {
                add(path.to_owned(), &Target::Json(path.to_owned()), text);
            }),
            Value::String(text) => add("value".to_owned(), &Target::Value, text),
            _ => {}
        }
    }
    Hit { record, score: raw.score, highlights }
}

fn each_text(value: &Value, path: &mut String, found: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => found(path, text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, path, found)),
        Value::Object(entries) => {
            for (name, value) in entries {
                let length = path.len();
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                each_text(value, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shown() {
        let raw = RawRecord {
            partition: 1,
            offset: 7,
            timestamp: 5,
            key: Some(vec![b'k', 0xff]),
            value: Some(b"{\"a\":1}".to_vec()),
            headers: vec![(b"h".to_vec(), None)],
        };
        let shown = record(raw);
        assert_eq!(shown.key.as_deref(), Some("k\u{fffd}"));
        assert_eq!(shown.not_text, ["key"]);
        assert_eq!(shown.value, serde_json::json!({"a": 1}));
        assert_eq!(shown.headers.get("h"), Some(&None));
    }
}
