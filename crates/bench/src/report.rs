//! What a run found, for people and for programs.

use crate::histogram::Quantiles;
use crate::procfs::ProcessUse;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
pub struct ProduceReport {
    pub kind: &'static str,
    pub topic: String,
    pub partitions: i32,
    pub message_size: usize,
    pub concurrency: usize,
    pub handles: usize,
    pub acks: &'static str,
    pub linger_ms: String,
    pub mode: &'static str,
    /// Acknowledged within the measurement.
    pub messages: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// Megabytes (10⁶ bytes) of values a second.
    pub megabytes_per_second: f64,
    #[serde(flatten)]
    pub latency: Quantiles,
    /// Failed messages by reason, over the whole run.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of this tool itself during the measurement, in seconds.
    pub client_cpu_seconds: f64,
    pub servers: Vec<ProcessUse>,
}

#[derive(Serialize)]
pub struct ConsumeReport {
    pub kind: &'static str,
    pub topic: String,
    pub partitions: i32,
    pub cold: bool,
    pub messages: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    /// From asking to the first message, in milliseconds.
    pub first_message_ms: f64,
    pub client_cpu_seconds: f64,
    pub servers: Vec<ProcessUse>,
}

pub fn print_json(report: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}

pub fn print_produce(report: &ProduceReport) {
    println!(
        "{} s, {} partitions, {} B, acks={}, linger {} ms, {}, {} handles, {} in flight",
        round(report.seconds),
        report.partitions,
        report.message_size,
        report.acks,
        report.linger_ms,
        report.mode,
        report.handles,
        report.concurrency,
    );
    println!("  messages   {:>12}   {:>12.0} msg/s", report.messages, report.messages_per_second);
    println!("  values     {:>12.1} MB/s", report.megabytes_per_second);
    let latency = &report.latency;
    println!(
        "  latency    p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms   max {:.2} ms",
        latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
    );
    let failed: u64 = report.errors.values().sum();
    println!("  errors     {failed:>12}");
    for (reason, count) in &report.errors {
        println!("             {count:>12}   {reason}");
    }
    print_processes(report.client_cpu_seconds, &report.servers, report.messages);
}

pub fn print_consume(report: &ConsumeReport) {
    println!(
        "{} messages of {} partitions, {}",
        report.messages,
        report.partitions,
        if report.cold { "cold" } else { "warm" }
    );
    println!(
        "  read       {:>12.0} msg/s   {:.1} MB/s",
        report.messages_per_second, report.megabytes_per_second
    );
    println!(
        "  time       {:>12.2} s   first message after {:.1} ms",
        report.seconds, report.first_message_ms
    );
    print_processes(report.client_cpu_seconds, &report.servers, report.messages);
}

fn print_processes(client_cpu_seconds: f64, servers: &[ProcessUse], messages: u64) {
    println!("  client     {client_cpu_seconds:>12.2} s CPU");
    for server in servers {
        println!(
            "  server     {:>12.2} s CPU   {:.2} µs a message   peak {:.1} MiB, now {:.1} MiB   pid {}",
            server.cpu_seconds,
            server.cpu_seconds * 1e6 / messages.max(1) as f64,
            server.peak_rss_kib as f64 / 1024.0,
            server.rss_kib as f64 / 1024.0,
            server.pid
        );
    }
}

fn round(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
