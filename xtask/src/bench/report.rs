//! The report: every measurement as JSON, medians with ratios and targets as a page.

use super::Plan;
use super::generator::Measurement;
use super::growth::Growth;
use super::loads::{Load, Targets};
use super::servers::{Server, Side, rss_mib};
use super::starts::Starts;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    seconds: u64,
    quick: bool,
    /// Resident memory before the first load, in MiB.
    idle_rss_mib: BTreeMap<&'static str, f64>,
    loads: Vec<LoadResult>,
    pub starts: Option<Starts>,
    pub restarts: Option<Starts>,
    pub growth: Option<Growth>,
}

#[derive(Serialize)]
pub(super) struct Machine {
    cpus: usize,
    memory_gib: f64,
    kernel: String,
}

/// One load's measurements, by server, one for each round.
#[derive(Serialize)]
pub struct LoadResult {
    name: &'static str,
    title: &'static str,
    chronik: Vec<Measurement>,
    kafka: Vec<Measurement>,
    floor: Vec<Measurement>,
    #[serde(skip)]
    targets: &'static Targets,
}

impl LoadResult {
    pub fn new(load: &Load) -> Self {
        let targets = super::loads::LOADS.iter().find(|known| known.name == load.name);
        static NONE: Targets = Targets {
            kafka_rate: None,
            kafka_p99: None,
            floor_rate: None,
            kafka_cpu: None,
            floor_cpu: None,
            kafka_rss: None,
        };
        Self {
            name: load.name,
            title: load.title,
            chronik: Vec::new(),
            kafka: Vec::new(),
            floor: Vec::new(),
            targets: targets.map_or(&NONE, |load| &load.targets),
        }
    }

    pub fn add(&mut self, side: Side, measurement: Measurement) {
        match side {
            Side::Chronik => self.chronik.push(measurement),
            Side::Kafka => self.kafka.push(measurement),
            Side::Floor => self.floor.push(measurement),
        }
    }

