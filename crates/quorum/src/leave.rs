//! The way back from a Raft quorum to a node that decides alone: the only voter that is left takes its metadata with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{BoxFuture, CallError, NodeId, Transport};
use chronik_raft::{RaftNode, RaftOptions};
use tokio::time::Instant;

use crate::generation::Standing;
use crate::options::Registration;
use crate::quorum::{QuorumError, open_store, start_raft};

/// How long the only voter may take to elect itself.
const ELECTION: Duration = Duration::from_secs(10);

/// Reaches nobody: a quorum of one needs no one.
struct Nobody;

impl Transport for Nobody {
    fn call(&self, to: NodeId, _: u8, _: Bytes, _: Duration) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(std::future::ready(Err(CallError::UnknownNode(to))))
    }
}

/// Puts the metadata of the quorum that this node is the only voter of into the node's own store, in a new generation, and sets the quorum's directory
/// aside. After a crash it begins again.
///
/// # Errors
/// [`QuorumError::InQuorum`] if there are other voters.
pub(crate) async fn leave_quorum(
    data_dir: &Path,
    registration: &Registration,
    durable: bool,
    standing: &mut Standing,
) -> Result<(), QuorumError> {
    let directory = data_dir.join("raft");
    if directory.exists() {
        let raft = start_raft(|| RaftOptions {
            durable,
            ..RaftOptions::new(registration.node_id, &directory, Arc::new(Nobody))
        })
        .await?;
        let image = only_voters_image(&raft, registration.node_id).await;
        raft.shutdown().await;
        if let Some(image) = image? {
            let mut store = open_store(data_dir, durable, false)?;
            store.install(image)?;
        }
        let problem = |error: std::io::Error| QuorumError::LeaveQuorum(error.to_string());
        let aside = data_dir.join("raft.left");
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(problem)?;
        }
        std::fs::rename(&directory, &aside).map_err(problem)?;
    }
    standing.generation += 1;
    standing.data = standing.generation;
    standing.quorum = None;
    standing.voter = None;
    standing.sources.clear();
    standing.write(data_dir, durable)?;
    tracing::info!("this node left its quorum of one, and decides alone");
    Ok(())
}

async fn only_voters_image(
    raft: &RaftNode,
    node: NodeId,
) -> Result<Option<Arc<chronik_meta::Image>>, QuorumError> {
    if !raft.is_initialized() {
        return Ok(None);
    }
    // Who votes is known a moment after the start.
    let deadline = Instant::now() + ELECTION;
    let mut voters: Vec<NodeId> = Vec::new();
    while voters.is_empty() && Instant::now() < deadline {
        voters = raft.status().voters.into_keys().collect();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if voters != [node] {
        return Err(QuorumError::InQuorum { voters });
    }
    // Only a leader knows that everything in the log is decided.
    let mut leadership = raft.watch();
    let elected = tokio::time::timeout(ELECTION, leadership.wait_for(|known| known.serving)).await;
    match elected {
        Ok(Ok(_)) => Ok(Some(raft.image())),
        _ => {
            Err(QuorumError::LeaveQuorum(format!("it did not elect itself within {} s", ELECTION.as_secs())))
        }
    }
}
