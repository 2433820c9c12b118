//! What can go wrong, by operation.

use std::io;
use std::path::PathBuf;

use chronik_base::NodeId;

/// Why a node's part of the quorum does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process, or an earlier run in this one, has the directory open.
    #[error("{} is in use by another process: one data directory serves one node", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file does not begin as it should.
    #[error("{} does not begin as a file of Chronik's quorum does: it is damaged, or belongs to another program; {REMEDY}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file is of a newer version.
    #[error("{} has format version {version}, this version of Chronik knows {known}: run the newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A file is damaged.
    #[error("{} is damaged at byte {position}: {problem}; {REMEDY}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        position: u64,
        /// What is wrong.
        problem: String,
    },
    /// An option that cannot be.
    #[error("the quorum cannot start with {option} = {value}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// The library does not start.
    #[error("the quorum does not start: {0}")]
    Library(String),
}

/// What to do with a directory that is damaged.
const REMEDY: &str = "keep a copy of the directory `raft`, take the node out of the voters (`chronik cluster remove-voter`), empty its data directory and let it join \
     again: it gets the metadata from the others; where it was the only voter, restore a backup";

/// Why commands were not written, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// This node does not lead; nothing was written.
    #[error("this node does not lead the metadata quorum, {}", leader_text(*leader))]
    NotLeader {
        /// Who does, as far as it is known here.
        leader: Option<NodeId>,
    },
    /// Less than a majority of the voters answers; nothing was written.
    #[error(
        "the metadata quorum has no majority: {answering} of {voters} voters answer, {needed} are needed; metadata can't change until they are back"
    )]
    NoQuorum {
        /// Voters that answered within the lease, this one included.
        answering: usize,
        /// All voters.
        voters: usize,
        /// How many make a majority.
        needed: usize,
    },
    /// No outcome in time: it may have been written, or still will be.
    #[error(
        "no majority of the metadata quorum confirmed the change within {waited_ms} ms (`raft.write.timeout.ms`): it may or may not come into force"
    )]
    TimedOut {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The commands are too large to travel together.
    #[error("{bytes} bytes of commands at once are over the limit of {limit}: send fewer at a time")]
    TooLarge {
        /// Their bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk failed, and this node has left the quorum until it is started again.
    #[error("this node's part of the metadata quorum has stopped: {0}")]
    Stopped(String),
    /// The node is shutting down.
    #[error("the metadata quorum is closed: the node is shutting down")]
    Closed,
}

/// Why the voters did not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The change could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another change of the voters is under way.
    #[error(
        "another change of the voters is under way: try again when it is through (`chronik cluster status`)"
    )]
    InProgress,
    /// The node did not catch up in time. It stays a learner, and adding it again goes on from there.
    #[error(
        "node {node} did not catch up within {waited_ms} ms: {lag} entries are missing there ({problem}); it goes on learning, try again"
    )]
    NotCaughtUp {
        /// The node.
        node: NodeId,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
        /// Entries it misses.
        lag: u64,
        /// What was last heard of it.
        problem: String,
    },
    /// No such voter.
    #[error("node {node} is no voter; the voters are {voters:?}")]
    NotAVoter {
        /// The node.
        node: NodeId,
        /// The voters.
        voters: Vec<NodeId>,
    },
    /// The last voter cannot go.
    #[error("node {0} is the only voter: add another one first")]
    LastVoter(NodeId),
    /// A set of voters to begin with that does not have this node in it, or a node's id below 0.
    #[error(
        "the voters {voters:?} are not right to begin with on node {node}: it must be one of them, and ids are not negative"
    )]
    Voters {
        /// This node.
        node: NodeId,
        /// The voters asked for.
        voters: Vec<NodeId>,
    },
}

fn leader_text(leader: Option<NodeId>) -> String {
    match leader {
        Some(leader) => format!("node {leader} does"),
        None => "and no leader is known: it is being elected, or the quorum has no majority".to_owned(),
    }
}
