//! `consume`: groups that read what is there, or the tail.

use crate::args::{Cache, ConsumeArgs, From, Sending};
use crate::machine::IdleTime;
use crate::procfs::Watch;
use crate::producers::Pace;
use crate::readers::{Group, ReadSpec};
use crate::result::Stream;
use crate::scenario::{self, Found, counted};
use crate::session::{self, Session};
use crate::tally::{Gathered, second_of};
use crate::units::Span;
use crate::window::Window;
use crate::{fill, interrupt, progress, together, verdict};
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(20);
/// Reading what is there has no end in time.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Reads; false when something was lost or corrupt.
pub fn run(args: &ConsumeArgs) -> Result<bool> {
    match args.from {
        From::Earliest => earliest(args),
        From::Tail => tail(args),
    }
}

fn sending() -> Sending {
    Sending {
        concurrency: 1,
        clients: 1,
        linger: Span(Duration::ZERO),
        batch_size: None,
        max_in_flight: None,
        idempotent: false,
    }
}

fn tail(args: &ConsumeArgs) -> Result<bool> {
    session::check(&args.content, &sending(), &[args.acks], args.rate, true)?;
    session::check_duration(args.duration.0)?;
    if args.cache != Cache::Warm {
        bail!("--cache goes with --from earliest: the tail is never cold");
    }
    if args.rate.is_none() && !args.target.use_existing {
        bail!("--from tail: a topic made for the run stays empty; add --rate to produce, or --use-existing");
    }
    let session = Session::begin("consume", args, &args.target, &args.output, args.warmup.0)?;
    session.require(true, false, &args.content)?;
    let mut scenario = session.scenario("consume", args.warmup.0, args.duration.0);
    if let Some(rate) = args.rate {
        let load = session.load(&args.content, &sending(), args.acks, Pace::Rate(rate), 0, true)?;
        scenario.loads.push(("produce".to_owned(), args.acks, load));
    }
    together::read_along(&mut scenario, &session, &args.readers, "consume");
    let found = scenario::run(&scenario, &session.topic)?;
    session.finish(found, false, false)
}

fn earliest(args: &ConsumeArgs) -> Result<bool> {
    session::check(&args.content, &sending(), &[], None, true)?;
    if args.rate.is_some() {
        bail!("--rate goes with --from tail; from the earliest, a topic made for the run is filled first");
    }
    let session = Session::begin("consume", args, &args.target, &args.output, Duration::ZERO)?;
    session.require(true, false, &args.content)?;
    if session.topic.created {
        let load = session.load(&args.content, &fill::sending(), fill::ACKS, Pace::Queue, 0, true)?;
        fill::produce(&load, args.messages)?;
    }
    let present = present(&session)?;
    if present < args.messages {
        bail!(
            "topic {} holds {present} messages; {} are wanted (--messages)",
            args.target.topic,
            args.messages
        );
    }
    let passes: &[(&str, bool)] = match args.cache {
        Cache::Warm => &[("consume", false)],
        Cache::Cold => &[("consume", true)],
        Cache::Both => &[("cold", true), ("warm", false)],
    };
    let mut all = Found::default();
    for (name, cold) in passes {
        if *cold {
            drop_page_cache()?;
        }
        if interrupt::requested() {
            break;
        }
        read(args, &session, name, &mut all)?;
    }
    session.finish(all, false, false)
}

fn present(session: &Session) -> Result<u64> {
    let mut present = 0;
    for partition in 0..session.topic.partitions {
        let (low, high) = session.topic.watermarks(partition)?;
        present += u64::try_from(high - low).unwrap_or(0);
    }
    Ok(present)
}

