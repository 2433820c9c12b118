//! The folder of results: which are there, what they say, and the layout that the report is made with.

use super::matrix::{Kind, Row, Section};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MEASURE_SCHEMA: &str = "chronik-measure/1";
const PLAN_SCHEMA: &str = "chronik-benchmark-plan/1";
const PLAN: &str = "plan.json";
const LAYOUT: &str = "layout.json";

/// All results of one benchmark.
pub struct Results {
    pub folder: PathBuf,
}

/// What is the same for all results of a folder.
#[derive(Serialize, PartialEq, Clone, Copy, Debug)]
pub struct Plan {
    /// Measured seconds of each run.
    pub seconds: u64,
    /// Seconds of warm-up before.
    pub warmup_seconds: f64,
    /// Small data, too.
    pub quick: bool,
}

impl Results {
    /// Opens a folder. What lies in it stays, if it was measured by the same plan.
    pub fn open(folder: &Path, plan: Option<Plan>, fresh: bool) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let results = Self { folder: folder.to_owned() };
        if fresh {
            results.remove_all()?;
        }
        let Some(plan) = plan else { return Ok(results) };
        let path = folder.join(PLAN);
        let mut wanted = serde_json::to_value(plan)?;
        if let Some(fields) = wanted.as_object_mut() {
            fields.insert("schema".to_owned(), PLAN_SCHEMA.into());
        }
        match read(&path) {
            Some(found) if found != wanted => bail!(
                "the results in {} were measured otherwise ({found}, now {wanted}): take the same --seconds, --warmup and --quick, another --results, or --fresh to begin anew",
                folder.display()
            ),
            Some(_) => {}
            None => write(&path, &wanted)?,
        }
        Ok(results)
    }

    fn remove_all(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Where the result of one row on one side in one round lies.
    pub fn path(&self, row: &Row, side: &str, round: u32) -> PathBuf {
        self.folder.join(format!("{}.{side}.{round}.json", row.name))
    }

    /// True where it is there and whole. A run that could not be made is tried again.
    pub fn is_done(&self, row: &Row, side: &str, round: u32) -> bool {
        read(&self.path(row, side, round)).is_some_and(|found| {
            found.get("interrupted").and_then(Value::as_bool) != Some(true)
                && found.get("error").is_none_or(Value::is_null)
        })
    }

    /// Writes figures that chronik-bench did not measure.
    pub fn measured(&self, row: &Row, side: &str, round: u32, values: &[(&str, f64)]) -> Result<()> {
        let values: BTreeMap<&str, f64> = values.iter().copied().collect();
        let measure = json!({"schema": MEASURE_SCHEMA, "started_at": now(), "values": values});
        write(&self.path(row, side, round), &measure)
    }

    /// Writes why there are no figures.
    pub fn could_not(&self, row: &Row, side: &str, round: u32, why: &str) -> Result<()> {
        let measure = json!({"schema": MEASURE_SCHEMA, "started_at": now(), "error": why});
        write(&self.path(row, side, round), &measure)
    }

    /// The middle one of the knees that a saturation row found on a side.
    pub fn knee(&self, saturation: &str, side: &str, rounds: u32) -> Option<f64> {
        let of_round = |round| {
            let path = self.folder.join(format!("{saturation}.{side}.{round}.json"));
            read(&path)?.pointer("/saturation/knee_messages_per_second")?.as_f64()
        };
        let mut knees: Vec<f64> = (1..=rounds).filter_map(of_round).collect();
        knees.sort_by(f64::total_cmp);
        knees.get(knees.len() / 2).copied()
    }

    /// The rate of the first stream of a result.
    pub fn rate(&self, row: &str, side: &str, round: u32) -> Option<f64> {
        let path = self.folder.join(format!("{row}.{side}.{round}.json"));
        read(&path)?.pointer("/streams/0/messages_per_second")?.as_f64()
    }

    /// Writes what stands where in the report.
    pub fn write_layout(&self, sections: &[Section], closing: &[&str], intro: &[&str]) -> Result<()> {
        let sides = json!([
            {"name": "chronik", "title": "Chronik"},
            {"name": "kafka", "title": "Apache Kafka"},
            {"name": "floor", "title": "the floor"},
            {"name": "floor-flush", "title": "the floor, flushing"},
        ]);
        let layout = json!({
            "title": "Benchmark report",
            "intro": intro,
            "sides": sides,
            "sections": sections.iter().map(section).collect::<Vec<_>>(),
            "closing": closing,
        });
        write(&self.folder.join(LAYOUT), &layout)
    }
}

