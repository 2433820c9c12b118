//! `cargo xtask bench`: Chronik, Apache Kafka and the floor, one after another, round after round.
//!
//! All three run on this machine, all the time; the load goes to one of them at a time and changes over after
//! each measurement, so that what else happens on the machine hits them alike.

mod cluster;
pub mod cluster_faults;
mod cluster_report;
pub mod cluster_servers;
pub mod generator;
mod growth;
mod loads;
mod report;
pub mod servers;
mod starts;

use crate::shell;
use anyhow::{Context, Result, bail};
use generator::{Generator, Measurement};
use loads::{LOADS, Load};
use report::{LoadResult, Report};
use servers::{Floor, Peers, Server};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// Only these loads; --list names them.
    #[arg(long = "load", value_delimiter = ',', value_name = "NAME")]
    loads: Vec<String>,
    /// Names the loads and ends.
    #[arg(long)]
    list: bool,
    /// Measurements of each load on each server.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Nodes of each server: 1, or 3 for the cluster loads (replication factor 3).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3))]
    nodes: u32,
    /// Kills of a leader in cluster-failover.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Length of each measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Short measurements and small data: says whether it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Servers to leave out: kafka, floor.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    without: Vec<String>,
    /// Folder with kafka-get.sh, kafka-up.sh and kafka-down.sh.
    #[arg(long, env = "CHRONIK_PEERS", default_value = "../shared/peers")]
    peers: PathBuf,
    /// The floor: its binary, or the folder of its source.
    #[arg(long, env = "CHRONIK_FLOOR", default_value = "../shared/floor")]
    floor: PathBuf,
    /// Where Apache Kafka is, or is assembled (default: kafka in the target folder).
    #[arg(long, env = "CHRONIK_KAFKA")]
    kafka: Option<PathBuf>,
    /// The broker binary (default: built here).
    #[arg(long)]
    broker: Option<PathBuf>,
    /// The binary of chronik-bench (default: built here).
    #[arg(long, value_name = "PATH")]
    generator: Option<PathBuf>,
    /// Puts the report and the chart into docs/performance.md too.
    #[arg(long, conflicts_with = "quick")]
    publish: bool,
    /// Prints the report as JSON instead of as text.
    #[arg(long)]
    json: bool,
}

/// What the command line asked for, with `--quick` applied.
pub struct Plan {
    pub rounds: u32,
    pub seconds: u64,
    pub warmup_seconds: u64,
    pub quick: bool,
}

impl Plan {
    fn new(args: &Args) -> Self {
        Self {
            rounds: args.rounds,
            seconds: if args.quick { args.seconds.min(3) } else { args.seconds },
            warmup_seconds: if args.quick { 1 } else { 5 },
            quick: args.quick,
        }
    }
}

/// Runs the loads and writes target/bench/report.{json,md}.
pub fn run(args: &Args) -> Result<()> {
    match args.nodes {
        1 => {}
        3 => return cluster::run(args),
        nodes => bail!("--nodes {nodes}: there are loads for 1 and for 3 nodes"),
    }
    if args.list {
        for load in LOADS {
            println!("{:14} {}", load.name, load.title);
        }
        for (name, title) in EXTRA {
            println!("{name:14} {title}");
        }
        return Ok(());
    }
    let wanted = wanted(args)?;
    let plan = Plan::new(args);
    let home = shell::target_dir()?.join("bench");
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let mut servers = prepare(args, &home)?;
    let generator = Generator::prepare(args.generator.as_deref())?;
    let mut report = Report::new(&plan);

    if wanted.iter().any(|name| LOADS.iter().any(|load| load.name == *name)) {
        for server in &mut servers {
            shell::step(&format!("starting {}", server.name()));
            server.start_empty()?;
        }
        report.idle_rss(&servers)?;
        warm_up_kafka(&generator, &servers, &plan)?;
        for load in LOADS.iter().filter(|load| wanted.contains(&load.name)) {
            let result = alternate(load, &generator, &servers, &plan)?;
            report.add(result);
            report.write(&home)?;
        }
        for server in &mut servers {
            server.stop()?;
        }
    }
    if wanted.contains(&"start") {
        report.starts = Some(starts::empty(&generator, &mut servers, &plan)?);
        report.write(&home)?;
    }
    if wanted.contains(&"restart") {
        report.restarts = Some(starts::after_kill(&generator, &mut servers, &plan)?);
        report.write(&home)?;
    }
    if wanted.contains(&"growth")
        && let Some(chronik) = servers.iter_mut().find(|server| server.name() == "chronik")
    {
        let growth = growth::measure(&generator, chronik.as_mut(), &plan)?;
        std::fs::write(home.join("growth.svg"), growth.chart()).context("writing growth.svg")?;
        report.growth = Some(growth);
    }
    report.write(&home)?;
    if args.publish {
        report::publish(&report, &home, &shell::root()?.join("docs"))?;
    }
    if args.json {
        println!("{}", report.json()?);
    } else {
        println!("{}", report.markdown());
        println!("Written to {}/report.json and report.md", home.display());
    }
    Ok(())
}

