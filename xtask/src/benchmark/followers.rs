//! `chronik standalone` with two followers.

use crate::bench::servers::{Process, Server, Side, free_port, is_ready};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLLOWERS: u16 = 2;

/// A leader that names its followers, and these.
pub struct WithFollowers {
    binary: PathBuf,
    leader: Process,
    followers: Vec<Process>,
}

impl WithFollowers {
    pub fn new(binary: &Path, run: &Path) -> Result<Self> {
        if !binary.is_file() {
            bail!("there is no broker binary {} (--broker)", binary.display());
        }
        let base = free_port()?;
        let follower = |index| Process::at_port(run.join(format!("chronik-follower-{index}")), base + index);
        Ok(Self {
            binary: binary.to_owned(),
            leader: Process::at_port(run.join("chronik-leader"), base),
            followers: (1..=FOLLOWERS).map(follower).collect(),
        })
    }

    fn nodes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.followers.iter_mut().chain(std::iter::once(&mut self.leader))
    }
}

impl Server for WithFollowers {
    fn name(&self) -> &'static str {
        "chronik"
    }
    fn side(&self) -> Side {
        Side::Chronik
    }
    fn bootstrap(&self) -> String {
        self.leader.address()
    }
    fn pid(&self) -> Option<u32> {
        self.leader.pid()
    }
    fn pids(&self) -> Vec<u32> {
        std::iter::once(&self.leader).chain(&self.followers).filter_map(Process::pid).collect()
    }
    fn replication_factor(&self) -> u32 {
        u32::from(FOLLOWERS) + 1
    }
    fn start_empty(&mut self) -> Result<f64> {
        self.nodes().try_for_each(|node| node.wipe())?;
        self.start_again()
    }
    fn start_again(&mut self) -> Result<f64> {
        let names: Vec<String> = self.followers.iter().map(Process::address).collect();
        let (binary, names) = (self.binary.clone(), names.join(","));
        let leader = self.leader.address();
        let mut first = f64::INFINITY;
        for node in self.nodes() {
            let mut command = Command::new(&binary);
            command.args(["standalone", "--listen", &node.address(), "--data-dir"]).arg(node.data_dir());
            if node.address() == leader {
                command.args(["--replication-followers", &names]);
            }
            // It ends with this process, however this process ends.
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
            first = first.min(node.spawn(&mut command)?);
        }
        for node in self.nodes() {
            let address = node.address();
            node.wait_until(|| is_ready(&address))?;
        }
        Ok(first)
    }
    fn kill(&mut self) -> Result<()> {
        self.nodes().try_for_each(|node| node.kill())
    }
    fn stop(&mut self) -> Result<()> {
        self.kill()?;
        self.nodes().try_for_each(|node| node.wipe())
    }
}