fn section(section: &Section) -> Value {
    json!({
        "title": section.title,
        "text": section.text,
        "x_title": section.x_title,
        "rows": section.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let sides: BTreeMap<&str, &str> = row.sides.iter().map(|side| (*side, meaning(row, side))).collect();
    let reference = row.reference.map(|reference| {
        json!({
            "title": "first report",
            "messages_per_second": reference.messages_per_second,
            "latency_ms": reference.latency_ms,
            "remark": reference.remark,
        })
    });
    json!({
        "name": row.name,
        "title": row.title,
        "x": row.x,
        "over_time": row.over_time,
        "sides": sides,
        "figures": row.figures(),
        "reference": reference,
    })
}

/// What an acknowledgement of this row says on a side.
fn meaning(row: &Row, side: &str) -> &'static str {
    let says = |words: &str| row.arguments.join(" ").contains(words);
    let (one, all) = (says("--acks 1") || says("share 1=100"), says("--acks all") || says("share all=100"));
    match (side, one, all) {
        _ if !row.figures().is_empty() || says("consume --") => "",
        ("floor", _, _) => "written",
        ("floor-flush", _, _) => "flushed",
        ("chronik", true, _) => "written by the leader",
        ("chronik", _, true) => "flushed on every in-sync replica",
        ("chronik", ..) => "written; flushed on every in-sync replica",
        ("kafka", true, _) => "in the leader's page cache",
        ("kafka", _, true) => "in the page cache of every in-sync replica",
        _ => "in page caches",
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Time of day as result files have it: `2026-11-25T03:10:00Z`.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// The date so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Rows that a run is to measure, by the names given; all when none is.
pub fn wanted(sections: &[Section], names: &[String], quick: bool) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = sections.iter().flat_map(|section| section.rows.iter().cloned()).collect();
    for name in names {
        if !rows.iter().any(|row| row.name.starts_with(name.as_str())) {
            bail!("no row's name begins with {name}; --list shows them");
        }
    }
    rows.retain(|row| match names.is_empty() {
        true => row.quick || !quick,
        false => names.iter().any(|name| row.name.starts_with(name.as_str())),
    });
    // What others take their rates from comes first, and what breaks a node last.
    rows.sort_by_key(|row| match row.kind {
        Kind::Idle => 0,
        Kind::Load => 1,
        Kind::PartOf { .. } => 2,
        Kind::Killed => 3,
        Kind::Start | Kind::Failover | Kind::CatchUp => 4,
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::matrix::sections;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(20_454), (2026, 1, 1));
    }

    #[test]
    fn results_of_another_plan_are_not_mixed_in_and_whole_ones_are_not_made_again() {
        let folder = std::env::temp_dir().join(format!("xtask-benchmark-{}", std::process::id()));
        let plan = Plan { seconds: 10, warmup_seconds: 3.0, quick: false };
        let row = sections().remove(0).rows.remove(0);
        let results = Results::open(&folder, Some(plan), true).unwrap();
        assert!(!results.is_done(&row, "chronik", 1));
        results.could_not(&row, "chronik", 1, "no").unwrap();
        assert!(!results.is_done(&row, "chronik", 1));
        results.measured(&row, "chronik", 1, &[("start_ms", 1.0)]).unwrap();
        assert!(results.is_done(&row, "chronik", 1));
        let again = Results::open(&folder, Some(plan), false).unwrap();
        assert!(again.is_done(&row, "chronik", 1));
        assert!(Results::open(&folder, Some(Plan { seconds: 2, ..plan }), false).is_err());
        let fresh = Results::open(&folder, Some(Plan { seconds: 2, ..plan }), true).unwrap();
        assert!(!fresh.is_done(&row, "chronik", 1));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_row_says_what_its_answers_mean() {
        let rows: Vec<Row> = sections().into_iter().flat_map(|section| section.rows).collect();
        let of = |name: &str, side| meaning(rows.iter().find(|row| row.name == name).unwrap(), side);
        assert_eq!(of("standalone-acks-1-linger-0", "chronik"), "written by the leader");
        assert_eq!(of("three-acks-all-linger-0", "kafka"), "in the page cache of every in-sync replica");
        assert_eq!(of("mixed-three", "chronik"), "written; flushed on every in-sync replica");
        assert_eq!(of("consume-1", "chronik"), "");
    }
}
