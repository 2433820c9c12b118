//! The node's own figures: the process, its disk, its connections. And the page that describes every family, with those of other crates.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use chronik_metrics::{Family, Page, Section, render_markdown};

/// Ticks a second in which Linux tells of processor time, on every architecture.
const TICKS_A_SECOND: f64 = 100.0;

static BUILD: Family = Family::gauge("chronik_build_info", "1; the version is in the label", &["version"]);
static READY: Family =
    Family::gauge("chronik_ready", "1 while every request can be served, as /health/ready says", &[]);
static CONNECTIONS: Family = Family::gauge("chronik_connections", "Open connections", &[]);
static QUEUED: Family = Family::gauge(
    "chronik_queued_request_bytes",
    "Bytes of requests that are arriving or wait for their answers",
    &[],
);
static QUEUED_LIMIT: Family =
    Family::gauge("chronik_queued_request_limit_bytes", "Their limit, queued.max.request.bytes", &[]);
static DISK_FREE: Family =
    Family::gauge("chronik_disk_free_bytes", "Free bytes of the file system of the data directory", &[]);
static DISK_SIZE: Family =
    Family::gauge("chronik_disk_size_bytes", "Size of the file system of the data directory", &[]);
static CPU: Family = Family::counter("process_cpu_seconds", "Processor time, of user and system", &[]);
static MEMORY: Family = Family::gauge("process_resident_memory_bytes", "Resident memory", &[]);
static DESCRIPTORS: Family = Family::gauge("process_open_fds", "Open file descriptors", &[]);
static DESCRIPTORS_MAX: Family = Family::gauge("process_max_fds", "The limit of file descriptors", &[]);
static STARTED: Family =
    Family::gauge("process_start_time_seconds", "When the process started, in seconds since 1970", &[]);

const NODE_SECTION: Section = Section {
    title: "Node and process",
    about: "",
    families: &[
        &BUILD,
        &READY,
        &CONNECTIONS,
        &QUEUED,
        &QUEUED_LIMIT,
        &DISK_FREE,
        &DISK_SIZE,
        &CPU,
        &MEMORY,
        &DESCRIPTORS,
        &DESCRIPTORS_MAX,
        &STARTED,
    ],
};

/// What `docs/metrics.md` begins with.
const INTRODUCTION: &str = "# Metrics
Made from the code by `UPDATE_DOCS=1 cargo test -p chronik-node --test metrics`; a test holds it to what a node serves.

`GET /metrics` on the node's one port answers Prometheus' text format, or OpenMetrics where the request accepts `application/openmetrics-text`. Names and
labels are stable: they change with a major version only. Counters begin at 0 with the process, unless they say otherwise. What to watch, and
what each alert means, is in [operations](operations.md); a dashboard for Grafana and alert rules for Prometheus are in `deploy/`.

The number of series is bounded: labels have values from fixed lists, ids of nodes, or topics, partitions and groups up to the limits that
`metrics.partitions.max` and `metrics.groups.max` set. 0 turns these off; sums and what was left out stay.

A scrape configuration for Prometheus:
```yaml
scrape_configs:
  - job_name: chronik
    static_configs:
      - targets: [\"10.0.0.1:9092\", \"10.0.0.2:9092\", \"10.0.0.3:9092\"]
```
";

/// Every family that a node may show, by what it is about.
pub fn metric_sections() -> Vec<Section> {
    let mut sections = vec![NODE_SECTION];
    sections.extend_from_slice(chronik_broker::METRIC_SECTIONS);
    sections.push(Section {
        title: "Search",
        about: "Of topics with `search.enabled`; left out where the node keeps no indexes.",
        families: chronik_search::metrics::FAMILIES,
    });
    sections
}

/// The page `docs/metrics.md`.
pub fn metrics_document() -> String {
    format!("{INTRODUCTION}{}", render_markdown(&metric_sections()))
}

/// What the node tells of itself.
pub(crate) struct NodeFigures<'a> {
    pub(crate) is_ready: bool,
    pub(crate) connections: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) queued_bytes_max: usize,
    pub(crate) data_dir: &'a Path,
}

impl NodeFigures<'_> {
    /// Appends them to the page, with those of the process. What the operating system doesn't tell is left out.
    pub(crate) fn write(&self, page: &mut Page) {
        page.lines(&BUILD, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        page.value(&READY, u8::from(self.is_ready));
        page.value(&CONNECTIONS, self.connections);
        page.value(&QUEUED, self.queued_bytes);
        page.value(&QUEUED_LIMIT, self.queued_bytes_max);
        if let Ok(disk) = rustix::fs::statvfs(self.data_dir) {
            page.value(&DISK_FREE, disk.f_bavail.saturating_mul(disk.f_frsize));
            page.value(&DISK_SIZE, disk.f_blocks.saturating_mul(disk.f_frsize));
        }
        write_process(page);
    }
}

fn write_process(page: &mut Page) {
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
        page.value(&CPU, seconds);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = resident_bytes(&status) {
        page.value(&MEMORY, bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.value(&DESCRIPTORS, open.count());
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    page.value(&DESCRIPTORS_MAX, limit.unwrap_or(u64::MAX));
    page.value(&STARTED, started_at());
}

/// When the process first asked, which it does as it starts.
pub(crate) fn started_at() -> f64 {
    static AT: OnceLock<f64> = OnceLock::new();
    *AT.get_or_init(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1e3)
    })
}

/// Fields 14 and 15 of `/proc/PID/stat`. The name of the program, field 2, may have spaces; it ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

/// `VmRSS:    1234 kB` of `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 99 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
