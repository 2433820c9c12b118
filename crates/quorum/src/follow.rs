//! An observer's side: it asks a voter for what changed and waits for it; its copy is on disk before it counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::NodeId;
use chronik_meta::{Command, Image, MetaError, MetaHandle, MetaOffset};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::inner::{Inner, Matter, Store, lock};
use crate::message::{self, Content, Fetch, Fetched, Role, Want, kind};
use crate::submit::millis;

/// How long the leader holds an answer back while there is no news.
const WAIT_LEADER: Duration = Duration::from_secs(5);

/// The same for another voter: who leads is to be found out soon.
const WAIT_OTHER: Duration = Duration::from_secs(1);

/// How long a source that did not answer is left alone.
const AVOID: Duration = Duration::from_secs(2);

/// The pauses after all sources failed.
const PAUSES: [u64; 5] = [50, 100, 200, 400, 800];

/// Pieces of a snapshot that came so far.
struct Partial {
    source: NodeId,
    offset: MetaOffset,
    bytes: Vec<u8>,
}

/// Where the observer stands between two questions.
#[derive(Default)]
struct Progress {
    avoided: BTreeMap<NodeId, Instant>,
    partial: Option<Partial>,
    /// The last commands did not fit: only a whole image helps.
    needs_snapshot: bool,
    failures: usize,
}

