//! The chaos test: a cluster under load, faults at random, and at the end a look at everything that was acknowledged.

mod cluster;
mod faults;
mod gaps;
mod java;
mod load;
mod network;
mod node;
mod reader;
mod report;
mod seen;
mod timeline;
mod watch;

use crate::admin;
use crate::crash::Target;
use crate::crash::verify::{Findings, Verifier};
use anyhow::{Context, Result, bail};
use cluster::Cluster;
use faults::{Fault, Kind, WHOLE_WITHIN};
use gaps::Acknowledgements;
use java::Java;
use load::Load;
use network::Network;
use reader::Readers;
use report::Summary;
use seen::Log;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watch::Watch;

const TOPIC: &str = "chaos";
const PARTITIONS: usize = 12;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Args {
    /// The broker binary.
    #[arg(long)]
    broker: PathBuf,
    /// How long faults are made.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Repeats the random choices of an earlier run (not the machine's timing).
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes of the cluster: 3, or 2 (fewer kinds of faults; writes stop while one is away).
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=5))]
    nodes: u8,
    /// What the cluster is.
    #[arg(long, value_enum, default_value_t = Mode::Raft)]
    mode: Mode,
    /// Only these kinds of faults.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Records a second, over all producers.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Class path of Kafka's Java clients, which then are a part of the load.
    #[arg(long, value_name = "JARS")]
    java_class_path: Option<String>,
    /// A gap that is longer than its goal counts as a finding; only on a machine that has nothing else to do.
    #[arg(long)]
    hold_goals: bool,
    /// Seconds to leave the nodes running after they failed to come into sync, for a look at them.
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the picture of the run goes.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// How a cluster is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// `chronik raft-cluster`: each node has a vote.
    Raft,
    /// `chronik standalone`: the first node has the only vote, the others follow it; the last one asks to, the others are invited.
    Followers,
}

/// A fault that was made, and when; times are counted from the run's start.
pub struct Event {
    fault: Fault,
    from: Duration,
    to: Duration,
}

