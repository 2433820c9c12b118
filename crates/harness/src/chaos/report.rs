//! What came out of a run.

use super::Event;
use super::faults::Kind;
use super::gaps::percentile;
use super::seen::Seen;
use super::watch::Sample;
use crate::crash::verify::Findings;
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const FINDINGS_SHOWN: usize = 40;

/// Everything about a run.
#[derive(Default)]
pub struct Summary {
    seed: u64,
    hold_goals: bool,
    pub seconds: f64,
    pub acknowledged: u64,
    /// Records of the producer that doesn't repeat, which got an error.
    pub failed: u64,
    groups: Vec<Group>,
    /// Partitions whose digests were compared over all nodes.
    pub digests: usize,
    pub log: Findings,
    pub events: Vec<Event>,
    pub samples: Vec<Sample>,
    pub left_out: Vec<String>,
    findings: Vec<String>,
    gaps: BTreeMap<Kind, Vec<Duration>>,
    whole: BTreeMap<Kind, Vec<Duration>>,
}

/// What became of a consumer group.
#[derive(Serialize)]
struct Group {
    name: &'static str,
    read: u64,
    commits: u64,
    wrong: u64,
}

/// One line of the table.
struct Row {
    kind: Kind,
    faults: usize,
    gaps: Vec<Duration>,
    whole: Vec<Duration>,
}

impl Row {
    fn p99(&self) -> Duration {
        percentile(&self.gaps, 99)
    }

    fn misses(&self) -> bool {
        self.kind.goal().is_some_and(|goal| !self.gaps.is_empty() && self.p99() > goal)
    }
}

impl Summary {
    pub fn new(seed: u64, hold_goals: bool) -> Self {
        Self { seed, hold_goals, ..Self::default() }
    }

    /// Something that should not be.
    pub fn finding(&mut self, what: String) {
        if self.findings.len() < FINDINGS_SHOWN {
            self.findings.push(what);
        }
    }

    /// What a consumer group was given and committed.
    pub fn group(&mut self, seen: &Seen) {
        seen.details.iter().for_each(|detail| self.finding(detail.clone()));
        let (name, wrong) = (seen.group, seen.wrong);
        self.groups.push(Group { name, read: seen.read, commits: seen.commits, wrong });
    }

    /// The longest gap of each partition in the course of a fault that came alone.
    pub fn gaps(&mut self, kind: Kind, longest: &[Duration]) {
        self.gaps.entry(kind).or_default().extend(longest);
    }

    /// How long it took until everything was in sync after a fault.
    pub fn whole_after(&mut self, kind: Kind, took: Duration) {
        self.whole.entry(kind).or_default().push(took);
    }

    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
            && self.log.is_clean()
            && self.groups.iter().all(|group| group.wrong == 0)
            && !(self.hold_goals && self.rows().iter().any(Row::misses))
    }

    fn rows(&self) -> Vec<Row> {
        let sorted = |values: Option<&Vec<Duration>>| {
            let mut values = values.cloned().unwrap_or_default();
            values.sort_unstable();
            values
        };
        let row = |kind: Kind| Row {
            kind,
            faults: self.events.iter().filter(|event| event.fault.kind == kind).count(),
            gaps: sorted(self.gaps.get(&kind)),
            whole: sorted(self.whole.get(&kind)),
        };
        Kind::ALL.into_iter().map(row).filter(|row| row.faults > 0).collect()
    }

    pub fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string(&self.json())?);
        } else {
            self.table();
        }
        for finding in &self.findings {
            eprintln!("chaos: FINDING {finding}");
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let faults: Vec<_> = self
            .rows()
            .iter()
            .map(|row| {
                json!({
                    "kind": row.kind.name(), "faults": row.faults, "gaps": row.gaps.len(),
                    "gap_ms_p50": ms(percentile(&row.gaps, 50)), "gap_ms_p99": ms(row.p99()),
                    "gap_ms_max": ms(percentile(&row.gaps, 100)), "goal_ms": row.kind.goal().map(ms),
                    "in_sync_after_ms_max": ms(percentile(&row.whole, 100)),
                })
            })
            .collect();
        json!({
            "seed": self.seed, "seconds": self.seconds, "clean": self.is_clean(),
            "acknowledged": self.acknowledged, "failed_without_retries": self.failed, "log": self.log,
            "groups": self.groups, "digests_compared": self.digests, "faults": faults, "left_out": self.left_out,
            "findings": self.findings,
        })
    }

    fn table(&self) {
        println!("{:.0} s, {} faults, seed {}", self.seconds, self.events.len(), self.seed);
        println!("  acknowledged        {:>9}", self.acknowledged);
        println!("  failed, no retries  {:>9}", self.failed);
        println!("  lost                {:>9}", self.log.lost);
        println!("  invented            {:>9}", self.log.invented);
        println!("  duplicates          {:>9}", self.log.duplicates);
        println!("  out of order        {:>9}", self.log.out_of_order);
        for Group { name, read, commits, wrong } in &self.groups {
            println!("  given {name:14}{read:>9}   {commits} commits, {wrong} wrong");
        }
        println!("  digests compared    {:>9}", self.digests);
        println!("time without an acknowledgement, by partition, while one fault was there, in ms:");
        println!(
            "  {:16}{:>7}{:>9}{:>9}{:>9}{:>9}  in sync after",
            "", "faults", "p50", "p99", "max", "goal"
        );
        for row in self.rows() {
            let goal = row.kind.goal().map_or_else(|| "-".to_owned(), |goal| ms(goal).to_string());
            println!(
                "  {:16}{:>7}{:>9}{:>9}{:>9}{goal:>9}  {} ms at most{}",
                row.kind.name(),
                row.faults,
                ms(percentile(&row.gaps, 50)),
                ms(row.p99()),
                ms(percentile(&row.gaps, 100)),
                ms(percentile(&row.whole, 100)),
                if row.misses() { "  MISSED" } else { "" }
            );
        }
        for left_out in &self.left_out {
            println!("  left out: {left_out}");
        }
    }
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}
