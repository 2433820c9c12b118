//! A run's result file: what was asked, on what machine, and everything that was found.
//!
//! One JSON document for each run. Reports and comparisons are made of these files alone, so a file says
//! everything that its figures depend on. Units stand in the names; times of day are UTC.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `schema` says; a reader refuses another number.
pub const SCHEMA: &str = "chronik-bench/1";

/// One run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: String,
    /// `produce`, `consume`, `e2e`, `mixed` or `saturate`.
    pub command: String,
    /// What `--label` said, for people and reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When the run began, such as `2026-11-25T03:10:00Z`.
    pub started_at: String,
    /// Every setting, defaults included, by the name of its option without the dashes.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The tool itself.
    pub tool: Tool,
    /// The broker, as far as it tells.
    pub server: Server,
    /// The machine that the tool ran on.
    pub machine: Machine,
    /// Load before the measurement, in seconds.
    pub warmup_seconds: f64,
    /// True when Ctrl-C ended the run early; the figures are those up to then.
    pub interrupted: bool,
    /// What was measured, each load apart: one for `produce`, several for `mixed`, the step at the knee for `saturate`.
    pub streams: Vec<Stream>,
    /// What this tool used during the measurement.
    pub client: ProcessUse,
    /// What the servers used, one for each of `--server-pids`.
    pub servers: Vec<ProcessUse>,
    /// What the servers' metrics said, one for each of `--server-metrics`.
    #[serde(default)]
    pub metrics: Vec<MetricsDelta>,
    /// CPU time of all servers (of `servers`, else of `metrics`) for each message, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// What was read back at the end; absent without `--verify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Latency over load; of `saturate` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturation: Option<Saturation>,
    /// Messages a second that this tool reached against the floor with these settings (`--generator-ceiling`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_ceiling_messages_per_second: Option<f64>,
    /// What a reader of the figures must know, in sentences: the client was the bottleneck, for one.
    pub warnings: Vec<String>,
    /// Why the exit code is 1, in sentences; empty when nothing was lost, corrupt or failed.
    pub failures: Vec<String>,
}

/// Versions of the tool.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// Version of chronik-bench.
    pub version: String,
    /// Version of librdkafka.
    pub librdkafka: String,
    /// `release` or `debug`.
    pub build: String,
}

/// What is known of the broker.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// Addresses asked for.
    pub bootstrap: String,
    /// Brokers of the cluster, HOST:PORT, as its metadata say.
    pub brokers: Vec<String>,
    /// APIs served: key to lowest and highest version (ApiVersions).
    pub api_versions: BTreeMap<i16, (i16, i16)>,
    /// Features of the cluster with their levels, such as `metadata.version` (ApiVersions 3, KIP-584).
    pub features: BTreeMap<String, i16>,
    /// Name and version, where the metrics tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

/// What the machine is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Kernel and its version.
    pub kernel: String,
    /// How long a small write and its flush take; absent with `--no-disk-probe` or where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_flush: Option<DiskFlush>,
}

/// Times of `write` of 4 KiB plus `fdatasync`, measured before the run while the load was not yet on.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct DiskFlush {
    /// Folder that was written to (`--disk-probe`).
    pub folder: String,
    /// How many were timed.
    pub count: u64,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
    /// Longest, in microseconds.
    pub max_us: f64,
}

/// One load of a run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// `produce`, `consume`, `e2e`; in mixed runs `acks=1`, `acks=all`, `consume`; of two passes `cold` and `warm`.
    pub name: String,
    /// `produce` (send to acknowledgement), `consume` (arrivals) or `e2e` (send to receipt).
    pub kind: String,
    /// How messages were sent: `closed` (a fixed number waits for answers), `rate` (open, due times fixed), `queue` (as
    /// fast as a bounded queue takes them), `transactions`; `read` for consumers.
    pub loop_kind: String,
    /// What latency counts from: `intended send time` (open loop), `send` (closed loop and queue), `none`.
    pub latency_from: String,
    /// Acknowledgement asked for: `0`, `1`, `all`; empty for consumers.
    pub acks: String,
    /// Measured messages: acknowledged (or received) ones of operations begun after the warm-up.
    pub messages: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Measured time: from the end of the warm-up to the end of the measurement, or to the last answer that counts if
    /// that came later. For consumers from the first message to the last.
    pub seconds: f64,
    /// `messages / seconds`.
    pub messages_per_second: f64,
    /// Megabytes (10⁶ bytes) a second, keys and values.
    pub megabytes_per_second: f64,
    /// Messages a second asked for; of open loops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_rate: Option<f64>,
    /// Operations of the measurement that were sent, acknowledged, failed, or never sent.
    pub counts: Counts,
    /// The same over the whole run, warm-up included.
    pub whole_run: Counts,
    /// Latency of the measured messages; absent where there is none (acks=0, reading what is old).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Failed messages by reason, over the whole run.
    pub errors: BTreeMap<String, u64>,
    /// One entry for each second, warm-up included.
    pub series: Vec<Second>,
    /// From asking for messages to the first one, in milliseconds; of consumers, the slowest member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_message_ms: Option<f64>,
    /// What the checks of received messages found; of consumers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// How far the sender was behind its own schedule although the queue took messages, 99th percentile in
    /// milliseconds; of open loops at a rate. Latency includes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_lag_p99_ms: Option<f64>,
}

