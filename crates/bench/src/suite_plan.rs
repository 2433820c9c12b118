//! The file of a suite: which runs there are, and which of them are done.

use crate::result::RunResult;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Commands that a suite may run.
const COMMANDS: &[&str] = &["produce", "consume", "e2e", "mixed", "saturate"];
/// Commands that write, and so end by reading back what was acknowledged.
const WRITE: &[&str] = &["produce", "e2e", "mixed"];
/// What the suite itself says.
const OWN: &[&str] = &["--bootstrap-server", "--output", "--label", "--json"];

/// A suite.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// What it is for.
    #[serde(default)]
    pub title: String,
    /// Options of every run, before its own.
    #[serde(default)]
    pub common: Vec<String>,
    /// How often each run is made.
    #[serde(default = "three")]
    pub rounds: u32,
    /// The runs.
    #[serde(rename = "run")]
    pub runs: Vec<Run>,
}

/// One run of a suite.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name, which its files carry: letters, digits, `-`, `_`, `=`.
    pub name: String,
    /// `produce`, `consume`, `e2e`, `mixed` or `saturate`.
    pub command: String,
    /// Options of that command.
    #[serde(default)]
    pub options: Vec<String>,
}

/// One run in one round.
#[derive(Debug, PartialEq)]
pub struct Turn {
    /// The run's name.
    pub name: String,
    /// From 1.
    pub round: u32,
    /// What to call this program with.
    pub arguments: Vec<String>,
    /// Where the result goes.
    pub output: PathBuf,
}

const fn three() -> u32 {
    3
}

impl Suite {
    /// Reads a suite, or takes one that is built in by its name.
    ///
    /// # Errors
    /// There is no such file, or it is no suite; the message says where.
    pub fn load(given: &str) -> Result<Self> {
        let text = match BUILT_IN.iter().find(|(name, _)| *name == given) {
            Some((_, text)) => (*text).to_owned(),
            None => std::fs::read_to_string(given).with_context(|| {
                format!("no suite is called {given:?}, and there is no such file; --list names the suites that are built in")
            })?,
        };
        let suite: Self = toml::from_str(&text).with_context(|| format!("{given} is no suite"))?;
        suite.check().with_context(|| format!("{given} is no suite"))?;
        Ok(suite)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.rounds >= 1, "rounds = 0: at least one round is needed");
        ensure!(!self.runs.is_empty(), "it has no [[run]]");
        let mut names = BTreeSet::new();
        for run in &self.runs {
            let name = &run.name;
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
            ensure!(
                !name.is_empty() && name.chars().all(plain),
                "name {name:?}: use letters, digits, -, _ and ="
            );
            ensure!(names.insert(name), "two runs are called {name}");
            if !COMMANDS.contains(&run.command.as_str()) {
                bail!("run {name}: command {:?} is none of {}", run.command, COMMANDS.join(", "));
            }
            for option in self.common.iter().chain(&run.options) {
                let option = option.split('=').next().unwrap_or(option);
                ensure!(!OWN.contains(&option), "run {name}: {option} is set by the suite itself");
            }
        }
        Ok(())
    }

    /// All runs of all rounds, round after round, so that what changes on the machine hits all runs alike.
    pub fn turns(&self, bootstrap: &str, folder: &Path) -> Vec<Turn> {
        let mut turns = Vec::new();
        for round in 1..=self.rounds {
            for run in &self.runs {
                let output = folder.join(format!("{}.{round}.json", run.name));
                let mut arguments = vec![run.command.clone()];
                arguments.extend(["--bootstrap-server".to_owned(), bootstrap.to_owned()]);
                arguments.extend(self.common.iter().chain(&run.options).cloned());
                if WRITE.contains(&run.command.as_str()) && !arguments.iter().any(|known| known == "--verify")
                {
                    arguments.push("--verify".to_owned());
                }
                arguments.extend(["--label".to_owned(), run.name.clone(), "--output".to_owned()]);
                arguments.push(output.display().to_string());
                turns.push(Turn { name: run.name.clone(), round, arguments, output });
            }
        }
        turns
    }
}

