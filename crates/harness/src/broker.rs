//! The broker as a process: started, killed, started again on the same directory and port.

use anyhow::{Context, Result, anyhow, bail};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time from a start to readiness, on a machine that has much else to do.
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOG_LINES_SHOWN: usize = 20;

/// A broker binary with its directory and port, running or not.
pub struct Broker {
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    /// Lives on when this process ends.
    outlives_us: bool,
    child: Option<Child>,
}

impl Broker {
    /// Nothing is started yet; data and log go below `home`. Unless it is to outlive this process, the broker ends
    /// with it, however this process ends.
    pub fn new(binary: &Path, home: &Path, outlives_us: bool) -> Result<Self> {
        let binary = binary
            .canonicalize()
            .with_context(|| format!("looking for the broker binary {} (--broker)", binary.display()))?;
        Ok(Self {
            binary,
            data_dir: home.join("data"),
            log: home.join("broker.log"),
            address: free_address()?,
            outlives_us,
            child: None,
        })
    }

    /// HOST:PORT for clients.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process without waiting for it to be ready.
    pub fn spawn(&mut self) -> Result<()> {
        let log = self.open_log()?;
        let mut command = Command::new(&self.binary);
        command.args(["standalone", "--listen", &self.bootstrap(), "--data-dir"]).arg(&self.data_dir);
        if self.outlives_us {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        let child = command
            .stdout(log.try_clone().context("sharing the broker's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts the process and returns how long it took until it was ready.
    pub fn start(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.spawn()?;
        self.wait_until_ready(started)?;
        Ok(started.elapsed())
    }

    /// Kills the process as `kill -9` does and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing the broker")?;
            child.wait().context("waiting for the killed broker")?;
        }
        Ok(())
    }

    /// An error when the process ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else { bail!("the broker is not running") };
        match child.try_wait().context("asking after the broker")? {
            None => Ok(()),
            Some(status) => {
                self.child = None;
                Err(anyhow!(
                    "the broker ended by itself with {status}; its log ends with:\n{}",
                    self.log_tail()
                ))
            }
        }
    }

    /// Leaves the process running when this value goes.
    pub fn leave_running(mut self) {
        self.child = None;
    }

    fn wait_until_ready(&mut self, started: Instant) -> Result<()> {
        while !is_ready(self.address) {
            self.check_alive()?;
            if started.elapsed() > READY_WITHIN {
                bail!(
                    "the broker does not answer GET /health/ready with 200 within {} s; its log ends with:\n{}",
                    READY_WITHIN.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn open_log(&self) -> Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("opening {}", self.log.display()))
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error here has nowhere to go; the process is ours and dies with the kill in any case.
        let _ = self.kill();
    }
}

/// A free port below the range that outgoing connections take theirs from: a client that keeps trying a port of
/// that range while nobody listens can come to be connected to itself, and then the broker cannot have the port.
fn free_address() -> Result<SocketAddr> {
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    for _ in 0..PORTS.len() {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", fastrand::u16(PORTS))) {
            return listener.local_addr().context("looking for a free port");
        }
    }
    bail!("no port from {} to {} is free on 127.0.0.1", PORTS.start, PORTS.end)
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status_line = [0u8; 12];
        stream.read_exact(&mut status_line)?;
        Ok(&status_line == b"HTTP/1.1 200")
    };
    // Refused, reset and silent all mean the same here: not yet.
    ask().unwrap_or(false)
}
