//! The machine that the tool runs on, and how long its disk takes for a flush.

use crate::result::{DiskFlush, Machine};
use anyhow::{Context, Result};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Flushes that are timed, and the longest time for all of them.
const FLUSHES: usize = 100;
const FLUSHES_WITHIN: Duration = Duration::from_millis(500);
const WRITE: usize = 4096;

/// What is known without measuring.
pub fn describe() -> Machine {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        value.map(|value| value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let memory_kib = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Machine {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| std::env::consts::OS.to_owned(), |release| format!("Linux {}", release.trim())),
        disk_flush: None,
    }
}

/// Times writes with their flush in a file of the folder, which is removed again.
pub fn probe_disk(folder: &Path) -> Result<DiskFlush> {
    let path = folder.join(format!(".chronik-bench-probe-{}", std::process::id()));
    let times = time_flushes(&path);
    let _ = fs::remove_file(&path);
    let mut times =
        times.with_context(|| format!("timing flushes in {} (--disk-probe)", folder.display()))?;
    times.sort_unstable();
    let at = |part: f64| {
        let index = ((times.len() as f64 * part).ceil() as usize).saturating_sub(1);
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    Ok(DiskFlush {
        folder: folder.display().to_string(),
        count: times.len() as u64,
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: at(1.0),
    })
}

fn time_flushes(path: &Path) -> Result<Vec<Duration>> {
    let mut file = fs::File::create(path)?;
    // As a log that is written into space it already has: the length does not change with each flush.
    file.write_all(&vec![0; WRITE * FLUSHES])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let started = Instant::now();
    let mut times = Vec::with_capacity(FLUSHES);
    while times.len() < FLUSHES && started.elapsed() < FLUSHES_WITHIN {
        let before = Instant::now();
        file.write_all(&[1; WRITE])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

/// The share of this machine's processor time that was spent idle between two calls.
pub struct IdleTime(Option<(u64, u64)>);

impl IdleTime {
    /// Begins now.
    pub fn start() -> Self {
        Self(processor_ticks())
    }

    /// The idle share since the start, 0 to 1; none where the kernel does not tell.
    pub fn share(&self) -> Option<f64> {
        let ((idle_before, all_before), (idle, all)) = (self.0?, processor_ticks()?);
        Some(
            idle.saturating_sub(idle_before) as f64
                / all.checked_sub(all_before).filter(|all| *all > 0)? as f64,
        )
    }
}

/// Idle ticks and all ticks of all cores.
fn processor_ticks() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    Some((fields.get(3)? + fields.get(4)?, fields.iter().sum()))
}

/// A time of day as `2026-11-25T03:10:00Z`.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years of 400 repeat; counting them from 1 March puts the leap day last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_machine_is_described_and_its_disk_timed() {
        let machine = describe();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        let folder = tempfile::tempdir().unwrap();
        let flush = probe_disk(folder.path()).unwrap();
        assert!(flush.count > 0 && flush.p50_us > 0.0 && flush.p50_us <= flush.max_us, "{flush:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the probe leaves nothing");
        let error = format!("{:#}", probe_disk(Path::new("/no/such/folder")).unwrap_err());
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
