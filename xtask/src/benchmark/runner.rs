//! Runs the rows of one setup, the servers in turn, round after round.

use super::followers::WithFollowers;
use super::matrix::{Kind, Row, Setup};
use super::results::{Plan, Results};
use crate::bench::Plan as BenchPlan;
use crate::bench::cluster_faults;
use crate::bench::cluster_servers::{ChronikCluster, Cluster, KafkaCluster};
use crate::bench::generator::{Generator, first_write_at};
use crate::bench::servers::{Chronik, Floor, Peers, Server, rss_mib};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server that takes part, started when it is first needed.
pub struct Side {
    name: &'static str,
    server: Kindred,
    is_up: bool,
}

/// Servers of one node and of several.
enum Kindred {
    One(Box<dyn Server>),
    Several(Box<dyn Cluster>),
}

impl Kindred {
    fn get(&self) -> &dyn Server {
        match self {
            Kindred::One(server) => &**server,
            Kindred::Several(cluster) => &**cluster,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Server {
        match self {
            Kindred::One(server) => &mut **server,
            Kindred::Several(cluster) => &mut **cluster,
        }
    }
}

/// Everything that a setup starts; none of it is started yet.
pub fn servers(
    setup: Setup,
    broker: &Path,
    run: &Path,
    kafka: Option<Peers>,
    floor: Option<&Path>,
) -> Result<Vec<Side>> {
    let side = |name, server| Side { name, server, is_up: false };
    let mut sides = Vec::new();
    match setup {
        Setup::Standalone => {
            sides.push(side("chronik", Kindred::One(Box::new(Chronik::new(broker.to_owned(), run)?))));
            if let Some(peers) = kafka {
                sides.push(side("kafka", Kindred::One(Box::new(peers.server(run)?))));
            }
            if let Some(floor) = floor {
                sides.push(side("floor", Kindred::One(Box::new(Floor::new(floor, run, false)?))));
                sides.push(side("floor-flush", Kindred::One(Box::new(Floor::new(floor, run, true)?))));
            }
        }
        Setup::TwoNodes => {
            let cluster = ChronikCluster::of(2, broker, run, "disk")?;
            sides.push(side("chronik", Kindred::Several(Box::new(cluster))));
        }
        Setup::ThreeNodes => {
            let cluster = ChronikCluster::new(broker, run, "disk")?;
            sides.push(side("chronik", Kindred::Several(Box::new(cluster))));
            if let Some(peers) = kafka {
                sides.push(side("kafka", Kindred::Several(Box::new(KafkaCluster::new(peers, run)?))));
            }
        }
        Setup::Followers => {
            sides.push(side("chronik", Kindred::One(Box::new(WithFollowers::new(broker, run)?))));
        }
    }
    Ok(sides)
}

/// What all rows share.
pub struct Runner<'a> {
    pub results: &'a Results,
    pub plan: Plan,
    pub rounds: u32,
    /// The binary of chronik-bench.
    pub generator: PathBuf,
    /// The same, for what measures are made of.
    pub fill: Generator,
    pub broker: PathBuf,
    /// Where servers keep their data.
    pub run: PathBuf,
    /// No run begins after this.
    pub until: Option<Instant>,
    /// Runs done, and all that there are: for progress.
    pub done: usize,
    pub all: usize,
}

impl Runner<'_> {
    /// Counts what is to be done.
    pub fn count(&mut self, setups: &[(Setup, Vec<&Row>)], kafka: bool, floor: bool) {
        let there = |side: &str| match side {
            "kafka" => kafka,
            "floor" | "floor-flush" => floor,
            _ => true,
        };
        let runs = setups.iter().flat_map(|(_, rows)| rows).flat_map(|row| row.sides);
        self.all = runs.filter(|side| there(side)).count() * self.rounds as usize;
    }

    /// Measures rows of one setup. A row that can't be run is noted with the reason, and the rest goes on.
    pub fn measure(&mut self, rows: &[&Row], mut sides: Vec<Side>) -> Result<()> {
        for row in rows {
            for round in 1..=self.rounds {
                for side in &mut sides {
                    if row.sides.contains(&side.name) {
                        self.one(row, side, round)?;
                    }
                }
            }
        }
        for side in &mut sides {
            side.server.get_mut().stop()?;
        }
        Ok(())
    }

