//! The chaos test: builds release binaries and hands over to `chronik-harness`.

use crate::shell;
use crate::toolchains;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Pinned, as everything that the client suites take is.
const CLASS_PATH_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath";

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
    /// Clients to leave out of the load: java.
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = ["java"])]
    without: Vec<String>,
    /// Records a second, over all producers.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
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
    let java = if args.without.is_empty() { Some(java_class_path()?) } else { None };
    let binaries = shell::build_release(&["chronik-cli", "chronik-harness"])?;
    let svg = args.svg.clone().map_or_else(|| Ok(shell::target_dir()?.join("chaos.svg")), anyhow::Ok)?;
    let mut command = Command::new(binaries.join("chronik-harness"));
    command.arg("chaos").arg("--broker").arg(binaries.join("chronik"));
    command.args(["--minutes", &args.minutes.to_string(), "--nodes", &args.nodes.to_string()]);
    command.args(["--mode", &args.mode]).arg("--svg").arg(&svg);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(["--rate", &args.rate.to_string()]);
    if let Some(java) = java {
        command.args(["--java-class-path", &java]);
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

/// Fetches the Java clients as the client suites do, with the same versions and into the same folder, and returns the
/// class path.
fn java_class_path() -> Result<String> {
    if let Some(missing) = toolchains::missing_for_suite("java") {
        bail!("{missing}");
    }
    let project = shell::root()?.join("tests/clients/java/pom.xml");
    let clients = shell::target_dir()?.join("clients");
    let work = clients.join("chaos");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let (class_path, fetched_for) = (work.join("class-path"), work.join("pom.xml"));
    let wanted = fs::read(&project).with_context(|| format!("reading {}", project.display()))?;
    if !class_path.is_file() || fs::read(&fetched_for).ok().as_deref() != Some(&wanted) {
        shell::step("fetching the Java clients");
        let mut command = Command::new("mvn");
        command.args(["-B", "-ntp", "-q", "-Dstyle.color=never", "-f"]).arg(&project);
        command.arg(format!("-Dwork={}", work.join("target").display()));
        command.arg(format!("-Dmaven.repo.local={}", clients.join("maven").display()));
        command.arg(CLASS_PATH_GOAL).arg(format!("-Dmdep.outputFile={}", class_path.display()));
        shell::run(&mut command)?;
        fs::write(&fetched_for, wanted).with_context(|| format!("writing {}", fetched_for.display()))?;
    }
    let text =
        fs::read_to_string(&class_path).with_context(|| format!("reading {}", class_path.display()))?;
    Ok(text.trim().to_owned())
}
