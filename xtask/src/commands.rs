//! Short commands: documentation and fuzzing.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct FuzzArgs {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

/// Builds the documentation; a warning is an error.
pub fn docs() -> Result<()> {
    shell::step("documentation of the workspace");
    let mut flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    flags.push_str(" -D warnings");
    shell::run(
        shell::cargo()?
            .args(["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", flags.trim()),
    )
}

/// Runs each fuzz target for a while; a finding stops the run and stays in fuzz/artifacts, from where it is to be
/// kept in fuzz/corpus, which ordinary tests replay.
pub fn fuzz(args: &FuzzArgs) -> Result<()> {
    let root = shell::root()?;
    if !root.join("fuzz/Cargo.toml").is_file() {
        bail!("there is no fuzz/Cargo.toml in {}", root.display());
    }
    let tool = cargo_fuzz()?;
    let cargo_fuzz = || {
        let mut command = Command::new(&tool);
        // The fuzzer's instrumentation needs nightly; the toolchain of this process is handed down by rustup.
        command.current_dir(&root).env_remove("CARGO").env("RUSTUP_TOOLCHAIN", "nightly").arg("fuzz");
        command
    };
    let list = shell::output(cargo_fuzz().arg("list"))?;
    let targets: Vec<&str> =
        list.lines().filter(|name| args.target.as_deref().is_none_or(|only| only == *name)).collect();
    if targets.is_empty() {
        bail!(
            "no such fuzz target; there are: {}",
            list.split_ascii_whitespace().collect::<Vec<_>>().join(", ")
        );
    }
    for target in &targets {
        shell::step(&format!("fuzzing {target} for {} s", args.seconds));
        // What it finds interesting goes below the target folder; the stored corpus is only read.
        let found = shell::target_dir()?.join("fuzz-corpus").join(target);
        std::fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        shell::run(
            cargo_fuzz()
                .args(["run", target])
                .arg(&found)
                .arg(root.join("fuzz/corpus").join(target))
                .args(["--", &format!("-max_total_time={}", args.seconds)]),
        )?;
    }
    println!("{} targets, no findings", targets.len());
    Ok(())
}

/// The installed cargo-fuzz, or one installed below the target folder.
fn cargo_fuzz() -> Result<PathBuf> {
    if shell::is_installed("cargo-fuzz") {
        return Ok("cargo-fuzz".into());
    }
    let tools = shell::target_dir()?.join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        shell::step("installing cargo-fuzz into the target folder");
        shell::run(
            shell::cargo()?.args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]).arg(&tools),
        )?;
    }
    Ok(program)
}
