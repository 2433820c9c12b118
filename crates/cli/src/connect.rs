//! What the commands that talk to a cluster share.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use chronik_base::ErrorCode;
use chronik_client::{Client, ClientError, Options};
use clap::Args;

use crate::output;

/// Which cluster, and in which form to answer.
#[derive(Args)]
pub struct ConnectArgs {
    /// Brokers to begin with
    #[arg(long, value_name = "HOST:PORT[,...]", default_value = "localhost:9092", global = true)]
    pub bootstrap_server: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true)]
    pub timeout: u64,
}

impl ConnectArgs {
    /// Connects.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let request_timeout = Duration::from_secs(self.timeout);
        let connect_timeout = request_timeout.min(Duration::from_secs(5));
        let bootstrap = self.bootstrap_server.clone();
        Client::connect(Options { bootstrap, connect_timeout, request_timeout, ..Options::default() }).await
    }

    /// The servers to begin with.
    pub fn servers(&self) -> Result<Vec<String>, ClientError> {
        chronik_client::parse_servers(&self.bootstrap_server)
    }

    /// How long to wait for one node of several to answer over HTTP: one that doesn't must not hold up the rest.
    pub fn http_limit(&self) -> Duration {
        Duration::from_secs(self.timeout).min(Duration::from_secs(3))
    }

    /// The timeout as requests carry it.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.saturating_mul(1000)).unwrap_or(i32::MAX)
    }
}

/// Runs a command to its end; an error is printed on one line.
pub fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start")
        .and_then(|runtime| runtime.block_on(command));
    outcome.unwrap_or_else(|error| {
        output::error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Counts what was refused, one line each on standard error.
#[derive(Default)]
pub struct Refusals(usize);

impl Refusals {
    /// True if `code` is none; else the refusal of `what` is printed.
    pub fn check(&mut self, code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> bool {
        match ClientError::check(code, message, what) {
            Ok(()) => true,
            Err(error) => {
                self.0 += 1;
                output::error(&error.to_string());
                false
            }
        }
    }

    /// The exit code: failure if anything was refused.
    pub fn exit_code(&self) -> ExitCode {
        if self.0 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The name of an error code, or its number.
pub fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |error| error.to_string())
}

/// Reads `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, for example retention.ms=86400000".to_owned()),
    }
}
