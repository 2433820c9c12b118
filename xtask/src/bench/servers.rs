//! The three servers: Chronik, Apache Kafka and the floor, each started and ended by its own means.

use crate::shell;
use anyhow::{Context, Result, anyhow, bail};
use std::fs::{self, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Which column of the report a server fills.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    Chronik,
    Kafka,
    Floor,
}

/// A server that loads are measured on.
pub trait Server {
    fn name(&self) -> &'static str;
    fn side(&self) -> Side;
    /// True for a floor that flushes before it answers.
    fn flushes(&self) -> bool {
        false
    }
    /// HOST:PORT, the same over restarts.
    fn bootstrap(&self) -> String;
    fn pid(&self) -> Option<u32>;
    /// The processes whose CPU time and memory count.
    fn pids(&self) -> Vec<u32> {
        self.pid().into_iter().collect()
    }
    /// Replicas of each partition of the topics that are measured.
    fn replication_factor(&self) -> u32 {
        1
    }
    /// Starts on an empty directory and waits until it serves; returns when the process was started, in
    /// milliseconds since 1970.
    fn start_empty(&mut self) -> Result<f64>;
    /// Starts on what is there; returns the same.
    fn start_again(&mut self) -> Result<f64>;
    /// Ends the process with `kill -9`; data stays.
    fn kill(&mut self) -> Result<()>;
    /// Ends the process; data goes.
    fn stop(&mut self) -> Result<()>;
    /// After a measurement whose topic was deleted: gives back space that the server itself keeps.
    fn discard_data(&self) -> Result<()> {
        Ok(())
    }
}

/// A child process with a directory, a log and a port.
pub struct Process {
    child: Option<Child>,
    home: PathBuf,
    port: u16,
}

impl Process {
    fn new(home: PathBuf) -> Result<Self> {
        Ok(Self::at_port(home, free_port()?))
    }

    pub fn at_port(home: PathBuf, port: u16) -> Self {
        Self { child: None, home, port }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn wipe(&self) -> Result<()> {
        match fs::remove_dir_all(&self.home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("emptying {}", self.home.display()))
            }
            _ => fs::create_dir_all(&self.home).with_context(|| format!("making {}", self.home.display())),
        }
    }

    /// Starts the command with its output in a log and waits until `ready` says so.
    fn start(&mut self, command: &mut Command, ready: impl Fn() -> bool) -> Result<f64> {
        let epoch_ms = self.spawn(command)?;
        self.wait_until(ready)?;
        Ok(epoch_ms)
    }

    /// Starts the command with its output in a log; returns when, in milliseconds since 1970.
    pub fn spawn(&mut self, command: &mut Command) -> Result<f64> {
        let path = self.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        command.stdout(log.try_clone()?).stderr(log);
        let epoch_ms = epoch_ms();
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("starting {}", command.get_program().display()))?);
        Ok(epoch_ms)
    }

    /// Waits until `ready` says so; what is not ready in time is killed.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !ready() {
            let log = self.log();
            let Some(child) = &mut self.child else { bail!("the server of {} does not run", log.display()) };
            if let Some(status) = child.try_wait()? {
                bail!("a server ended with {status}; see {}", log.display());
            }
            if began.elapsed() > READY_WITHIN {
                self.kill()?;
                bail!("a server is not ready after {READY_WITHIN:?}; see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing a server")?;
            child.wait().context("waiting for a killed server")?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process is ours; that it may be gone already is no news here.
        let _ = self.kill();
    }
}

/// `chronik standalone` with its defaults.
pub struct Chronik {
    binary: PathBuf,
    process: Process,
}

impl Chronik {
    pub fn new(binary: PathBuf, run: &Path) -> Result<Self> {
        if !binary.is_file() {
            bail!("there is no broker binary {} (--broker)", binary.display());
        }
        Ok(Self { binary, process: Process::new(run.join("chronik"))? })
    }

