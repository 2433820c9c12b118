//! What the kernel says about processes on this machine: CPU time, memory, disk writes, context switches.

use crate::result::ProcessUse;
use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::fs;
use std::time::Instant;

/// Linux reports process times in hundredths of a second on every architecture that Rust serves.
const TICKS_PER_SECOND: f64 = 100.0;

/// Watches processes between [`Watch::start`] and [`Watch::finish`].
pub struct Watch {
    started: Instant,
    processes: Vec<(u32, Sample)>,
    /// CPU ticks of each thread, where they are wanted.
    threads: Option<HashMap<String, u64>>,
}

struct Sample {
    ticks: u64,
    written: Option<u64>,
    voluntary: u64,
    involuntary: u64,
}

impl Watch {
    /// Notes what the processes have used so far.
    pub fn start(pids: &[u32]) -> Result<Self> {
        let mut processes = Vec::with_capacity(pids.len());
        for &pid in pids {
            // Forgets the peak so far; where the kernel refuses, the peak is that of the process's whole life.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
            processes.push((pid, sample(pid)?));
        }
        Ok(Self { started: Instant::now(), processes, threads: None })
    }

    /// Watches this process with its threads.
    pub fn start_own() -> Result<Self> {
        Ok(Self { threads: Some(thread_ticks()), ..Self::start(&[std::process::id()])? })
    }

    /// What they used since then; an error for each that is gone.
    pub fn finish(&self) -> Vec<Result<ProcessUse>> {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let busiest_thread = self.threads.as_ref().map(|before| {
            let used = thread_ticks()
                .into_iter()
                .map(|(thread, ticks)| ticks.saturating_sub(before.get(&thread).copied().unwrap_or(0)));
            used.max().unwrap_or(0) as f64 / TICKS_PER_SECOND / seconds
        });
        self.processes
            .iter()
            .map(|(pid, before)| {
                let now = sample(*pid)?;
                let cpu_seconds = now.ticks.saturating_sub(before.ticks) as f64 / TICKS_PER_SECOND;
                Ok(ProcessUse {
                    pid: *pid,
                    cpu_seconds,
                    cores_busy: cpu_seconds / seconds,
                    busiest_thread,
                    peak_rss_kib: status_number(*pid, "VmHWM:")?,
                    rss_kib: status_number(*pid, "VmRSS:")?,
                    disk_written_bytes: now
                        .written
                        .zip(before.written)
                        .map(|(now, before)| now.saturating_sub(before)),
                    voluntary_switches: now.voluntary.saturating_sub(before.voluntary),
                    involuntary_switches: now.involuntary.saturating_sub(before.involuntary),
                })
            })
            .collect()
    }
}

fn sample(pid: u32) -> Result<Sample> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path)
        .with_context(|| format!("reading {path} (is {pid} of --server-pids a process of this machine?)"))?;
    let ticks =
        cpu_ticks(&stat).ok_or_else(|| anyhow!("{path} is not in the form this tool knows: {stat:?}"))?;
    // Readable only for processes of the same user.
    let written = fs::read_to_string(format!("/proc/{pid}/io"))
        .ok()
        .and_then(|io| io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()));
    let (mut voluntary, mut involuntary) = (0, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // A thread that ends meanwhile takes its counts with it; what is left is a lower bound.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        voluntary += number_after(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        involuntary += number_after(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(Sample { ticks, written, voluntary, involuntary })
}

/// User and system time since the start, in clock ticks, from a `stat` file.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command name may hold spaces and brackets; the numbers follow its last bracket.
    let numbers = stat.rsplit_once(')')?.1;
    let mut fields = numbers.split_ascii_whitespace().skip(11);
    let mut tick = || fields.next()?.parse::<u64>().ok();
    Some(tick()? + tick()?)
}

fn thread_ticks() -> HashMap<String, u64> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            Some((task.file_name().to_string_lossy().into_owned(), cpu_ticks(&stat)?))
        })
        .collect()
}

fn status_number(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    number_after(&status, field).ok_or_else(|| anyhow!("{path} has no {field}"))
}

fn number_after(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_shows_its_cpu_time_memory_and_busiest_thread() {
        let watch = Watch::start_own().unwrap();
        let mut sum = 0u64;
        while watch.finish()[0].as_ref().unwrap().cpu_seconds < 0.05 {
            sum = (0..1_000_000u64).fold(sum, |a, b| std::hint::black_box(a ^ b));
        }
        let used = watch.finish().remove(0).unwrap();
        assert!(used.peak_rss_kib > 100);
        assert!(used.busiest_thread.unwrap() > 0.0 && used.cores_busy > 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Watch::start(&[u32::MAX]).err().unwrap();
        assert!(format!("{error:#}").contains("4294967295"), "{error:#}");
    }

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("nonsense"), None);
    }
}