/// Runs the test; false when anything promised didn't hold.
pub fn run(args: &Args) -> Result<bool> {
    let refused = network::enter_namespaces();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("chaos: seed {seed}, {} nodes, {:?}, {} minutes", args.nodes, args.mode, args.minutes);
    let home = tempfile::Builder::new().prefix("chronik-chaos-").tempdir().context("making a directory")?;
    let network = match refused {
        None => Network::namespaces(args.nodes.into())?,
        Some(reason) => {
            eprintln!("chaos: links stay whole: {reason}");
            Network::Loopback { first_port: free_ports(args.nodes.into())? }
        }
    };
    let mut summary = Summary::new(seed, args.hold_goals && args.mode == Mode::Raft && args.nodes >= 3);
    let outcome = Run::new(args, network, seed, home.path()).and_then(|run| run.finish(&mut summary));
    if let Err(error) = &outcome {
        summary.finding(format!("{error:#}"));
    }
    if let Some(path) = &args.svg {
        let title = format!("chaos, seed {seed}, {} nodes, {:?}", args.nodes, args.mode);
        std::fs::write(path, timeline::svg(&summary.samples, &summary.events, &title))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    summary.print(args.json)?;
    if !summary.is_clean() {
        // The file systems inside are gone with the namespaces; images and logs stay.
        eprintln!("chaos: failed, repeat with --seed {seed}; kept in {}", home.keep().display());
    }
    Ok(summary.is_clean())
}

/// A cluster with its clients.
struct Run<'a> {
    args: &'a Args,
    seed: u64,
    started: Instant,
    cluster: Cluster,
    acknowledgements: Arc<Acknowledgements>,
    load: Load,
    readers: Readers,
    java: Option<Java>,
    watch: Watch,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args, network: Network, seed: u64, home: &Path) -> Result<Self> {
        let binary = args.broker.canonicalize();
        let binary = binary.with_context(|| format!("looking for {} (--broker)", args.broker.display()))?;
        let count = usize::from(args.nodes);
        let mut cluster = Cluster::new(&binary, home, network, args.mode, count)?;
        let wants_disks = args.faults.is_empty() || args.faults.contains(&Kind::FullDisk);
        if wants_disks && let Err(error) = cluster.mount_disks() {
            eprintln!("chaos: no file system for each node: {error:#}");
        }
        cluster.start()?;
        let bootstrap = cluster.bootstrap();
        wait_registered(&mut cluster)?;
        // Two nodes have to go on with one, or a write could never survive the other's absence.
        let min_isr = if count > 2 { "2" } else { "1" };
        let settings = [("min.insync.replicas", min_isr), ("segment.bytes", "1048576")];
        let topic = admin::Topic { name: TOPIC, partitions: PARTITIONS as i32, settings: &settings };
        admin::create_replicated(&bootstrap, &[topic], count.min(3) as i32)?;
        cluster.wait_in_sync(WHOLE_WITHIN)?;
        let started = Instant::now();
        let acknowledgements = Arc::new(Acknowledgements::new(started, PARTITIONS));
        let producers = load::PRODUCERS + u16::from(args.java_class_path.is_some());
        let rate = f64::from(args.rate) / f64::from(producers);
        let java = args.java_class_path.as_ref().map(|class_path| {
            let share = java::Share { producer: load::PRODUCERS, rate, seed };
            Java::start(class_path, &bootstrap, home, share, &acknowledgements)
        });
        let java = java.transpose()?;
        let load = Load::start(&bootstrap, rate, seed, &acknowledgements)?;
        let readers = Readers::start(&bootstrap)?;
        let addresses = cluster.nodes.iter().map(node::Node::address).collect();
        let watch = Watch::start(started, addresses, acknowledgements.clone());
        Ok(Self { args, seed, started, cluster, acknowledgements, load, readers, java, watch })
    }

    fn finish(mut self, summary: &mut Summary) -> Result<()> {
        let outcome = self.faults(summary).and_then(|()| self.settle(summary));
        (summary.acknowledged, summary.failed) = self.acknowledgements.totals();
        for node in &self.cluster.nodes {
            node.panics().into_iter().for_each(|line| summary.finding(line));
        }
        self.client_failures(summary);
        summary.samples = self.watch.finish();
        summary.seconds = self.started.elapsed().as_secs_f64();
        outcome?;
        self.groups(summary)?;
        let topic_id = self.cluster.topic_id()?;
        self.cluster.nodes.iter_mut().try_for_each(node::Node::stop)?;
        compare_digests(&self.cluster, &topic_id, summary)
    }

    /// Makes faults until the time is over; the load's first second stays undisturbed.
    fn faults(&mut self, summary: &mut Summary) -> Result<()> {
        if self.java.is_none() {
            eprintln!("chaos: left out: Java clients: no --java-class-path");
            summary.left_out.push("Java clients: no --java-class-path".to_owned());
        }
        let mut random = fastrand::Rng::with_seed(self.seed);
        let left_out = faults::left_out(&self.cluster);
        let wanted = |kind: &Kind| self.args.faults.is_empty() || self.args.faults.contains(kind);
        for (kind, reason) in left_out.iter().filter(|(kind, _)| wanted(kind)) {
            eprintln!("chaos: left out: {}: {reason}", kind.name());
            summary.left_out.push(format!("{}: {reason}", kind.name()));
        }
        let possible = |kind: &Kind| left_out.iter().all(|(out, _)| out != kind);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).filter(possible).collect();
        std::thread::sleep(Duration::from_secs(2));
        while self.started.elapsed().as_secs_f64() < self.args.minutes * 60.0 {
            let Some(fault) = Fault::draw(&mut random, &kinds, &self.cluster) else {
                bail!("no fault is possible")
            };
            let beside = (random.u8(..) < 64).then(|| fault.draw_beside(&mut random, &kinds, &self.cluster));
            let beside = beside.flatten();
            let outcome = self.one_fault(fault, beside, summary);
            if let Err(error) = outcome {
                if self.args.hold > 0 {
                    eprintln!("chaos: {error:#}\nchaos: the nodes stay for {} s", self.args.hold);
                    std::thread::sleep(Duration::from_secs(self.args.hold));
                }
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(random.u64(500..2000)));
        }
        Ok(())
    }

    /// One fault from its begin to a whole cluster, with another one in the middle of it perhaps.
    fn one_fault(&mut self, fault: Fault, beside: Option<Fault>, summary: &mut Summary) -> Result<()> {
        let from = self.started.elapsed();
        let label = fault.describe();
        eprintln!(
            "chaos: {:7.2} s  {label}{}",
            from.as_secs_f64(),
            beside.as_ref().map_or_else(String::new, |beside| format!(" + {}", beside.describe()))
        );
        fault.begin(&mut self.cluster).with_context(|| label.clone())?;
        if let Some(beside) = &beside {
            std::thread::sleep(fault.lasts / 2);
            let from = self.started.elapsed();
            // A command may well fail while something else is broken; only the cluster's state afterwards counts.
            let begun = beside.begin(&mut self.cluster);
            std::thread::sleep(beside.lasts);
            let ended = beside.end(&mut self.cluster);
            if let Err(error) = begun.and(ended) {
                eprintln!("chaos:            {}: {error:#}", beside.describe());
            }
            summary.events.push(Event { fault: beside.clone(), from, to: self.started.elapsed() });
            std::thread::sleep(fault.lasts / 2);
        } else {
            std::thread::sleep(fault.lasts);
        }
        fault.end(&mut self.cluster).with_context(|| format!("after {label}"))?;
        let to = self.started.elapsed();
        let whole = self.cluster.wait_in_sync(WHOLE_WITHIN);
        if beside.as_ref().is_some_and(|beside| beside.kind == Kind::Reassign) && whole.is_ok() {
            // It may have been refused at the other fault's time: no partition may stay with fewer replicas.
            beside.as_ref().map_or(Ok(()), |beside| beside.end(&mut self.cluster))?;
            self.cluster.wait_in_sync(WHOLE_WITHIN)?;
        }
        let whole_at = self.started.elapsed();
        if beside.is_none() {
            // A little longer, so that a gap that is open now has its end.
            std::thread::sleep(Duration::from_millis(300));
            summary.gaps(fault.kind, &self.acknowledgements.longest(from, to + Duration::from_secs(1)));
        }
        summary.whole_after(fault.kind, whole_at - to);
        summary.events.push(Event { fault, from, to });
        whole.map(drop).with_context(|| format!("after {label}"))
    }

    /// Lets the load end, and compares every acknowledged record with what is there.
    fn settle(&mut self, summary: &mut Summary) -> Result<()> {
        for waiting in self.load.finish(SETTLE_WITHIN) {
            summary.finding(waiting);
        }
        if let Some(waiting) = self.java.as_ref().and_then(|java| java.finish_sending(SETTLE_WITHIN)) {
            summary.finding(waiting);
        }
        self.cluster.wait_in_sync(WHOLE_WITHIN)?;
        let targets: Vec<Target<'static>> =
            (0..PARTITIONS as i32).map(|partition| Target { topic: TOPIC, partition }).collect();
        let mut findings = Findings::default();
        let mut verifier = Verifier::new(&targets, self.seed).with_repeating(load::repeating());
        let mut ledgers = self.load.ledgers();
        ledgers.extend(self.java.as_ref().map(Java::ledger));
        verifier.read_new(&self.cluster.bootstrap(), &ledgers, &mut findings)?;
        findings.details.iter().for_each(|detail| summary.finding(detail.clone()));
        summary.log = findings;
        Ok(())
    }

    /// What clients met that they never should.
    fn client_failures(&self, summary: &mut Summary) {
        self.load.failures().into_iter().for_each(|failure| summary.finding(failure));
        let java = self.java.as_ref().map(Java::failures);
        java.into_iter().flatten().for_each(|failure| summary.finding(failure));
    }

    /// The groups go on alone until they were given everything, and what they saw is compared with what is there.
    fn groups(&mut self, summary: &mut Summary) -> Result<()> {
        let mut groups = vec![self.readers.seen().clone()];
        groups.extend(self.java.as_ref().map(|java| java.seen().clone()));
        let log = Log::look(&self.cluster.bootstrap())?;
        log.wait_given(&groups, SETTLE_WITHIN);
        self.readers.stop();
        if let Some(java) = &mut self.java {
            java.stop()?;
            java.failures().into_iter().for_each(|failure| summary.finding(failure));
        }
        log.compare(&groups)?;
        for group in &groups {
            summary.group(&seen::lock(group));
        }
        Ok(())
    }
}

