//! The task that watches the clock: signs of life of a leader, elections when there is none, snapshots when the log has grown.
//!
//! The library's own timers are off. They check at one and a half heartbeats, draw a voter's timeout once for a whole run, and let a node that
//! was cut off depose a leader that all others hear. Here a voter first asks whether it would be elected (pre-vote), and the library runs the
//! election itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chronik_base::NodeId;
use openraft::{ChangeMembers, ServerState};
use tokio::task::JoinSet;

use crate::core::{Core, Leading, voter_sets, voters};
use crate::election::Majority;
use crate::messages::{Canvass, CanvassAnswer, Message, kind};
use crate::status::Leadership;
use crate::types::{Metrics, count, node_id};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(25);

/// A change of the voters that is left half done (its leader died) is ended by the next leader after this time.
const UNFINISHED_CHANGE: Duration = Duration::from_secs(2);

pub(crate) struct Driver {
    core: Arc<Core>,
    next_heartbeat: Instant,
    canvassing: Arc<AtomicBool>,
    snapshotting: bool,
    /// The appended bytes when the last snapshot was begun.
    folded: u64,
    /// Since when the voters are two sets.
    joint_since: Option<Instant>,
    finishing: Arc<AtomicBool>,
    told_leader: Option<NodeId>,
    told_stopped: bool,
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            next_heartbeat: Instant::now(),
            canvassing: Arc::default(),
            snapshotting: false,
            folded: 0,
            joint_since: None,
            finishing: Arc::default(),
            told_leader: None,
            told_stopped: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut changes = self.core.raft.server_metrics();
        loop {
            let metrics = self.core.metrics();
            self.step(&metrics, Instant::now()).await;
            let advanced = self.core.machine.advanced.notified();
            let waiting_to_serve =
                metrics.state == ServerState::Leader && !self.core.leadership.borrow().serving;
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = advanced, if waiting_to_serve => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        // The library has ended; its last words are in the metrics.
                        let metrics = self.core.metrics();
                        self.publish(&metrics, Instant::now());
                        return;
                    }
                }
            }
        }
    }

    async fn step(&mut self, metrics: &Metrics, now: Instant) {
        if metrics.running_state.is_ok() {
            if metrics.state == ServerState::Leader {
                self.lead(metrics, now).await;
            } else {
                self.follow(metrics, now);
            }
            self.fold(metrics).await;
        }
        self.publish(metrics, now);
    }

    async fn lead(&mut self, metrics: &Metrics, now: Instant) {
        let core = &self.core;
        if core.leading().is_none_or(|leading| leading.vote != metrics.vote) {
            // Entries of earlier leaders may be committed without this one knowing; they are known with the last one that is in the log now.
            let floor = count(metrics.last_log_index);
            let leading = Leading { vote: metrics.vote, since: now, floor };
            *core.leading.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(leading);
            core.elected.fetch_add(1, Ordering::Relaxed);
            core.resigning.store(false, Ordering::Relaxed);
            self.next_heartbeat = now;
            tracing::info!(term = metrics.current_term, "this node leads the metadata quorum");
        }
        if now >= self.next_heartbeat && !core.resigning.load(Ordering::Relaxed) {
            self.next_heartbeat = now + core.timing.heartbeat;
            self.ignore_closed(core.raft.trigger().heartbeat().await);
        }
        self.finish_change(metrics, now);
    }

    fn follow(&mut self, metrics: &Metrics, now: Instant) {
        let core = &self.core;
        *core.leading.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        core.resigning.store(false, Ordering::Relaxed);
        self.joint_since = None;
        let voters = voters(metrics);
        if !voters.contains(&core.me) || core.closing.load(Ordering::Relaxed) {
            return;
        }
        let alone = voters.len() == 1;
        if (!alone && !core.election().is_due(now)) || self.canvassing.swap(true, Ordering::AcqRel) {
            return;
        }
        core.election().on_asking(now);
        let (core, canvassing) = (Arc::clone(core), Arc::clone(&self.canvassing));
        let metrics = metrics.clone();
        tokio::spawn(async move {
            if canvass(&core, &metrics).await {
                let _ = core.raft.trigger().elect().await;
                if alone {
                    // The vote is being written; nobody else decides, so there is no random wait to keep from asking twice.
                    tokio::time::sleep(core.timing.election_min).await;
                }
            }
            canvassing.store(false, Ordering::Release);
        });
    }

    /// Ends a change of the voters that a leader left half done. While one is under way here, it ends by itself.
    fn finish_change(&mut self, metrics: &Metrics, now: Instant) {
        let [.., target] = voter_sets(metrics) else { return };
        let written = metrics.membership_config.log_id().map(|id| id.index);
        if voter_sets(metrics).len() < 2 || metrics.last_applied.map(|id| id.index) < written {
            self.joint_since = None;
            return;
        }
        let since = *self.joint_since.get_or_insert(now);
        if now.saturating_duration_since(since) < UNFINISHED_CHANGE
            || self.finishing.swap(true, Ordering::AcqRel)
        {
            return;
        }
        tracing::info!(voters = ?target, "ending a change of the voters that was left half done");
        let (core, finishing, target) = (Arc::clone(&self.core), Arc::clone(&self.finishing), target.clone());
        tokio::spawn(async move {
            let change = core.raft.change_membership(ChangeMembers::ReplaceAllVoters(target), false);
            if !matches!(tokio::time::timeout(core.timing.write_timeout, change).await, Ok(Ok(_))) {
                tracing::warn!("the change of the voters is still half done");
            }
            finishing.store(false, Ordering::Release);
        });
    }

    /// Has a snapshot written when the log has grown.
    async fn fold(&mut self, metrics: &Metrics) {
        let core = &self.core;
        let appended = core.log.appended();
        let grown = appended.saturating_sub(self.folded);
        let limit = core.snapshot_after_bytes.max(2 * core.snapshots.bytes());
        if grown > limit && metrics.last_applied > metrics.snapshot && !self.snapshotting {
            self.snapshotting = true;
            self.folded = appended;
            self.ignore_closed(core.raft.trigger().snapshot().await);
        } else if grown <= limit {
            self.snapshotting = false;
        }
    }

    fn publish(&mut self, metrics: &Metrics, now: Instant) {
        let core = &self.core;
        let leader = core.leader(metrics, now);
        let serving = core.is_serving(metrics, now);
        let next = Leadership { leader, serving, term: metrics.current_term };
        core.leadership.send_if_modified(|known| {
            let differs = *known != next;
            *known = next;
            differs
        });
        if leader != self.told_leader {
            match leader {
                Some(leader) => {
                    tracing::info!(leader, term = metrics.current_term, "the metadata quorum has a leader")
                }
                None => tracing::warn!("the metadata quorum has no leader"),
            }
            self.told_leader = leader;
        }
        if let Some(problem) = Core::stopped(metrics)
            && !self.told_stopped
            && !core.closing.load(Ordering::Relaxed)
        {
            self.told_stopped = true;
            tracing::error!("this node's part of the metadata quorum has stopped: {problem}");
        }
    }

    fn ignore_closed<E>(&self, result: Result<(), E>) {
        // The library says itself, in the metrics, why it has stopped.
        drop(result);
    }
}

/// Asks all voters whether they would vote for this node, until a majority would or all have answered.
async fn canvass(core: &Arc<Core>, metrics: &Metrics) -> bool {
    let request = Canvass { last_log_id: core.log.last() }.encode();
    let mut asked = JoinSet::new();
    for voter in voters(metrics).into_iter().filter(|voter| *voter != core.me) {
        let (core, request) = (Arc::clone(core), request.clone());
        let timeout = core.timing.election_min / 2;
        asked.spawn(async move {
            let answer: Result<CanvassAnswer, _> =
                core.links.call(voter, kind::CANVASS, request, timeout).await;
            answer.is_ok_and(|answer| answer.granted).then_some(voter)
        });
    }
    let mut granted = vec![core.me];
    let elected = loop {
        if Majority::count(voter_sets(metrics), |voter| granted.contains(&voter)).is_reached() {
            break true;
        }
        match asked.join_next().await {
            Some(Ok(voter)) => granted.extend(voter),
            Some(Err(_)) => {}
            None => break false,
        }
    };
    if !core.election().on_asked() || !elected {
        return false;
    }
    let voters: Vec<NodeId> = granted.into_iter().map(node_id).collect();
    tracing::info!(?voters, "standing for election");
    true
}
