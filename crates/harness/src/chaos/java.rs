//! The Java clients: a program of ours on Apache Kafka's library, in a process of its own. It is handed the producer's
//! records and tells what became of them, and what its consumer group was given.

use super::gaps::Acknowledgements;
use super::load::Pace;
use super::seen::{self, Positions, Seen, Shared};
use super::{PARTITIONS, TOPIC};
use crate::crash::ledger::{Fate, Ledger};
use crate::crash::record::{self, Identity};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::SplitAsciiWhitespace;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const GROUP: &str = "chaos-java";
const MEMBERS: &str = "2";
/// The JVM compiles the program when it starts.
const READY_WITHIN: Duration = Duration::from_secs(120);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How many different reasons of failure are kept in words.
const REASONS: usize = 12;
const SOURCE: &str = include_str!("Clients.java");

/// The running process.
pub struct Java {
    child: Child,
    state: Arc<State>,
    sender: Option<JoinHandle<()>>,
    listener: Option<JoinHandle<()>>,
}

/// What its threads share.
struct State {
    ledger: Mutex<Ledger>,
    acknowledgements: Arc<Acknowledgements>,
    seen: Shared,
    /// What should not have happened: failed records, clients that ended.
    failures: Mutex<Vec<String>>,
    paused: AtomicBool,
    stop: AtomicBool,
}

/// Which records the producer sends.
#[derive(Clone, Copy)]
pub struct Share {
    /// The producer's number among all.
    pub producer: u16,
    /// Records a second.
    pub rate: f64,
    pub seed: u64,
}

