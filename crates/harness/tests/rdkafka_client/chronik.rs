//! Gives a Rust test binary a Chronik broker of its own.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A broker on a free port, with data that goes with it; it ends when this value or this process does.
pub struct Chronik {
    process: Child,
    bootstrap: String,
}

impl Chronik {
    pub fn start(binary: &Path, log: Stdio) -> Result<Self> {
        let mut command = Command::new(binary);
        // To the broker these are settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHRONIK_") {
                command.env_remove(name);
            }
        }
        let mut process = command
            .args(["standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut ready = String::new();
        if let Some(output) = process.stdout.as_mut() {
            BufReader::new(output).read_line(&mut ready)?;
        }
        let address = ready.split("\"bootstrap\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let Some(bootstrap) = address.map(str::to_owned) else {
            let status = process.wait()?;
            return Err(Error::other(format!("{} was not ready: {status}", binary.display())));
        };
        Ok(Self { process, bootstrap })
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for Chronik {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The address of the broker that all tests of this process share.
pub fn bootstrap() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    // Never dropped: it ends with the process, as that closes its standard input.
    static BROKER: OnceLock<Chronik> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        std::env::var("BOOTSTRAP").unwrap_or_else(|_| {
            let broker = BROKER.get_or_init(|| Chronik::start(&binary(), log()).expect("the broker starts"));
            broker.bootstrap().to_owned()
        })
    })
}

/// The binary named by BROKER, or the one beside this test in the target directory.
fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("BROKER") {
        return binary.into();
    }
    let here = std::env::current_exe().expect("this test is a file");
    let binary = here.ancestors().nth(2).expect("it lies in deps").join("chronik");
    assert!(
        binary.is_file(),
        "{} is not there: build it with `cargo build -p chronik-cli`, or name one by BROKER",
        binary.display()
    );
    binary
}

fn log() -> Stdio {
    let Some(path) = std::env::var_os("BROKER_LOG") else { return Stdio::inherit() };
    OpenOptions::new().create(true).append(true).open(path).expect("BROKER_LOG can be written").into()
}
