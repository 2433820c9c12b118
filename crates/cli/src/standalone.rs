//! `chronik standalone` and `chronik raft-cluster`: run a node until it is told to stop.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use chronik_config::{Mode, NodeConfig, Settings};
use chronik_node::{Node, RunningNode, StartError, StopReason, StopSignals};
use clap::ArgMatches;
use serde::Serialize;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::{SettingArgs, output, setting_flags};

/// What the long help says before the examples.
macro_rules! long_help {
    ($examples:expr) => {
        concat!(
            "\
Each setting is a flag (--message-max-bytes 4MiB), an environment variable (CHRONIK_MESSAGE_MAX_BYTES)
and a key of the file (message.max.bytes).

SIGTERM and SIGINT stop the broker: it answers what is in flight, flushes, checkpoints, and exits with 0;
a second signal ends it at once.

Exit codes:
   0  the node ended as it was told to
   1  the operating system refused something else
   2  a flag or a setting is wrong
  10  the address is in use
  11  the address can't be listened on
  12  the data directory is in use
  13  the data directory is of a newer version
  14  the data directory is not writable
  15  the disk is full
  16  ulimit -n is too low
  17  the data directory holds what can't be used

",
            $examples
        )
    };
}

/// What the short help says before the examples.
macro_rules! short_help {
    ($examples:expr) => {
        concat!(
            "\
--help shows every setting. Each is a flag (--message-max-bytes 4MiB), an environment variable
(CHRONIK_MESSAGE_MAX_BYTES) and a key of the file (message.max.bytes).

",
            $examples
        )
    };
}

macro_rules! standalone_examples {
    () => {
        "\
Examples:
  chronik standalone
  chronik standalone --listen 0.0.0.0:9092 --advertise kafka.example.com:9092 --data-dir /var/lib/chronik
  chronik standalone --config chronik.toml --log-level debug
  chronik standalone --ephemeral --listen 127.0.0.1:0 --until-stdin-closes
  CHRONIK_REPLICATION_FOLLOWERS=hostB:9092,hostC:9092 chronik standalone
                                        with two followers: plain `chronik standalone` on hostB and hostC"
    };
}

macro_rules! raft_cluster_examples {
    () => {
        "\
Examples:
  P=1@10.0.0.1:9092,2@10.0.0.2:9092,3@10.0.0.3:9092
  chronik raft-cluster --node-id 1 --listen 10.0.0.1:9092 --peers $P --data-dir /var/lib/chronik
                                        and the same on the others, in any order, each with its own id and address
  chronik raft-cluster --node-id 4 --listen 10.0.0.4:9092 --join 10.0.0.1:9092 --data-dir /var/lib/chronik
                                        a further node, without a vote; `chronik cluster add-voter` gives it one
  chronik cluster status                what is wrong with the cluster, and what to do"
    };
}

/// Shown after the short help of `chronik standalone`.
pub const STANDALONE: &str = short_help!(standalone_examples!());

/// Shown after the long help of `chronik standalone`.
pub const STANDALONE_LONG: &str = long_help!(standalone_examples!());

/// Shown after the short help of `chronik raft-cluster`.
pub const RAFT_CLUSTER: &str = short_help!(raft_cluster_examples!());

/// Shown after the long help of `chronik raft-cluster`.
pub const RAFT_CLUSTER_LONG: &str = long_help!(raft_cluster_examples!());

/// A start that is told to stop may finish within this, to end cleanly; a long recovery is broken off.
const START_FINISHES_WITHIN: Duration = Duration::from_millis(500);

/// Threads that may wait for the disk at once.
const BLOCKING_THREADS_MAX: usize = 64;

/// What `--ephemeral` prints once it serves.
#[derive(Serialize)]
struct Serving {
    bootstrap: String,
    pid: u32,
}

