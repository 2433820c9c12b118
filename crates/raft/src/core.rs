//! What the parts of a running node share, and the answers to what other nodes ask.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::NodeId;
use chronik_meta::Image;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, ServerState};
use tokio::sync::watch;

use crate::election::{Election, Majority, majority_answered};
use crate::machine::MachineShared;
use crate::messages::{Canvass, CanvassAnswer, Message, SnapshotPiece, kind};
use crate::network::Links;
use crate::options::Timing;
use crate::status::Leadership;
use crate::storage::{LogShared, LogStore, SnapshotFile};
use crate::types::{Metrics, Raft, Snapshot, SnapshotImage, SnapshotMeta, Vote, count, node_id};

/// Closing the files is waited for no longer than this: a flush may hang on a broken disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the parts of a running node share.
pub(crate) struct Core {
    pub(crate) me: u64,
    pub(crate) timing: Timing,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) machine: Arc<MachineShared>,
    pub(crate) log: Arc<LogShared>,
    pub(crate) log_store: LogStore,
    pub(crate) snapshots: SnapshotFile,
    pub(crate) snapshot_after_bytes: u64,
    pub(crate) election: Mutex<Election>,
    pub(crate) leading: Mutex<Option<Leading>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    /// Times that this node was elected.
    pub(crate) elected: AtomicU64,
    /// Set while this node gives up its leadership: it shows no sign of life any more.
    pub(crate) resigning: AtomicBool,
    pub(crate) closing: AtomicBool,
    incoming: Mutex<Option<Incoming>>,
}

/// A time of leading.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    /// The vote that it rests on.
    pub(crate) vote: Vote,
    /// When it began.
    pub(crate) since: Instant,
    /// Entries that must be applied before this leader knows all that earlier ones acknowledged.
    pub(crate) floor: u64,
}

/// A snapshot that is coming in.
struct Incoming {
    from: NodeId,
    vote: Vote,
    meta: SnapshotMeta,
    bytes: Vec<u8>,
}

impl Core {
    #[expect(clippy::too_many_arguments, reason = "called once, from the place that makes each of them")]
    pub(crate) fn new(
        me: u64,
        timing: Timing,
        raft: Raft,
        links: Arc<Links>,
        machine: Arc<MachineShared>,
        log_store: LogStore,
        snapshots: SnapshotFile,
        snapshot_after_bytes: u64,
    ) -> Self {
        Self {
            me,
            raft,
            links,
            machine,
            log: Arc::clone(log_store.shared()),
            log_store,
            snapshots,
            snapshot_after_bytes,
            election: Mutex::new(Election::new(timing.clone(), Instant::now())),
            timing,
            leading: Mutex::default(),
            leadership: watch::Sender::new(Leadership::default()),
            elected: AtomicU64::new(0),
            resigning: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            incoming: Mutex::default(),
        }
    }

