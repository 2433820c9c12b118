//! The parts of a report, one after the other, out of results and their layout.

use crate::compare::number;
use crate::compare_runs::{FIGURES, RUNS_NEEDED, Spread, Verdict, spread};
use crate::report_page_charts::pictures;
use crate::report_page_data::{Entry, Layout, Reference, Results, Row, Section, Side};
use crate::result::{RunResult, Stream};
use std::collections::BTreeSet;

/// One part.
pub enum Block {
    /// The heading of a section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A line to type.
    Code(String),
    /// A list of sentences.
    List(Vec<String>),
    /// A chart.
    Picture {
        /// Its file's name.
        name: String,
        /// What it shows.
        title: String,
        /// The picture.
        svg: String,
    },
    /// A table; each row says which side it belongs to, by the side's title.
    Table {
        /// Names of the columns.
        columns: Vec<String>,
        /// Rows.
        rows: Vec<(String, Vec<String>)>,
    },
}

/// What stands where nothing was measured.
const NOT_MEASURED: &str = "not measured";
const NOTHING: &str = "–";
/// The one column of words.
pub const MEANING: &str = "an answer means";
const COLUMNS: [&str; 11] =
    ["what", "server", "msg/s", "MB/s", "total", "failed", "p50 ms", "p99 ms", "p99.9 ms", "max ms", MEANING];

/// The whole report.
pub fn blocks(layout: &Layout, results: &Results) -> Vec<Block> {
    let mut out: Vec<Block> = layout.intro.iter().cloned().map(Block::Text).collect();
    out.extend(conditions(results));
    out.extend(standing(layout, results));
    for section in &layout.sections {
        out.push(Block::Heading(section.title.clone()));
        out.extend(section.text.iter().cloned().map(Block::Text));
        let (runs, measures): (Vec<&Row>, Vec<&Row>) =
            section.rows.iter().partition(|row| row.figures.is_empty());
        if !runs.is_empty() {
            let rows = runs.iter().flat_map(|row| run_lines(row, layout, results)).collect();
            out.push(Block::Table { columns: COLUMNS.map(str::to_owned).to_vec(), rows });
        }
        for row in measures {
            out.push(measure_table(row, layout, results));
        }
        out.extend(pictures(section, layout, results));
    }
    out.extend(costs(layout, results));
    out.extend(remarks(results));
    for paragraph in &layout.closing {
        // A line that is indented is one to type.
        out.push(match paragraph.strip_prefix("    ") {
            Some(line) => Block::Code(line.to_owned()),
            None => Block::Text(paragraph.clone()),
        });
    }
    out
}

/// Machine, versions and rounds.
fn conditions(results: &Results) -> Vec<Block> {
    let mut machines = BTreeSet::new();
    let mut tools = BTreeSet::new();
    let (mut first, mut last) = (None::<&str>, None::<&str>);
    let (mut flush_p50, mut flush_p99) = (Vec::new(), Vec::new());
    for (_, _, run) in results.all_runs() {
        let machine = &run.machine;
        machines.insert(format!(
            "{}, {} cores, {:.1} GiB of memory, kernel {}",
            machine.cpu,
            machine.cores,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel
        ));
        tools.insert(format!(
            "chronik-bench {} ({} build, librdkafka {})",
            run.tool.version, run.tool.build, run.tool.librdkafka
        ));
        first = Some(first.map_or(run.started_at.as_str(), |known| known.min(&run.started_at)));
        last = Some(last.map_or(run.started_at.as_str(), |known| known.max(&run.started_at)));
        if let Some(flush) = &run.machine.disk_flush {
            flush_p50.push(flush.p50_us);
            flush_p99.push(flush.p99_us);
        }
    }
    let (Some(first), Some(last)) = (first, last) else {
        return vec![Block::Text("Nothing is measured yet.".to_owned())];
    };
    let mut items: Vec<String> = Vec::new();
    if machines.len() > 1 {
        items.push("These results are of several machines: do not compare across them.".to_owned());
    }
    items.extend(machines.into_iter().map(|machine| format!("Machine: {machine}.")));
    items.extend(tools.into_iter().map(|tool| format!("Load: {tool}, on the same machine as the servers.")));
    items.push(format!("Measured from {first} to {last}."));
    if let (Some(p50), Some(p99)) = (Spread::of(&flush_p50), Spread::of(&flush_p99)) {
        items.push(format!(
            "A write of 4 KiB and its flush take {:.0} µs (median; 99th percentile {:.0} µs) on this machine's disk.",
            p50.median, p99.median
        ));
    }
    vec![Block::List(items)]
}

