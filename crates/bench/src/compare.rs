//! `chronik-bench compare`: two sets of result files side by side.

use crate::compare_runs::{Line, RUNS_NEEDED, Verdict, chance, compare, differences};
use crate::result::{RunResult, SCHEMA};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What `compare` takes.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    chronik-bench compare before.json after.json\n  \
    chronik-bench compare a1.json,a2.json,a3.json b1.json,b2.json,b3.json\n  \
    chronik-bench compare before/ after/ --json")]
pub struct CompareArgs {
    /// Result files of the first: a file, several with commas between them, or a folder.
    #[arg(value_name = "A")]
    first: String,
    /// Result files of the second.
    #[arg(value_name = "B")]
    second: String,
    /// Compares runs of different settings or machines, too.
    #[arg(long)]
    force: bool,
    /// JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Comparison<'a> {
    first: &'a str,
    second: &'a str,
    /// What the runs do not have in common; only with `--force`.
    differences: Vec<String>,
    /// How likely runs of the same thing are to lie apart like that by chance.
    chance: f64,
    lines: Vec<Line>,
}

/// Compares and prints.
///
/// # Errors
/// A file is no result, or the runs may not be compared.
pub fn run(args: &CompareArgs) -> Result<bool> {
    let (first, second) = (load(&args.first)?, load(&args.second)?);
    let mut differing = Vec::new();
    if let Some(one) = first.first() {
        for other in first.iter().chain(&second).skip(1) {
            for difference in differences(one, other) {
                if !differing.contains(&difference) {
                    differing.push(difference);
                }
            }
        }
    }
    if !differing.is_empty() && !args.force {
        bail!(
            "the runs are of different settings or machines, so a difference would say nothing (--force compares them all the same):\n  {}",
            differing.join("\n  ")
        );
    }
    let comparison = Comparison {
        first: &args.first,
        second: &args.second,
        differences: differing,
        chance: chance(first.len(), second.len()),
        lines: compare(&first, &second),
    };
    ensure!(!comparison.lines.is_empty(), "{} and {} have no figure in common", args.first, args.second);
    if args.json {
        println!("{}", serde_json::to_string(&comparison)?);
    } else {
        print(&comparison, first.len().min(second.len()));
    }
    Ok(true)
}

fn load(given: &str) -> Result<Vec<RunResult>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for part in given.split(',') {
        let path = Path::new(part);
        if !path.is_dir() {
            paths.push(path.to_owned());
            continue;
        }
        for entry in std::fs::read_dir(path).with_context(|| format!("listing {part}"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{given}: no result file there (files that end in .json)");
    paths.iter().map(|path| read(path)).collect()
}

/// One result file.
pub fn read(path: &Path) -> Result<RunResult> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let run: RunResult = serde_json::from_str(&text)
        .with_context(|| format!("{} is no result file of chronik-bench", path.display()))?;
    ensure!(
        run.schema == SCHEMA,
        "{} has schema {:?}; this version reads {SCHEMA:?}",
        path.display(),
        run.schema
    );
    Ok(run)
}

fn print(comparison: &Comparison<'_>, fewest: usize) {
    for difference in &comparison.differences {
        println!("differs (--force): {difference}");
    }
    println!(
        "{:10} {:18} {:>36} {:>36} {:>7}  verdict",
        "stream", "", "A: median (min to max)", "B: median (min to max)", "B/A"
    );
    for line in &comparison.lines {
        let side = |spread: &crate::compare_runs::Spread| {
            format!("{} ({} to {})", number(spread.median), number(spread.min), number(spread.max))
        };
        let verdict = match (line.verdict, line.better) {
            (Verdict::TooFewRuns, _) => "too few runs",
            (Verdict::NoDifference, _) => "no difference",
            (_, Some(true)) => "B is better",
            (_, _) => "B is worse",
        };
        println!(
            "{:10} {:18} {:>36} {:>36} {:>7.2}  {verdict}",
            line.stream,
            line.figure,
            side(&line.first),
            side(&line.second),
            line.ratio
        );
    }
    if fewest < RUNS_NEEDED {
        println!("{RUNS_NEEDED} runs of each are needed before a difference can be told from noise.");
    } else {
        println!(
            "\"No difference\": the runs overlap. Runs of the same thing lie apart by chance in {:.1} % of cases.",
            comparison.chance * 100.0
        );
    }
}

/// Three or four digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) && !out.ends_with('-') {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(
            [0.123, 12.34, 123.4, 1234.5, 1_234_567.0].map(number),
            ["0.12", "12.3", "123", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn another_schema_is_refused() {
        let dir = std::env::temp_dir().join(format!("chronik-bench-compare-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.json");
        let run = RunResult { schema: "chronik-bench/0".to_owned(), ..RunResult::default() };
        std::fs::write(&path, serde_json::to_string(&run).unwrap()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("chronik-bench/0") && error.contains(SCHEMA), "{error}");
    }
}
