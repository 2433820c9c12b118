//! The suites under tests/clients: each a folder with a `run.sh` that closes with "N passed, N failed".

use crate::shell;
use crate::test_run::Outcome;
use crate::toolchains::language;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One folder of tests/clients.
pub struct ClientSuite {
    pub name: String,
    /// Left out with `--without`.
    pub left_out: bool,
    script: PathBuf,
}

/// Every suite; those named in `without` are marked, with `only` others are not returned at all.
pub fn find(without: &[String], only: Option<&[String]>) -> Result<Vec<ClientSuite>> {
    let folder = shell::root()?.join("tests/clients");
    let mut suites = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        let script = path.join("run.sh");
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| script.is_file()) {
            suites.push(ClientSuite { name: name.to_owned(), left_out: names(without, name), script });
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    for wanted in without.iter().chain(only.unwrap_or_default()) {
        if !suites.iter().any(|suite| names(std::slice::from_ref(wanted), &suite.name)) {
            let known: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
            bail!("no client suite is called {wanted}; there are {}", known.join(", "));
        }
    }
    if let Some(only) = only.filter(|only| !only.is_empty()) {
        suites.retain(|suite| names(only, &suite.name));
    }
    Ok(suites)
}

/// True when one of the wanted names is the suite's or its language's.
fn names(wanted: &[String], suite: &str) -> bool {
    wanted.iter().any(|name| name == suite || name == language(suite))
}

impl ClientSuite {
    /// Runs the suite against a broker binary; a suite that was left out counts as one skipped.
    pub fn run(&self, broker: &Path) -> Result<Outcome> {
        if self.left_out {
            return Ok(Outcome {
                name: self.name.clone(),
                skipped: 1,
                note: "left out with --without".to_owned(),
                ..Outcome::default()
            });
        }
        shell::step(&format!("client suite {}", self.name));
        let installs = shell::target_dir()?.join("clients");
        fs::create_dir_all(&installs).with_context(|| format!("making {}", installs.display()))?;
        let started = Instant::now();
        let mut counts = None;
        let mut command = Command::new(&self.script);
        command.env("CHRONIK_BIN", broker).env("CHRONIK_CLIENTS_DIR", &installs);
        let status = shell::lines(&mut command, |line| {
            println!("  {line}");
            counts = closing_line(line).or(counts);
        })?;
        let (passed, failed) = counts.unwrap_or((0, 0));
        let mut outcome = Outcome {
            name: self.name.clone(),
            passed,
            failed,
            took: started.elapsed(),
            ..Outcome::default()
        };
        if counts.is_none() || (!status.success() && failed == 0) {
            outcome.failed += 1;
            outcome.note = format!("{} ended with {status} and no count of failures", self.script.display());
        }
        Ok(outcome)
    }
}

/// `12 passed, 0 failed`
fn closing_line(line: &str) -> Option<(u64, u64)> {
    let (passed, rest) = line.trim().split_once(" passed, ")?;
    let failed =
        rest.strip_suffix(" failed").or_else(|| rest.split_once(" failed").map(|(failed, _)| failed))?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_read_and_others_are_not() {
        assert_eq!(closing_line("12 passed, 3 failed"), Some((12, 3)));
        assert_eq!(closing_line("12 passed, 3 failed, 1 skipped"), Some((12, 3)));
        assert_eq!(closing_line("test x passed"), None);
    }

    #[test]
    fn a_language_names_all_its_suites() {
        assert!(names(&["python".to_owned()], "python-confluent"));
        assert!(names(&["kcat".to_owned()], "kcat"));
        assert!(!names(&["java".to_owned()], "python-confluent"));
    }
}
