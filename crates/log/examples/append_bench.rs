//! Measures appends on a real disk: `append_bench DIR THREADS PARTITIONS BATCH_BYTES SECONDS [flush]`. Each thread keeps
//! 64 batches in flight, like a busy connection, and waits until they are written (or flushed).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use chronik_base::{Clock, Uuid};
use chronik_log::disk::OsDisk;
use chronik_log::{DataDir, LogListener, LogManager, LogOptions, PartitionKey, Progress};
use chronik_records::{BatchBuilder, BatchOptions};

struct RealClock(Instant);

impl Clock for RealClock {
    fn wall_ms(&self) -> i64 {
        self.monotonic_ms() as i64
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// Everybody waits for the next news.
#[derive(Default)]
struct Listener {
    rounds: Mutex<u64>,
    news: Condvar,
    flush: bool,
}

impl Listener {
    fn tell(&self) {
        *self.rounds.lock().unwrap_or_else(|p| p.into_inner()) += 1;
        self.news.notify_all();
    }
}

impl LogListener for Listener {
    fn on_written(&self, _: &[Progress]) {
        if !self.flush {
            self.tell();
        }
    }

    fn on_flushed(&self, _: &[Progress]) {
        if self.flush {
            self.tell();
        }
    }

    fn on_failed(&self, _: &[Progress], error: &str) {
        eprintln!("failed: {error}");
        std::process::exit(1);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let dir = args.first().cloned().unwrap_or_else(|| "append-bench-data".to_owned());
    let (threads, partitions, size, seconds) = (number(1, 2), number(2, 6), number(3, 256), number(4, 3));
    let flush = args.get(5).is_some_and(|a| a == "flush");
    let listener = Arc::new(Listener { flush, ..Listener::default() });
    let clock = Arc::new(RealClock(Instant::now()));
    let (manager, _) = LogManager::open(
        DataDir::open(&dir)?,
        Arc::new(OsDisk),
        clock,
        LogOptions::default(),
        listener.clone(),
    )?;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, None, Some(&vec![7; size as usize]), &[])?;
    let batch = builder.finish()?;
    let key = |p| PartitionKey { topic_id: Uuid([1; 16]), partition: p as i32 };
    let logs: Vec<_> = (0..partitions)
        .map(|p| manager.create_partition(key(p), Arc::default()))
        .collect::<Result<_, _>>()?;
    let (stop, appended) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for t in 0..threads as usize {
            let (logs, manager, batch, stop, appended, listener) =
                (&logs, &manager, &batch, &stop, &appended, &listener);
            scope.spawn(move || {
                let mut waiting = Vec::with_capacity(64);
                while !stop.load(Ordering::Relaxed) {
                    for i in 0..64 {
                        let Some(log) = logs.get((t * 7 + i) % logs.len()) else { return };
                        match log.append_leader(batch.clone(), 0, 0) {
                            Ok(a) => waiting.push((log, a.last_offset)),
                            Err(e) => eprintln!("{e}"),
                        }
                    }
                    if flush {
                        manager.request_flush();
                        manager.kick_for_flush();
                    } else {
                        manager.kick();
                    }
                    for (log, offset) in waiting.drain(..) {
                        let mut rounds = listener.rounds.lock().unwrap_or_else(|p| p.into_inner());
                        while offset_of(log, flush) <= offset && !stop.load(Ordering::Relaxed) {
                            let wait = listener.news.wait_timeout(rounds, Duration::from_millis(100));
                            rounds = wait.unwrap_or_else(|p| p.into_inner()).0;
                        }
                    }
                    appended.fetch_add(64, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let elapsed = began.elapsed().as_secs_f64();
    let stats = manager.stats();
    let count = appended.load(Ordering::Relaxed) as f64;
    println!(
        "{:.0} appends/s, {:.1} MB/s, {:.0} groups/s, {:.0} flushes/s of {:.0} us (longest {} us)",
        count / elapsed,
        stats.appended_bytes as f64 / elapsed / 1e6,
        stats.groups as f64 / elapsed,
        stats.flushes as f64 / elapsed,
        stats.flush_us as f64 / stats.flushes.max(1) as f64,
        stats.flush_us_max,
    );
    let closing = Instant::now();
    manager.close()?;
    let stats = manager.stats();
    println!(
        "written: journal {:.3}x, segments {:.3}x, checkpoints {:.3}x of the batches; memory {} KiB; closed in {} ms",
        stats.journal_bytes as f64 / stats.appended_bytes as f64,
        stats.segment_bytes as f64 / stats.appended_bytes as f64,
        stats.checkpoint_bytes as f64 / stats.appended_bytes as f64,
        stats.memory_bytes >> 10,
        closing.elapsed().as_millis(),
    );
    Ok(())
}

fn offset_of(log: &chronik_log::PartitionLog, flush: bool) -> i64 {
    if flush { log.flushed_offset() } else { log.written_offset() }
}
