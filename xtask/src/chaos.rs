//! The chaos test: builds release binaries and hands over to `chronik-harness`.

use crate::shell;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// How long faults are made.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Repeats the random choices of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes of the cluster: 3 or 2.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// What the cluster is: `raft`, or `followers` of a standalone node.
    #[arg(long, default_value = "raft")]
    mode: String,
    /// Only these kinds of faults, as kill,pause,cut-one-way,cut,isolate,slow,full-disk,wipe,term,rolling,reassign,elect.
    #[arg(long)]
    faults: Option<String>,
    /// A gap that is longer than its goal counts as a finding; only on a machine that has nothing else to do.
    #[arg(long)]
    hold_goals: bool,
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the picture of the run goes; otherwise chaos.svg in the target folder.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// `cargo xtask chaos`
pub fn run(args: &Args) -> Result<()> {
    let binaries = shell::build_release(&["chronik-cli", "chronik-harness"])?;
    let svg = args.svg.clone().map_or_else(|| Ok(shell::target_dir()?.join("chaos.svg")), anyhow::Ok)?;
    let mut command = Command::new(binaries.join("chronik-harness"));
    command.arg("chaos").arg("--broker").arg(binaries.join("chronik"));
    command.args(["--minutes", &args.minutes.to_string(), "--nodes", &args.nodes.to_string()]);
    command.args(["--mode", &args.mode]).arg("--svg").arg(&svg);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if let Some(faults) = &args.faults {
        command.args(["--faults", faults]);
    }
    for (flag, given) in [("--hold-goals", args.hold_goals), ("--json", args.json)] {
        if given {
            command.arg(flag);
        }
    }
    shell::run(&mut command)?;
    eprintln!("the run as a picture: {}", svg.display());
    Ok(())
}
