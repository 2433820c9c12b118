//! Runs `chronik-bench` and reads what it found.

use super::loads::{Kind, Load};
use super::servers::Server;
use crate::shell;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The load generator's binary.
pub struct Generator {
    binary: PathBuf,
    /// Every measurement writes to a topic of its own.
    topics: AtomicU64,
}

/// What one run found.
#[derive(Serialize, Clone, Default)]
pub struct Measurement {
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p999_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// CPU time of the server for each message, in microseconds.
    pub cpu_us_per_message: f64,
    pub peak_rss_mib: f64,
    /// CPU time of the client for each message, in microseconds.
    pub client_cpu_us_per_message: f64,
    pub errors: u64,
}

/// The result that chronik-bench prints, as far as it is used.
#[derive(Deserialize)]
struct Printed {
    streams: Vec<PrintedStream>,
    client: PrintedProcess,
    servers: Vec<PrintedProcess>,
}

#[derive(Deserialize)]
struct PrintedStream {
    messages: u64,
    messages_per_second: f64,
    megabytes_per_second: f64,
    latency: Option<PrintedLatency>,
    #[serde(default)]
    errors: std::collections::BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct PrintedLatency {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

#[derive(Deserialize)]
struct PrintedProcess {
    cpu_seconds: f64,
    peak_rss_kib: u64,
}

#[derive(Deserialize)]
pub struct FirstWrite {
    pub acknowledged_epoch_ms: f64,
}

/// Messages a second of the steady load.
pub const STEADY_RATE: u32 = 2_000;

/// Messages of the consume loads; a tenth with `--quick`.
const CONSUMED: u64 = 4_000_000;

impl Generator {
    /// The binary that is given, or one that is built here.
    pub fn prepare(given: Option<&Path>) -> Result<Self> {
        let binary = match given {
            Some(binary) => binary.to_owned(),
            None => shell::build_release(&["chronik-bench"])?.join("chronik-bench"),
        };
        Ok(Self { binary, topics: AtomicU64::new(0) })
    }

    /// One measurement of a load on a running server.
    pub fn run(
        &self,
        load: &Load,
        server: &dyn Server,
        warmup: Duration,
        duration: Duration,
    ) -> Result<Measurement> {
        let mut command = self.command(match load.kind {
            Kind::Produce => "produce",
            Kind::Mixed => "mixed",
            Kind::Consume { .. } => "consume",
        });
        self.target(&mut command, server, &self.topic());
        command.args(load.arguments);
        match load.kind {
            Kind::Produce | Kind::Mixed => {
                command.arg("--warmup").arg(format!("{}ms", warmup.as_millis()));
                command.arg("--duration").arg(format!("{}ms", duration.as_millis()));
            }
            Kind::Consume { cold } => {
                let messages = if duration < Duration::from_secs(5) { CONSUMED / 10 } else { CONSUMED };
                command.args(["--messages", &messages.to_string(), "--cache"]);
                command.arg(if cold { "cold" } else { "warm" });
            }
        }
        measure(&mut command)
    }

    /// A closed loop of acks=all over six partitions, for the growth chart.
    pub fn closed_loop(&self, server: &dyn Server, duration: Duration) -> Result<Measurement> {
        let mut command = self.command("produce");
        self.target(&mut command, server, &self.topic());
        command.args(["--acks", "all", "--warmup", "2s"]);
        command.arg("--duration").arg(format!("{}ms", duration.as_millis()));
        measure(&mut command)
    }

    /// Makes a topic and produces messages of 4 KiB in bulk.
    pub fn fill(&self, server: &dyn Server, topic: &str, partitions: u32, messages: u64) -> Result<()> {
        shell::output(&mut self.filling(server, topic, partitions, messages)).map(drop)
    }

    /// The same into a topic that is there.
    pub fn fill_more(&self, server: &dyn Server, topic: &str, partitions: u32, messages: u64) -> Result<()> {
        shell::output(self.filling(server, topic, partitions, messages).arg("--use-existing")).map(drop)
    }

    fn filling(&self, server: &dyn Server, topic: &str, partitions: u32, messages: u64) -> Command {
        let mut command = self.command("fill");
        command.args(["--json", "--topic", topic, "--bootstrap", &server.bootstrap()]);
        command.args(["--replication-factor", &server.replication_factor().to_string()]);
        command.args(["--message-size", "4096", "--partitions", &partitions.to_string()]);
        command.args(["--messages", &messages.to_string()]);
        command
    }

    /// Starts a client that waits for the server's port and then writes one message.
    pub fn first_write(&self, bootstrap: &str, topic: &str, partitions: u32) -> Result<Child> {
        let mut command = self.command("first-write");
        command.args(["--json", "--bootstrap", bootstrap, "--topic", topic]);
        command.args(["--partitions", &partitions.to_string()]);
        command.stdout(Stdio::piped()).spawn().context("starting chronik-bench first-write")
    }

    /// The same for a topic that needs three nodes: it takes no write before all of them are there.
    pub fn first_replicated_write(&self, bootstrap: &str, topic: &str) -> Result<Child> {
        let mut command = self.command("first-write");
        command.args(["--json", "--bootstrap", bootstrap, "--topic", topic, "--partitions", "1"]);
        command.args(["--replication-factor", "3", "--patience", "120s"]);
        command.stdout(Stdio::piped()).spawn().context("starting chronik-bench first-write")
    }

    /// Starts a load with acks=all at a rate on a topic that is there, over its partitions; latency counts from when a message was due. The
    /// first second does not count: the client connects.
    pub fn steady(&self, server: &dyn Server, topic: &str, seconds: u64) -> Result<Child> {
        let mut command = self.command("produce");
        command.args(["--json", "--topic", topic, "--bootstrap", &server.bootstrap()]);
        command.args(["--use-existing", "--acks", "all"]);
        // By default librdkafka doubles its pause up to 1 s before it asks again who leads: that would be measured.
        command.args(["-X", "retry.backoff.max.ms=100", "-X", "topic.metadata.refresh.fast.interval.ms=50"]);
        command.args(["--rate", &STEADY_RATE.to_string(), "--warmup", "1s"]);
        command.args(["--duration", &format!("{seconds}s")]);
        command.stdout(Stdio::piped()).spawn().context("starting chronik-bench produce")
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(subcommand);
        command
    }

    fn topic(&self) -> String {
        format!("bench-{}", self.topics.fetch_add(1, Ordering::Relaxed))
    }

    fn target(&self, command: &mut Command, server: &dyn Server, topic: &str) {
        command.args(["--json", "--topic", topic, "--bootstrap", &server.bootstrap()]);
        command.args(["--replication-factor", &server.replication_factor().to_string()]);
        for pid in server.pids() {
            command.args(["--pid", &pid.to_string()]);
        }
    }
}

/// What `first_write` printed.
pub fn first_write_at(child: Child) -> Result<FirstWrite> {
    let output = child.wait_with_output().context("waiting for chronik-bench first-write")?;
    if !output.status.success() {
        bail!("chronik-bench first-write ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("reading what chronik-bench first-write printed")
}

fn measure(command: &mut Command) -> Result<Measurement> {
    read(command.stdout(Stdio::piped()).spawn().context("starting chronik-bench")?)
}

/// What a run of chronik-bench printed, when it has ended.
pub fn read(child: Child) -> Result<Measurement> {
    let output = child.wait_with_output().context("waiting for chronik-bench")?;
    // Exit code 1 says that messages failed; the report holds how many.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("chronik-bench ended with {}", output.status);
    }
    let printed: Printed =
        serde_json::from_slice(&output.stdout).context("reading what chronik-bench printed")?;
    let messages: u64 = printed.streams.iter().map(|stream| stream.messages).sum();
    let per_message = |seconds: f64| seconds * 1e6 / messages.max(1) as f64;
    // Of several streams the worst: what an answer costs to whom it costs most.
    let worst = |value: fn(&PrintedLatency) -> f64| {
        printed.streams.iter().filter_map(|stream| stream.latency.as_ref()).map(value).reduce(f64::max)
    };
    Ok(Measurement {
        messages_per_second: printed.streams.iter().map(|stream| stream.messages_per_second).sum(),
        megabytes_per_second: printed.streams.iter().map(|stream| stream.megabytes_per_second).sum(),
        p50_ms: worst(|latency| latency.p50_ms),
        p99_ms: worst(|latency| latency.p99_ms),
        p999_ms: worst(|latency| latency.p999_ms),
        max_ms: worst(|latency| latency.max_ms),
        cpu_us_per_message: per_message(printed.servers.iter().map(|server| server.cpu_seconds).sum()),
        peak_rss_mib: printed.servers.iter().map(|server| server.peak_rss_kib).sum::<u64>() as f64 / 1024.0,
        client_cpu_us_per_message: per_message(printed.client.cpu_seconds),
        errors: printed.streams.iter().flat_map(|stream| stream.errors.values()).sum(),
    })
}
