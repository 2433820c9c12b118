//! What a report is made of: result files, measures that other tools took, and the layout that says what stands where.

use crate::result::{RunResult, SCHEMA};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What the schema of a measure says.
pub const MEASURE_SCHEMA: &str = "chronik-measure/1";
/// The layout's name within the folder of the results.
pub const LAYOUT: &str = "layout.json";

/// Figures that no run of chronik-bench gives: the gap of a failover, the time of a start. Or why a run could not be made.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Measure {
    /// [`MEASURE_SCHEMA`].
    pub schema: String,
    /// When it was taken, UTC.
    #[serde(default)]
    pub started_at: String,
    /// Figures by name; units stand in the names.
    #[serde(default)]
    pub values: BTreeMap<String, f64>,
    /// Why there are none.
    #[serde(default)]
    pub error: Option<String>,
}

/// One file.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A result of chronik-bench.
    Run(Box<RunResult>),
    /// Anything else.
    Measure(Measure),
}

/// All files of a folder by row and side.
#[derive(Debug, Default)]
pub struct Results {
    by_place: BTreeMap<(String, String), Vec<Entry>>,
}

/// What stands where in a report.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Layout {
    /// The report's title.
    pub title: String,
    /// Sentences at its start, one paragraph each.
    #[serde(default)]
    pub intro: Vec<String>,
    /// Who is measured, in the order of the columns; the names are those in the files' names.
    pub sides: Vec<Side>,
    /// The sections.
    pub sections: Vec<Section>,
    /// Sentences at its end, one paragraph each.
    #[serde(default)]
    pub closing: Vec<String>,
}

/// Who is measured.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Side {
    /// As in the files' names.
    pub name: String,
    /// As in the report.
    pub title: String,
}

/// Rows that belong together.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What has to be known, one paragraph each.
    #[serde(default)]
    pub text: Vec<String>,
    /// What x is, where the rows are points of a line.
    #[serde(default)]
    pub x_title: Option<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One thing that is measured on each side.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Row {
    /// As in the files' names.
    pub name: String,
    /// As in the report.
    pub title: String,
    /// Its place on the x axis.
    #[serde(default)]
    pub x: Option<f64>,
    /// True where something happens on the way, so that it is drawn second by second.
    #[serde(default)]
    pub over_time: bool,
    /// Whom it is measured on, and what an acknowledgement means there.
    pub sides: BTreeMap<String, String>,
    /// Names of a measure's figures and their titles; empty for runs of chronik-bench.
    #[serde(default)]
    pub figures: Vec<(String, String)>,
    /// Figures of another machine that stand beside ours.
    #[serde(default)]
    pub reference: Option<Reference>,
}

/// Figures that were measured elsewhere.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Reference {
    /// Whose they are.
    pub title: String,
    /// Messages a second, as written there.
    pub messages_per_second: String,
    /// Percentiles in milliseconds: p50, p99, p99.9, max; empty where there are none.
    #[serde(default)]
    pub latency_ms: Vec<f64>,
    /// What came of it, beside the figures.
    #[serde(default)]
    pub remark: String,
}

