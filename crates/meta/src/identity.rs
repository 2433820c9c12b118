//! Who this node is: `node.toml` in the data directory, written at the first start and checked at each later one.

use std::collections::BTreeMap;
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
    /// The cluster; `None` while the node has not heard from it.
    pub cluster_id: Option<Uuid>,
    /// When the directory was made, by the wall clock; milliseconds.
    pub created: Timestamp,
    /// The directory itself, random: a node that comes back with another one has lost what it held. [`Uuid::ZERO`] if the file is of a version
    /// that did not write it: give it one and write it.
    pub directory: Uuid,
    /// What the node has to do with the metadata of its cluster.
    pub role: Role,
}

/// What a node has to do with the metadata of its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It decides alone: a quorum of one.
    #[default]
    Standalone,
    /// It votes with others.
    Voter,
    /// It learns what others decide.
    Observer,
}

impl Role {
    /// The word for it in `node.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Standalone => "standalone",
            Role::Voter => "voter",
            Role::Observer => "observer",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Role::Standalone, Role::Voter, Role::Observer].into_iter().find(|role| role.name() == name)
    }
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
        let identity = Self::find(data_directory)?;
        match &identity {
            Some(Self { node_id: found, .. }) if *found != node_id => Err(IdentityError::OtherNode {
                path: data_directory.join(FILE),
                found: *found,
                wanted: node_id,
            }),
            _ => Ok(identity),
        }
    }

    /// Reads the identity of `data_directory`, whoever it is; `None` if it has none yet.
    pub fn find(data_directory: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { action: "read", path, source }.into()),
        };
        let malformed = |(line, problem)| IdentityError::Malformed { path: path.clone(), line, problem };
        let (format, identity) = parse(&text).map_err(malformed)?;
        if format > FORMAT {
            return Err(IdentityError::Newer { path, found: format });
        }
        identity.map(Some).map_err(malformed)
    }

    /// Writes the identity into `data_directory`.
    pub fn write(&self, data_directory: &Path, flush: bool) -> Result<(), IdentityError> {
        let mut text = format!(
            "# Who this data directory belongs to. Written by the node itself; do not edit.\n\
             format = {FORMAT}\nnode_id = {}\ncreated_ms = {}\ndirectory = \"{}\"\nrole = \"{}\"\n",
            self.node_id,
            self.created,
            self.directory,
            self.role.name()
        );
        if let Some(id) = self.cluster_id {
            text.push_str(&format!("cluster_id = \"{id}\"\n"));
        }
        Ok(replace(data_directory, FILE, text.as_bytes(), flush)?)
    }
}

/// Where and what is wrong.
type Problem = (usize, String);

/// The format, and the identity as far as this version can read it. A newer format may have other keys, so unknown ones pass.
fn parse(text: &str) -> Result<(u32, Result<Identity, Problem>), Problem> {
    let mut keys = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or((number, format!("{line:?} is not KEY = VALUE")))?;
        keys.insert(key.trim(), (number, value.trim().trim_matches('"')));
    }
    let format = value(&keys, "format", |text| text.parse().ok())?.ok_or_else(|| missing("format"))?;
    Ok((format, identity(&keys)))
}

type Keys<'a> = BTreeMap<&'a str, (usize, &'a str)>;

fn missing(key: &str) -> Problem {
    (0, format!("the key {key} is missing"))
}

fn value<T>(keys: &Keys<'_>, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let Some((line, text)) = keys.get(key) else { return Ok(None) };
    read(text).map(Some).ok_or_else(|| (*line, format!("{text:?} cannot be the value of {key}")))
}

fn identity(keys: &Keys<'_>) -> Result<Identity, Problem> {
    let id = |text: &str| text.parse::<Uuid>().ok();
    let node_id = value(keys, "node_id", |text| text.parse().ok())?.ok_or_else(|| missing("node_id"))?;
    let created =
        value(keys, "created_ms", |text| text.parse().ok())?.ok_or_else(|| missing("created_ms"))?;
    Ok(Identity {
        node_id,
        cluster_id: value(keys, "cluster_id", id)?,
        created,
        directory: value(keys, "directory", id)?.unwrap_or(Uuid::ZERO),
        role: value(keys, "role", Role::from_name)?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(directory.path(), 1).unwrap(), None);
        let mut identity = Identity {
            node_id: 1,
            cluster_id: None,
            created: 12,
            directory: Uuid::from_random([9; 16]),
            role: Role::Observer,
        };
        identity.write(directory.path(), true).unwrap();
        assert_eq!(Identity::read(directory.path(), 1).unwrap().as_ref(), Some(&identity));
        identity.cluster_id = Some(Uuid::from_random([7; 16]));
        identity.write(directory.path(), true).unwrap();
        assert_eq!(Identity::find(directory.path()).unwrap(), Some(identity));
        let error = Identity::read(directory.path(), 2).unwrap_err().to_string();
        assert!(error.contains("belongs to node 1, this one is node.id = 2"), "{error}");
    }

    #[test]
    fn a_file_without_directory_and_role_is_a_lone_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let text = "format = 1\nnode_id = 3\ncluster_id = \"AAAAAAAAAAAAAAAAAAAAAQ\"\ncreated_ms = 5\n";
        fs::write(directory.path().join(FILE), text).unwrap();
        let identity = Identity::read(directory.path(), 3).unwrap().unwrap();
        let cluster_id = Some(Uuid::METADATA_TOPIC);
        let expected =
            Identity { node_id: 3, cluster_id, created: 5, directory: Uuid::ZERO, role: Role::Standalone };
        assert_eq!(identity, expected);
    }

    #[test]
    fn a_newer_or_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(directory.path().join(FILE), text).unwrap();
            Identity::read(directory.path(), 1).unwrap_err().to_string()
        };
        assert!(read("format = 2\nshape = \"round\"\n").contains("data format 2"));
        assert!(read("format = 1\n").contains("the key node_id is missing"));
        assert!(read("format = 1\nnode_id = 1\ncreated_ms = 1\nrole = \"king\"\n").contains("value of role"));
        assert!(read("format = 1\nnode_id = x\n").contains("line 2"));
        assert!(read("").contains("the key format is missing"));
    }
}
