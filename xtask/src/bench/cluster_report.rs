//! The report of the cluster loads: every measurement as JSON, medians with ratios and targets as a page.

use super::Plan;
use super::cluster::{CLUSTER_LOADS, OF_DISK_THIRD, OF_STANDALONE};
use super::cluster_faults::{CatchUp, Failover};
use super::generator::Measurement;
use super::loads::{Load, Targets};
use super::report::{Machine, Verdict, cpu, p99, rate, ratio, replace_measured, rss, spread, thousands};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Everything that was measured on three nodes.
#[derive(Serialize)]
pub struct ClusterReport {
    machine: Machine,
    rounds: u32,
    seconds: u64,
    quick: bool,
    loads: Vec<Row>,
    /// Megabytes a second that the disk takes from one writer.
    disk_megabytes_per_second: Vec<f64>,
    /// Milliseconds to the first write that all acknowledged.
    starts: BTreeMap<&'static str, Vec<f64>>,
    catch_ups: BTreeMap<&'static str, Vec<CatchUp>>,
    failovers: Vec<Failover>,
}

/// One load on one server, a measurement for each round.
#[derive(Serialize)]
struct Row {
    load: &'static str,
    title: &'static str,
    side: &'static str,
    measurements: Vec<Measurement>,
}

const BEGIN: &str =
    "<!-- measured on three nodes: begin (written by `cargo xtask bench --nodes 3 --publish`) -->";
const END: &str = "<!-- measured on three nodes: end -->";

impl ClusterReport {
    pub fn new(plan: &Plan) -> Self {
        Self {
            machine: Machine::read(),
            rounds: plan.rounds,
            seconds: plan.seconds,
            quick: plan.quick,
            loads: Vec::new(),
            disk_megabytes_per_second: Vec::new(),
            starts: BTreeMap::new(),
            catch_ups: BTreeMap::new(),
            failovers: Vec::new(),
        }
    }

    pub fn disk(&mut self, megabytes_per_second: f64) {
        self.disk_megabytes_per_second.push(megabytes_per_second);
    }

    pub fn measured(&mut self, load: &Load, side: &'static str, measurement: Measurement) {
        match self.loads.iter_mut().find(|row| row.load == load.name && row.side == side) {
            Some(row) => row.measurements.push(measurement),
            None => self.loads.push(Row {
                load: load.name,
                title: load.title,
                side,
                measurements: vec![measurement],
            }),
        }
    }

    pub fn started(&mut self, side: &'static str, ms: f64) {
        self.starts.entry(side).or_default().push(ms);
    }

    pub fn caught_up(&mut self, side: &'static str, found: CatchUp) {
        self.catch_ups.entry(side).or_default().push(found);
    }