/// Where the first side is behind the second, and where they don't differ.
fn standing(layout: &Layout, results: &Results) -> Vec<Block> {
    let [first, second, ..] = layout.sides.as_slice() else { return Vec::new() };
    let (mut behind, mut same, mut ahead, mut too_few) = (Vec::new(), Vec::new(), 0, 0);
    for (section, row) in layout.sections.iter().flat_map(|s| s.rows.iter().map(move |row| (s, row))) {
        let (ours, theirs) = (owned(results, row, first), owned(results, row, second));
        for name in stream_names(&ours) {
            for figure in FIGURES.iter().filter(|figure| matches!(figure.name, "msg/s" | "p99.9 ms")) {
                let (Some(our), Some(their)) = (spread(&ours, &name, figure), spread(&theirs, &name, figure))
                else {
                    continue;
                };
                let verdict = Verdict::of(&their, &our);
                let sentence = || {
                    format!(
                        "{}, {}{}: {} {} against {}",
                        section.title,
                        row.title,
                        suffix(&ours, &name),
                        figure.name,
                        number(our.median),
                        number(their.median)
                    )
                };
                match (verdict, figure.more_is_better) {
                    (Verdict::TooFewRuns, _) => too_few += 1,
                    (Verdict::NoDifference, _) => same.push(sentence()),
                    (Verdict::Higher, true) | (Verdict::Lower, false) => ahead += 1,
                    (Verdict::Higher | Verdict::Lower, _) => behind.push(sentence()),
                }
            }
        }
    }
    if behind.len() + same.len() + ahead + too_few == 0 {
        return Vec::new();
    }
    let mut out = vec![Block::Heading(format!("Where {} loses", first.title))];
    if too_few > 0 {
        out.push(Block::Text(format!(
            "{too_few} pairs of figures have fewer than {RUNS_NEEDED} rounds: nothing can be said of who is ahead in them."
        )));
    }
    out.push(Block::Text(format!(
        "Of the rest, over throughput and p99.9 of every row on both, {} is ahead in {ahead}, {} in {}, and {} show no difference: \
         \"ahead\" means that every round is better than every round of the other.",
        first.title,
        second.title,
        behind.len(),
        same.len()
    )));
    if !behind.is_empty() {
        out.push(Block::List(behind));
    }
    if !same.is_empty() {
        out.push(Block::Text("No difference:".to_owned()));
        out.push(Block::List(same));
    }
    out
}

/// What is said of runs without a stream: of a search for saturation that ended where it began.
fn no_knee(runs: &[RunResult]) -> String {
    let limits = runs.iter().filter_map(|run| run.saturation.as_ref()).map(|found| found.p99_limit_ms);
    match limits.reduce(f64::max) {
        Some(limit) => format!("no rate kept p99 within {limit} ms"),
        None => "nothing came".to_owned(),
    }
}

/// The lines of one row: each side, each of its streams, and what another machine showed.
fn run_lines(row: &Row, layout: &Layout, results: &Results) -> Vec<(String, Vec<String>)> {
    let mut lines = Vec::new();
    for side in layout.sides.iter() {
        let Some(meaning) = row.sides.get(&side.name) else { continue };
        let runs = owned(results, row, side);
        if runs.is_empty() {
            let why = results.measures(&row.name, &side.name).iter().find_map(|known| known.error.clone());
            let mut cells = vec![row.title.clone(), side.title.clone()];
            cells.push(why.map_or(NOT_MEASURED.to_owned(), |why| format!("could not run: {why}")));
            cells.resize(COLUMNS.len() - 1, NOTHING.to_owned());
            cells.push(meaning.clone());
            lines.push((side.title.clone(), cells));
            continue;
        }
        for name in stream_names(&runs) {
            lines.push((side.title.clone(), stream_line(row, side, meaning, &runs, &name)));
        }
        if stream_names(&runs).is_empty() {
            let mut cells = vec![row.title.clone(), side.title.clone(), no_knee(&runs)];
            cells.resize(COLUMNS.len() - 1, NOTHING.to_owned());
            cells.push(meaning.clone());
            lines.push((side.title.clone(), cells));
        }
    }
    lines.extend(row.reference.iter().map(|reference| (String::new(), reference_line(row, reference))));
    lines
}