    fn start(&mut self) -> Result<f64> {
        let address = self.process.address();
        let mut command = Command::new(&self.binary);
        command.args(["standalone", "--listen", &address, "--data-dir"]).arg(self.process.data_dir());
        // It ends with this process, however this process ends.
        command.arg("--until-stdin-closes").stdin(Stdio::piped());
        self.process.start(&mut command, || is_ready(&address))
    }
}

impl Server for Chronik {
    fn name(&self) -> &'static str {
        "chronik"
    }
    fn side(&self) -> Side {
        Side::Chronik
    }
    fn bootstrap(&self) -> String {
        self.process.address()
    }
    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }
    fn start_empty(&mut self) -> Result<f64> {
        self.process.wipe()?;
        self.start()
    }
    fn start_again(&mut self) -> Result<f64> {
        self.start()
    }
    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
    fn stop(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wipe()
    }
}

/// The floor; one that flushes and one that does not are two servers.
pub struct Floor {
    binary: PathBuf,
    flush: bool,
    process: Process,
}

/// The floor says yes to any partition below this.
const FLOOR_PARTITIONS: &str = "1000";

impl Floor {
    /// The floor's binary: the path itself, or built from the source there into the target folder.
    pub fn find(place: &Path) -> Result<Option<PathBuf>> {
        if place.is_file() {
            return Ok(Some(place.to_owned()));
        }
        if !place.join("Cargo.toml").is_file() {
            return Ok(None);
        }
        shell::step("building the floor (release)");
        let target = shell::target_dir()?.join("floor");
        shell::run(
            shell::cargo()?
                .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
                .arg(place.join("Cargo.toml"))
                .env("CARGO_TARGET_DIR", &target),
        )?;
        Ok(Some(target.join("release/floor")))
    }

    pub fn new(binary: &Path, run: &Path, flush: bool) -> Result<Self> {
        let home = run.join(if flush { "floor-flushed" } else { "floor" });
        Ok(Self { binary: binary.to_owned(), flush, process: Process::new(home)? })
    }
}

impl Server for Floor {
    fn name(&self) -> &'static str {
        if self.flush { "floor-flush" } else { "floor" }
    }
    fn side(&self) -> Side {
        Side::Floor
    }
    fn flushes(&self) -> bool {
        self.flush
    }
    fn bootstrap(&self) -> String {
        self.process.address()
    }
    fn pid(&self) -> Option<u32> {
        self.process.pid()
    }
    fn start_empty(&mut self) -> Result<f64> {
        self.process.wipe()?;
        self.start_again()
    }
    fn start_again(&mut self) -> Result<f64> {
        let address = self.process.address();
        let mut command = Command::new(&self.binary);
        command.args(["--port", &self.process.port.to_string(), "--partitions", FLOOR_PARTITIONS]);
        command.args(["--fsync", if self.flush { "group" } else { "none" }, "--data-dir"]);
        command.arg(self.process.data_dir()).stdin(Stdio::null());
        self.process.start(&mut command, || TcpStream::connect(&address).is_ok())
    }
    fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
    fn stop(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wipe()
    }
    fn discard_data(&self) -> Result<()> {
        // It appends to one file for ever; an append after this goes to the new end.
        let log = self.process.data_dir().join("floor.log");
        let file = OpenOptions::new().write(true).open(&log);
        file.and_then(|file| file.set_len(0)).with_context(|| format!("emptying {}", log.display()))
    }
}

/// The scripts that assemble and start Apache Kafka, and where it is assembled.
pub struct Peers {
    scripts: PathBuf,
    place: PathBuf,
}

