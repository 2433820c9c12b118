//! Who this node is: `node.toml` in the data directory, written at the first start and checked at each later one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chronik_base::{NodeId, Timestamp, Uuid};

use crate::store::{StoreError, replace};

const FILE: &str = "node.toml";

/// The newest layout of a data directory that this version of Chronik knows.
pub const FORMAT: u32 = 1;

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's identifier in its cluster.
    pub node_id: NodeId,
    /// The cluster.
    pub cluster_id: Uuid,
    /// When the directory was made, by the wall clock; milliseconds.
    pub created: Timestamp,
}

/// Why the node cannot be who it is asked to be.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory belongs to another node.
    #[error("{} belongs to node {found}, this one is node.id = {wanted}: use --node-id {found}, or another --data-dir", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Who the directory belongs to.
        found: NodeId,
        /// Who this node is to be.
        wanted: NodeId,
    },
    /// The directory has a newer layout.
    #[error("{} has data format {found}, this version of Chronik knows {FORMAT}: run the newer one, or use another --data-dir", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// The file cannot be understood.
    #[error("{} line {line}: {problem}; restore the file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where; 0 for the file as a whole.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] StoreError),
}

impl Identity {
    /// Reads the identity of `data_directory`; `None` if it has none yet. It must be `node_id`'s.
    pub fn read(data_directory: &Path, node_id: NodeId) -> Result<Option<Self>, IdentityError> {
        let path = data_directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { action: "read", path, source }.into()),
        };
        let (format, identity) = parse(&text).map_err(|(line, problem)| IdentityError::Malformed {
            path: path.clone(),
            line,
            problem,
        })?;
        if format > FORMAT {
            return Err(IdentityError::Newer { path, found: format });
        }
        let missing = || IdentityError::Malformed {
            path: path.clone(),
            line: 0,
            problem: "a key is missing".to_owned(),
        };
        let identity = identity.ok_or_else(missing)?;
        if identity.node_id != node_id {
            return Err(IdentityError::OtherNode { path, found: identity.node_id, wanted: node_id });
        }
        Ok(Some(identity))
    }

    /// Writes the identity into `data_directory`.
    pub fn write(&self, data_directory: &Path, flush: bool) -> Result<(), IdentityError> {
        let text = format!(
            "# Who this data directory belongs to. Written at the first start; do not edit.\n\
             format = {FORMAT}\nnode_id = {}\ncluster_id = \"{}\"\ncreated_ms = {}\n",
            self.node_id, self.cluster_id, self.created
        );
        Ok(replace(data_directory, FILE, text.as_bytes(), flush)?)
    }
}

/// The format, and the identity if every key is there. A newer format may have other keys, so unknown ones pass.
fn parse(text: &str) -> Result<(u32, Option<Identity>), (usize, String)> {
    let (mut format, mut node_id, mut cluster_id, mut created) = (None, None, None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or((number, format!("{line:?} is not KEY = VALUE")))?;
        let value = value.trim().trim_matches('"');
        let bad = |_| (number, format!("{value:?} cannot be the value of {}", key.trim()));
        match key.trim() {
            "format" => format = Some(value.parse().map_err(bad)?),
            "node_id" => node_id = Some(value.parse().map_err(bad)?),
            "created_ms" => created = Some(value.parse().map_err(bad)?),
            "cluster_id" => {
                let id: Uuid = value.parse().map_err(|error| (number, format!("{error}")))?;
                cluster_id = Some(id);
            }
            _ => {}
        }
    }
    let format = format.ok_or((0, "the key format is missing".to_owned()))?;
    let identity = match (node_id, cluster_id, created) {
        (Some(node_id), Some(cluster_id), Some(created)) => Some(Identity { node_id, cluster_id, created }),
        _ => None,
    };
    Ok((format, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(directory.path(), 1).unwrap(), None);
        let identity = Identity { node_id: 1, cluster_id: Uuid::from_random([7; 16]), created: 12 };
        identity.write(directory.path(), true).unwrap();
        assert_eq!(Identity::read(directory.path(), 1).unwrap(), Some(identity));
        let error = Identity::read(directory.path(), 2).unwrap_err().to_string();
        assert!(error.contains("belongs to node 1, this one is node.id = 2"), "{error}");
    }

    #[test]
    fn a_newer_or_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(directory.path().join(FILE), text).unwrap();
            Identity::read(directory.path(), 1).unwrap_err().to_string()
        };
        assert!(read("format = 2\nshape = \"round\"\n").contains("data format 2"));
        assert!(read("format = 1\n").contains("a key is missing"));
        assert!(read("format = 1\nnode_id = x\n").contains("line 2"));
        assert!(read("").contains("the key format is missing"));
    }
}