    pub fn failed_over(&mut self, found: Vec<Failover>) {
        self.failovers = found;
    }

    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("writing the report as JSON")
    }

    /// Writes cluster.json and cluster.md.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("cluster.json", self.json()?)?;
        write("cluster.md", self.markdown())
    }

    /// Replaces the part of performance.md that was measured on three nodes.
    pub fn publish(&self, docs: &Path) -> Result<()> {
        let page = docs.join("performance.md");
        let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        let text = replace_measured(&text, BEGIN, END, &self.markdown())
            .with_context(|| format!("{} lacks the lines {BEGIN} and {END}", page.display()))?;
        std::fs::write(&page, text).with_context(|| format!("writing {}", page.display()))
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{}; client, three nodes and their one disk share them. Replication factor 3. {} rounds of {} s{}.\n",
            self.machine,
            self.rounds,
            self.seconds,
            if self.quick { " (quick: not for conclusions)" } else { "" }
        )?;
        if !self.loads.is_empty() {
            self.write_loads(out)?;
        }
        if let Some(disk) = spread(&self.disk_megabytes_per_second) {
            writeln!(
                out,
                "The disk takes {:.0} / {:.0} / {:.0} MB/s from one writer (min / median / max).\n",
                disk.min, disk.median, disk.max
            )?;
        }
        if !self.starts.is_empty() || !self.catch_ups.is_empty() || !self.failovers.is_empty() {
            self.write_faults(out)?;
        }
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            writeln!(out, "| load | what | target | reached | |\n|---|---|---|---|---|")?;
            for (title, verdict) in verdicts {
                let met = if verdict.met { "met" } else { "**missed**" };
                let (text, target, reached) = (verdict.text, verdict.target, verdict.reached);
                writeln!(out, "| {title} | {text} | {target:.2} | {reached:.2} | {met} |")?;
            }
        }
        Ok(())
    }

    fn write_loads(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| load | server | msg/s: min / median / max | p50 / p99 / p99.9 / max ms | CPU µs a message, all nodes | \
             peak MiB, all nodes | errors |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        let mut before = "";
        for row in &self.loads {
            let median = |value: fn(&Measurement) -> f64| {
                spread(&row.measurements.iter().map(value).collect::<Vec<_>>()).map_or(0.0, |s| s.median)
            };
            let Some(rates) = spread(&row.measurements.iter().map(rate).collect::<Vec<_>>()) else {
                continue;
            };
            let latency = match row.measurements.iter().all(|measured| measured.p99_ms.is_some()) {
                true => format!(
                    "{:.2} / {:.2} / {:.2} / {:.0}",
                    median(|m| m.p50_ms.unwrap_or_default()),
                    median(p99),
                    median(|m| m.p999_ms.unwrap_or_default()),
                    median(|m| m.max_ms.unwrap_or_default())
                ),
                false => "–".to_owned(),
            };
            writeln!(
                out,
                "| {} | {} | {} / **{}** / {} | {latency} | {:.2} | {:.0} | {} |",
                if row.load == before { "" } else { row.title },
                row.side,
                thousands(rates.min),
                thousands(rates.median),
                thousands(rates.max),
                median(cpu),
                median(rss),
                row.measurements.iter().map(|measured| measured.errors).sum::<u64>()
            )?;
            before = row.load;
        }
        writeln!(out)
    }

    fn write_faults(&self, out: &mut String) -> std::fmt::Result {
        if !self.starts.is_empty() || !self.catch_ups.is_empty() {
            writeln!(out, "| what | server | min / median / max |\n|---|---|---|")?;
        }
        let mut line = |what: &str, side: &str, unit: &str, values: &[f64]| match spread(values) {
            Some(s) => {
                writeln!(out, "| {what} | {side} | {:.1} / {:.1} / {:.1} {unit} |", s.min, s.median, s.max)
            }
            None => Ok(()),
        };
        for (side, times) in &self.starts {
            line("start of three nodes to the first write acknowledged by all", side, "ms", times)?;
        }
        for (side, found) in &self.catch_ups {
            let rates: Vec<f64> = found.iter().map(|found| found.megabytes_per_second).collect();
            line("catch-up of an empty follower", side, "MB/s", &rates)?;
            let times: Vec<f64> = found.iter().map(|found| found.seconds_from_start).collect();
            line("the same from the start of its process", side, "s", &times)?;
        }
        writeln!(out)?;
        if let Some((p50, p99, max)) = self.gaps() {
            writeln!(
                out,
                "`kill -9` of a leader, 100 partitions, {} tries: the longest wait for an acknowledgement (acks=all, 2,000 \
                 messages a second over all partitions) is p50 {p50:.0} / p99 {p99:.0} / max {max:.0} ms, with {} failed \
                 messages.\n",
                self.failovers.len(),
                self.failovers.iter().map(|found| found.errors).sum::<u64>()
            )?;
        }
        Ok(())
    }

    /// Median, 99th percentile and maximum of the gaps.
    fn gaps(&self) -> Option<(f64, f64, f64)> {
        let mut gaps: Vec<f64> = self.failovers.iter().map(|found| found.gap_ms).collect();
        gaps.sort_by(f64::total_cmp);
        let at = |percent: usize| gaps.get((gaps.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some((at(50)?, at(99)?, *gaps.last()?))
    }

    /// Each target, what was reached, and whether that is enough.
    fn verdicts(&self) -> Vec<(&'static str, Verdict)> {
        let mut found = Vec::new();
        for known in CLUSTER_LOADS {
            let side = |side: &str| {
                self.loads
                    .iter()
                    .find(|row| row.load == known.load.name && row.side == side)
                    .map_or(&[][..], |row| &row.measurements)
            };
            let (ours, kafka) = (side("chronik"), side("kafka"));
            let mut verdicts = of_targets(&known.load.targets, ours, kafka);
            let of_standalone = ratio(ours, side("chronik standalone"), rate);
            verdicts.push(at_least(
                "messages a second / our own standalone's, at least",
                Some(OF_STANDALONE),
                of_standalone,
            ));
            if known.flush_os {
                let os = ratio(side("chronik flush=os"), kafka, rate);
                verdicts.push(at_least("messages a second / Kafka's, flush=os, at least", Some(1.0), os));
                verdicts.push(self.of_disk(ours, kafka));
            }
            found.extend(verdicts.into_iter().flatten().map(|verdict| (known.load.title, verdict)));
        }
        let started = medians(&self.starts, |ms| *ms);
        found.extend(
            at_most("time / Kafka's, at most", Some(0.1), started)
                .map(|verdict| ("start of three nodes to the first write", verdict)),
        );
        let caught_up = medians(&self.catch_ups, |found| found.megabytes_per_second);
        found.extend(
            at_least("MB/s / Kafka's, at least", Some(2.0), caught_up)
                .map(|verdict| ("catch-up of an empty follower", verdict)),
        );
        let p99 = self.gaps().map(|(_, p99, _)| p99);
        found.extend(
            at_most("p99 of the gap in ms, at most", Some(1000.0), p99)
                .map(|verdict| ("kill -9 of a leader", verdict)),
        );
        found
    }

    /// The flushed bulk load beside what three nodes can get of the disk, or beside Kafka where that is less.
    fn of_disk(&self, ours: &[Measurement], kafka: &[Measurement]) -> Option<Verdict> {
        let megabytes = |measurements: &[Measurement]| {
            spread(&measurements.iter().map(|m| m.megabytes_per_second).collect::<Vec<_>>())
        };
        let disk = spread(&self.disk_megabytes_per_second)?.median / 3.0 * OF_DISK_THIRD;
        let target = megabytes(kafka).map_or(disk, |kafka| disk.min(kafka.median));
        at_least(
            "MB/s, flushed: 80 % of a third of the disk's, or Kafka's where less, at least",
            Some(target),
            megabytes(ours).map(|ours| ours.median),
        )
    }
}

fn of_targets(targets: &Targets, ours: &[Measurement], kafka: &[Measurement]) -> Vec<Option<Verdict>> {
    vec![
        at_least("messages a second / Kafka's, at least", targets.kafka_rate, ratio(ours, kafka, rate)),
        at_most("p99 / Kafka's, at most", targets.kafka_p99, ratio(ours, kafka, p99)),
        at_most("CPU a message / Kafka's, at most", targets.kafka_cpu, ratio(ours, kafka, cpu)),
        at_most("peak memory / Kafka's, at most", targets.kafka_rss, ratio(ours, kafka, rss)),
    ]
}

fn at_least(text: &'static str, target: Option<f64>, reached: Option<f64>) -> Option<Verdict> {
    Verdict::new(text, target, reached, |reached, target| reached >= target)
}

fn at_most(text: &'static str, target: Option<f64>, reached: Option<f64>) -> Option<Verdict> {
    Verdict::new(text, target, reached, |reached, target| reached <= target)
}

/// Our median divided by Kafka's.
fn medians<T>(of: &BTreeMap<&'static str, Vec<T>>, value: impl Fn(&T) -> f64) -> Option<f64> {
    let median = |side: &str| Some(spread(&of.get(side)?.iter().map(&value).collect::<Vec<_>>())?.median);
    Some(median("chronik")? / median("kafka")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ClusterReport {
        ClusterReport::new(&Plan { rounds: 1, seconds: 1, warmup_seconds: 0, quick: true })
    }

    fn megabytes(megabytes_per_second: f64) -> Measurement {
        Measurement { megabytes_per_second, ..Measurement::default() }
    }

    #[test]
    fn the_disk_is_the_measure_unless_kafka_is_slower() {
        let mut report = report();
        report.disk(300.0);
        let verdict = report.of_disk(&[megabytes(70.0)], &[megabytes(200.0)]).unwrap();
        assert!((verdict.target - 80.0).abs() < 1e-9 && !verdict.met);
        let verdict = report.of_disk(&[megabytes(70.0)], &[megabytes(60.0)]).unwrap();
        assert!((verdict.target - 60.0).abs() < 1e-9 && verdict.met);
    }

    #[test]
    fn gaps_are_nearest_rank_percentiles() {
        let mut report = report();
        assert_eq!(report.gaps(), None);
        report.failed_over((1..=50).map(|n| Failover { node: 1, gap_ms: f64::from(n), errors: 0 }).collect());
        assert_eq!(report.gaps(), Some((25.0, 50.0, 50.0)));
    }

    #[test]
    fn a_start_that_is_too_slow_is_missed() {
        let mut report = report();
        report.started("chronik", 300.0);
        report.started("kafka", 2000.0);
        assert!(report.markdown().contains("| 0.10 | 0.15 | **missed** |"));
    }
}