/// Operations by how they ended. `sent = acknowledged + failed`; `unsent` were due and the queue never took them.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed to the client library.
    pub sent: u64,
    /// Acknowledged (acks=0: written to the socket).
    pub acknowledged: u64,
    /// Answered with an error, or not at all.
    pub failed: u64,
    /// Due, but never handed over, because the queue stayed full to the end.
    pub unsent: u64,
}

/// A distribution of latencies in milliseconds, with the histogram that it is taken from.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Samples; equals `messages` of the stream.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// 99.99th percentile.
    pub p9999_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// The whole histogram in microseconds, three significant digits: HdrHistogram V2, deflated, base64 (as in `.hlog`).
    pub histogram: String,
}

/// One second. `second` counts from the end of the warm-up, so it is negative in the warm-up.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Start of this second.
    pub second: i64,
    /// Acknowledged (received) within it, whenever begun.
    pub messages: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Failed within it.
    pub failed: u64,
    /// Latencies of what was acknowledged within it, in milliseconds; 0 where there was none.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

/// What a process used during the measurement.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ProcessUse {
    /// Process id; 0 where all processes of the tool are meant.
    pub pid: u32,
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// The same as a number of cores that were busy all the time.
    pub cores_busy: f64,
    /// The busiest thread's share of one core, 0 to 1; of the client only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busiest_thread: Option<f64>,
    /// Highest resident memory during the measurement, in KiB.
    pub peak_rss_kib: u64,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// Bytes that the process caused to be written to disks; absent where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written_bytes: Option<u64>,
    /// Context switches that the threads made by waiting.
    pub voluntary_switches: u64,
    /// Context switches that the kernel made.
    pub involuntary_switches: u64,
}

/// What changed in a server's Prometheus metrics during the measurement.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct MetricsDelta {
    /// Where it was asked.
    pub url: String,
    /// CPU time used (`process_cpu_seconds_total`), in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Resident memory at the end (`process_resident_memory_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<f64>,
    /// By how much each counter (`…_total`, `…_count`, `…_sum`) grew, summed over its labels; those that did not are left out.
    pub counters: BTreeMap<String, f64>,
}

/// What checking received messages found.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    /// Messages that were checked.
    pub checked: u64,
    /// Missing: sequences that no message carried although later ones of their producer came.
    pub lost: u64,
    /// Came more than once.
    pub duplicated: u64,
    /// Came after a later message of the same producer and partition.
    pub reordered: u64,
    /// Checksum or form was wrong.
    pub corrupt: u64,
    /// Of another origin: no message of this tool, or of another run.
    pub foreign: u64,
}

/// What reading everything back at the end of the run found.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// True when every acknowledged message was read back whole.
    pub passed: bool,
    /// Messages acknowledged over the whole run.
    pub acknowledged: u64,
    /// Acknowledged messages that were read back.
    pub found: u64,
    /// Acknowledged messages that could not be read.
    pub lost: u64,
    /// Messages whose checksum or form was wrong.
    pub corrupt: u64,
    /// Messages that were there more than once.
    pub duplicated: u64,
    /// Messages that stood after a later one of the same producer and partition.
    pub reordered: u64,
    /// Messages of this run that were there without an acknowledgement (no fault).
    pub unacknowledged: u64,
    /// Messages of others, in a topic that this run did not create.
    pub foreign: u64,
    /// How long reading back took, in seconds.
    pub seconds: f64,
    /// Some of what was wrong, such as `producer 0 sequence 17 of partition 3 is lost`; ten at most.
    pub examples: Vec<String>,
}

/// Latency over load.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Saturation {
    /// The limit that p99 must keep, in milliseconds.
    pub p99_limit_ms: f64,
    /// The highest rate that kept the limit, in messages a second; absent when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee_messages_per_second: Option<f64>,
    /// Every rate that was tried, in order.
    pub steps: Vec<SaturationStep>,
}

/// One rate of a saturation run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct SaturationStep {
    /// Messages a second asked for.
    pub target_rate: f64,
    /// Messages a second acknowledged.
    pub messages_per_second: f64,
    /// True when p99 was within the limit, the rate was reached, and nothing failed.
    pub within: bool,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// Failed and unsent messages.
    pub failed: u64,
    /// The histogram, as in [`Latency`].
    pub histogram: String,
    /// CPU of the servers for each message, in microseconds; absent without `--server-pids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_survives_its_file() {
        let mut result =
            RunResult { schema: SCHEMA.to_owned(), command: "produce".to_owned(), ..RunResult::default() };
        result.server.api_versions.insert(0, (3, 13));
        result.streams.push(Stream { latency: Some(Latency::default()), ..Stream::default() });
        result.verification = Some(Verification::default());
        result.saturation =
            Some(Saturation { steps: vec![SaturationStep::default()], ..Saturation::default() });
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(serde_json::from_str::<RunResult>(&text).unwrap(), result);
    }
}
