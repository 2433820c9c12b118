//! Clusters that start, catch up, and lose a leader.

use super::Plan;
use super::cluster_servers::Cluster;
use super::generator::{Generator, STEADY_RATE, first_write_at, read};
use super::servers::Server;
use crate::shell;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NODES: u16 = 3;
/// The node that catches up.
const FOLLOWER: u16 = 3;
const PARTITIONS: u32 = 6;
/// Times 4 KiB: 512 MiB on each node.
const MESSAGES: u64 = 131_072;
const WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// An empty follower that caught up.
#[derive(Serialize, Clone)]
pub struct CatchUp {
    /// From the first byte in the follower's log to its being in sync in every partition.
    pub megabytes_per_second: f64,
    /// How long that took.
    pub seconds_in_sync: f64,
    /// The same from the start of its process.
    pub seconds_from_start: f64,
}

/// A leader that was killed.
#[derive(Serialize)]
pub struct Failover {
    pub node: u16,
    /// The longest wait of any message that was due around the kill, over all partitions.
    pub gap_ms: f64,
    pub errors: u64,
}

/// From the first process start to the first write that three nodes acknowledged, in milliseconds.
pub fn start(generator: &Generator, cluster: &mut dyn Cluster) -> Result<f64> {
    let client = generator.first_replicated_write(&cluster.bootstrap(), "first")?;
    let started = cluster.start_empty()?;
    let first = first_write_at(client)?.acknowledged_epoch_ms;
    cluster.stop()?;
    Ok(first - started)
}

/// Takes one node's data away and measures how it gets them back; `cli` is the chronik binary.
pub fn catch_up(
    generator: &Generator,
    cluster: &mut dyn Cluster,
    cli: &Path,
    topic: &str,
    plan: &Plan,
) -> Result<CatchUp> {
    let messages = if plan.quick { MESSAGES / 16 } else { MESSAGES };
    generator.fill(cluster, topic, PARTITIONS, messages)?;
    cluster.kill_node(FOLLOWER)?;
    wait_for_isr(cli, cluster, topic, "the killed node leaves the ISR", |isr| !isr.contains(&FOLLOWER))?;
    cluster.wipe_node(FOLLOWER)?;
    cluster.start_node(FOLLOWER)?;
    let started = Instant::now();
    let data = cluster.data_dir(FOLLOWER);
    while log_bytes(&data) == 0 {
        if started.elapsed() > WITHIN {
            bail!("{} gets no data back within {WITHIN:?}: {}", cluster.name(), data.display());
        }
        std::thread::sleep(POLL);
    }
    let first_byte = Instant::now();
    wait_for_isr(cli, cluster, topic, "the empty node is in the ISR again", in_sync)?;
    let megabytes = (messages * 4096) as f64 / 1e6;
    let seconds_in_sync = first_byte.elapsed().as_secs_f64();
    Ok(CatchUp {
        megabytes_per_second: megabytes / seconds_in_sync,
        seconds_in_sync,
        seconds_from_start: started.elapsed().as_secs_f64(),
    })
}

/// Kills one node after the other under a steady load on 100 partitions, which goes on for `seconds`: a gap that is longer counts as long as that.
pub fn failover(
    generator: &Generator,
    cluster: &mut dyn Cluster,
    cli: &Path,
    tries: u32,
    seconds: u64,
) -> Result<Vec<Failover>> {
    const TOPIC: &str = "failover";
    const PARTITIONS: u32 = 100;
    const KILL_AFTER: Duration = Duration::from_millis(1500);
    cluster.start_empty()?;
    generator.fill(cluster, TOPIC, PARTITIONS, PARTITIONS.into())?;
    // So that the first kill waits for nothing that others don't.
    read(generator.steady(cluster, TOPIC, 1)?)?;
    let mut found = Vec::new();
    for (round, node) in (1..=tries).zip((1..=NODES).cycle()) {
        wait_for_isr(cli, cluster, TOPIC, "every node is in sync before the next kill", in_sync)?;
        let load = generator.steady(cluster, TOPIC, seconds)?;
        // The load counts by then, and goes on long enough after the kill.
        std::thread::sleep(KILL_AFTER);
        cluster.kill_node(node)?;
        let visible = Duration::from_secs(1 + seconds) - KILL_AFTER;
        let measured = read(load)?;
        // What was not answered when the load ended has waited at least for the rest of it.
        let all_answered = measured.messages_per_second > 0.95 * f64::from(STEADY_RATE);
        let at_least = if all_answered { 0.0 } else { visible.as_secs_f64() * 1000.0 };
        let gap_ms = measured.max_ms.unwrap_or_default().max(at_least);
        eprintln!("    try {round} node {node} killed   {gap_ms:>7.0} ms   {} errors", measured.errors);
        found.push(Failover { node, gap_ms, errors: measured.errors });
        cluster.start_node(node)?;
    }
    cluster.stop()?;
    Ok(found)
}

