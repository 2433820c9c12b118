//! Nodes as processes, alone or together, for the scenarios.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for anything, on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: beside this test in the target directory, built if it is not there.
fn binary() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.ancestors().nth(2).unwrap().to_owned();
    let binary = profile.join("chronik");
    if !binary.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo).args(["build", "-q", "-p", "chronik-cli"]).status().unwrap();
        assert!(built.success(), "chronik can't be built");
    }
    binary
}

/// So many neighbouring ports that nobody uses.
fn neighbouring_ports(count: u16) -> u16 {
    // Below the range that outgoing connections take theirs from; each test process begins elsewhere.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let _ = NEXT.compare_exchange(
        0,
        10_000 + u16::try_from(std::process::id() % 1_900).unwrap() * 10,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    loop {
        let first = NEXT.fetch_add(count, Ordering::SeqCst);
        let all: Vec<_> = (first..first + count).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if all.iter().all(Result::is_ok) {
            return first;
        }
    }
}

/// One node, running or not.
pub struct Node {
    pub port: u16,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    fn new(home: &Path, name: &str, port: u16, mut args: Vec<String>) -> Self {
        args.extend([
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
            "--data-dir".to_owned(),
            home.join(name).display().to_string(),
        ]);
        Self { port, args, log: home.join(format!("{name}.log")), child: None }
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHRONIK_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(&self.args)
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Starts the process and waits until it is ready.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    pub fn wait_ready(&mut self) {
        let port = self.port;
        eventually("the node is ready", || http(port, "/health/ready").starts_with("HTTP/1.1 200"));
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Stops the process as an operator does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            // Held open meanwhile: its end would be told as a second signal.
            let stdin = child.stdin.take();
            assert!(child.wait().unwrap().success(), "{}", self.log());
            drop(stdin);
        }
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            file.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Waits until the log has a line with `text`, and gives it.
    pub fn expect_log(&self, text: &str) -> String {
        let mut found = None;
        eventually(text, || {
            found = self.log().lines().find(|line| line.contains(text)).map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- log of the node on {}\n{}", self.port, tail.join("\n"));
        }
    }
}

/// Nodes on neighbouring ports, with their data in a directory that goes with them.
pub struct Nodes {
    pub nodes: Vec<Node>,
    pub first_port: u16,
    _home: TempDir,
}

impl Nodes {
    /// A raft cluster; no node is started yet.
    pub fn raft(count: u16, settings: &[&str]) -> Self {
        let first_port = neighbouring_ports(count);
        let peers: Vec<String> =
            (0..count).map(|at| format!("{}@127.0.0.1:{}", at + 1, first_port + at)).collect();
        Self::new(first_port, count, |at| {
            let id = (at + 1).to_string();
            let mut args = vec!["raft-cluster", "--node-id", &id, "--peers"];
            let peers = peers.join(",");
            args.push(&peers);
            args.iter().chain(settings).map(|arg| (*arg).to_owned()).collect()
        })
    }

    /// A standalone node (the first), which is to have followers on the ports behind it; no node is started yet.
    pub fn with_followers(followers: u16, settings: &[&str]) -> Self {
        let first_port = neighbouring_ports(followers + 1);
        let named: Vec<String> = (1..=followers).map(|at| format!("127.0.0.1:{}", first_port + at)).collect();
        Self::new(first_port, followers + 1, |at| {
            let mut args = vec!["standalone".to_owned()];
            if at == 0 && followers > 0 {
                args.extend(["--replication-followers".to_owned(), named.join(",")]);
            }
            args.extend(settings.iter().map(|arg| (*arg).to_owned()));
            args
        })
    }

    fn new(first_port: u16, count: u16, args: impl Fn(u16) -> Vec<String>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let nodes = (0..count)
            .map(|at| Node::new(home.path(), &format!("node-{}", at + 1), first_port + at, args(at)))
            .collect();
        Self { nodes, first_port, _home: home }
    }

    pub fn start(mut self) -> Self {
        self.nodes.iter_mut().for_each(Node::spawn);
        self.nodes.iter_mut().for_each(Node::wait_ready);
        self
    }

    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::bootstrap).collect::<Vec<_>>().join(",")
    }
}

/// Waits until `holds`, for a while.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The whole answer to a GET; empty if there is none.
pub fn http(port: u16, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}
