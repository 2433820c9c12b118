//! `quorum.toml`: who decides, where that is not simply this node. A node that was never anything but its own voter has no such file.
//!
//! The generation is raised when an operator makes a follower the voter. Every call carries the highest one that its sender knows, so that the
//! earlier voter, should it come back, is told; it steps back then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chronik_base::NodeId;

const FILE: &str = "quorum.toml";

/// The newest form of the file that is known here.
const FORMAT: u32 = 1;

/// Who decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The highest generation that this node knows.
    pub(crate) generation: u64,
    /// The generation that the metadata in the data directory are of: those of an earlier one may hold changes that the later one never had.
    pub(crate) data: u64,
    /// Whether this node decides, where that is not as it was started: a promoted follower does, the voter that came before it does not.
    pub(crate) decides: Option<bool>,
    /// The voter of that generation, as far as it is known.
    pub(crate) voter: Option<NodeId>,
    /// Voters that were known last.
    pub(crate) sources: Vec<NodeId>,
    /// How far this node's Raft quorum has come, if it ever was part of one.
    pub(crate) quorum: Option<Formation>,
}

/// How far a Raft quorum has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formation {
    /// This node began it with the metadata of its standalone run, and takes the listed nodes in.
    TakingIn,
    /// It has begun, and the listed nodes are in it.
    Formed,
}

/// Why `quorum.toml` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The operating system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds what nobody wrote.
    #[error("{}: {problem}; restore it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl Standing {
    /// Reads the file; a missing one is the standing of a node that decides alone.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, StandingError> {
        let path = data_dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => parse(&text).map_err(|problem| StandingError::Malformed { path, problem }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StandingError::Io { action: "read", path, source }),
        }
    }

    /// Writes the file: after a crash there is the old one or this one, whole.
    pub(crate) fn write(&self, data_dir: &Path, flush: bool) -> Result<(), StandingError> {
        let path = data_dir.join(FILE);
        let beside = data_dir.join("quorum.toml.new");
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StandingError::Io { action, path, source }
        };
        let quorum = match self.quorum {
            Some(Formation::TakingIn) => "quorum = taking-in\n",
            Some(Formation::Formed) => "quorum = formed\n",
            None => "",
        };
        let sources: Vec<_> = self.sources.iter().map(NodeId::to_string).collect();
        let decides = self.decides.map(|decides| format!("decides = {decides}\n")).unwrap_or_default();
        let voter = self.voter.map(|voter| format!("voter = {voter}\n")).unwrap_or_default();
        let text = format!(
            "# Who decides about this node's metadata. Kept by the node; do not edit.\nformat = {FORMAT}\ngeneration = {}\ndata_generation = {}\n{decides}{voter}{quorum}sources = \"{}\"\n",
            self.generation,
            self.data,
            sources.join(" ")
        );
        let mut file = File::create(&beside).map_err(fail("make", &beside))?;
        file.write_all(text.as_bytes()).map_err(fail("write", &beside))?;
        if flush {
            file.sync_all().map_err(fail("flush", &beside))?;
        }
        fs::rename(&beside, &path).map_err(fail("rename to", &path))?;
        if flush {
            File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(fail("flush", data_dir))?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Standing, String> {
    let mut standing = Standing::default();
    let mut format = None;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not KEY = VALUE"))?;
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        let bad = |_: std::num::ParseIntError| format!("{value:?} cannot be the value of {key}");
        match key {
            "format" => format = Some(value.parse().map_err(bad)?),
            "generation" => standing.generation = value.parse().map_err(bad)?,
            "data_generation" => standing.data = value.parse().map_err(bad)?,
            "decides" => {
                standing.decides = match value {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => return Err(format!("{value:?} cannot be the value of decides")),
                };
            }
            "voter" => standing.voter = Some(value.parse().map_err(bad)?),
            "quorum" => {
                standing.quorum = match value {
                    "taking-in" => Some(Formation::TakingIn),
                    "formed" => Some(Formation::Formed),
                    _ => return Err(format!("{value:?} cannot be the value of quorum")),
                };
            }
            "sources" => {
                standing.sources =
                    value.split_whitespace().map(str::parse).collect::<Result<_, _>>().map_err(bad)?;
            }
            _ => {}
        }
    }
    match format {
        Some(1..=FORMAT) => Ok(standing),
        Some(other) => {
            Err(format!("format {other} is not known to this version of Chronik, {FORMAT} is the newest"))
        }
        None => Err("the key format is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Standing::read(dir.path()).unwrap(), Standing::default());
        for standing in [
            Standing {
                generation: 3,
                data: 2,
                decides: Some(false),
                voter: Some(2),
                sources: vec![2, 1],
                quorum: None,
            },
            Standing {
                generation: 4,
                data: 4,
                decides: Some(true),
                voter: None,
                sources: Vec::new(),
                quorum: Some(Formation::Formed),
            },
        ] {
            standing.write(dir.path(), true).unwrap();
            assert_eq!(Standing::read(dir.path()).unwrap(), standing);
        }
    }

    #[test]
    fn a_newer_or_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(dir.path().join(FILE), text).unwrap();
            Standing::read(dir.path()).unwrap_err().to_string()
        };
        assert!(read("format = 2\n").contains("format 2"));
        assert!(read("generation = 2\n").contains("format is missing"));
        assert!(read("format = 1\ngeneration = many\n").contains("\"many\""));
    }
}
