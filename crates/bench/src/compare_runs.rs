//! Whether two sets of runs differ by more than noise, and whether they may be compared at all.

use crate::result::{RunResult, Stream};
use serde::Serialize;
use serde_json::Value;

/// Settings that say where a run went or what it left, not what it did.
const OF_NO_MATTER: &[&str] = &[
    "bootstrap-server",
    "disk-probe",
    "generator-ceiling",
    "hlog",
    "json",
    "keep-topic",
    "label",
    "no-disk-probe",
    "output",
    "server-metrics",
    "server-pids",
    "topic",
];

/// Runs of each side that a verdict needs.
pub const RUNS_NEEDED: usize = 3;

/// Smallest, middle and largest of some runs' values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many values.
    pub runs: usize,
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number, between the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { runs: sorted.len(), min, median: (low + high) / 2.0, max })
    }

    /// True where some value of the one lies among the values of the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// What may be said of two spreads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every run of the second is above every run of the first.
    Higher,
    /// Every run of the second is below every run of the first.
    Lower,
    /// The runs overlap.
    NoDifference,
    /// Fewer than [`RUNS_NEEDED`] runs of one of them.
    TooFewRuns,
}

impl Verdict {
    /// Of the second against the first.
    pub fn of(first: &Spread, second: &Spread) -> Self {
        if first.runs < RUNS_NEEDED || second.runs < RUNS_NEEDED {
            Verdict::TooFewRuns
        } else if first.overlaps(second) {
            Verdict::NoDifference
        } else if second.min > first.max {
            Verdict::Higher
        } else {
            Verdict::Lower
        }
    }
}

/// How likely it is that so many runs of the same thing lie apart by chance, in one direction or the other.
pub fn chance(first: usize, second: usize) -> f64 {
    // All orders are equally likely; two of them keep the sets apart.
    let orders = (1..=second).fold(1.0, |orders, k| orders * (first + k) as f64 / k as f64);
    (2.0 / orders).min(1.0)
}

/// Something that runs are compared by.
pub struct Figure {
    /// Its name and unit.
    pub name: &'static str,
    /// True where more is better.
    pub more_is_better: bool,
    value: fn(&RunResult, &Stream) -> Option<f64>,
}

/// All figures, in the order in which they are shown.
pub const FIGURES: &[Figure] = &[
    Figure { name: "msg/s", more_is_better: true, value: |_, stream| Some(stream.messages_per_second) },
    Figure {
        name: "p50 ms",
        more_is_better: false,
        value: |_, stream| Some(stream.latency.as_ref()?.p50_ms),
    },
    Figure {
        name: "p99 ms",
        more_is_better: false,
        value: |_, stream| Some(stream.latency.as_ref()?.p99_ms),
    },
    Figure {
        name: "p99.9 ms",
        more_is_better: false,
        value: |_, stream| Some(stream.latency.as_ref()?.p999_ms),
    },
    Figure {
        name: "max ms",
        more_is_better: false,
        value: |_, stream| Some(stream.latency.as_ref()?.max_ms),
    },
    Figure {
        name: "server CPU µs/msg",
        more_is_better: false,
        value: |run, _| run.server_cpu_us_per_message,
    },
];

/// One figure of both sides.
#[derive(Serialize)]
pub struct Line {
    /// The stream's name.
    pub stream: String,
    /// The figure's name.
    pub figure: &'static str,
    /// The first side.
    pub first: Spread,
    /// The second.
    pub second: Spread,
    /// The second's median over the first's.
    pub ratio: f64,
    /// What may be said.
    pub verdict: Verdict,
    /// True where the second is better by more than noise, false where it is worse by that.
    pub better: Option<bool>,
}

/// All figures that both sides have.
pub fn compare(first: &[RunResult], second: &[RunResult]) -> Vec<Line> {
    let mut lines = Vec::new();
    for name in first.first().map(|run| run.streams.as_slice()).unwrap_or_default().iter().map(|s| &s.name) {
        for figure in FIGURES {
            let (Some(one), Some(other)) = (spread(first, name, figure), spread(second, name, figure)) else {
                continue;
            };
            let verdict = Verdict::of(&one, &other);
            lines.push(Line {
                stream: name.clone(),
                figure: figure.name,
                first: one,
                second: other,
                ratio: other.median / one.median,
                verdict,
                better: match verdict {
                    Verdict::Higher => Some(figure.more_is_better),
                    Verdict::Lower => Some(!figure.more_is_better),
                    Verdict::NoDifference | Verdict::TooFewRuns => None,
                },
            });
        }
    }
    lines
}

