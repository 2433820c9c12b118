//! One node as a process that can be killed, paused, wiped, and given a small disk.

use super::network::{Network, run};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const LOG_LINES_SHOWN: usize = 25;
/// The file that fills a node's disk.
const BALLAST: &str = "ballast";
/// The bytes by which it grows at first.
const DISK_STEP: u64 = 4 << 30;

/// A node, running or not.
pub struct Node {
    /// From 1 on.
    pub number: usize,
    network: Network,
    binary: PathBuf,
    home: PathBuf,
    arguments: Vec<String>,
    /// Whether the home is a file system of its own.
    small_disk: bool,
    child: Option<Child>,
}

impl Node {
    /// Nothing is started yet. `arguments` are the command and all flags but the address and the directory.
    pub fn new(
        number: usize,
        network: Network,
        binary: &Path,
        home: &Path,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let home = home.join(format!("node-{number}"));
        std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        Ok(Self {
            number,
            network,
            binary: binary.to_owned(),
            home,
            arguments,
            small_disk: false,
            child: None,
        })
    }

    /// Puts the node's data onto a file system of its own, of so many MiB.
    pub fn mount_disk(&mut self, megabytes: u64) -> Result<()> {
        let image = self.home.with_extension("img");
        let file = File::create(&image).with_context(|| format!("making {}", image.display()))?;
        file.set_len(megabytes << 20).context("sizing a disk image")?;
        let image = image.display().to_string();
        run("mkfs.ext4", &["-q", "-m", "0", &image])?;
        run("mount", &["-o", "loop", &image, &self.home.display().to_string()])?;
        self.small_disk = true;
        Ok(())
    }

    /// HOST:PORT.
    pub fn address(&self) -> String {
        self.network.address(self.number)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    pub fn has_small_disk(&self) -> bool {
        self.small_disk
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) -> Result<()> {
        let path = self.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let mut command = self.network.command(self.number, &self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHRONIK_") {
                command.env_remove(name);
            }
        }
        command.args(&self.arguments).args([
            "--listen",
            &self.address(),
            "--until-stdin-closes",
            "--data-dir",
        ]);
        command.arg(self.data_dir()).stdin(Stdio::piped());
        command.stdout(log.try_clone().context("sharing a node's log")?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.binary.display()))?);
        Ok(())
    }

    /// Waits until the node says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if get(&self.address(), "/health/ready").is_some_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                bail!(
                    "node {} ended by itself with {status}; its log ends with:\n{}",
                    self.number,
                    self.log_tail()
                );
            }
            if started.elapsed() > READY_WITHIN {
                let answer = get(&self.address(), "/health/ready").map_or_else(String::new, |(_, body)| body);
                bail!(
                    "node {} is not ready within {} s: {answer}; its log ends with:\n{}",
                    self.number,
                    READY_WITHIN.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How the process ended, if it did so by itself; it counts as not running from then on.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing a node")?;
            child.wait().context("waiting for a killed node")?;
        }
        Ok(())
    }

    /// Sends a signal by its name, as `kill` knows it.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let child = self.child.as_ref().ok_or_else(|| anyhow!("node {} does not run", self.number))?;
        run("kill", &["-s", signal, &child.id().to_string()])
    }

    /// Stops the process as an operator does, and waits until it is gone.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().context("waiting for a node to stop")? {
                if status.success() {
                    return Ok(());
                }
                bail!("node {} ended with {status} after SIGTERM:\n{}", self.number, self.log_tail());
            }
            if started.elapsed() > STOPPED_WITHIN {
                // Given back, so that it is not killed before somebody could look at it.
                self.child = Some(child);
                bail!("node {} did not end within {} s of SIGTERM", self.number, STOPPED_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes all data of a node that does not run.
    pub fn wipe(&self) -> Result<()> {
        std::fs::remove_dir_all(self.data_dir()).with_context(|| format!("wiping node {}", self.number))
    }

    /// Takes all space of the disk, to the last block.
    pub fn fill_disk(&self) -> Result<()> {
        let path = self.home.join(BALLAST);
        let name = path.display().to_string();
        // Space that is only taken, not written: filling must not keep the machine's disk busy for the others.
        let (mut taken, mut step) = (0u64, DISK_STEP);
        while step >= 4096 {
            let (offset, length) = (taken.to_string(), step.to_string());
            if run("fallocate", &["--offset", &offset, "--length", &length, &name]).is_ok() {
                taken += step;
            } else {
                step /= 2;
            }
        }
        Ok(())
    }

    /// Undoes [`Node::fill_disk`].
    pub fn free_disk(&self) -> Result<()> {
        std::fs::remove_file(self.home.join(BALLAST)).context("removing the ballast")
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Lines of the log that should never be there.
    pub fn panics(&self) -> Vec<String> {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let bad = text.lines().filter(|line| line.contains("panicked at"));
        bad.map(|line| format!("node {}: {line}", self.number)).collect()
    }

    fn log_path(&self) -> PathBuf {
        self.home.with_extension("log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Errors have nowhere to go: the process dies with its standard input, the mount with our namespace.
        let _ = self.kill();
        if self.small_disk {
            let _ = run("umount", &[&self.home.display().to_string()]);
        }
    }
}

/// Status and body of a GET; nothing if there is no answer.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let address: SocketAddr = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
