//! Running other programs, and where things lie.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The repository's top folder.
pub fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.to_owned())
}

/// Cargo's target folder: `CARGO_TARGET_DIR` or `target` of the repository.
pub fn target_dir() -> Result<PathBuf> {
    let root = root()?;
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    })
}

/// The cargo that runs this xtask, in the repository's top folder.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// The platform that this runs on, as rustc names it.
pub fn host() -> Result<String> {
    output(cargo()?.args(["-vV"]))?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("cargo -vV names no host")
}

/// A line of progress that says what comes now.
pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// True when progress may be drawn over itself.
pub fn on_a_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Runs to the end; an exit code other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", describe(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs to the end and returns standard output; standard error goes where ours goes.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", describe(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", describe(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("the output of {} is not text", describe(command)))
}

/// Runs to the end and hands over every line of both outputs as it comes.
pub fn lines(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(std::process::Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting {}", describe(command)))?;
    // The command keeps its ends of the pipe open until they are replaced; the reader would never see the end.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(child.wait()?)
}

/// Builds binaries of the workspace with the release profile and returns their folder.
pub fn build_release(packages: &[&str]) -> Result<PathBuf> {
    build(packages, true)
}

/// Builds binaries of the workspace and returns the folder they are in.
pub fn build(packages: &[&str], release: bool) -> Result<PathBuf> {
    step(&format!("building {}{}", packages.join(", "), if release { " (release)" } else { "" }));
    let mut command = cargo()?;
    command.arg("build").arg("--quiet");
    if release {
        command.arg("--release");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }))
}

/// True when a program of that name can be started.
pub fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    format!("`{}`", words.join(" "))
}