    /// Ends the library and the log's thread, and waits until the files are closed.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!("the metadata quorum ended by a failure: {error}");
        }
        self.log_store.stop();
        let began = Instant::now();
        while !self.snapshots.is_closed() && began.elapsed() < CLOSE_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn election(&self) -> MutexGuard<'_, Election> {
        self.election.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leading(&self) -> Option<Leading> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The library's view of this node.
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    /// Why the library has stopped, if it has.
    pub(crate) fn stopped(metrics: &Metrics) -> Option<String> {
        metrics.running_state.as_ref().err().map(ToString::to_string)
    }

    /// Voters that answered this leader within its lease.
    pub(crate) fn supporters(&self, metrics: &Metrics, now: Instant) -> Majority {
        let answered = self.links.answered(&metrics.vote);
        let lease = self.timing.leader_lease();
        let recent = |voter| {
            voter == self.me
                || answered.get(&voter).is_some_and(|at| now.saturating_duration_since(*at) < lease)
        };
        Majority::count(voter_sets(metrics), recent)
    }

    /// How long ago what a majority answered was sent.
    pub(crate) fn majority_answered_ago(&self, metrics: &Metrics, now: Instant) -> Option<Duration> {
        let answered = self.links.answered(&metrics.vote);
        let at = majority_answered(voter_sets(metrics), self.me, &answered, now)?;
        Some(now.saturating_duration_since(at))
    }

    /// True if this node leads, a majority said so within the lease, and it has applied all that earlier leaders acknowledged.
    pub(crate) fn is_serving(&self, metrics: &Metrics, now: Instant) -> bool {
        metrics.state == ServerState::Leader
            && metrics.running_state.is_ok()
            && !self.resigning.load(Ordering::Relaxed)
            && !self.closing.load(Ordering::Relaxed)
            && self.leading().is_some_and(|leading| {
                leading.vote == metrics.vote
                    && count(metrics.last_applied.map(|id| id.index)) >= leading.floor
            })
            && self.supporters(metrics, now).is_reached()
    }

    /// Who leads, as far as it is known here: nobody while the leader is silent, or while this node leads without a majority.
    pub(crate) fn leader(&self, metrics: &Metrics, now: Instant) -> Option<NodeId> {
        let leader = metrics.current_leader?;
        if metrics.running_state.is_err() || self.closing.load(Ordering::Relaxed) {
            return None;
        }
        if leader == self.me {
            let leads = metrics.state == ServerState::Leader
                && !self.resigning.load(Ordering::Relaxed)
                && (self.supporters(metrics, now).is_reached() || self.is_new(now));
            return leads.then(|| node_id(leader));
        }
        let heard = self.election().heard_ago(now);
        heard.is_some_and(|ago| ago <= self.timing.election_max).then(|| node_id(leader))
    }

    /// True if this node was elected so recently that the voters had no time to answer.
    pub(crate) fn is_new(&self, now: Instant) -> bool {
        self.leading().is_some_and(|leading| {
            now.saturating_duration_since(leading.since) < self.timing.election_max * 2
        })
    }

    /// Answers what another node asks.
    pub(crate) async fn answer(&self, from: NodeId, kind: u8, payload: Bytes) -> Result<Bytes, String> {
        let unreadable = |error: chronik_meta::CodecError| {
            format!(
                "node {from} sent a message of the metadata quorum (kind {kind}) that can't be read: {error}"
            )
        };
        match kind {
            kind::VOTE => {
                let request = VoteRequest::decode(payload).map_err(unreadable)?;
                self.on_vote(request).await
            }
            kind::APPEND => {
                let request = AppendEntriesRequest::decode(payload).map_err(unreadable)?;
                self.on_append(request).await
            }
            kind::SNAPSHOT => {
                let piece = SnapshotPiece::decode(payload).map_err(unreadable)?;
                self.on_piece(from, piece).await
            }
            kind::CANVASS => {
                let request = Canvass::decode(payload).map_err(unreadable)?;
                Ok(CanvassAnswer { granted: self.on_canvass(from, &request) }.encode())
            }
            kind => Err(format!("kind {kind} is not one of the metadata quorum's")),
        }
    }

    async fn on_vote(&self, request: VoteRequest<u64>) -> Result<Bytes, String> {
        let answer: VoteResponse<u64> =
            self.raft.vote(request).await.map_err(|error| format!("no vote: {error}"))?;
        if answer.vote_granted {
            self.election().on_vote_given(Instant::now());
        }
        Ok(answer.encode())
    }

    async fn on_append(
        &self,
        request: AppendEntriesRequest<crate::types::TypeConfig>,
    ) -> Result<Bytes, String> {
        // What cannot be read here must not come into the log: applying it would stop this node for good.
        for entry in &request.entries {
            if let EntryPayload::Normal(payload) = &entry.payload {
                payload.content().map_err(|error| format!("entry {}: {error}", entry.log_id.index))?;
            }
        }
        // Before the library is asked, too: it may be waiting for the disk.
        let current = request.vote >= self.raft.metrics().borrow().vote;
        if current {
            self.election().on_leader_heard(Instant::now());
        }
        let answer = self.raft.append_entries(request).await.map_err(|error| error.to_string())?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.election().on_leader_heard(Instant::now());
        }
        Ok(answer.encode())
    }

    /// Whether this node would vote for who asks. No vote and no term changes by it; so a node that was cut off or asleep learns that it is not
    /// needed without disturbing anybody.
    fn on_canvass(&self, from: NodeId, request: &Canvass) -> bool {
        let now = Instant::now();
        let metrics = self.metrics();
        let leads = metrics.state == ServerState::Leader
            && !self.resigning.load(Ordering::Relaxed)
            && self.supporters(&metrics, now).is_reached();
        let is_higher = from > node_id(self.me);
        !leads && self.election().on_asked_by(now, self.log.last(), request.last_log_id, is_higher)
    }

    async fn on_piece(&self, from: NodeId, piece: SnapshotPiece) -> Result<Bytes, String> {
        let vote = self.raft.metrics().borrow().vote;
        if piece.vote < vote {
            return Ok(SnapshotResponse { vote }.encode());
        }
        self.election().on_leader_heard(Instant::now());
        let (vote, crc) = (piece.vote, piece.crc);
        let Some(whole) = self.collect(from, piece)? else {
            return Ok(SnapshotResponse { vote }.encode());
        };
        let decoded = tokio::task::spawn_blocking(move || {
            if crc32c::crc32c(&whole.bytes) != crc {
                return Err("the snapshot's CRC is wrong: send it again".to_owned());
            }
            let image =
                Image::decode(&whole.bytes).map_err(|error| format!("the snapshot's image: {error}"))?;
            Ok((whole.meta, image))
        });
        let (meta, image) = decoded.await.map_err(|error| error.to_string())??;
        tracing::info!(
            from,
            entries = count(meta.last_log_id.map(|id| id.index)),
            "metadata snapshot received"
        );
        let snapshot = Snapshot { meta, snapshot: Box::new(SnapshotImage(Arc::new(image))) };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        self.election().on_leader_heard(Instant::now());
        installed.map(|answer| answer.encode()).map_err(|error| error.to_string())
    }

    /// Puts a piece where it belongs; gives back the snapshot when it is whole.
    fn collect(&self, from: NodeId, piece: SnapshotPiece) -> Result<Option<Incoming>, String> {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        if piece.position == 0 {
            let bytes = Vec::new();
            *incoming = Some(Incoming { from, vote: piece.vote, meta: piece.meta.clone(), bytes });
        }
        let fits = incoming.as_ref().is_some_and(|have| {
            have.from == from
                && have.vote == piece.vote
                && have.meta == piece.meta
                && have.bytes.len() as u64 == piece.position
        });
        if !fits {
            return Err(format!(
                "a piece of a snapshot at byte {} does not continue what is here: begin again",
                piece.position
            ));
        }
        if let Some(have) = incoming.as_mut() {
            have.bytes.extend_from_slice(&piece.bytes);
            if (have.bytes.len() as u64) < piece.length {
                return Ok(None);
            }
        }
        Ok(incoming.take())
    }
}

/// The sets of voters: two while they change.
pub(crate) fn voter_sets(metrics: &Metrics) -> &[BTreeSet<u64>] {
    metrics.membership_config.membership().get_joint_config()
}

/// All voters.
pub(crate) fn voters(metrics: &Metrics) -> BTreeSet<u64> {
    metrics.membership_config.membership().voter_ids().collect()
}