    fn sides(&self) -> [(&'static str, &[Measurement]); 3] {
        [("chronik", &self.chronik), ("kafka", &self.kafka), ("floor", &self.floor)]
    }

    /// Each target, what was reached, and whether that is enough.
    fn verdicts(&self) -> Vec<Verdict> {
        let targets = self.targets;
        let at_least = |text, target: Option<f64>, other: &[Measurement], value: fn(&Measurement) -> f64| {
            Verdict::new(text, target, ratio(&self.chronik, other, value), |reached, target| {
                reached >= target
            })
        };
        let at_most = |text, target: Option<f64>, other: &[Measurement], value: fn(&Measurement) -> f64| {
            Verdict::new(text, target, ratio(&self.chronik, other, value), |reached, target| {
                reached <= target
            })
        };
        [
            at_least("messages a second / Kafka's, at least", targets.kafka_rate, &self.kafka, rate),
            at_most("p99 / Kafka's, at most", targets.kafka_p99, &self.kafka, p99),
            at_least("messages a second / the floor's, at least", targets.floor_rate, &self.floor, rate),
            at_most("broker CPU a message / Kafka's, at most", targets.kafka_cpu, &self.kafka, cpu),
            at_most("broker CPU a message / the floor's, at most", targets.floor_cpu, &self.floor, cpu),
            at_most("peak memory / Kafka's, at most", targets.kafka_rss, &self.kafka, rss),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

pub(super) struct Verdict {
    pub(super) text: &'static str,
    pub(super) target: f64,
    pub(super) reached: f64,
    pub(super) met: bool,
}

impl Verdict {
    pub(super) fn new(
        text: &'static str,
        target: Option<f64>,
        reached: Option<f64>,
        met: fn(f64, f64) -> bool,
    ) -> Option<Self> {
        let (target, reached) = (target?, reached?);
        Some(Self { text, target, reached, met: met(reached, target) })
    }
}

pub(super) fn rate(measurement: &Measurement) -> f64 {
    measurement.messages_per_second
}
pub(super) fn p99(measurement: &Measurement) -> f64 {
    measurement.p99_ms.unwrap_or_default()
}
pub(super) fn cpu(measurement: &Measurement) -> f64 {
    measurement.cpu_us_per_message
}
pub(super) fn rss(measurement: &Measurement) -> f64 {
    measurement.peak_rss_mib
}

/// The ratio of two medians; None where one is missing or nothing.
pub(super) fn ratio(
    ours: &[Measurement],
    other: &[Measurement],
    value: fn(&Measurement) -> f64,
) -> Option<f64> {
    let of = |measurements: &[Measurement]| spread(&measurements.iter().map(value).collect::<Vec<_>>());
    let (ours, other) = (of(ours)?.median, of(other)?.median);
    (other > 0.0).then(|| ours / other)
}

pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

pub(super) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Spread { min: *sorted.first()?, median: *sorted.get(sorted.len() / 2)?, max: *sorted.last()? })
}

impl Report {
    pub fn new(plan: &Plan) -> Self {
        Self {
            machine: Machine::read(),
            rounds: plan.rounds,
            seconds: plan.seconds,
            quick: plan.quick,
            idle_rss_mib: BTreeMap::new(),
            loads: Vec::new(),
            starts: None,
            restarts: None,
            growth: None,
        }
    }

    /// Notes the memory of every server before the first load.
    pub fn idle_rss(&mut self, servers: &[Box<dyn Server>]) -> Result<()> {
        std::thread::sleep(std::time::Duration::from_secs(2));
        for server in servers {
            if let Some(pid) = server.pid() {
                self.idle_rss_mib.insert(server.name(), rss_mib(pid)?);
            }
        }
        Ok(())
    }

    pub fn add(&mut self, result: LoadResult) {
        self.loads.push(result);
    }

    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("writing the report as JSON")
    }

    /// Writes report.json and report.md.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("report.json", self.json()?)?;
        write("report.md", self.markdown())
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
            "{}; client, broker and disk share them. {} rounds of {} s{}.\n",
            self.machine,
            self.rounds,
            self.seconds,
            if self.quick { " (quick: not for conclusions)" } else { "" }
        )?;
        if !self.loads.is_empty() {
            self.write_loads(out)?;
            self.write_targets(out)?;
        }
        if !self.idle_rss_mib.is_empty() {
            writeln!(out, "Resident memory before the first load:\n")?;
            for (server, mib) in &self.idle_rss_mib {
                writeln!(out, "- {server}: {mib:.1} MiB")?;
            }
            writeln!(out)?;
        }
        write_starts(out, "Start to the first acknowledged write, empty", self.starts.as_ref())?;
        write_starts(
            out,
            "Start after `kill -9` with 1,000 partitions and 5 GB, to the first acknowledged write",
            self.restarts.as_ref(),
        )?;
        if let Some(growth) = &self.growth {
            write_growth(out, growth)?;
        }
        Ok(())
    }

    fn write_loads(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| load | server | msg/s: min / median / max | p50 / p99 / p99.9 ms | broker CPU µs a message | peak MiB | errors |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        for load in &self.loads {
            let mut title = load.title;
            for (server, measurements) in load.sides() {
                let median = |value: fn(&Measurement) -> f64| {
                    spread(&measurements.iter().map(value).collect::<Vec<_>>()).map_or(0.0, |s| s.median)
                };
                let rates: Vec<f64> = measurements.iter().map(rate).collect();
                let Some(rates) = spread(&rates) else { continue };
                let latency = match measurements.iter().all(|measured| measured.p99_ms.is_some()) {
                    true => format!(
                        "{:.2} / {:.2} / {:.2}",
                        median(|m| m.p50_ms.unwrap_or_default()),
                        median(p99),
                        median(|m| m.p999_ms.unwrap_or_default())
                    ),
                    false => "–".to_owned(),
                };
                let errors: u64 = measurements.iter().map(|measured| measured.errors).sum();
                writeln!(
                    out,
                    "| {title} | {server} | {} / **{}** / {} | {latency} | {:.2} | {:.0} | {errors} |",
                    thousands(rates.min),
                    thousands(rates.median),
                    thousands(rates.max),
                    median(cpu),
                    median(rss),
                )?;
                title = "";
            }
        }
        writeln!(out)
    }

    fn write_targets(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "| load | what | target | reached | |")?;
        writeln!(out, "|---|---|---|---|---|")?;
        for load in &self.loads {
            for verdict in load.verdicts() {
                writeln!(
                    out,
                    "| {} | {} | {:.2} | {:.2} | {} |",
                    load.title,
                    verdict.text,
                    verdict.target,
                    verdict.reached,
                    if verdict.met { "met" } else { "**missed**" }
                )?;
            }
        }
        writeln!(out)
    }
}

