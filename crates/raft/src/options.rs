//! How a node takes part in the quorum.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chronik_base::{NodeId, Transport};
use chronik_meta::{Image, ImageChange};

use crate::error::StartError;

/// What is called after each change of the image, on a thread of its own, one call at a time and in order. Where the image jumped (a
/// snapshot came, or the image that the cluster begins with), `commands` is empty and the offsets differ.
pub type OnChange = Box<dyn for<'a> FnMut(ImageChange<'a>) + Send>;

/// How a node takes part in the quorum.
pub struct RaftOptions {
    /// This node's id; not negative.
    pub node: NodeId,
    /// Where the log, the vote and snapshots are: `raft` in the data directory. It is made if it is missing.
    pub directory: PathBuf,
    /// The way to the other nodes. Request kinds 1 to 15 are used.
    pub transport: Arc<dyn Transport>,
    /// False where nothing is to survive: nothing is flushed.
    pub durable: bool,
    /// Periods and timeouts.
    pub timing: Timing,
    /// The log is folded into a snapshot when this many bytes, and twice the last snapshot's, were appended since the last one.
    pub snapshot_after_bytes: u64,
    /// The image of a standalone node that becomes a cluster: see [`RaftNode::initialize`](crate::RaftNode::initialize).
    pub initial_image: Option<Arc<Image>>,
    /// See [`OnChange`].
    pub on_change: OnChange,
}

impl RaftOptions {
    /// What is usual: durable, default timing, no image to begin with, nobody told of changes.
    pub fn new(node: NodeId, directory: impl Into<PathBuf>, transport: Arc<dyn Transport>) -> Self {
        Self {
            node,
            directory: directory.into(),
            transport,
            durable: true,
            timing: Timing::default(),
            snapshot_after_bytes: 4 << 20,
            initial_image: None,
            on_change: Box::new(|_| {}),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let timing = &self.timing;
        let wrong = |option, value: String, problem| Err(StartError::Option { option, value, problem });
        if self.node < 0 {
            return wrong("node.id", self.node.to_string(), "it must not be negative");
        }
        if timing.heartbeat.is_zero() || timing.election_min < timing.heartbeat * 2 {
            return wrong(
                "quorum.election.timeout.ms",
                timing.election_min.as_millis().to_string(),
                "it must be at least twice quorum.heartbeat.interval.ms, which must not be 0, or a leader is deposed when one heartbeat is late",
            );
        }
        if timing.election_max <= timing.election_min {
            return wrong(
                "quorum.election.timeout.ms",
                timing.election_max.as_millis().to_string(),
                "the longest wait must be above the shortest, or all voters stand for election at once",
            );
        }
        Ok(())
    }
}

impl fmt::Debug for RaftOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftOptions")
            .field("node", &self.node)
            .field("directory", &self.directory)
            .field("durable", &self.durable)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// Periods and timeouts of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A leader shows that it lives this often. 100 ms.
    pub heartbeat: Duration,
    /// A voter that hears nothing of a leader for this long may stand for election, and no voter that heard of one within this time votes for
    /// another (the leader's lease). 400 ms.
    pub election_min: Duration,
    /// Each voter waits for a random time between `election_min` and this. 600 ms.
    pub election_max: Duration,
    /// A write, or a change of the voters that is being written, gets no answer for this long: its outcome is then unknown. 5 s.
    pub write_timeout: Duration,
    /// A node that is to become a voter has this long to catch up. 60 s.
    pub change_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(600),
            write_timeout: Duration::from_secs(5),
            change_timeout: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// For how long after a leader was heard of a voter votes for nobody else.
    pub(crate) fn lease(&self) -> Duration {
        self.election_min
    }

    /// For how long a leader takes the answers of a majority as proof that it leads: less than the lease, as clocks differ in speed.
    pub(crate) fn leader_lease(&self) -> Duration {
        self.election_min * 9 / 10
    }
}
