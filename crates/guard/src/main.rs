//! Runs one hot path of the broker a number of times, so that valgrind can count its instructions: a count that a busy machine
//! can't disturb. `cargo xtask guard` runs it and holds the counts to `limits.txt`.
//!
//! Only what happens inside [`counted`] is for the count; it is found by that name.

mod ack;
mod fetch;
mod follow;
mod frames;
mod log;
mod produce;

use anyhow::{Result, bail};
use std::process::ExitCode;

/// How often a path runs in one count.
const TIMES: usize = 1_000;

/// What one path does, once it is set up: handed to [`counted`].
type Path = Box<dyn FnMut(usize) -> Result<()>>;
type SetUp = fn() -> Result<Path>;

/// The paths by name.
const PATHS: &[(&str, SetUp)] = &[
    ("produce", produce::set_up),
    ("fetch", fetch::set_up),
    ("follower-append", follow::set_up),
    ("acknowledgement", ack::set_up),
];

/// The part that counts: valgrind's `--toggle-collect` names it.
#[inline(never)]
fn counted(path: &mut Path) -> Result<()> {
    (0..TIMES).try_for_each(path)
}

fn run(arguments: &[String]) -> Result<()> {
    let [wanted] = arguments else {
        bail!("usage: chronik-guard PATH, or list; the paths are {}", names().join(", "))
    };
    if wanted == "list" {
        names().iter().for_each(|name| println!("{name} {TIMES}"));
        return Ok(());
    }
    let Some((_, set_up)) = PATHS.iter().find(|(name, _)| name == wanted) else {
        bail!("no path is called {wanted}; there are {}", names().join(", "))
    };
    let mut path = set_up()?;
    counted(&mut path)
}

fn names() -> Vec<&'static str> {
    PATHS.iter().map(|(name, _)| *name).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chronik-guard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_runs_as_often_as_it_is_counted() {
        for (name, set_up) in PATHS {
            let mut path = set_up().unwrap_or_else(|error| panic!("{name}: {error:#}"));
            counted(&mut path).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
}