impl Inner {
    /// Follows the voters as long as this node is an observer.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut progress = Progress::default();
        loop {
            let mut turns = self.turns.subscribe();
            if self.role() != Role::Observer {
                progress = Progress::default();
                if turns.changed().await.is_err() {
                    return;
                }
                continue;
            }
            progress.avoided.retain(|_, since| since.elapsed() < AVOID);
            let Some(source) = self.source(&progress) else {
                self.hear_leader(None);
                let pause = PAUSES.get(progress.failures).or(PAUSES.last()).copied().unwrap_or(1000);
                progress.failures += 1;
                tokio::select! {
                    () = sleep(Duration::from_millis(pause)) => progress.avoided.clear(),
                    // A peer came back, or a voter announced itself.
                    _ = turns.changed() => progress.avoided.clear(),
                }
                continue;
            };
            match self.ask(source, &progress).await {
                Ok(fetched) => match self.take_in(source, fetched, &mut progress).await {
                    Ok(()) => {
                        self.note_problem(source, Matter::Metadata, None);
                        self.set_waiting(None);
                        progress.failures = 0;
                    }
                    Err(problem) => {
                        self.note_problem(source, Matter::Metadata, Some(problem));
                        progress.avoided.insert(source, Instant::now());
                    }
                },
                Err(problem) => {
                    tracing::debug!(source, "no metadata: {problem}");
                    if self.image().cluster_id().is_zero() {
                        self.set_waiting(Some(format!("there is no metadata yet: {problem}")));
                    }
                    progress.avoided.insert(source, Instant::now());
                    progress.partial = None;
                }
            }
        }
    }

    /// Whom to ask: the leader, else another voter, else who was known before.
    fn source(&self, progress: &Progress) -> Option<NodeId> {
        if let Some(partial) = &progress.partial {
            return Some(partial.source);
        }
        let known = lock(&self.known);
        let leader = known.view.leader.into_iter().chain(known.standing.voter);
        let voters = known.view.voters.iter().map(|(node, _)| *node);
        let mut candidates = leader.chain(voters).chain(known.standing.sources.iter().copied());
        candidates.find(|node| *node != self.me() && !progress.avoided.contains_key(node))
    }

    async fn ask(&self, source: NodeId, progress: &Progress) -> Result<Fetched, String> {
        let (view, generation) = {
            let known = lock(&self.known);
            (known.view.clone(), known.standing.data)
        };
        let wait = if view.leader == Some(source) { WAIT_LEADER } else { WAIT_OTHER };
        let want = match &progress.partial {
            Some(partial) => Want::Rest { offset: partial.offset, position: partial.bytes.len() as u64 },
            None if progress.needs_snapshot => Want::Snapshot,
            None => Want::Changes,
        };
        let fetch = Fetch { after: self.image().offset(), generation, view, wait_ms: millis(wait), want };
        let payload = message::request(self.caller(), |out| fetch.put(out));
        let timeout = wait + self.timing.session;
        let answer = tokio::select! {
            answer = self.call(source, kind::FETCH_METADATA, payload, timeout) => answer,
            () = self.lost(source) => return Err("it does not answer heartbeats".to_owned()),
        };
        let payload = answer.map_err(|error| error.to_string())?;
        message::read(payload, Fetched::get).map_err(|error| format!("its answer is bad: {error}"))
    }

    /// Resolves when a heartbeat or the connection says that `node` is gone.
    async fn lost(&self, node: NodeId) {
        let mut lost = self.duties.lost.subscribe();
        loop {
            match lost.recv().await {
                Ok(other) if other != node => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
                // Too many to tell: asking again does no harm.
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return,
            }
        }
    }

    async fn take_in(&self, source: NodeId, fetched: Fetched, progress: &mut Progress) -> Result<(), String> {
        self.check_source(source, &fetched)?;
        self.hear_view(&fetched.view);
        match fetched.content {
            Content::Commands(commands) => {
                progress.partial = None;
                if let Err(problem) = self.append(&commands).await {
                    tracing::warn!(
                        source,
                        "its changes of metadata don't fit here, so a snapshot is asked for: {problem}"
                    );
                    progress.needs_snapshot = true;
                }
            }
            Content::Snapshot { offset, total, position, piece } => {
                let fits = |partial: &Partial| {
                    partial.source == source
                        && partial.offset == offset
                        && partial.bytes.len() as u64 == position
                };
                let mut partial = match progress.partial.take() {
                    Some(partial) if fits(&partial) => partial,
                    _ if position == 0 => Partial { source, offset, bytes: Vec::new() },
                    _ => return Ok(()),
                };
                if piece.is_empty() && total > position {
                    return Err("it sends a snapshot without its bytes".to_owned());
                }
                partial.bytes.extend_from_slice(&piece);
                if (partial.bytes.len() as u64) < total {
                    progress.partial = Some(partial);
                    return Ok(());
                }
                let image = Image::decode(&partial.bytes)
                    .map_err(|error| format!("its snapshot of the metadata can't be read: {error}"))?;
                self.install(image).await.map_err(|error| error.to_string())?;
                progress.needs_snapshot = false;
                self.counts.snapshot_taken();
                self.change_standing(|standing| standing.data = fetched.view.generation);
            }
        }
        let voters: Vec<NodeId> = fetched.view.voters.iter().map(|(node, _)| *node).collect();
        if !voters.is_empty() && lock(&self.known).standing.sources != voters {
            self.change_standing(|standing| standing.sources = voters);
        }
        Ok(())
    }

    /// Refuses what another cluster or an earlier voter says.
    fn check_source(&self, source: NodeId, fetched: &Fetched) -> Result<(), String> {
        let own = self.cluster();
        if !own.is_zero() && !fetched.cluster_id.is_zero() && own != fetched.cluster_id {
            let problem = format!(
                "this node belongs to cluster {own}, node {source} to cluster {}: this node stays out; start it with another --data-dir, or name nodes of \
                 its own cluster",
                fetched.cluster_id
            );
            self.wait_outside(&problem);
            return Err(problem);
        }
        let known = lock(&self.known).standing.generation;
        if fetched.view.generation < known {
            return Err(format!(
                "it decides by generation {} of the voter, but there is generation {known}: another node was promoted while it was away",
                fetched.view.generation
            ));
        }
        if fetched.view.generation > known {
            self.change_standing(|standing| {
                standing.generation = fetched.view.generation;
                standing.voter = fetched.view.leader;
            });
        }
        Ok(())
    }

    fn handle(&self) -> Result<&MetaHandle, MetaError> {
        match &self.store {
            Store::Local(handle) => Ok(handle),
            Store::Raft(_) => Err(MetaError::Closed),
        }
    }

    /// Adds commands that follow on the image here.
    async fn append(&self, commands: &[Bytes]) -> Result<(), String> {
        if commands.is_empty() {
            return Ok(());
        }
        let decoded = commands.iter().map(|command| Command::decode(command)).collect::<Result<Vec<_>, _>>();
        let first = self.image().offset() + 1;
        let (sender, receiver) = oneshot::channel();
        self.handle().map_err(|error| error.to_string())?.append(
            first,
            decoded.map_err(|error| error.to_string())?,
            move |result| {
                let _ = sender.send(result);
            },
        );
        receiver.await.unwrap_or(Err(MetaError::Closed)).map_err(|error| error.to_string())
    }

    async fn install(&self, image: Image) -> Result<(), MetaError> {
        let (sender, receiver) = oneshot::channel();
        self.handle()?.install(image, move |result| {
            let _ = sender.send(result);
        });
        receiver.await.unwrap_or(Err(MetaError::Closed))
    }

    /// Changes who decides, and writes it down.
    pub(crate) fn change_standing(&self, change: impl FnOnce(&mut crate::generation::Standing)) {
        let standing = {
            let mut known = lock(&self.known);
            change(&mut known.standing);
            known.standing.clone()
        };
        if let Err(error) = standing.write(&self.data_dir, self.durable) {
            tracing::error!("who decides can't be written down: {error}");
        }
    }
}