fn stream_line(row: &Row, side: &Side, meaning: &str, runs: &[RunResult], name: &str) -> Vec<String> {
    let streams: Vec<&Stream> =
        runs.iter().flat_map(|run| &run.streams).filter(|stream| stream.name == name).collect();
    let figure = |wanted: &str| {
        let figure = FIGURES.iter().find(|figure| figure.name == wanted)?;
        spread(runs, name, figure)
    };
    let shown = |found: Option<Spread>| match found {
        None => NOTHING.to_owned(),
        Some(spread) if spread.runs < 2 => number(spread.median),
        Some(spread) => {
            format!("{} ({} to {})", number(spread.median), number(spread.min), number(spread.max))
        }
    };
    let median = |found: Option<Spread>| found.map_or(NOTHING.to_owned(), |found| number(found.median));
    let mut megabytes: Vec<f64> = streams.iter().map(|stream| stream.megabytes_per_second).collect();
    megabytes.retain(|value| value.is_finite());
    let total: u64 = streams.iter().map(|stream| stream.messages).sum();
    let failed: u64 = streams.iter().map(|stream| stream.whole_run.failed + stream.counts.unsent).sum();
    vec![
        format!("{}{}", row.title, suffix(runs, name)),
        side.title.clone(),
        shown(figure("msg/s")),
        median(Spread::of(&megabytes)),
        number(total as f64),
        failed.to_string(),
        median(figure("p50 ms")),
        shown(figure("p99 ms")),
        shown(figure("p99.9 ms")),
        figure("max ms").map_or(NOTHING.to_owned(), |found| number(found.max)),
        meaning.to_owned(),
    ]
}

fn reference_line(row: &Row, reference: &Reference) -> Vec<String> {
    let mut cells = vec![row.title.clone(), reference.title.clone(), reference.messages_per_second.clone()];
    cells.resize(6, NOTHING.to_owned());
    cells.extend(reference.latency_ms.iter().map(f64::to_string));
    cells.resize(COLUMNS.len() - 1, NOTHING.to_owned());
    cells.push(reference.remark.clone());
    cells
}

fn measure_table(row: &Row, layout: &Layout, results: &Results) -> Block {
    let mut columns = vec!["what".to_owned(), "server".to_owned()];
    columns.extend(row.figures.iter().map(|(_, title)| title.clone()));
    columns.push("rounds".to_owned());
    let mut rows = Vec::new();
    for side in layout.sides.iter().filter(|side| row.sides.contains_key(&side.name)) {
        let found = results.measures(&row.name, &side.name);
        let mut cells = vec![row.title.clone(), side.title.clone()];
        for (name, _) in &row.figures {
            let values: Vec<f64> = found.iter().filter_map(|known| known.values.get(name).copied()).collect();
            cells.push(match Spread::of(&values) {
                Some(s) if s.runs < 2 => number(s.median),
                Some(s) => format!("{} ({} to {})", number(s.median), number(s.min), number(s.max)),
                None => match found.iter().find_map(|known| known.error.clone()) {
                    Some(why) => format!("could not run: {why}"),
                    None => NOT_MEASURED.to_owned(),
                },
            });
        }
        cells.push(found.iter().filter(|known| known.error.is_none()).count().to_string());
        rows.push((side.title.clone(), cells));
    }
    Block::Table { columns, rows }
}