/// Runs the node.
pub fn run(mode: Mode, args: &SettingArgs, matches: &ArgMatches) -> ExitCode {
    match start(mode, args, matches) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(mode: Mode, args: &SettingArgs, matches: &ArgMatches) -> Result<ExitCode, StartError> {
    let settings = setting_flags::load(Some(mode), args, matches)
        .map_err(|error| StartError::Config(error.to_string()))?;
    let config = NodeConfig::from_settings(&settings);
    log_to_stderr(&config.log_level)?;
    if !settings.ignored_variables().is_empty() {
        tracing::warn!("not settings, and ignored: {}", settings.ignored_variables().join(", "));
    }
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = runtime(config.worker_threads)?;
    let result = runtime.block_on(serve(settings, &config));
    // What still runs after a second signal must not be waited for.
    runtime.shutdown_background();
    result
}

fn log_to_stderr(filter: &str) -> Result<(), StartError> {
    // The library tells every heartbeat and every failed call; what people need is told beside it.
    let with_library =
        if filter.contains("openraft") { filter.to_owned() } else { format!("{filter},openraft=off") };
    let filter = EnvFilter::builder().parse(&with_library).map_err(|error| {
        StartError::Config(format!(
            "log.level = {filter:?}: {error}; expected error, warn, info, debug or trace, or a filter such as info,chronik_log=debug"
        ))
    })?;
    let is_colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_colored)
        .with_target(false)
        .init();
    Ok(())
}

fn runtime(worker_threads: usize) -> Result<Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if worker_threads > 0 {
        builder.worker_threads(worker_threads);
    }
    builder
        .enable_all()
        // They read what is not in the system's cache.
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("chronik-worker")
        .build()
        .map_err(|error| StartError::System(format!("can't start threads: {error}; see `ulimit -u`")))
}

async fn serve(settings: Settings, config: &NodeConfig) -> Result<ExitCode, StartError> {
    let mut signals = StopSignals::install(config.until_stdin_closes)
        .map_err(|error| StartError::System(format!("can't watch signals: {error}")))?;
    let mut is_first = true;
    let (node, reason) = loop {
        let mut starting = tokio::spawn(Node::start(settings.clone()));
        let failed = |error| StartError::System(format!("the start failed: {error}"));
        let (mut node, reason) = tokio::select! {
            node = &mut starting => (node.map_err(failed)??, None),
            reason = signals.next() => match tokio::time::timeout(START_FINISHES_WITHIN, &mut starting).await {
                Ok(node) => (node.map_err(failed)??, Some(reason)),
                // Nothing was acknowledged yet, and a start that is broken off is recovered by the next.
                Err(_) => return Ok(ExitCode::from(reason.exit_code())),
            },
        };
        if std::mem::take(&mut is_first) && config.ephemeral && reason.is_none() {
            say_where(&node);
        }
        if let Some(reason) = reason {
            break (node, reason);
        }
        tokio::select! {
            reason = signals.next() => break (node, reason),
            restart = node.restart_wanted() => restart?,
        }
        node.stop().await;
    };
    tracing::info!("stopping ({})", in_words(reason));
    tokio::select! {
        () = node.stop() => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        reason = signals.next() => {
            tracing::warn!("{} again: ending at once", in_words(reason));
            Ok(ExitCode::from(reason.exit_code()))
        }
    }
}

fn say_where(node: &RunningNode) {
    let mut address = node.address();
    match address.ip() {
        // "All addresses" can't be connected to.
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let serving = Serving { bootstrap: address.to_string(), pid: std::process::id() };
    let mut stdout = std::io::stdout().lock();
    // Nobody reads it if that fails.
    let _ = serde_json::to_writer(&mut stdout, &serving);
    let _ = writeln!(stdout);
    let _ = stdout.flush();
}

fn in_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Terminate => "SIGTERM",
        StopReason::Interrupt => "SIGINT",
        StopReason::StdinClosed => "standard input was closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_code() {
        for (code, meaning) in StartError::EXIT_CODES {
            assert!(STANDALONE_LONG.contains(&format!("{code:>4}  {meaning}\n")), "{code} {meaning}");
        }
    }
}