/// What is measured besides the loads.
const EXTRA: &[(&str, &str)] = &[
    ("start", "start to the first acknowledged write, empty"),
    ("restart", "start after kill -9 with 1,000 partitions and 5 GB"),
    ("growth", "cost with 10 to 10,000 partitions and 1 to 2,000 connections, as a chart"),
];

fn wanted(args: &Args) -> Result<Vec<&'static str>> {
    let all: Vec<&'static str> =
        LOADS.iter().map(|load| load.name).chain(EXTRA.iter().map(|(name, _)| *name)).collect();
    if args.loads.is_empty() {
        return Ok(all);
    }
    for name in &args.loads {
        if !all.contains(&name.as_str()) {
            bail!("no load is called {name}; there are {}", all.join(", "));
        }
    }
    Ok(all.into_iter().filter(|name| args.loads.iter().any(|wanted| wanted == name)).collect())
}

/// The broker that is given, or one that is built here.
pub fn broker(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(broker) => Ok(broker.to_owned()),
        None => Ok(shell::build_release(&["chronik-cli"])?.join("chronik")),
    }
}

/// Apache Kafka, unless it was left out or its scripts are not there.
pub fn kafka(without: &[String], peers: &Path, place: Option<&Path>) -> Result<Option<Peers>> {
    if without.iter().any(|left_out| left_out == "kafka") {
        return Ok(None);
    }
    let scripts = shell::root()?.join(peers);
    let place = place.map_or(shell::target_dir()?.join("kafka"), Path::to_owned);
    let found = Peers::find(&scripts, &place)?;
    if found.is_none() {
        shell::step(&format!("without Apache Kafka: {} has no kafka-up.sh (--peers DIR)", scripts.display()));
    }
    Ok(found)
}

/// The servers that take part, none of them started.
fn prepare(args: &Args, home: &Path) -> Result<Vec<Box<dyn Server>>> {
    let broker = broker(args.broker.as_deref())?;
    let run = home.join("run");
    let mut servers: Vec<Box<dyn Server>> = vec![Box::new(servers::Chronik::new(broker, &run)?)];
    let included = |name: &str| !args.without.iter().any(|left_out| left_out == name);
    if let Some(peers) = kafka(&args.without, &args.peers, args.kafka.as_deref())? {
        servers.push(Box::new(peers.server(&run)?));
    }
    if included("floor") {
        let source = shell::root()?.join(&args.floor);
        match Floor::find(&source)? {
            Some(binary) => {
                servers.push(Box::new(Floor::new(&binary, &run, false)?));
                servers.push(Box::new(Floor::new(&binary, &run, true)?));
            }
            None => shell::step(&format!("without the floor: {} is not there (--floor)", source.display())),
        }
    }
    Ok(servers)
}

/// A JVM compiles what it runs often; the first seconds after its start say nothing about the rest.
fn warm_up_kafka(generator: &Generator, servers: &[Box<dyn Server>], plan: &Plan) -> Result<()> {
    let Some(kafka) = servers.iter().find(|server| server.name() == "kafka") else { return Ok(()) };
    let seconds = if plan.quick { 3 } else { 20 };
    shell::step(&format!("warming Apache Kafka up, 2 x {seconds} s"));
    for name in ["small-1", "bulk-all"] {
        let Some(load) = LOADS.iter().find(|load| load.name == name) else { continue };
        generator.run(load, kafka.as_ref(), Duration::from_secs(1), Duration::from_secs(seconds))?;
        kafka.discard_data()?;
    }
    Ok(())
}

fn alternate(
    load: &Load,
    generator: &Generator,
    servers: &[Box<dyn Server>],
    plan: &Plan,
) -> Result<LoadResult> {
    shell::step(&format!("{}: {}", load.name, load.title));
    let mut result = LoadResult::new(load);
    for round in 1..=plan.rounds {
        for server in servers.iter().filter(|server| load.runs_on(server.as_ref())) {
            let warmup = load.warmup_seconds.unwrap_or(plan.warmup_seconds);
            let warmup = if plan.quick { warmup.min(2) } else { warmup };
            let measured = generator.run(
                load,
                server.as_ref(),
                Duration::from_secs(warmup),
                Duration::from_secs(plan.seconds),
            )?;
            server.discard_data()?;
            eprintln!("    round {round} {:12} {}", server.name(), describe(&measured));
            result.add(server.side(), measured);
        }
    }
    Ok(result)
}

fn describe(measured: &Measurement) -> String {
    let latency = measured.p99_ms.map_or(String::new(), |p99| {
        format!("   p50 {:.2} p99 {p99:.2} ms", measured.p50_ms.unwrap_or_default())
    });
    format!(
        "{:>11.0} msg/s{latency}   {:.2} us CPU a message   peak {:.0} MiB{}",
        measured.messages_per_second,
        measured.cpu_us_per_message,
        measured.peak_rss_mib,
        if measured.errors > 0 { format!("   {} ERRORS", measured.errors) } else { String::new() }
    )
}