/// One pass of all groups over the topic.
fn read(args: &ConsumeArgs, session: &Session, pass: &str, all: &mut Found) -> Result<()> {
    let window = Arc::new(Window::new());
    let spec = ReadSpec {
        members: args.readers.consumers as usize,
        group: !args.readers.no_group,
        tail: false,
        config: session.reader_config(),
        run: session.run,
        old: true,
    };
    let watched = (Watch::start(&args.output.server_pids)?, Watch::start_own()?, IdleTime::start());
    let metrics = args
        .output
        .server_metrics
        .iter()
        .map(|url| crate::metrics::Reading::take(url))
        .collect::<Result<Vec<_>>>()?;
    window.open(Duration::ZERO, WEEK);
    let mut groups = Vec::new();
    for group in 1..=args.readers.groups {
        let id = format!("chronik-bench-{:016x}-{pass}-{group}", session.run);
        groups.push(Group::start(&spec, &session.topic, &id, &window)?);
    }
    let mut gathered = groups.iter().map(|_| Gathered::new(false)).collect::<Result<Vec<_>>>()?;
    let wanted = args.messages * u64::from(args.readers.groups);
    let bar = progress::bar(wanted, "{prefix} {wide_bar} {human_pos}/{human_len} {per_sec}");
    bar.set_prefix(pass.to_owned());
    let mut second = 0;
    let done = |group: &Group| group.received() >= args.messages;
    while !groups.iter().all(done) && !interrupt::requested() {
        std::thread::sleep(TICK);
        bar.set_position(groups.iter().map(Group::received).sum());
        let now = second_of(&window, window.now());
        if now > second {
            for (gathered, group) in gathered.iter_mut().zip(&groups) {
                gathered.gather(&group.board(), second)?;
            }
            second = now;
        }
        if groups.iter().any(|group| !done(group) && group.quiet_for() > args.patience.0) {
            break;
        }
    }
    bar.finish_and_clear();
    window.cut();
    all.interrupted |= interrupt::requested();
    let before_this_pass = all.streams.len();
    all.metrics.clear();
    all.servers = watched.0.finish().into_iter().flatten().collect();
    all.client = watched.1.finish().into_iter().flatten().next().unwrap_or_default();
    for before in &metrics {
        let after = crate::metrics::Reading::take(before.url())?;
        all.metrics.push(before.until(&after));
    }
    let received: Vec<u64> = groups.iter().map(Group::received).collect();
    for (index, (mut group, mut gathered)) in groups.into_iter().zip(gathered).enumerate() {
        let name = if args.readers.groups == 1 { pass.to_owned() } else { format!("{pass}-{}", index + 1) };
        let missing = args.messages.saturating_sub(received.get(index).copied().unwrap_or(0));
        if missing > 0 && !all.interrupted {
            all.failures.push(format!(
                "{name}: {missing} of {} messages did not come within {} (--patience)",
                args.messages, args.patience
            ));
        }
        let stream = finish(&name, &mut group, &mut gathered, &window, second, session, all)?;
        all.streams.push(stream);
    }
    // Of two passes, what was used is that of the second one.
    let messages = all.streams.iter().skip(before_this_pass).map(|stream| stream.messages).sum();
    all.server_cpu_us_per_message = verdict::cpu_per_message(&all.servers, &all.metrics, messages);
    verdict::judge_client(all, watched.2.share(), true);
    Ok(())
}

fn finish(
    name: &str,
    group: &mut Group,
    gathered: &mut Gathered,
    window: &Window,
    second: i64,
    session: &Session,
    all: &mut Found,
) -> Result<Stream> {
    let seen = group.finish(&session.topic)?;
    gathered.gather(&group.board(), second)?;
    let mut stream = counted(&group.board(), window, gathered, true)?;
    stream.name = name.to_owned();
    stream.kind = "consume".to_owned();
    stream.loop_kind = "read".to_owned();
    stream.latency_from = "none".to_owned();
    // What was written before has no latency to speak of.
    stream.latency = None;
    for second in &mut stream.series {
        (second.p50_ms, second.p99_ms, second.max_ms) = (0.0, 0.0, 0.0);
    }
    stream.first_message_ms = seen.first_message_ms;
    let integrity = seen.integrity(session.run, None);
    stream.integrity = Some(integrity);
    all.failures.extend(verdict::of_integrity(name, &integrity));
    all.warnings.extend(seen.errors);
    Ok(stream)
}

fn drop_page_cache() -> Result<()> {
    const CONTROL: &str = "/proc/sys/vm/drop_caches";
    // Only clean pages are dropped; writing the dirty ones out first makes the whole log cold.
    let synced = std::process::Command::new("sync").status().context("running sync for --cache cold")?;
    if !synced.success() {
        bail!("sync ended with {synced}");
    }
    std::fs::write(CONTROL, "1").with_context(|| format!("writing {CONTROL} for --cache cold (needs root)"))
}
