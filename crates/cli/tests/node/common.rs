//! A broker as a process, for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The binary under test.
pub fn chronik() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHRONIK_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the binary to its end.
pub fn run(args: &[&str]) -> Output {
    chronik().args(args).stdin(Stdio::null()).output().unwrap()
}

/// What a run wrote on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run wrote on standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A node that serves.
pub struct Node {
    child: Child,
    /// Kept open, so that the node does not see its end.
    _stdin: Option<ChildStdin>,
    pub bootstrap: String,
    /// Where an ephemeral node keeps its data; it is killed at the end of a test and can't remove them.
    _temp_dir: TempDir,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Node {
    /// Starts `chronik standalone` on a free port and waits until it serves.
    pub fn start(args: &[&str]) -> Node {
        Self::start_command(chronik().arg("standalone").args(["--listen", "127.0.0.1:0"]).args(args))
    }

    /// Starts `command` and waits until it serves.
    pub fn start_command(command: &mut Command) -> Node {
        let temp_dir = tempfile::tempdir().unwrap();
        let mut child = command
            .env("TMPDIR", temp_dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut node = Node {
            child,
            _stdin: stdin,
            bootstrap: String::new(),
            _temp_dir: temp_dir,
            log,
            seen: Vec::new(),
        };
        let line = node.expect_log("serving Kafka and HTTP on ");
        let address = line.split("serving Kafka and HTTP on ").nth(1).unwrap();
        node.bootstrap = address.split([',', ' ']).next().unwrap().to_owned();
        node
    }

    /// The next log line that has `text` in it; lines before it are skipped.
    pub fn expect_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no log line with {text:?} in:\n{}", self.seen.join("\n"));
    }

    /// Log lines so far.
    pub fn log_lines(&mut self) -> Vec<String> {
        self.seen.extend(self.log.try_iter());
        self.seen.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the node did not end; its log:\n{}", self.log_lines().join("\n"));
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.bootstrap).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request of HTTP and returns the whole answer.
    pub fn http(&self, method: &str, path: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Runs an administration command against this node.
    pub fn admin(&self, args: &[&str]) -> Output {
        run(&[args, &["--bootstrap-server", &self.bootstrap]].concat())
    }

    /// The same with something on standard input.
    pub fn admin_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut child = chronik()
            .args(args)
            .args(["--bootstrap-server", &self.bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An ApiVersions request of version 0, without its length.
pub fn api_versions_request() -> Vec<u8> {
    let mut body = vec![0, 18, 0, 0, 0, 0, 0, 7, 0, 4];
    body.extend_from_slice(b"test");
    body
}

/// Sends a frame.
pub fn send_frame(stream: &mut TcpStream, body: &[u8]) {
    stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

/// Receives a frame.
pub fn receive_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

/// True if the other side closed the connection (or resets it).
pub fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// Where a node keeps its data, as text.
pub fn data_dir(dir: &tempfile::TempDir) -> String {
    PathBuf::from(dir.path()).join("data").to_str().unwrap().to_owned()
}
