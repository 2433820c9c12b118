//! The crash test: load, `kill -9` at a random moment, restart, compare with what was acknowledged.

pub mod ledger;
mod load;
pub mod record;
pub mod verify;

use crate::admin::{self, Topic};
use crate::broker::Broker;
use crate::progress;
use anyhow::{Context, Result};
use load::Load;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use verify::{Findings, Verifier};

#[derive(clap::Args)]
pub struct Args {
    /// The broker binary.
    #[arg(long)]
    broker: PathBuf,
    /// How many times the broker is killed and checked.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Repeats the random choices of an earlier run (not the machine's timing).
    #[arg(long)]
    seed: Option<u64>,
    /// One line of JSON instead of the summary.
    #[arg(long)]
    json: bool,
}

/// Everything that is written, in the order of [`Target`]s: small segments roll and expire indexes under way.
const TOPICS: [Topic<'static>; 2] = [
    Topic { name: "crash-small-segments", partitions: 3, settings: &[("segment.bytes", "1048576")] },
    Topic { name: "crash-defaults", partitions: 3, settings: &[] },
];

/// A partition that the load writes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    pub topic: &'a str,
    pub partition: i32,
}

#[derive(Serialize, Default)]
struct Summary {
    seed: u64,
    rounds: u32,
    kills: u32,
    kills_during_recovery: u32,
    acknowledged: u64,
    recovery_ms_median: f64,
    recovery_ms_max: f64,
    seconds: f64,
    #[serde(flatten)]
    findings: Findings,
}

/// Runs the rounds; false when something was lost, invented, duplicated or out of order.
pub fn run(args: &Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("crash: seed {seed}, {} rounds", args.rounds);
    let home = tempfile::Builder::new().prefix("chronik-crash-").tempdir().context("making a directory")?;
    let mut broker = Broker::new(&args.broker, home.path(), false)?;
    let mut summary = Summary { seed, ..Summary::default() };
    let outcome = rounds(args, seed, &mut broker, &mut summary);
    let clean = outcome.is_ok() && summary.findings.is_clean();
    if !clean {
        let kept = home.keep();
        eprintln!("crash: failed in round {}, repeat with --seed {seed}", summary.rounds);
        for detail in &summary.findings.details {
            eprintln!("crash:   {detail}");
        }
        eprintln!("crash: data and the broker's log are kept in {}", kept.display());
    }
    outcome?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary);
    }
    Ok(clean)
}

fn rounds(args: &Args, seed: u64, broker: &mut Broker, summary: &mut Summary) -> Result<()> {
    let started = Instant::now();
    let mut random = fastrand::Rng::with_seed(seed);
    let bar = progress::bar(args.rounds.into(), "{wide_bar} round {pos}/{len}  {msg}");
    broker.start()?;
    admin::create_topics(&broker.bootstrap(), &TOPICS)?;
    let targets: Vec<Target<'static>> = TOPICS
        .iter()
        .flat_map(|topic| (0..topic.partitions).map(|partition| Target { topic: topic.name, partition }))
        .collect();
    let load = Load::start(&broker.bootstrap(), &targets, seed)?;
    let mut verifier = Verifier::new(&targets, seed);
    let mut recoveries = Vec::new();

    for round in 1..=args.rounds {
        summary.rounds = round;
        load.resume();
        sleep_ms(&mut random, 50..600);
        broker.check_alive()?;
        broker.kill()?;
        summary.kills += 1;
        // Recovery has to survive being killed too, more than once in a row.
        while random.u8(..) < 90 {
            broker.spawn()?;
            sleep_ms(&mut random, 1..31);
            broker.kill()?;
            summary.kills_during_recovery += 1;
        }
        recoveries.push(broker.start()?);
        sleep_ms(&mut random, 20..150);
        load.pause()?;
        let ledgers = load.ledgers();
        verifier.read_new(&broker.bootstrap(), &ledgers, &mut summary.findings)?;
        summary.acknowledged = ledgers.iter().map(|ledger| ledger.acknowledged()).sum();
        drop(ledgers);
        bar.set_message(format!("{} acknowledged, {} lost", summary.acknowledged, summary.findings.lost));
        bar.inc(1);
        if !summary.findings.is_clean() {
            return Ok(());
        }
    }
    // What an earlier round found in place may have been damaged by a later recovery.
    Verifier::new(&targets, seed).read_new(&broker.bootstrap(), &load.ledgers(), &mut summary.findings)?;
    bar.finish_and_clear();
    recoveries.sort();
    let ms = |recovery: Option<&Duration>| recovery.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    summary.recovery_ms_median = ms(recoveries.get(recoveries.len() / 2));
    summary.recovery_ms_max = ms(recoveries.last());
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(())
}

fn sleep_ms(random: &mut fastrand::Rng, range: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(random.u64(range)));
}

fn print(summary: &Summary) {
    println!(
        "{} rounds in {:.0} s: {} kills under load, {} more during recovery, seed {}",
        summary.rounds, summary.seconds, summary.kills, summary.kills_during_recovery, summary.seed
    );
    println!("  acknowledged   {:>10}", summary.acknowledged);
    println!("  lost           {:>10}", summary.findings.lost);
    println!("  invented       {:>10}", summary.findings.invented);
    println!("  duplicates     {:>10}", summary.findings.duplicates);
    println!("  out of order   {:>10}", summary.findings.out_of_order);
    println!(
        "  recovery       {:>10.1} ms median, {:.1} ms longest",
        summary.recovery_ms_median, summary.recovery_ms_max
    );
}
