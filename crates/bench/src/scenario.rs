//! Runs loads and groups of consumers together for a warm-up and a measurement, and says what each of them found.

use crate::args::Acks;
use crate::histogram::Latencies;
use crate::hlog::Intervals;
use crate::ledger::Acknowledged;
use crate::machine::IdleTime;
use crate::metrics::Reading;
use crate::procfs::Watch;
use crate::producers::{Load, Pace, Producers};
use crate::progress::Live;
use crate::readers::{Group, ReadSpec};
use crate::result::{MetricsDelta, ProcessUse, Stream};
use crate::tally::{Board, Gathered, second_of};
use crate::topic::Topic;
use crate::window::Window;
use crate::{interrupt, verdict};
use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const TICK: Duration = Duration::from_millis(50);
/// After the last acknowledgement, what consumers still miss is waited for until nothing has come for so long.
const RECEIVE: Duration = Duration::from_secs(10);
const RECEIVE_INTERRUPTED: Duration = Duration::from_secs(2);

/// What runs at once.
pub struct Scenario {
    /// Producers, each with its name and what an answer means to it.
    pub loads: Vec<(String, Acks, Load)>,
    /// Groups of consumers that read from the tail, each with its name.
    pub groups: Vec<(String, ReadSpec)>,
    /// Load before the measurement.
    pub warmup: Duration,
    /// Length of the measurement.
    pub duration: Duration,
    /// The number of the run.
    pub run: u64,
    /// Processes to watch.
    pub server_pids: Vec<u32>,
    /// Metrics to read.
    pub server_metrics: Vec<String>,
    /// True if the histogram of each second is to be kept.
    pub intervals: bool,
    /// What the live display says in front.
    pub title: String,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// Each load and group.
    pub streams: Vec<Stream>,
    /// What this tool used.
    pub client: ProcessUse,
    /// What the servers used.
    pub servers: Vec<ProcessUse>,
    /// What their metrics said.
    pub metrics: Vec<MetricsDelta>,
    /// CPU time of the servers for each message, in microseconds.
    pub server_cpu_us_per_message: Option<f64>,
    /// Name and version of the server, if its metrics tell.
    pub software: Option<String>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// What was lost, corrupt or failed.
    pub failures: Vec<String>,
    /// True if Ctrl-C ended it.
    pub interrupted: bool,
    /// What was acknowledged in the whole run.
    pub acknowledged: Acknowledged,
    /// The histograms of each second.
    pub intervals: Vec<Intervals>,
    /// When the measurement began.
    pub measured_from: Option<SystemTime>,
}

/// What is watched from the start of the measurement to the last answer.
struct Watched {
    own: Watch,
    servers: Watch,
    metrics: Vec<Reading>,
    idle: IdleTime,
}

impl Watched {
    fn start(scenario: &Scenario) -> Result<Self> {
        Ok(Self {
            metrics: scenario.server_metrics.iter().map(|url| Reading::take(url)).collect::<Result<_>>()?,
            servers: Watch::start(&scenario.server_pids)?,
            own: Watch::start_own()?,
            idle: IdleTime::start(),
        })
    }

    /// A server that is gone by now (killed on purpose, perhaps) is a warning; the figures of the load are there all the same.
    fn finish(&self, found: &mut Found) -> Option<f64> {
        for used in self.servers.finish() {
            match used {
                Ok(used) => found.servers.push(used),
                Err(error) => found.warnings.push(format!("a server can't be watched any more: {error:#}")),
            }
        }
        found.client = self.own.finish().into_iter().flatten().next().unwrap_or_default();
        for before in &self.metrics {
            match Reading::take(before.url()) {
                Ok(after) => {
                    found.metrics.push(before.until(&after));
                    found.software = found.software.take().or(after.software);
                }
                Err(error) => found.warnings.push(format!("{error:#}")),
            }
        }
        self.idle.share()
    }
}

