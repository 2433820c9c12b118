//! Short commands: documentation and fuzzing.

use crate::shell;
use anyhow::{Context, Result, bail};
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

/// Coverage for the fuzzer. No sanitizer: the code has no `unsafe`, and every promise is an assertion; so the
/// project's own toolchain will do.
const FUZZ_FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                          -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                          -Cllvm-args=-sanitizer-coverage-pc-table \
                          -Cllvm-args=-sanitizer-coverage-trace-compares";

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

/// Runs each fuzz target for a while; a finding stops the run and stays in fuzz/artifacts.
pub fn fuzz(args: &FuzzArgs) -> Result<()> {
    let fuzz = shell::root()?.join("fuzz");
    let targets = fuzz_targets(&fuzz)?;
    let wanted: Vec<&String> =
        targets.iter().filter(|name| args.target.as_ref().is_none_or(|only| only == *name)).collect();
    if wanted.is_empty() {
        bail!("no such fuzz target; there are: {}", targets.join(", "));
    }
    if !shell::is_installed("c++") {
        bail!(
            "c++ is missing: install a C++ compiler, the package g++ or clang; the fuzzer is built with it"
        );
    }
    let host = shell::host()?;
    let built = shell::target_dir()?.join("fuzz");
    shell::step("building the fuzz targets");
    // Naming the platform keeps the flags away from build scripts and macros.
    shell::run(
        shell::cargo()?
            .args(["build", "--quiet", "--release", "--target", &host, "--manifest-path"])
            .arg(fuzz.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&built)
            .env("RUSTFLAGS", FUZZ_FLAGS),
    )?;
    for target in wanted {
        shell::step(&format!("fuzzing {target} for {} s", args.seconds));
        // What it finds interesting goes below the target folder; the stored inputs are only read.
        let found = built.join("corpus").join(target);
        let artifacts = fuzz.join("artifacts").join(target);
        for folder in [&found, &artifacts] {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let mut command = Command::new(built.join(&host).join("release").join(target));
        command.arg(&found).args(
            [fuzz.join("corpus").join(target), fuzz.join("findings").join(target)]
                .iter()
                .filter(|stored| stored.is_dir()),
        );
        command.arg(format!("-max_total_time={}", args.seconds));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        shell::run(&mut command).with_context(|| {
            format!("{target} found something; it lies in {} and is wanted as a test", artifacts.display())
        })?;
    }
    println!("no findings");
    Ok(())
}

/// The names of the binaries in fuzz/fuzz_targets.
fn fuzz_targets(fuzz: &std::path::Path) -> Result<Vec<String>> {
    let folder = fuzz.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        if let Some(name) = entry?.path().file_stem().and_then(|stem| stem.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