fn in_sync(isr: &[u16]) -> bool {
    isr.len() == usize::from(NODES)
}

/// Waits until the ISR of every partition is as wanted.
fn wait_for_isr(
    cli: &Path,
    cluster: &dyn Server,
    topic: &str,
    what: &str,
    wanted: impl Fn(&[u16]) -> bool,
) -> Result<()> {
    let started = Instant::now();
    loop {
        // A node that has just been killed may be the one that is asked; then it is asked again.
        let all = isrs(cli, &cluster.bootstrap(), topic).unwrap_or_default();
        if !all.is_empty() && all.iter().all(|isr| wanted(isr)) {
            return Ok(());
        }
        if started.elapsed() > WITHIN {
            bail!("{}: after {WITHIN:?} still not: {what}; ISRs {all:?}", cluster.name());
        }
        std::thread::sleep(POLL);
    }
}

fn isrs(cli: &Path, bootstrap: &str, topic: &str) -> Result<Vec<Vec<u16>>> {
    let mut command = Command::new(cli);
    command.args(["topic", "describe", topic, "--json", "--timeout", "5", "--bootstrap-server", bootstrap]);
    let output = command.stderr(Stdio::null()).output().context("starting chronik topic describe")?;
    let printed = serde_json::from_slice(&output.stdout).context("reading chronik topic describe")?;
    let mut found = Vec::new();
    collect_isrs(&printed, &mut found);
    Ok(found)
}

/// Every `isr` in what `chronik topic describe --json` printed.
fn collect_isrs(printed: &serde_json::Value, found: &mut Vec<Vec<u16>>) {
    match printed {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_isrs(item, found)),
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_array()) {
                    ("isr", Some(nodes)) => {
                        found.push(nodes.iter().filter_map(|node| node.as_u64()?.try_into().ok()).collect())
                    }
                    _ => collect_isrs(value, found),
                }
            }
        }
        _ => {}
    }
}

/// Bytes in the log segments below a folder, without those of topics of the server's own.
fn log_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && !name.starts_with("__") => log_bytes(&entry.path()),
            Ok(metadata) if metadata.is_file() && is_segment(&name) => metadata.len(),
            _ => 0,
        }
    });
    sizes.sum()
}

/// Segments of both servers carry their base offset in twenty digits.
fn is_segment(name: &str) -> bool {
    name.strip_suffix(".log").is_some_and(|base| base.len() == 20 && base.bytes().all(|b| b.is_ascii_digit()))
}

/// What the disk takes from one writer with a flush at the end, in megabytes a second.
pub fn disk_rate(folder: &Path, plan: &Plan) -> Result<f64> {
    use std::io::Write;
    const BLOCK: usize = 1 << 20;
    let blocks = if plan.quick { 64 } else { 1024 };
    shell::step("the disk's sequential rate");
    let path = folder.join("disk-probe");
    let block = vec![0x5a; BLOCK];
    let write = || -> std::io::Result<Duration> {
        let mut file = std::fs::File::create(&path)?;
        let started = Instant::now();
        for _ in 0..blocks {
            file.write_all(&block)?;
        }
        file.sync_data()?;
        Ok(started.elapsed())
    };
    let took = write().with_context(|| format!("writing {}", path.display()))?;
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    let rate = (blocks * BLOCK) as f64 / 1e6 / took.as_secs_f64();
    eprintln!("    {rate:.0} MB/s");
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isrs_are_found_in_what_describe_prints() {
        let printed = serde_json::json!([{"name": "t", "partitions": [
            {"partition": 0, "replicas": [1, 2, 3], "isr": [1, 2]},
            {"partition": 1, "replicas": [1, 2, 3], "isr": [3]},
        ]}]);
        let mut found = Vec::new();
        collect_isrs(&printed, &mut found);
        assert_eq!(found, [vec![1, 2], vec![3]]);
    }

    #[test]
    fn only_segments_of_topics_count() {
        assert!(is_segment("00000000000000000042.log"));
        assert!(!is_segment("00000000000000000042.index"));
        assert!(!is_segment("server.log"));
    }
}