impl Peers {
    pub(super) fn script(&self, name: &str) -> Command {
        Command::new(self.scripts.join(name))
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// None where the scripts are not.
    pub fn find(scripts: &Path, place: &Path) -> Result<Option<Self>> {
        if !scripts.join("kafka-up.sh").is_file() {
            return Ok(None);
        }
        if !place.join("VERSION").is_file() {
            shell::step(&format!("assembling Apache Kafka in {}", place.display()));
            shell::run(Command::new(scripts.join("kafka-get.sh")).arg(place))?;
        }
        Ok(Some(Self { scripts: scripts.to_owned(), place: place.to_owned() }))
    }

    pub fn server(self, run: &Path) -> Result<Kafka> {
        // kafka-up.sh takes the ports base + 1 for clients and base + 11 for the controller.
        let base = free_port()?;
        Ok(Kafka { peers: self, run: run.join("kafka"), base, pid: None })
    }
}

/// One node of Apache Kafka with the stock distribution's settings and 1 GiB of heap.
pub struct Kafka {
    peers: Peers,
    run: PathBuf,
    base: u16,
    pid: Option<u32>,
}

impl Kafka {
    fn start(&mut self, keep: bool) -> Result<f64> {
        if let Some(parent) = self.run.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let mut command = Command::new(self.peers.scripts.join("kafka-up.sh"));
        command.arg(&self.peers.place).args(["1", &self.base.to_string()]);
        // Deleted topics give their space back before the next measurement fills the disk.
        command.arg("log.segment.delete.delay.ms=1000");
        command.env("KAFKA_RUN", &self.run);
        if keep {
            command.env("KAFKA_KEEP", "1");
        }
        let printed = shell::output(&mut command)?;
        let field = |name: &str| {
            printed
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .ok_or_else(|| anyhow!("kafka-up.sh printed no {name}"))
        };
        self.pid = Some(field("pids=")?.parse().context("reading the pid that kafka-up.sh printed")?);
        field("start_epoch_ms=")?.parse().context("reading the time that kafka-up.sh printed")
    }

    fn down(&mut self, options: &[&str]) -> Result<()> {
        if self.pid.take().is_none() && !options.contains(&"--wipe") {
            return Ok(());
        }
        if !self.run.exists() {
            return Ok(());
        }
        shell::output(Command::new(self.peers.scripts.join("kafka-down.sh")).arg(&self.run).args(options))
            .map(drop)
    }
}

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn side(&self) -> Side {
        Side::Kafka
    }
    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.base + 1)
    }
    fn pid(&self) -> Option<u32> {
        self.pid
    }
    fn start_empty(&mut self) -> Result<f64> {
        self.start(false)
    }
    fn start_again(&mut self) -> Result<f64> {
        self.start(true)
    }
    fn kill(&mut self) -> Result<()> {
        self.down(&["--kill"])
    }
    fn stop(&mut self) -> Result<()> {
        self.down(&["--kill", "--wipe"])
    }
    fn discard_data(&self) -> Result<()> {
        // The topic's files go a second after its deletion; what they hold up should not fall into the next run.
        std::thread::sleep(Duration::from_millis(1500));
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // An error here is printed by the script; there is nobody to hand it to.
        let _ = self.down(&["--kill"]);
    }
}

/// Resident memory of a process in MiB.
pub fn rss_mib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no VmRSS"))?;
    Ok(kib / 1024.0)
}

/// A port below the range that outgoing connections take theirs from: a client that keeps trying a port of that
/// range while nobody listens can come to be connected to itself, and then the server cannot have the port.
pub fn free_port() -> Result<u16> {
    const FROM: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = FROM + std::process::id().wrapping_mul(7919).wrapping_add(step * 16) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return Ok(listener.local_addr()?.port());
        }
    }
    bail!("no port from {FROM} to {} is free on 127.0.0.1", FROM + COUNT)
}

pub fn is_ready(address: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status_line = [0u8; 12];
        stream.read_exact(&mut status_line)?;
        Ok(&status_line == b"HTTP/1.1 200")
    };
    // Refused, reset and silent all mean the same here: not yet.
    ask().unwrap_or(false)
}

pub(super) fn epoch_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}
