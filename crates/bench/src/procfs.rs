//! What the kernel says about server processes on this machine: CPU time and memory.

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::fs;

/// CPU time and memory of one process over a measurement.
#[derive(Serialize, Clone)]
pub struct ProcessUse {
    pub pid: u32,
    /// User and system time spent during the measurement, in seconds.
    pub cpu_seconds: f64,
    /// Highest resident memory during the measurement, in KiB.
    pub peak_rss_kib: u64,
    /// Resident memory at the end, in KiB.
    pub rss_kib: u64,
}

/// Watches processes between [`Watch::start`] and [`Watch::finish`].
pub struct Watch {
    started: Vec<(u32, u64)>,
}

impl Watch {
    pub fn start(pids: &[u32]) -> Result<Self> {
        let mut started = Vec::with_capacity(pids.len());
        for &pid in pids {
            // Forgets the peak so far; where the kernel refuses, the peak is that of the process's whole life.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
            started.push((pid, cpu_ticks(pid)?));
        }
        Ok(Self { started })
    }

    pub fn finish(self) -> Result<Vec<ProcessUse>> {
        self.started
            .into_iter()
            .map(|(pid, ticks_before)| {
                Ok(ProcessUse {
                    pid,
                    cpu_seconds: ticks_to_seconds(cpu_ticks(pid)?.saturating_sub(ticks_before)),
                    peak_rss_kib: status_kib(pid, "VmHWM:")?,
                    rss_kib: status_kib(pid, "VmRSS:")?,
                })
            })
            .collect()
    }
}

/// User and system time of a process since it started, in clock ticks.
fn cpu_ticks(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path)
        .with_context(|| format!("reading {path} (is --pid {pid} a process of this machine?)"))?;
    // The command name may hold spaces and brackets; the numbers follow its last bracket.
    let numbers = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut fields = numbers.split_ascii_whitespace().skip(11);
    let mut tick = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (tick(), tick()) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(anyhow!("{path} is not in the form this tool knows: {stat:?}")),
    }
}

/// Linux reports process times in hundredths of a second on every architecture that Rust serves.
fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

fn status_kib(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| anyhow!("{path} has no {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_shows_its_cpu_time_and_memory() {
        let pid = std::process::id();
        let watch = Watch::start(&[pid]).unwrap();
        let mut sum = 0u64;
        while cpu_ticks(pid).unwrap() < watch.started[0].1 + 3 {
            sum = (0..100_000u64).fold(sum, |a, b| std::hint::black_box(a ^ b));
        }
        let used = watch.finish().unwrap();
        assert!(used[0].cpu_seconds >= 0.03);
        assert!(used[0].peak_rss_kib > 100);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Watch::start(&[u32::MAX]).err().unwrap();
        assert!(format!("{error:#}").contains("4294967295"), "{error:#}");
    }
}