/// One figure of one stream over some runs; `None` where no run has it.
pub fn spread(runs: &[RunResult], stream: &str, figure: &Figure) -> Option<Spread> {
    let of_run = |run: &RunResult| {
        run.streams.iter().find(|found| found.name == stream).and_then(|found| (figure.value)(run, found))
    };
    Spread::of(&runs.iter().filter_map(of_run).collect::<Vec<_>>())
}

/// Where the second run was made otherwise than the first, or elsewhere: a sentence for each difference.
pub fn differences(first: &RunResult, second: &RunResult) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: &str, one: String, other: String| {
        if one != other {
            found.push(format!("{what}: {one} and {other}"));
        }
    };
    check("command", first.command.clone(), second.command.clone());
    let names =
        first.settings.keys().chain(second.settings.keys().filter(|k| !first.settings.contains_key(*k)));
    for name in names.filter(|name| !OF_NO_MATTER.contains(&name.as_str())) {
        check(&format!("--{name}"), shown(first.settings.get(name)), shown(second.settings.get(name)));
    }
    check("seconds of warm-up", first.warmup_seconds.to_string(), second.warmup_seconds.to_string());
    check("build of chronik-bench", first.tool.build.clone(), second.tool.build.clone());
    check("librdkafka", first.tool.librdkafka.clone(), second.tool.librdkafka.clone());
    let (one, other) = (&first.machine, &second.machine);
    check("processor", one.cpu.clone(), other.cpu.clone());
    check("cores", one.cores.to_string(), other.cores.to_string());
    check("bytes of memory", one.memory_bytes.to_string(), other.memory_bytes.to_string());
    check("kernel", one.kernel.clone(), other.kernel.clone());
    if first.interrupted != second.interrupted {
        found.push("one was interrupted".to_owned());
    }
    found
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Latency;

    fn run(rate: f64, p99: f64) -> RunResult {
        let mut run = RunResult { command: "produce".to_owned(), ..RunResult::default() };
        run.settings.insert("acks".to_owned(), "1".into());
        run.settings.insert("topic".to_owned(), rate.to_string().into());
        run.streams.push(Stream {
            name: "produce".to_owned(),
            messages_per_second: rate,
            latency: Some(Latency { p99_ms: p99, ..Latency::default() }),
            ..Stream::default()
        });
        run
    }

    fn verdicts(first: &[RunResult], second: &[RunResult]) -> Vec<(&'static str, Verdict, Option<bool>)> {
        let wanted = ["msg/s", "p99 ms"];
        let lines = compare(first, second);
        let lines = lines.into_iter().filter(|line| wanted.contains(&line.figure));
        lines.map(|line| (line.figure, line.verdict, line.better)).collect()
    }

    #[test]
    fn runs_that_overlap_do_not_differ() {
        let first = [run(100.0, 5.0), run(110.0, 5.1), run(120.0, 5.2)];
        let second = [run(119.0, 4.0), run(130.0, 4.1), run(140.0, 4.2)];
        assert_eq!(
            verdicts(&first, &second),
            [("msg/s", Verdict::NoDifference, None), ("p99 ms", Verdict::Lower, Some(true))]
        );
        assert_eq!(verdicts(&second, &first)[1], ("p99 ms", Verdict::Higher, Some(false)));
    }

    #[test]
    fn two_runs_prove_nothing() {
        let first = [run(100.0, 5.0), run(110.0, 5.0)];
        let second = [run(1000.0, 1.0), run(1100.0, 1.0), run(1200.0, 1.0)];
        assert!(
            verdicts(&first, &second).iter().all(|line| line.1 == Verdict::TooFewRuns && line.2.is_none())
        );
    }

    #[test]
    fn what_differs_is_named_and_where_it_went_is_not() {
        let (one, mut other) = (run(1.0, 1.0), run(2.0, 1.0));
        assert_eq!(differences(&one, &other), Vec::<String>::new());
        other.settings.insert("acks".to_owned(), "all".into());
        other.settings.insert("linger".to_owned(), "1ms".into());
        other.machine.cores = 8;
        assert_eq!(
            differences(&one, &other),
            ["--acks: 1 and all", "--linger: not set and 1ms", "cores: 0 and 8"]
        );
    }

    #[test]
    fn chance_of_three_against_three_is_one_in_ten() {
        assert!((chance(3, 3) - 0.1).abs() < 1e-12);
        assert!((chance(5, 5) - 2.0 / 252.0).abs() < 1e-12);
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { runs: 3, min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
    }
}