impl Results {
    /// Reads every result and measure in a folder. A file's name is ROW.SIDE.ROUND.json, or any other with `.json`, which then is a row of its own.
    ///
    /// # Errors
    /// A file ends in `.json` and is neither.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut results = Self::default();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
            paths.push(entry?.path());
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(stem) = name.strip_suffix(".json").filter(|_| name != LAYOUT) else { continue };
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let entry = parse(&text).with_context(|| format!("{} is no result file", path.display()))?;
            if let Some(entry) = entry {
                results.by_place.entry(place(stem)).or_default().push(entry);
            }
        }
        Ok(results)
    }

    /// Files of one row on one side.
    pub fn entries(&self, row: &str, side: &str) -> &[Entry] {
        self.by_place.get(&(row.to_owned(), side.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    /// Runs of chronik-bench of one row on one side.
    pub fn runs(&self, row: &str, side: &str) -> Vec<&RunResult> {
        let entries = self.entries(row, side).iter();
        entries
            .filter_map(|entry| match entry {
                Entry::Run(run) => Some(&**run),
                Entry::Measure(_) => None,
            })
            .collect()
    }

    /// Measures of one row on one side.
    pub fn measures(&self, row: &str, side: &str) -> Vec<&Measure> {
        let entries = self.entries(row, side).iter();
        entries
            .filter_map(|entry| match entry {
                Entry::Run(_) => None,
                Entry::Measure(measure) => Some(measure),
            })
            .collect()
    }

    /// Every run, in the order of the names.
    pub fn all_runs(&self) -> impl Iterator<Item = (&str, &str, &RunResult)> {
        self.by_place.iter().flat_map(|((row, side), entries)| {
            entries.iter().filter_map(move |entry| match entry {
                Entry::Run(run) => Some((row.as_str(), side.as_str(), &**run)),
                Entry::Measure(_) => None,
            })
        })
    }

    /// A layout for results that have none: every row in the order of the names, by command.
    pub fn layout(&self) -> Layout {
        let mut sides: Vec<Side> = Vec::new();
        let mut sections: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for ((row, side), entries) in &self.by_place {
            let Some(Entry::Run(run)) = entries.first() else { continue };
            if !sides.iter().any(|known| known.name == *side) {
                sides.push(Side { name: side.clone(), title: side.clone() });
            }
            let rows = sections.entry(run.command.clone()).or_default();
            match rows.iter_mut().find(|known| known.name == *row) {
                Some(known) => drop(known.sides.insert(side.clone(), String::new())),
                None => rows.push(Row {
                    name: row.clone(),
                    title: row.clone(),
                    sides: BTreeMap::from([(side.clone(), String::new())]),
                    ..Row::default()
                }),
            }
        }
        let section = |(title, rows)| Section { title, rows, ..Section::default() };
        Layout {
            title: "chronik-bench".to_owned(),
            sides,
            sections: sections.into_iter().map(section).collect(),
            ..Layout::default()
        }
    }
}

/// `None` for a file that belongs to somebody else's bookkeeping.
fn parse(text: &str) -> Result<Option<Entry>> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        schema: String,
    }
    let head: Head = serde_json::from_str(text)?;
    Ok(match head.schema.as_str() {
        SCHEMA => Some(Entry::Run(Box::new(serde_json::from_str(text)?))),
        MEASURE_SCHEMA => Some(Entry::Measure(serde_json::from_str(text)?)),
        other => {
            ensure!(!other.starts_with("chronik-bench/"), "schema {other:?}; this version reads {SCHEMA:?}");
            None
        }
    })
}

/// Row and side of a file: ROW.SIDE.ROUND, ROW.ROUND, or ROW.
fn place(stem: &str) -> (String, String) {
    let without_round = match stem.rsplit_once('.') {
        Some((rest, round)) if round.parse::<u32>().is_ok() => rest,
        _ => stem,
    };
    match without_round.rsplit_once('.') {
        Some((row, side)) => (row.to_owned(), side.to_owned()),
        None => (without_round.to_owned(), "measured".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_say_row_and_side() {
        let place = |stem| {
            let (row, side) = super::place(stem);
            format!("{row}|{side}")
        };
        assert_eq!(place("acks-1.chronik.2"), "acks-1|chronik");
        assert_eq!(place("acks-1.2"), "acks-1|measured");
        assert_eq!(place("acks-1"), "acks-1|measured");
        assert_eq!(place("acks-1.kafka"), "acks-1|kafka");
    }

    #[test]
    fn other_versions_are_refused_and_other_files_are_left_alone() {
        assert!(parse("{\"schema\":\"chronik-bench/9\"}").is_err());
        assert!(parse("{\"schema\":\"plan/1\"}").unwrap().is_none());
        let run = RunResult { schema: SCHEMA.to_owned(), ..RunResult::default() };
        assert!(matches!(parse(&serde_json::to_string(&run).unwrap()), Ok(Some(Entry::Run(_)))));
    }
}