/// CPU, memory, disk and context switches of every row that writes or reads.
fn costs(layout: &Layout, results: &Results) -> Vec<Block> {
    let mut rows = Vec::new();
    for section in &layout.sections {
        for row in section.rows.iter().filter(|row| row.figures.is_empty()) {
            for side in layout.sides.iter().filter(|side| row.sides.contains_key(&side.name)) {
                rows.extend(cost_line(section, row, side, &results.runs(&row.name, &side.name)));
            }
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let columns = [
        "what",
        "server",
        "broker CPU µs/msg",
        "client CPU µs/msg",
        "peak memory MiB",
        "written to disk per byte",
        "context switches per msg",
    ];
    vec![
        Block::Heading("What it costs".to_owned()),
        Block::Text(
            "Medians of the rounds, over all processes of the server. Bytes written are those that the kernel says the processes caused, by the end \
             of the measurement, for each byte of payload that was acknowledged in it; where nothing was produced, that was read."
                .to_owned(),
        ),
        Block::Table { columns: columns.map(str::to_owned).to_vec(), rows },
    ]
}

fn cost_line(
    section: &Section,
    row: &Row,
    side: &Side,
    runs: &[&RunResult],
) -> Option<(String, Vec<String>)> {
    let median = |value: &dyn Fn(&RunResult) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(|run| value(run)).filter(|v| v.is_finite()).collect();
        Spread::of(&values).map_or(NOTHING.to_owned(), |found| number(found.median))
    };
    if !runs.iter().any(|run| !run.servers.is_empty() || run.server_cpu_us_per_message.is_some()) {
        return None;
    }
    let messages = |run: &RunResult| run.streams.iter().map(|stream| stream.messages).sum::<u64>() as f64;
    let bytes = |run: &RunResult| {
        let sum = |kind: &str| run.streams.iter().filter(|s| s.kind == kind).map(|s| s.bytes).sum::<u64>();
        let written = sum("produce");
        (if written > 0 { written } else { sum("consume") }) as f64
    };
    let cells = vec![
        format!("{}: {}", section.title, row.title),
        side.title.clone(),
        median(&|run| run.server_cpu_us_per_message),
        median(&|run| Some(run.client.cpu_seconds * 1e6 / messages(run))),
        median(&|run| {
            (!run.servers.is_empty())
                .then(|| run.servers.iter().map(|used| used.peak_rss_kib).sum::<u64>() as f64 / 1024.0)
        }),
        median(&|run| {
            let written: Option<u64> = run.servers.iter().map(|used| used.disk_written_bytes).sum();
            written.filter(|_| !run.servers.is_empty()).map(|written| written as f64 / bytes(run))
        }),
        median(&|run| {
            let switches =
                |used: &crate::result::ProcessUse| used.voluntary_switches + used.involuntary_switches;
            (!run.servers.is_empty())
                .then(|| run.servers.iter().map(switches).sum::<u64>() as f64 / messages(run))
        }),
    ];
    Some((side.title.clone(), cells))
}

/// What was verified, what failed, and what the runs warn of.
fn remarks(results: &Results) -> Vec<Block> {
    let (mut verified, mut read_back) = (0, 0);
    let (mut failures, mut warnings) = (Vec::new(), Vec::new());
    for (row, side, run) in results.all_runs() {
        if let Some(verification) = &run.verification {
            verified += u64::from(verification.passed);
            read_back += verification.found;
        }
        failures.extend(run.failures.iter().map(|failure| (format!("{row}, {side}"), failure.as_str())));
        warnings.extend(run.warnings.iter().map(|warning| (format!("{row}, {side}"), warning.as_str())));
    }
    if results.all_runs().next().is_none() {
        return Vec::new();
    }
    let mut out = vec![
        Block::Heading("What was verified".to_owned()),
        Block::Text(format!(
            "{verified} runs ended by reading back everything that was acknowledged, {} messages in all, and found all of it.",
            number(read_back as f64)
        )),
    ];
    if !failures.is_empty() {
        let each = failures.into_iter().map(|(place, failure)| format!("{place}: {failure}"));
        out.extend([Block::Text("Failures:".to_owned()), Block::List(each.collect())]);
    }
    if !warnings.is_empty() {
        let title = "Warnings of the load generator, those that differ in their figures alone together:";
        out.extend([Block::Text(title.to_owned()), Block::List(alike(&warnings))]);
    }
    out
}

/// Warnings that say the same but for their figures, once each.
fn alike(warnings: &[(String, &str)]) -> Vec<String> {
    let form = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "").replace('.', "");
    let mut groups: Vec<(String, &(String, &str), usize)> = Vec::new();
    for warning in warnings {
        match groups.iter_mut().find(|(known, ..)| *known == form(warning.1)) {
            Some((_, _, count)) => *count += 1,
            None => groups.push((form(warning.1), warning, 1)),
        }
    }
    let sentence = |(_, (place, text), count): (String, &(String, &str), usize)| match count {
        1 => format!("{place}: {text}"),
        count => format!("{count} runs, such as {place}: {text}"),
    };
    groups.into_iter().map(sentence).collect()
}

/// A row's runs on one side, as `compare_runs` takes them.
pub fn owned(results: &Results, row: &Row, side: &Side) -> Vec<RunResult> {
    let entries = results.entries(&row.name, &side.name).iter();
    entries
        .filter_map(|entry| match entry {
            Entry::Run(run) => Some((**run).clone()),
            Entry::Measure(_) => None,
        })
        .collect()
}

/// Names of the streams of some runs, in their order.
pub fn stream_names(runs: &[RunResult]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for stream in runs.iter().flat_map(|run| &run.streams) {
        if !names.contains(&stream.name) {
            names.push(stream.name.clone());
        }
    }
    names
}