    fn one(&mut self, row: &Row, side: &mut Side, round: u32) -> Result<()> {
        self.done += 1;
        let at = format!("{:>4}/{} {:28} {:12} round {round}", self.done, self.all, row.name, side.name);
        if self.results.is_done(row, side.name, round) {
            eprintln!("{at}: done before");
            return Ok(());
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            eprintln!("{at}: no time left");
            return Ok(());
        }
        let began = Instant::now();
        let outcome = match row.kind {
            Kind::Load | Kind::Killed | Kind::PartOf { .. } => self.load(row, side, round),
            Kind::Idle | Kind::Start | Kind::Failover | Kind::CatchUp => self.fault(row, side, round),
        };
        match outcome {
            Ok(said) => eprintln!("{at}: {said} ({:.0} s)", began.elapsed().as_secs_f64()),
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("{at}: could not run: {why}");
                self.results.could_not(row, side.name, round, why.lines().last().unwrap_or("no reason"))?;
                // Whatever state it is in, the next row starts on a new one.
                side.is_up = false;
                side.server.get_mut().stop()?;
            }
        }
        Ok(())
    }

    /// Starts a server on an empty directory, unless it runs. A JVM is warmed up: its first seconds say nothing about the rest.
    fn up(&self, side: &mut Side) -> Result<()> {
        if side.is_up {
            return Ok(());
        }
        side.server.get_mut().start_empty()?;
        side.is_up = true;
        if side.name == "kafka" {
            let seconds = if self.plan.quick { 2 } else { 20 };
            for acks in ["1", "all"] {
                let mut command = self.command("produce", side.server.get());
                command.args(["--acks", acks, "--warmup", "0s", "--duration", &format!("{seconds}s")]);
                command.args(["--replication-factor", &side.server.get().replication_factor().to_string()]);
                shell::output(&mut command).context("warming Apache Kafka up")?;
            }
        }
        Ok(())
    }

    fn command(&self, subcommand: &str, server: &dyn Server) -> Command {
        let mut command = Command::new(&self.generator);
        command.args([subcommand, "--json", "--bootstrap-server", &server.bootstrap()]);
        command.arg("--disk-probe").arg(&self.run);
        command
    }

    /// Lets a group read, so that what a server makes for its first group is there.
    fn first_group(&self, row: &Row, server: &dyn Server) -> Result<()> {
        let mut command = self.command("consume", server);
        command.args(["--messages", "1000", "--topic", "first-group"]);
        command.args(["--replication-factor", &row.replication_factor().to_string()]);
        shell::output(&mut command).map(drop).context("letting a first group read")
    }

    /// One run of chronik-bench.
    fn load(&self, row: &Row, side: &mut Side, round: u32) -> Result<String> {
        self.up(side)?;
        if row.kind == Kind::Killed {
            self.first_group(row, side.server.get())?;
        }
        let output = self.results.path(row, side.name, round);
        let (name, options) = row.arguments.split_first().context("a row without a command")?;
        let mut command = self.command(name, side.server.get());
        // The floor serves no reads, so nothing can be read back from it.
        let readable = !side.name.starts_with("floor");
        command.args(options.iter().filter(|option| readable || *option != "--verify"));
        self.sized(&mut command, row, name);
        command.args(["--replication-factor", &row.replication_factor().to_string()]);
        if row.setup == Setup::ThreeNodes {
            command.args(["--topic-config", "min.insync.replicas=2"]);
        }
        if let Kind::PartOf { saturation, percent } = row.kind {
            let knee = self.results.knee(saturation, side.name, self.rounds);
            let knee = knee.with_context(|| format!("{saturation} found no knee to take a part of"))?;
            command.args(["--rate", &format!("{:.0}", knee * f64::from(percent) / 100.0)]);
        }
        // Each run has a topic of its own: the last one may still be on its way out.
        command.args(["--topic", &format!("{}-{}-{round}", row.name, side.name)]);
        command.args(["--label", &format!("{}, {}", row.title, side.name)]);
        for pid in side.server.get().pids() {
            command.args(["--server-pids", &pid.to_string()]);
        }
        if let Some(rate) = self.ceiling(row, round) {
            command.args(["--generator-ceiling", &format!("{rate:.0}")]);
        }
        command.arg("--output").arg(&output);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = child.spawn().context("starting chronik-bench")?;
        if row.kind == Kind::Killed {
            self.kill_meanwhile(side)?;
        }
        let ended = child.wait_with_output().context("waiting for chronik-bench")?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if row.kind == Kind::Killed {
            // All nodes again, for the rows to come.
            let server = side.server.get_mut();
            server.kill()?;
            server.start_again()?;
        }
        side.server.get().discard_data()?;
        let rate = self.results.rate(&row.name, side.name, round);
        let rate = rate.map_or("no rate".to_owned(), |rate| format!("{rate:.0} msg/s"));
        match ended.status.code() {
            Some(0) => Ok(rate),
            Some(1) => Ok(format!("{rate}, with failures: {}", said.lines().last().unwrap_or_default())),
            _ => bail!("{}", said.lines().last().unwrap_or("chronik-bench said nothing")),
        }
    }

    /// How long it lasts, how much it reads.
    fn sized(&self, command: &mut Command, row: &Row, name: &str) {
        let Plan { seconds, warmup_seconds, quick } = self.plan;
        if name == "consume" {
            command.args(["--messages", if quick { "50000" } else { "2000000" }]);
            return;
        }
        // Long enough for the slowest server to choose another leader.
        let seconds =
            if row.kind == Kind::Killed { seconds.max(if quick { 8 } else { 25 }) } else { seconds };
        command.args(["--warmup", &format!("{:.0}ms", warmup_seconds * 1000.0)]);
        command.args(["--duration", &format!("{seconds}s")]);
        if name == "saturate" && quick {
            command.args(["--factor", "4", "--refine", "1"]);
        }
    }

    /// Kills the second of three nodes in the middle of the measurement.
    fn kill_meanwhile(&self, side: &mut Side) -> Result<()> {
        let Kindred::Several(cluster) = &mut side.server else { bail!("there is no node to kill") };
        // Topics, groups and connections take a moment to come to be.
        std::thread::sleep(Duration::from_secs_f64(self.plan.warmup_seconds + 3.0));
        cluster.kill_node(2)
    }

    /// What the generator reached against the floor in the same round, with the same linger.
    fn ceiling(&self, row: &Row, round: u32) -> Option<f64> {
        let linger = row.name.strip_prefix("standalone-acks-")?.split_once("linger-")?.1;
        self.results.rate(&format!("standalone-acks-1-linger-{linger}"), "floor", round)
    }

    /// A figure that no load gives.
    fn fault(&self, row: &Row, side: &mut Side, round: u32) -> Result<String> {
        let plan = BenchPlan {
            rounds: self.rounds,
            seconds: self.plan.seconds,
            warmup_seconds: 1,
            quick: self.plan.quick,
        };
        // These begin on a server of their own.
        side.is_up = false;
        side.server.get_mut().stop()?;
        let values = match (&row.kind, &mut side.server) {
            (Kind::Idle, server) => {
                server.get_mut().start_empty()?;
                side.is_up = false;
                std::thread::sleep(Duration::from_secs(2));
                let resident = server.get().pids().into_iter().map(rss_mib).sum::<Result<f64>>()?;
                vec![("resident_mib", resident)]
            }
            (Kind::Start, Kindred::One(server)) => {
                let client = self.fill.first_write(&server.bootstrap(), "first", 1)?;
                let started = server.start_empty()?;
                vec![("start_ms", first_write_at(client)?.acknowledged_epoch_ms - started)]
            }
            (Kind::Start, Kindred::Several(cluster)) => {
                vec![("start_ms", cluster_faults::start(&self.fill, &mut **cluster)?)]
            }
            (Kind::CatchUp, Kindred::Several(cluster)) => {
                cluster.start_empty()?;
                let found =
                    cluster_faults::catch_up(&self.fill, &mut **cluster, &self.broker, "catch-up", &plan)?;
                vec![
                    ("megabytes_per_second", found.megabytes_per_second),
                    ("lag_seconds", found.seconds_in_sync),
                    ("seconds_from_start", found.seconds_from_start),
                ]
            }
            (Kind::Failover, Kindred::Several(cluster)) => {
                // Apache Kafka waits 9 s for a broker's heartbeat before it chooses another leader.
                let seconds = if side.name == "kafka" { 20 } else { 6 };
                let found = cluster_faults::failover(&self.fill, &mut **cluster, &self.broker, 1, seconds)?;
                let gap = found.iter().map(|killed| killed.gap_ms).fold(0.0, f64::max);
                let failed: u64 = found.iter().map(|killed| killed.errors).sum();
                vec![("gap_ms", gap), ("failed", failed as f64)]
            }
            _ => bail!("{} does not go with this server", row.name),
        };
        side.server.get_mut().stop()?;
        self.results.measured(row, side.name, round, &values)?;
        let said: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value:.1}")).collect();
        Ok(said.join(", "))
    }
}
