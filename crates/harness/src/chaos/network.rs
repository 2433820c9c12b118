//! A network for the nodes: a namespace for each, joined by a bridge, so that links can be cut one way and slowed.
//!
//! The harness runs itself again inside namespaces of its own (`unshare`), so nothing of this machine's network or
//! mounts is touched, and all of it goes when the process ends. A direction of a link is cut by giving the sender a
//! hardware address for the receiver that nobody has: packets vanish silently, as on a cut cable.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set for the process inside, so that it doesn't go in again.
const INSIDE: &str = "CHRONIK_CHAOS_INSIDE";
const BRIDGE: &str = "chaos";
const NOBODY: &str = "02:00:00:00:00:66";
const PORT: u16 = 9092;

/// Where the nodes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// One namespace and address for each node.
    Namespaces,
    /// Ports of 127.0.0.1 from this one on: links can't be cut here.
    Loopback { first_port: u16 },
}

/// Starts this program again inside namespaces if this machine allows that, and does not come back then. Otherwise
/// the reason why not.
pub fn enter_namespaces() -> Option<String> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    for program in ["unshare", "nsenter", "ip", "tc"] {
        // Without arguments that do something, each of them ends at once.
        if Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("the program {program} is missing (packages util-linux and iproute2)"));
        }
    }
    let plain: &[&str] = &["--net", "--mount"];
    let mapped: &[&str] = &["--user", "--map-root-user", "--net", "--mount"];
    for flags in [plain, mapped] {
        let trial = "mount -t tmpfs chaos /run && ip link add chaos0 type bridge";
        let tried =
            Command::new("unshare").args(flags).args(["sh", "-c", trial]).stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            let Ok(me) = std::env::current_exe() else {
                return Some("this program can't find itself".to_owned());
            };
            let error = Command::new("unshare")
                .args(flags)
                .arg(me)
                .args(std::env::args_os().skip(1))
                .env(INSIDE, "1")
                .exec();
            return Some(format!("unshare can't be run: {error}"));
        }
    }
    Some("this machine does not let us make network namespaces".to_owned())
}

impl Network {
    /// Makes the bridge and a namespace for each of the nodes 1 to `nodes`. Only inside (see [`enter_namespaces`]).
    pub fn namespaces(nodes: usize) -> Result<Self> {
        run("mount", &["-t", "tmpfs", "chaos", "/run"])?;
        std::fs::create_dir_all("/run/netns").context("making /run/netns")?;
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
        run("ip", &["addr", "add", "10.77.0.254/24", "dev", BRIDGE])?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        for node in 1..=nodes {
            let (name, port) = (namespace(node), format!("port{node}"));
            let address = format!("10.77.0.{node}/24");
            run("ip", &["netns", "add", &name])?;
            run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            run("ip", &["link", "set", &port, "master", BRIDGE, "up"])?;
            run("ip", &["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            run("ip", &["-n", &name, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(Self::Namespaces)
    }

    /// HOST:PORT of a node.
    pub fn address(self, node: usize) -> String {
        match self {
            Self::Namespaces => format!("10.77.0.{node}:{PORT}"),
            Self::Loopback { first_port } => format!("127.0.0.1:{}", usize::from(first_port) + node - 1),
        }
    }

    /// A command that runs where the node is.
    pub fn command(self, node: usize, program: &std::path::Path) -> Command {
        match self {
            Self::Namespaces => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", namespace(node))).arg(program);
                command
            }
            Self::Loopback { .. } => Command::new(program),
        }
    }

    /// Lets nothing through any more from one node to another; the other direction stays as it is.
    pub fn cut(self, from: usize, to: usize) -> Result<()> {
        let address = format!("10.77.0.{to}");
        self.ip(from, &["neigh", "replace", &address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"])
    }

    /// Undoes [`Network::cut`].
    pub fn join(self, from: usize, to: usize) -> Result<()> {
        self.ip(from, &["neigh", "del", &format!("10.77.0.{to}"), "dev", "eth0"])
    }

    /// Lets a node send so many kilobits a second at most, with up to `queue_ms` of queue.
    pub fn slow(self, node: usize, kilobits: u32, queue_ms: u32) -> Result<()> {
        let (rate, latency) = (format!("{kilobits}kbit"), format!("{queue_ms}ms"));
        let name = namespace(node);
        let shape = ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "16kb"];
        run("tc", &[["-n", name.as_str()].as_slice(), &shape, &["latency", &latency]].concat())
    }

    /// Undoes [`Network::slow`].
    pub fn full_speed(self, node: usize) -> Result<()> {
        run("tc", &["-n", &namespace(node), "qdisc", "del", "dev", "eth0", "root"])
    }

    fn ip(self, node: usize, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-n", &namespace(node)], arguments].concat())
    }
}

fn namespace(node: usize) -> String {
    format!("node{node}")
}

/// Runs a program to its end; what it says on standard error is part of the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` ended with {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(())
}