/// Waits until every node is part of the cluster: a topic that comes earlier would get fewer replicas.
fn wait_registered(cluster: &mut Cluster) -> Result<()> {
    cluster.wait_in_sync(WHOLE_WITHIN).map(drop).context("starting the cluster")
}

fn compare_digests(cluster: &Cluster, topic_id: &str, summary: &mut Summary) -> Result<()> {
    let digests = cluster.digests(topic_id)?;
    let Some((first, others)) = digests.split_first() else { return Ok(()) };
    summary.digests = first.len();
    for (node, other) in (2..).zip(others) {
        for partition in 0..first.len().max(other.len()) {
            let (here, there) = (first.get(partition), other.get(partition));
            if here != there {
                summary.finding(format!("replicas differ: node 1 has {here:?}, node {node} has {there:?}"));
            }
        }
    }
    Ok(())
}

/// The first of so many neighbouring ports that nobody listens on.
fn free_ports(count: u16) -> Result<u16> {
    for _ in 0..1000 {
        let first = fastrand::u16(10_000..30_000);
        let all: Vec<_> =
            (first..first + count).map(|port| std::net::TcpListener::bind(("127.0.0.1", port))).collect();
        if all.iter().all(std::result::Result::is_ok) {
            return Ok(first);
        }
    }
    bail!("no {count} neighbouring ports from 10000 to 30000 are free on 127.0.0.1")
}