/// True where a run's file is there and whole: then it need not be made again.
pub fn is_done(output: &Path) -> bool {
    let text = std::fs::read_to_string(output).ok();
    let run = text.and_then(|text| serde_json::from_str::<RunResult>(&text).ok());
    run.is_some_and(|run| !run.interrupted)
}

/// Suites that need no file.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "smoke",
        r#"
title = "Does it work? A few seconds of each kind of load"
common = ["--duration", "2s", "--warmup", "500ms"]
rounds = 1
run = [
  { name = "produce", command = "produce" },
  { name = "produce-all", command = "produce", options = ["--acks", "all"] },
  { name = "rate", command = "produce", options = ["--rate", "500"] },
  { name = "e2e", command = "e2e", options = ["--rate", "500"] },
]
"#,
    ),
    (
        "standard",
        r#"
title = "Acknowledgements, linger, sizes and end-to-end latency, three rounds of each"
common = ["--duration", "30s", "--warmup", "5s"]
run = [
  { name = "acks-1", command = "produce", options = ["--acks", "1"] },
  { name = "acks-1-linger-1ms", command = "produce", options = ["--acks", "1", "--linger", "1ms"] },
  { name = "acks-all", command = "produce", options = ["--acks", "all"] },
  { name = "acks-all-linger-1ms", command = "produce", options = ["--acks", "all", "--linger", "1ms"] },
  { name = "size-1KiB", command = "produce", options = ["--acks", "all", "--message-size", "1KiB"] },
  { name = "size-16KiB", command = "produce", options = ["--acks", "all", "--message-size", "16KiB"] },
  { name = "rate-2000", command = "produce", options = ["--acks", "all", "--rate", "2000"] },
  { name = "e2e-2000", command = "e2e", options = ["--acks", "all", "--rate", "2000"] },
]
"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_suites_are_suites() {
        for (name, _) in BUILT_IN {
            assert!(!Suite::load(name).unwrap().title.is_empty());
        }
    }

    #[test]
    fn rounds_alternate_and_what_writes_is_verified() {
        let suite: Suite = toml::from_str(
            "common = [\"--duration\", \"1s\"]\nrounds = 2\n[[run]]\nname = \"a\"\ncommand = \"produce\"\n\
             [[run]]\nname = \"b\"\ncommand = \"consume\"\noptions = [\"--consumers\", \"3\"]\n",
        )
        .unwrap();
        suite.check().unwrap();
        let turns = suite.turns("x:1", Path::new("out"));
        let order: Vec<(&str, u32)> = turns.iter().map(|turn| (turn.name.as_str(), turn.round)).collect();
        assert_eq!(order, [("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
        assert_eq!(
            turns[0].arguments.join(" "),
            "produce --bootstrap-server x:1 --duration 1s --verify --label a --output out/a.1.json"
        );
        assert!(!turns[1].arguments.contains(&"--verify".to_owned()));
    }

    #[test]
    fn a_suite_that_makes_no_sense_says_why() {
        let check = |text: &str| match toml::from_str::<Suite>(text) {
            Ok(suite) => suite.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        let one = "[[run]]\nname = \"a\"\ncommand = \"produce\"\n";
        assert!(check(&format!("{one}{one}")).contains("two runs are called a"));
        assert!(check("[[run]]\nname = \"a.b\"\ncommand = \"produce\"").contains("letters"));
        assert!(check("[[run]]\nname = \"a\"\ncommand = \"explode\"").contains("explode"));
        assert!(check(&format!("{one}options = [\"--output=x\"]")).contains("--output"));
        assert!(check("runs = 1").contains("runs"));
    }

    #[test]
    fn only_whole_results_are_done() {
        let dir = std::env::temp_dir().join(format!("chronik-bench-suite-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.1.json");
        assert!(!is_done(&path));
        for (interrupted, done) in [(false, true), (true, false)] {
            let run = RunResult { interrupted, ..RunResult::default() };
            std::fs::write(&path, serde_json::to_string(&run).unwrap()).unwrap();
            assert_eq!(is_done(&path), done);
        }
        std::fs::write(&path, "{\"schema\":").unwrap();
        assert!(!is_done(&path));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
