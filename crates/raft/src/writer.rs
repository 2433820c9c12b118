//! Commands from everywhere on this node become entries: what comes while an entry is under way shares the next one.

use std::sync::Arc;
use std::time::Instant;

use chronik_base::NodeId;
use chronik_meta::Results;
use openraft::ServerState;
use openraft::error::ClientWriteError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::core::Core;
use crate::error::WriteError;
use crate::types::{Payload, node_id};

/// Entries under way at once: while one is on its way to the others, the next is written here.
const UNDER_WAY: usize = 2;

/// Submissions share an entry up to this many bytes.
const SHARED_BYTES: usize = 1 << 20;

/// Commands to write, with who waits for what becomes of them.
pub(crate) struct Submission {
    /// What [`Payload::commands`] made of them.
    pub(crate) payload: Payload,
    pub(crate) count: usize,
    pub(crate) done: oneshot::Sender<Result<Results, WriteError>>,
}

type Waiting = Vec<(usize, oneshot::Sender<Result<Results, WriteError>>)>;

/// Writes what is submitted until nobody can submit any more.
pub(crate) async fn run(core: Arc<Core>, mut submissions: mpsc::UnboundedReceiver<Submission>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(submission) => submission,
            None => match submissions.recv().await {
                Some(submission) => submission,
                None => return,
            },
        };
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
        let mut bytes = first.payload.0.to_vec();
        let mut waiting: Waiting = vec![(first.count, first.done)];
        while let Ok(next) = submissions.try_recv() {
            // The first byte says that commands follow; each payload has it.
            let more = next.payload.0.get(1..).unwrap_or(&[]);
            if bytes.len() + more.len() > SHARED_BYTES {
                left_over = Some(next);
                break;
            }
            bytes.extend_from_slice(more);
            waiting.push((next.count, next.done));
        }
        match propose(&core, Payload(bytes.into())).await {
            Err(error) => refuse(waiting, &error),
            Ok(outcome) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    match tokio::time::timeout(core.timing.write_timeout, outcome).await {
                        Ok(Ok(results)) => answer(waiting, results),
                        Ok(Err(error)) => refuse(waiting, &error),
                        Err(_) => {
                            let waited_ms = core.timing.write_timeout.as_millis() as u64;
                            refuse(waiting, &WriteError::TimedOut { waited_ms });
                        }
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Why this node cannot write just now.
pub(crate) fn obstacle(core: &Core) -> Option<WriteError> {
    let now = Instant::now();
    let metrics = core.metrics();
    if core.closing.load(std::sync::atomic::Ordering::Relaxed) {
        return Some(WriteError::Closed);
    }
    if let Some(problem) = Core::stopped(&metrics) {
        return Some(WriteError::Stopped(problem));
    }
    if metrics.state != ServerState::Leader || core.resigning.load(std::sync::atomic::Ordering::Relaxed) {
        return Some(WriteError::NotLeader { leader: other_leader(core, core.leader(&metrics, now)) });
    }
    let supporters = core.supporters(&metrics, now);
    if supporters.is_reached() || core.is_new(now) {
        return None;
    }
    Some(WriteError::NoQuorum {
        answering: supporters.agreeing,
        voters: supporters.voters,
        needed: supporters.needed,
    })
}

/// Hands an entry to the library; in the order of the calls.
async fn propose(
    core: &Arc<Core>,
    payload: Payload,
) -> Result<impl Future<Output = Result<Results, WriteError>> + Send + 'static, WriteError> {
    if let Some(error) = obstacle(core) {
        return Err(error);
    }
    let fatal = |error: &dyn std::fmt::Display| WriteError::Stopped(error.to_string());
    let outcome = core.raft.client_write_ff(payload).await.map_err(|error| fatal(&error))?;
    let core = Arc::clone(core);
    Ok(async move {
        match outcome.await {
            Ok(Ok(written)) => Ok(written.data.0),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                Err(WriteError::NotLeader { leader: other_leader(&core, forward.leader_id.map(node_id)) })
            }
            Ok(Err(error)) => Err(WriteError::Stopped(error.to_string())),
            Err(_) => Err(obstacle(&core).unwrap_or(WriteError::Closed)),
        }
    })
}

/// The leader, if it is another node: this one just said that it is not.
fn other_leader(core: &Core, leader: Option<NodeId>) -> Option<NodeId> {
    leader.filter(|leader| *leader != node_id(core.me))
}

fn answer(waiting: Waiting, mut results: Results) {
    for (count, done) in waiting {
        let rest = results.split_off(count.min(results.len()));
        // Who does not wait any more does not mind.
        let _ = done.send(Ok(std::mem::replace(&mut results, rest)));
    }
}

fn refuse(waiting: Waiting, error: &WriteError) {
    for (_, done) in waiting {
        let _ = done.send(Err(error.clone()));
    }
}
