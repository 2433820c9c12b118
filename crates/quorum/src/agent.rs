//! This node as a broker: it registers, and tells the metadata leader that it is alive.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chronik_base::{CallError, ErrorCode};
use chronik_meta::{Command, MetaError};
use tokio::time::sleep;

use crate::inner::{Inner, Matter, lock};
use crate::message::{self, Alive, kind};
use crate::options::PeerEvent;

/// The pause after a heartbeat that reached no leader.
const RETRY: Duration = Duration::from_millis(50);

/// The period of looks at who is left to decide, while the node waits to be let go.
const LOOK: Duration = Duration::from_millis(50);

/// The period of heartbeats while the node waits to be let go.
const STOPPING: Duration = Duration::from_millis(20);

impl Inner {
    /// What makes this node's broker known.
    pub(crate) fn register_command(&self) -> Command {
        let registration = &self.registration;
        Command::RegisterBroker {
            id: registration.node_id,
            rack: registration.rack.clone(),
            endpoints: registration.endpoints.clone(),
            incarnation: registration.incarnation,
            directory: registration.directory,
        }
    }

    /// Registers this node and keeps it alive in the leader's eyes.
    pub(crate) async fn keep_registered(self: Arc<Self>) {
        loop {
            let (mut turns, mut applied) = (self.turns.subscribe(), self.published.watch());
            let cluster = self.image().cluster_id();
            if self.cluster_id.is_some_and(|own| !cluster.is_zero() && own != cluster) {
                self.stay_out(format!(
                    "the data directory belongs to cluster {}, the quorum is cluster {cluster}: this node stays out; start it with another --data-dir, or \
                     name nodes of its own cluster",
                    self.cluster()
                ));
                return;
            }
            let pause = match self.broker_epoch() {
                _ if cluster.is_zero() => None,
                Some(epoch) => self.beat(epoch).await,
                None if self.is_replaced() => return,
                None => self.register().await,
            };
            let stopping = self.duties.wants_shutdown.load(Ordering::Acquire);
            let pause =
                if stopping { pause.map(|pause| pause.min(STOPPING)).or(Some(STOPPING)) } else { pause };
            match pause {
                Some(pause) => tokio::select! {
                    () = sleep(pause) => {}
                    _ = turns.changed() => {}
                },
                None => tokio::select! {
                    _ = applied.changed() => {}
                    _ = turns.changed() => {}
                },
            }
        }
    }

    /// Registers; gives the pause before the next step.
    async fn register(self: &Arc<Self>) -> Option<Duration> {
        let result = self.commit(vec![self.register_command()]).await.pop();
        match result.unwrap_or(Err(MetaError::Closed)) {
            Ok(_) => {
                self.note_problem(self.me(), Matter::Registration, None);
                self.turn();
                Some(Duration::ZERO)
            }
            Err(error) => {
                tracing::debug!("this node is not registered yet: {error}");
                if error.code() == ErrorCode::DuplicateBrokerRegistration {
                    self.note_problem(self.me(), Matter::Registration, Some(error.to_string()));
                }
                Some(self.timing.heartbeat)
            }
        }
    }

    /// Whether another process took this node's place: one of the two must not be there.
    fn is_replaced(&self) -> bool {
        let image = self.image();
        let own = &self.registration;
        let other = image.broker(self.me()).filter(|broker| {
            broker.incarnation != own.incarnation
                && broker.directory != own.directory
                && lock(&self.known).was_registered
        });
        if let Some(other) = other {
            self.stay_out(format!(
                "another process registered as node {} (at {}), so this one takes no more part: give one of them another --node-id",
                self.me(),
                crate::inner::address_of(&other.endpoints)
            ));
        }
        other.is_some()
    }

    /// Says that this node is alive; gives the pause before the next time, `None` if only a change asks for one.
    async fn beat(self: &Arc<Self>, epoch: i64) -> Option<Duration> {
        lock(&self.known).was_registered = true;
        let heartbeat = self.own_heartbeat(epoch);
        let leader = self.leader()?;
        let answer = if leader == self.me() {
            Ok(self.on_heartbeat(leader, heartbeat))
        } else {
            let payload = message::request(self.caller(), |out| heartbeat.put(out));
            let timeout = self.timing.session / 2;
            let answer = self.call(leader, kind::HEARTBEAT, payload, timeout).await;
            answer.and_then(|payload| {
                message::read(payload, Alive::get)
                    .map_err(|error| CallError::Refused { node: leader, problem: error.to_string() })
            })
        };
        match answer {
            Ok(Alive::Known { may_shut_down, .. }) => {
                if may_shut_down {
                    self.duties.may_shut_down.send_replace(true);
                }
                // A leader's own session needs no timer: it is alive as long as it leads.
                (leader != self.me()).then_some(self.timing.heartbeat)
            }
            // Either it has not heard of the registration yet, or it is about another one.
            Ok(Alive::Unknown) => self.register().await.map(|pause| pause.max(RETRY)),
            Ok(Alive::NotLeader(other)) => {
                if other.is_some() {
                    self.hear_leader(other);
                }
                Some(RETRY)
            }
            Err(error) => {
                if matches!(error, CallError::TimedOut { .. } | CallError::Disconnected { .. }) {
                    // Nobody may be listening, which is all the same.
                    let _ = self.duties.lost.send(leader);
                }
                tracing::debug!(leader, "no answer to a heartbeat: {error}");
                Some(RETRY)
            }
        }
    }

    /// Whether enough voters may be there to decide something: where nobody listens, nobody is.
    fn can_decide(&self) -> bool {
        let voters = self.view().voters;
        let peers = lock(&self.peers);
        let gone = voters.iter().filter(|(node, _)| peers.get(node) == Some(&PeerEvent::Refused)).count();
        voters.is_empty() || 2 * (voters.len() - gone) > voters.len()
    }

    /// Moves this node's leaderships away, and waits until that is done and everybody knows.
    pub(crate) async fn begin_shutdown(self: &Arc<Self>) {
        let image = self.image();
        let alone = !image.brokers().any(|broker| broker.id != self.me() && !broker.fenced);
        if alone || self.broker_epoch().is_none() {
            return;
        }
        let mut may = self.duties.may_shut_down.subscribe();
        self.duties.wants_shutdown.store(true, Ordering::Release);
        self.turn();
        let moved = async {
            // What it gives back holds a lock, which whoever says so needs.
            let _ = may.wait_for(|may| *may).await;
            true
        };
        let undecidable = async {
            while self.can_decide() {
                sleep(LOOK).await;
            }
            false
        };
        let moved = async {
            tokio::select! { moved = moved => moved, moved = undecidable => moved }
        };
        match tokio::time::timeout(self.timing.shutdown, moved).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!("nobody is left who could move this node's leaderships; it stops at once");
            }
            Err(_) => tracing::warn!(
                "the leaderships of this node did not all move within {} ms; it stops all the same",
                self.timing.shutdown.as_millis()
            ),
        }
        if let crate::inner::Store::Raft(raft) = &self.store
            && raft.is_leader()
        {
            raft.step_down().await;
        }
    }
}