/// Which stream it is, where there are several.
pub fn suffix(runs: &[RunResult], name: &str) -> String {
    if stream_names(runs).len() > 1 { format!(", {name}") } else { String::new() }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::report_page_data::Measure;
    use crate::result::{Latency, SCHEMA};
    use std::collections::BTreeMap;

    /// A run of that rate and 99th percentile.
    pub fn run(rate: f64, p99: f64) -> RunResult {
        RunResult {
            schema: SCHEMA.to_owned(),
            command: "produce".to_owned(),
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            streams: vec![Stream {
                name: "produce".to_owned(),
                messages: 10,
                messages_per_second: rate,
                latency: Some(Latency { p99_ms: p99, p999_ms: p99 * 2.0, ..Latency::default() }),
                ..Stream::default()
            }],
            ..RunResult::default()
        }
    }

    fn layout() -> Layout {
        let side = |name: &str| Side { name: name.to_owned(), title: name.to_uppercase() };
        let sides = ["chronik", "kafka"];
        Layout {
            title: "Report".to_owned(),
            sides: sides.map(side).to_vec(),
            sections: vec![Section {
                title: "One".to_owned(),
                rows: vec![Row {
                    name: "a".to_owned(),
                    title: "acks=1".to_owned(),
                    sides: sides.map(|name| (name.to_owned(), "written".to_owned())).into(),
                    reference: Some(Reference {
                        title: "another machine".to_owned(),
                        messages_per_second: "53,227".to_owned(),
                        latency_ms: vec![1.95, 5.34, 10.49, 19.15],
                        ..Reference::default()
                    }),
                    ..Row::default()
                }],
                ..Section::default()
            }],
            ..Layout::default()
        }
    }

    fn results(name: &str, files: &[(&str, String)]) -> Results {
        let dir = std::env::temp_dir().join(format!("chronik-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let results = Results::load(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        results
    }

    fn rows(blocks: &[Block]) -> Vec<String> {
        let tables = blocks.iter().filter_map(|block| match block {
            Block::Table { rows, .. } => Some(rows),
            _ => None,
        });
        tables.flatten().map(|(_, cells)| cells.join("|")).collect()
    }

    #[test]
    fn what_was_not_measured_says_so_and_has_no_figure() {
        let results = results("unmeasured", &[]);
        assert_eq!(
            rows(&blocks(&layout(), &results)),
            [
                "acks=1|CHRONIK|not measured|–|–|–|–|–|–|–|written",
                "acks=1|KAFKA|not measured|–|–|–|–|–|–|–|written",
                "acks=1|another machine|53,227|–|–|–|1.95|5.34|10.49|19.15|",
            ]
        );
    }

    #[test]
    fn warnings_that_differ_in_figures_alone_stand_together() {
        let at = |place: &str| format!("{place}, chronik");
        let warnings = [
            (at("a"), "0.5 cores were busy"),
            (at("b"), "12 cores were busy"),
            (at("c"), "the disk is full"),
        ];
        assert_eq!(
            alike(&warnings),
            ["2 runs, such as a, chronik: 0.5 cores were busy", "c, chronik: the disk is full"]
        );
    }

    #[test]
    fn a_run_that_could_not_be_made_says_why() {
        let why = Measure {
            schema: "chronik-measure/1".to_owned(),
            error: Some("no such codec".to_owned()),
            ..Measure::default()
        };
        let results = results("refused", &[("a.kafka.1.json", serde_json::to_string(&why).unwrap())]);
        assert!(rows(&blocks(&layout(), &results))[1].contains("could not run: no such codec"));
    }

    #[test]
    fn where_it_loses_is_said_and_overlap_is_no_difference() {
        let json = |rate, p99| serde_json::to_string(&run(rate, p99)).unwrap();
        let mut files = Vec::new();
        for (index, name) in ["a.chronik.1.json", "a.chronik.2.json", "a.chronik.3.json"].iter().enumerate() {
            files.push((*name, json(100.0 + index as f64, 5.0)));
        }
        for (index, name) in ["a.kafka.1.json", "a.kafka.2.json", "a.kafka.3.json"].iter().enumerate() {
            files.push((*name, json(200.0 + index as f64, 5.0)));
        }
        let blocks = blocks(&layout(), &results("losing", &files));
        let lists: BTreeMap<usize, String> = blocks
            .iter()
            .enumerate()
            .filter_map(|(index, block)| match block {
                Block::List(items) => Some((index, items.join(";"))),
                _ => None,
            })
            .collect();
        let text: Vec<&String> = lists.values().collect();
        assert_eq!(text[1], "One, acks=1: msg/s 101 against 201");
        assert_eq!(text[2], "One, acks=1: p99.9 ms 10.0 against 10.0");
        assert!(rows(&blocks)[0].starts_with("acks=1|CHRONIK|101 (100 to 102)|"));
    }
}