impl Java {
    /// Starts the process and waits until its producer knows the topic. `class_path` has Kafka's library; source and
    /// log of the clients go to `home`.
    pub fn start(
        class_path: &str,
        bootstrap: &str,
        home: &Path,
        share: Share,
        acknowledgements: &Arc<Acknowledgements>,
    ) -> Result<Self> {
        let source = home.join("Clients.java");
        std::fs::write(&source, SOURCE).with_context(|| format!("writing {}", source.display()))?;
        let errors = home.join("java.log");
        let errors = File::create(&errors).with_context(|| format!("making {}", errors.display()))?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
            ])
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            .arg(format!("-Djava.io.tmpdir={}", home.display()))
            .args(["--class-path", class_path])
            .arg(&source)
            .args([bootstrap, TOPIC, GROUP, MEMBERS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command.spawn().context("starting java")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let state = Arc::new(State {
            ledger: Mutex::new(Ledger::new(PARTITIONS)),
            acknowledgements: acknowledgements.clone(),
            seen: Seen::new(GROUP),
            failures: Mutex::default(),
            paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (ready, is_ready) = mpsc::channel();
        let mut java = Self { child, state, sender: None, listener: None };
        let (stdin, stdout) = (stdin.context("java's input")?, stdout.context("java's output")?);
        let state = java.state.clone();
        java.listener = Some(std::thread::spawn(move || listen(stdout, &state, &ready)));
        if is_ready.recv_timeout(READY_WITHIN).is_err() {
            let log = std::fs::read_to_string(home.join("java.log")).unwrap_or_default();
            let log: Vec<&str> = log.lines().take(20).collect();
            bail!(
                "the Java clients are not ready within {} s: {}\n{}",
                READY_WITHIN.as_secs(),
                java.failures().join("; "),
                log.join("\n")
            );
        }
        let state = java.state.clone();
        java.sender = Some(std::thread::spawn(move || send(stdin, share, &state)));
        Ok(java)
    }

    /// Stops sending and waits until every record has its answer; says so if it has none when the time is over.
    pub fn finish_sending(&self, within: Duration) -> Option<String> {
        self.state.paused.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while started.elapsed() < within && self.ledger().unsettled() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let unsettled = self.ledger().unsettled();
        (unsettled > 0).then(|| {
            format!(
                "the Java producer has {unsettled} records without an answer after {} s",
                within.as_secs()
            )
        })
    }

    /// Lets the group commit once more and leave, and the process end.
    pub fn stop(&mut self) -> Result<()> {
        // The end of its input is what it waits for.
        self.state.stop.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.child.try_wait().context("waiting for java")?.is_none() {
            if started.elapsed() > ENDS_WITHIN {
                bail!("the Java clients did not end within {} s", ENDS_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        Ok(())
    }

    /// What should not have happened since it was asked last.
    pub fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the producer sent; meaningful once it has finished.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.state.ledger()
    }

    /// What the group was given so far.
    pub fn seen(&self) -> &Shared {
        &self.state.seen
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Frees the threads that wait for its pipes; an error has nowhere to go.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for thread in [self.sender.take(), self.listener.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < REASONS {
            failures.push(what);
        }
    }

    fn settled(&self, partition: usize, sequence: u64, fate: Fate) {
        match fate {
            Fate::Acknowledged(_) => self.acknowledgements.acknowledged(partition),
            _ => self.acknowledgements.failed(),
        }
        self.ledger().settled(partition, sequence, fate);
    }

    /// Takes one line of the program's output; nothing if it is none of its lines.
    fn take(&self, line: &str, members: &mut BTreeMap<u32, Positions>) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "a" => {
                let (partition, sequence, offset) = (next(&mut words)?, next(&mut words)?, next(&mut words)?);
                // A duplicate of long ago is acknowledged without saying where it is.
                self.settled(
                    partition,
                    sequence,
                    Fate::Acknowledged(Some(offset).filter(|offset| *offset >= 0)),
                );
            }
            "f" => {
                let (partition, sequence) = (next(&mut words)?, next(&mut words)?);
                self.failure(format!("the Java producer: {line}"));
                self.settled(partition, sequence, Fate::Failed);
            }
            "r" => {
                let positions = members.entry(next(&mut words)?).or_default();
                let (partition, offset, checksum) = (next(&mut words)?, next(&mut words)?, next(&mut words)?);
                seen::lock(&self.seen).given(positions, partition, offset, checksum);
            }
            "x" => {
                let positions = members.entry(next(&mut words)?).or_default();
                while let Some(partition) = next(&mut words) {
                    positions.remove(&partition);
                }
            }
            "c" => {
                let _member: u32 = next(&mut words)?;
                let offsets = words.filter_map(|word| {
                    let (partition, offset) = word.split_once('=')?;
                    Some((partition.parse().ok()?, offset.parse().ok()?))
                });
                seen::lock(&self.seen).committed(offsets);
            }
            "e" => self.failure(format!("a Java client ended: {line}")),
            _ => return None,
        }
        Some(())
    }
}

fn next<T: std::str::FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn listen(output: ChildStdout, state: &State, ready: &mpsc::Sender<()>) {
    let mut members = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        if line == "ready" {
            // Nobody waits any more if that took too long.
            let _ = ready.send(());
        } else if state.take(&line, &mut members).is_none() {
            state.failure(format!("the Java clients said {line:?}"));
        }
    }
    if !state.stop.load(Ordering::SeqCst) {
        state.failure("the Java clients ended by themselves; see java.log".to_owned());
    }
}

/// Hands over records at the rate wanted; the program's end of the pipe makes it wait when the cluster is away for long.
fn send(input: ChildStdin, share: Share, state: &State) {
    let mut random = fastrand::Rng::with_seed(share.seed.wrapping_add(u64::from(share.producer) + 1));
    let mut pace = Pace::new(share.rate);
    let mut input = BufWriter::new(input);
    while !state.stop.load(Ordering::SeqCst) {
        let due = pace.due();
        if !state.paused.load(Ordering::SeqCst) {
            for _ in 0..due {
                if send_one(&mut input, share, random.usize(..PARTITIONS), state).is_err() {
                    return;
                }
            }
            if input.flush().is_err() {
                return;
            }
        }
        std::thread::sleep(pace.until_next());
    }
}

fn send_one(input: &mut impl Write, share: Share, partition: usize, state: &State) -> std::io::Result<()> {
    // Entered before it is sent: the answer may come before this thread runs on.
    let mut ledger = state.ledger();
    let sequence = ledger.next(partition);
    ledger.sent(partition);
    drop(ledger);
    let identity = Identity { producer: share.producer, target: partition as u16, sequence };
    let bytes = record::encode(share.seed, identity);
    input.write_all(&(partition as u32).to_be_bytes())?;
    input.write_all(&sequence.to_be_bytes())?;
    input.write_all(&(bytes.len() as u32).to_be_bytes())?;
    input.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            ledger: Mutex::new(Ledger::new(PARTITIONS)),
            acknowledgements: Arc::new(Acknowledgements::new(Instant::now(), PARTITIONS)),
            seen: Seen::new(GROUP),
            failures: Mutex::default(),
            paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    #[test]
    fn lines_become_fates_and_readings() {
        let state = state();
        let mut members = BTreeMap::new();
        for _ in 0..3 {
            state.ledger().sent(3);
        }
        for line in [
            "a 3 0 17",
            "a 3 2 -1",
            "f 3 1 org.apache.kafka.common.errors.TimeoutException: late",
            "r 0 3 17 99",
        ] {
            assert!(state.take(line, &mut members).is_some(), "{line}");
        }
        assert_eq!(state.ledger().fate(3, 0), Some(Fate::Acknowledged(Some(17))));
        assert_eq!(state.ledger().fate(3, 1), Some(Fate::Failed));
        assert_eq!(state.ledger().fate(3, 2), Some(Fate::Acknowledged(None)));
        assert_eq!(state.ledger().unsettled(), 0);
        assert_eq!(state.failures.lock().unwrap().len(), 1);
        assert_eq!(members[&0][&3], 18);
        assert!(state.take("x 0 3", &mut members).is_some());
        assert!(members[&0].is_empty());
        assert!(state.take("c 0 3=18 4=2", &mut members).is_some());
        // Given from 17 on after 18 was committed.
        assert!(state.take("r 1 3 17 99", &mut members).is_some());
        assert_eq!(seen::lock(&state.seen).wrong, 1);
        assert!(state.take("warning: something", &mut members).is_none());
        assert!(state.take("a 3", &mut members).is_none());
    }

    #[test]
    fn a_record_is_handed_over_as_the_program_reads_it() {
        let state = state();
        let share = Share { producer: 4, rate: 1.0, seed: 9 };
        let mut bytes = Vec::new();
        send_one(&mut bytes, share, 2, &state).unwrap();
        let value = record::encode(9, Identity { producer: 4, target: 2, sequence: 0 });
        let mut expected = vec![0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&(value.len() as u32).to_be_bytes());
        expected.extend_from_slice(&value);
        assert_eq!(bytes, expected);
        assert_eq!(state.ledger().unsettled(), 1);
    }
}