const BEGIN: &str = "<!-- measured: begin (written by `cargo xtask bench --publish`) -->";
const END: &str = "<!-- measured: end -->";

/// Replaces the measured part of performance.md and copies the chart beside it.
pub fn publish(report: &Report, measured: &Path, docs: &Path) -> Result<()> {
    let page = docs.join("performance.md");
    let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let text = replace_measured(&text, BEGIN, END, &report.markdown())
        .with_context(|| format!("{} lacks the lines {BEGIN} and {END}", page.display()))?;
    std::fs::write(&page, text).with_context(|| format!("writing {}", page.display()))?;
    if report.growth.is_some() {
        let chart = docs.join("growth.svg");
        std::fs::copy(measured.join("growth.svg"), &chart)
            .with_context(|| format!("writing {}", chart.display()))?;
    }
    Ok(())
}

/// Puts what was measured between the two lines of the page.
pub(super) fn replace_measured(page: &str, begin: &str, end: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", measured.trim()))
}

fn write_starts(out: &mut String, title: &str, starts: Option<&Starts>) -> std::fmt::Result {
    let Some(starts) = starts else { return Ok(()) };
    writeln!(out, "{title}, ms (min / median / max):\n")?;
    for (server, times) in &starts.0 {
        if let Some(spread) = spread(times) {
            writeln!(out, "- {server}: {:.1} / {:.1} / {:.1}", spread.min, spread.median, spread.max)?;
        }
    }
    writeln!(out)
}

fn write_growth(out: &mut String, growth: &Growth) -> std::fmt::Result {
    for (title, points) in
        [("other partitions", &growth.partitions), ("idle connections", &growth.connections)]
    {
        writeln!(out, "| {title} | msg/s | p99 ms | broker CPU µs a message | resident MiB |")?;
        writeln!(out, "|---|---|---|---|---|")?;
        for point in points {
            writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.0} |",
                thousands(f64::from(point.size)),
                thousands(point.messages_per_second),
                point.p99_ms,
                point.cpu_us_per_message,
                point.rss_mib
            )?;
        }
        writeln!(out)?;
    }
    writeln!(out, "![What more partitions and more connections cost](growth.svg)")
}

pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} CPUs, {:.0} GiB, Linux {}", self.cpus, self.memory_gib, self.kernel)
    }
}

impl Machine {
    pub(super) fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory_kib = read("/proc/meminfo").lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<f64>().ok()
        });
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib.unwrap_or_default() / (1 << 20) as f64,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(messages_per_second: f64, p99: f64) -> Measurement {
        Measurement { messages_per_second, p99_ms: Some(p99), ..Measurement::default() }
    }

    #[test]
    fn targets_compare_medians() {
        let mut result = LoadResult::new(&super::super::loads::LOADS[0]);
        for (ours, kafka) in [(700.0, 100.0), (650.0, 110.0), (10.0, 90.0)] {
            result.add(Side::Chronik, measured(ours, 1.0));
            result.add(Side::Kafka, measured(kafka, 4.0));
        }
        let verdicts = result.verdicts();
        assert!((verdicts[0].reached - 6.5).abs() < 1e-9 && verdicts[0].met);
        assert!((verdicts[1].reached - 0.25).abs() < 1e-9 && !verdicts[1].met);
        assert!(verdicts.iter().all(|verdict| !verdict.text.contains("floor")), "the floor did not run");
    }

    #[test]
    fn only_the_measured_part_of_the_page_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let replaced = replace_measured(&page, BEGIN, END, "new\n").unwrap();
        assert_eq!(replaced, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace_measured("no marks", BEGIN, END, "new"), None);
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(999.4), "999");
    }
}
