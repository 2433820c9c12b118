//! The data sets as records: the bytes of the source, cut into one value for each row.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::Path;

/// One record to send.
pub struct SourceRecord {
    pub topic: usize,
    pub key: Option<String>,
    pub value: Vec<u8>,
}

/// Key and value as the source has them.
type Row = (Option<String>, String);

/// Where a data set comes from and goes to.
pub struct DataSet {
    pub topic: &'static str,
    pub partitions: i32,
    file: &'static str,
    read: fn(&str) -> Result<Vec<Row>>,
}

/// Flights are keyed by the length of their route, films by title, prices by the share's symbol.
pub const DATA_SETS: [DataSet; 3] = [
    DataSet { topic: "flights", partitions: 6, file: "flights-200k.json", read: flights },
    DataSet { topic: "movies", partitions: 3, file: "movies.json", read: movies },
    DataSet { topic: "stocks", partitions: 3, file: "stocks.csv", read: stocks },
];

/// Every record of every data set, in the order of the files.
pub fn load(folder: &Path) -> Result<Vec<SourceRecord>> {
    let mut records = Vec::new();
    for (topic, set) in DATA_SETS.iter().enumerate() {
        let path = folder.join(set.file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let rows = (set.read)(&text).with_context(|| format!("reading {}", path.display()))?;
        if rows.is_empty() {
            bail!("{} has no rows", path.display());
        }
        records.extend(rows.into_iter().map(|(key, value)| SourceRecord {
            topic,
            key,
            value: value.into_bytes(),
        }));
    }
    Ok(records)
}

fn flights(text: &str) -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Flight<'a> {
        #[serde(borrow)]
        distance: &'a RawValue,
    }
    rows(text, |flight: Flight<'_>| Some(flight.distance.get().to_owned()))
}

fn movies(text: &str) -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Movie {
        #[serde(rename = "Title")]
        title: serde_json::Value,
    }
    rows(text, |movie: Movie| match movie.title {
        serde_json::Value::Null => None,
        serde_json::Value::String(title) => Some(title),
        other => Some(other.to_string()),
    })
}

/// The objects of a JSON array, each as the source has it, with a key made of its fields.
fn rows<'a, T: Deserialize<'a>>(text: &'a str, key: impl Fn(T) -> Option<String>) -> Result<Vec<Row>> {
    let objects: Vec<&'a RawValue> = serde_json::from_str(text)?;
    objects
        .into_iter()
        .map(|object| Ok((key(serde_json::from_str(object.get())?), object.get().to_owned())))
        .collect()
}

fn stocks(text: &str) -> Result<Vec<Row>> {
    let lines = text.lines().skip(1).filter(|line| !line.is_empty());
    Ok(lines.map(|line| (line.split(',').next().map(str::to_owned), line.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_bytes_of_the_source() {
        let rows = flights("[{\"delay\":0,\"distance\":1452,\"time\":0.0},{\"distance\": 7 }]").unwrap();
        let expected = [
            (Some("1452".to_owned()), "{\"delay\":0,\"distance\":1452,\"time\":0.0}".to_owned()),
            (Some("7".to_owned()), "{\"distance\": 7 }".to_owned()),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn films_without_a_title_have_no_key() {
        let rows = movies("[{\"Title\": null}, {\"Title\": 300}, {\"Title\": \"Zulu\"}]").unwrap();
        let keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [None, Some("300".to_owned()), Some("Zulu".to_owned())]);
    }

    #[test]
    fn prices_are_keyed_by_symbol() {
        let rows = stocks("symbol,date,price\nMSFT,Jan 1 2000,39.81\n").unwrap();
        assert_eq!(rows, [(Some("MSFT".to_owned()), "MSFT,Jan 1 2000,39.81".to_owned())]);
    }
}