/// Runs it. Errors are of what kept it from running; what went wrong with messages is in what it returns.
pub fn run(scenario: &Scenario, topic: &Topic) -> Result<Found> {
    let window = Arc::new(Window::new());
    let mut groups = scenario
        .groups
        .iter()
        .map(|(name, spec)| {
            Group::start(spec, topic, &format!("chronik-bench-{:016x}-{name}", scenario.run), &window)
        })
        .collect::<Result<Vec<_>>>()?;
    for group in &groups {
        group.wait_until_ready()?;
    }
    let boards = scenario
        .loads
        .iter()
        .map(|(_, _, load)| Ok(Arc::new(Board::new(load.handles, load.keeps_books)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut producers = Vec::new();
    for ((_, _, load), board) in scenario.loads.iter().zip(&boards) {
        producers.push(Producers::new(load, &window, board)?);
    }
    let all_boards: Vec<Arc<Board>> = boards.iter().cloned().chain(groups.iter().map(Group::board)).collect();
    let mut gathered =
        all_boards.iter().map(|_| Gathered::new(scenario.intervals)).collect::<Result<Vec<_>>>()?;

    let mut found = Found::default();
    let mut live = Live::new(&scenario.title, scenario.warmup + scenario.duration);
    // Servers are watched from before the load on, so that a wrong process id ends the run at its beginning.
    let mut watched = Watched::start(scenario)?;
    window.open(scenario.warmup, scenario.duration);
    found.measured_from = Some(SystemTime::now() + scenario.warmup);
    for (producers, (_, _, load)) in producers.iter_mut().zip(&scenario.loads) {
        producers.start(load.pace);
    }
    let mut second = second_of(&window, window.now());
    let mut measuring = false;
    let mut gather_until = |now: u64, gathered: &mut Vec<Gathered>| -> Result<()> {
        if second_of(&window, now) > second {
            for (gathered, board) in gathered.iter_mut().zip(&all_boards) {
                gathered.gather(board, second)?;
            }
            live.show(gathered, second < 0);
            second = second_of(&window, now);
        }
        Ok(())
    };
    loop {
        std::thread::sleep(TICK.min(until_next_second(&window)));
        let now = window.now();
        if interrupt::requested() && !found.interrupted {
            found.interrupted = true;
            window.cut();
        }
        if now >= window.start() && !measuring {
            measuring = true;
            watched = Watched::start(scenario)?;
        }
        gather_until(now, &mut gathered)?;
        if now >= window.end() && producers.iter().all(Producers::finished) {
            break;
        }
    }
    for producers in &mut producers {
        if let Err(error) = producers.join() {
            found.failures.push(format!("{error:#}"));
        }
    }
    let idle = watched.finish(&mut found);
    for board in &boards {
        found.acknowledged.merge(&board.acknowledged());
    }
    let expected = found.acknowledged.len();
    let patience = if found.interrupted { RECEIVE_INTERRUPTED } else { RECEIVE };
    let missing = |group: &Group| group.received() < expected && group.quiet_for() < patience;
    while groups.iter().any(missing) {
        std::thread::sleep(TICK.min(until_next_second(&window)));
        gather_until(window.now(), &mut gathered)?;
    }
    let seen = groups.iter_mut().map(|group| group.finish(topic)).collect::<Result<Vec<_>>>()?;
    let last = second_of(&window, window.now());
    for (gathered, board) in gathered.iter_mut().zip(&all_boards) {
        gathered.gather(board, last)?;
    }
    live.finish();

    let mut gathered = gathered.into_iter();
    for (((name, acks, load), board), producers) in scenario.loads.iter().zip(&boards).zip(&producers) {
        let Some(gathered) = gathered.next() else { bail!("a load was not gathered") };
        let lag = producers.lag()?;
        let stream = produced(name, *acks, load, board, &window, &gathered, &lag)?;
        found.keep(stream, gathered);
    }
    for (((name, spec), group), seen) in scenario.groups.iter().zip(&groups).zip(seen) {
        let Some(gathered) = gathered.next() else { bail!("a group was not gathered") };
        let mut stream = counted(&group.board(), &window, &gathered, false)?;
        stream.name = name.clone();
        stream.kind = if scenario.loads.is_empty() { "consume" } else { "e2e" }.to_owned();
        stream.loop_kind = "read".to_owned();
        stream.latency_from = "intended send time".to_owned();
        let books = (!scenario.loads.is_empty()).then_some(&found.acknowledged);
        let integrity = seen.integrity(spec.run, books);
        if scenario.loads.is_empty() && integrity.foreign > 0 {
            // Messages without a stamp do not say when they were sent.
            stream.latency = None;
            stream.latency_from = "none".to_owned();
        }
        stream.integrity = Some(integrity);
        found.failures.extend(verdict::of_integrity(name, &integrity));
        found.warnings.extend(seen.errors);
        found.keep(stream, gathered);
    }
    let messages = verdict::messages(&found.streams);
    found.server_cpu_us_per_message = verdict::cpu_per_message(&found.servers, &found.metrics, messages);
    verdict::judge_loads(&mut found);
    verdict::judge_client(&mut found, idle, window.end() > window.start());
    Ok(found)
}

impl Found {
    fn keep(&mut self, stream: Stream, gathered: Gathered) {
        if let Some(seconds) = gathered.intervals {
            self.intervals.push(Intervals { stream: stream.name.clone(), seconds });
        }
        self.streams.push(stream);
    }
}

fn until_next_second(window: &Window) -> Duration {
    let into = (window.now() as i64).saturating_sub(window.start() as i64).rem_euclid(1_000_000_000);
    Duration::from_nanos(1_000_000_000 - into.unsigned_abs())
}

/// What every stream has; `between_messages` counts the time from the first message to the last.
pub fn counted(
    board: &Board,
    window: &Window,
    gathered: &Gathered,
    between_messages: bool,
) -> Result<Stream> {
    let (counts, whole_run) = board.counts();
    let (first, last) = board.first_and_last();
    let ns = match first {
        Some(first) if between_messages => last.saturating_sub(first),
        _ => window.end().max(last).saturating_sub(window.start()),
    };
    let seconds = ns as f64 / 1e9;
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let latency = gathered.measured.describe()?;
    Ok(Stream {
        messages: counts.acknowledged,
        bytes: board.bytes(),
        seconds,
        messages_per_second: per_second(counts.acknowledged),
        megabytes_per_second: per_second(board.bytes()) / 1e6,
        counts,
        whole_run,
        latency: (latency.count > 0).then_some(latency),
        errors: board.errors(),
        series: gathered.series.clone(),
        ..Stream::default()
    })
}

fn produced(
    name: &str,
    acks: Acks,
    load: &Load,
    board: &Board,
    window: &Window,
    gathered: &Gathered,
    lag: &Latencies,
) -> Result<Stream> {
    let (loop_kind, latency_from) = match load.pace {
        Pace::Closed(_) => {
            ("closed", "send (closed loop: while the broker stalls, nothing is sent that could show it)")
        }
        Pace::Rate(_) => ("rate", "intended send time"),
        Pace::Queue => ("queue", "send (into a queue that is kept full: latency is mostly waiting in it)"),
        Pace::Transactions(_) => ("transactions", "send, to the commit (closed loop)"),
    };
    Ok(Stream {
        name: name.to_owned(),
        kind: "produce".to_owned(),
        loop_kind: loop_kind.to_owned(),
        latency_from: latency_from.to_owned(),
        acks: acks.name().to_owned(),
        target_rate: match load.pace {
            Pace::Rate(rate) => Some(rate),
            _ => None,
        },
        sender_lag_p99_ms: (lag.count() > 0).then(|| lag.quantile_ms(0.99)),
        ..counted(board, window, gathered, false)?
    })
}
