//! What the metadata leader does: it watches the brokers' sessions, lets brokers in, takes dead ones out, and answers heartbeats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chronik_base::NodeId;
use chronik_meta::{Command, Image, MetaOffset, SessionStatus, Sessions};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::sleep;

use crate::inner::{Inner, Store, lock};
use crate::message::{Alive, Heartbeat, kind, request};
use crate::options::PeerEvent;
use crate::plan;

/// Some broker registered, or was let in or taken out.
pub(crate) const BROKERS: u8 = 1;
/// Partitions were made.
pub(crate) const PARTITIONS: u8 = 2;
/// A leadership could go back to its preferred replica.
pub(crate) const LEADERSHIPS: u8 = 4;

/// Tells the leader's tasks which changes of the image may ask something of them.
#[derive(Default)]
pub(crate) struct Signals {
    placement: AtomicU8,
    pub(crate) sessions_changed: Notify,
    pub(crate) placement_changed: Notify,
}

impl Signals {
    /// Looks at a change of the image; costs nothing for those that ask nothing.
    pub(crate) fn on_change(&self, image: &Image, commands: &[Command]) {
        let mut what = if commands.is_empty() { BROKERS | PARTITIONS | LEADERSHIPS } else { 0 };
        for command in commands {
            what |= match command {
                Command::RegisterBroker { .. }
                | Command::UnfenceBroker { .. }
                | Command::FenceBroker { .. }
                | Command::UnregisterBroker { .. } => BROKERS,
                Command::CreateTopic { .. } | Command::CreatePartitions { .. } => PARTITIONS,
                Command::AlterPartition(change) => {
                    let topic = image.topic_by_id(&change.topic);
                    let partition = topic.and_then(|topic| topic.partitions.get(change.partition));
                    let could = partition.is_some_and(|partition| plan::prefers_another(image, partition));
                    if could { LEADERSHIPS } else { 0 }
                }
                _ => 0,
            };
        }
        if what & BROKERS != 0 {
            self.sessions_changed.notify_one();
        }
        self.raise(what);
    }

    /// Has the placement looked at.
    pub(crate) fn raise(&self, what: u8) {
        if what != 0 {
            self.placement.fetch_or(what, Ordering::AcqRel);
            self.placement_changed.notify_one();
        }
    }

    pub(crate) fn take(&self) -> u8 {
        self.placement.swap(0, Ordering::AcqRel)
    }
}

/// What belongs to the time in which this node leads.
struct Leading {
    term: u64,
    sessions: Sessions,
    /// What each broker has applied, by its heartbeats.
    offsets: BTreeMap<NodeId, MetaOffset>,
    /// Brokers that stop: the epoch, and the offset from which on everybody knows.
    stopping: BTreeMap<NodeId, (i64, Option<MetaOffset>)>,
}

pub(crate) struct Duties {
    pub(crate) signals: Arc<Signals>,
    leading: Mutex<Option<Leading>>,
    /// Nodes that don't answer heartbeats or whose connection broke.
    pub(crate) lost: broadcast::Sender<NodeId>,
    /// This node's own broker can serve.
    pub(crate) ready: AtomicBool,
    /// This node's own broker is about to stop.
    pub(crate) wants_shutdown: AtomicBool,
    pub(crate) may_shut_down: watch::Sender<bool>,
}

impl Duties {
    pub(crate) fn new(signals: Arc<Signals>, ready: bool) -> Self {
        Self {
            signals,
            leading: Mutex::new(None),
            lost: broadcast::Sender::new(64),
            ready: AtomicBool::new(ready),
            wants_shutdown: AtomicBool::new(false),
            may_shut_down: watch::Sender::new(false),
        }
    }
}

impl Inner {
    /// This node's own sign of life.
    pub(crate) fn own_heartbeat(&self, broker_epoch: i64) -> Heartbeat {
        Heartbeat {
            broker_epoch,
            offset: self.published.applied(),
            wants_shutdown: self.duties.wants_shutdown.load(Ordering::Acquire),
            ready: self.duties.ready.load(Ordering::Acquire),
        }
    }

    /// The leader's answer to a heartbeat.
    pub(crate) fn on_heartbeat(self: &Arc<Self>, from: NodeId, heartbeat: Heartbeat) -> Alive {
        let image = self.image();
        let mut wanted = Vec::new();
        let answer = self.while_leading(&image, |leading| {
            let beat = chronik_meta::Heartbeat {
                node: from,
                epoch: heartbeat.broker_epoch,
                offset: heartbeat.offset,
                ready: heartbeat.ready,
            };
            match leading.sessions.on_heartbeat(&image, &beat, self.now()) {
                Ok(let_in) => wanted.extend(let_in),
                Err(_) => return Alive::Unknown,
            }
            leading.offsets.insert(from, heartbeat.offset);
            let may_shut_down =
                heartbeat.wants_shutdown && self.may_stop(leading, &image, from, heartbeat, &mut wanted);
            Alive::Known { fenced: image.broker(from).is_none_or(|broker| broker.fenced), may_shut_down }
        });
        self.propose(wanted);
        answer.unwrap_or_else(|| Alive::NotLeader(self.leader().filter(|leader| *leader != self.me())))
    }

    /// Whether a broker that wants to stop may: its leaderships are moved, and every broker that is alive has applied that.
    fn may_stop(
        &self,
        leading: &mut Leading,
        image: &Image,
        from: NodeId,
        heartbeat: Heartbeat,
        wanted: &mut Vec<Command>,
    ) -> bool {
        let epoch = heartbeat.broker_epoch;
        let asked = leading.stopping.get(&from).copied().filter(|(of, _)| *of == epoch);
        if !image.broker(from).is_some_and(|broker| broker.in_shutdown) {
            if asked.is_none() {
                leading.stopping.insert(from, (epoch, None));
                wanted.push(Command::BeginShutdown { id: from, epoch });
            }
            return false;
        }
        let moved_at = asked.and_then(|(_, at)| at).unwrap_or(image.offset());
        leading.stopping.insert(from, (epoch, Some(moved_at)));
        let fetched = self.fetches.observers(self.now());
        let knows = |id: NodeId| {
            let heard = leading.offsets.get(&id).copied().unwrap_or(0);
            let fetched = fetched.get(&id).map_or(0, |seen| seen.offset);
            let own = if id == self.me() { self.published.applied() } else { 0 };
            heard.max(fetched).max(own) >= moved_at
        };
        image.brokers().filter(|broker| !broker.fenced).all(|broker| knows(broker.id))
    }

    /// Has the leader's commands carried out; what is refused was overtaken by something else, and is looked at again.
    fn propose(self: &Arc<Self>, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        for command in &commands {
            match command {
                Command::FenceBroker { id, .. } => {
                    self.counts.fenced();
                    tracing::warn!(broker = *id, "it is taken for dead: its leaderships go to others");
                }
                Command::UnfenceBroker { id, .. } => tracing::info!(broker = *id, "it is alive and let in"),
                _ => {}
            }
        }
        self.submit(commands, |results| {
            for error in results.iter().filter_map(|result| result.as_ref().err()) {
                tracing::debug!("a change that the leader proposed was refused: {error}");
            }
        });
    }

    /// Runs `act` with what belongs to this node's time as leader; `None` if it doesn't lead.
    fn while_leading<T>(&self, image: &Image, act: impl FnOnce(&mut Leading) -> T) -> Option<T> {
        let mut leading = lock(&self.duties.leading);
        if !self.is_leader() {
            *leading = None;
            return None;
        }
        let term = self.view().term;
        let current = match leading.take().filter(|leading| leading.term == term) {
            Some(current) => current,
            None => self.begin_to_lead(term, image),
        };
        Some(act(leading.insert(current)))
    }

    /// Everybody has a whole session before them, save those at whose address nobody listens.
    fn begin_to_lead(&self, term: u64, image: &Image) -> Leading {
        let now = self.now();
        let mut sessions =
            Sessions::new(u64::try_from(self.timing.session.as_millis()).unwrap_or(u64::MAX), now);
        // The sessions are made by this; none is over yet.
        let _ = sessions.tick(image, now);
        for (node, event) in lock(&self.peers).iter() {
            match event {
                PeerEvent::Refused => sessions.on_refused(*node),
                PeerEvent::Disconnected => sessions.on_disconnected(*node, now),
                PeerEvent::Connected => {}
            }
        }
        // Whoever led before was not heard of for an election timeout already. If it lives, it says so within half a session.
        for leader in lock(&self.known).last_leaders.into_iter().flatten().filter(|id| *id != self.me()) {
            sessions.on_disconnected(leader, now);
        }
        self.duties.signals.sessions_changed.notify_one();
        self.duties.signals.raise(BROKERS | PARTITIONS | LEADERSHIPS);
        Leading { term, sessions, offsets: BTreeMap::new(), stopping: BTreeMap::new() }
    }

    /// Watches the sessions while this node leads. No timer runs while there is no other broker to watch.
    pub(crate) async fn watch_sessions(self: Arc<Self>) {
        let period = (self.timing.heartbeat / 2).max(Duration::from_millis(10));
        loop {
            let mut turns = self.turns.subscribe();
            let changed = self.duties.signals.sessions_changed.notified();
            let image = self.image();
            let commands = self.while_leading(&image, |leading| {
                let now = self.now();
                let mut commands = Vec::new();
                // This node is alive, or it would not be here.
                if let Some(epoch) = self.broker_epoch() {
                    let own = self.own_heartbeat(epoch);
                    let beat = chronik_meta::Heartbeat {
                        node: self.me(),
                        epoch,
                        offset: own.offset,
                        ready: own.ready,
                    };
                    commands.extend(leading.sessions.on_heartbeat(&image, &beat, now).ok().flatten());
                }
                commands.extend(leading.sessions.tick(&image, now));
                commands
            });
            let leads = commands.is_some();
            if leads && image.cluster_id().is_zero() {
                self.propose(vec![Command::SetClusterId {
                    id: self.cluster_id.unwrap_or(self.new_cluster_id),
                }]);
            }
            self.propose(commands.unwrap_or_default());
            let others = image.brokers().any(|broker| broker.id != self.me() && !broker.fenced);
            tokio::select! {
                () = changed => {}
                _ = turns.changed() => {}
                () = sleep(period), if leads && others => {}
                // The cluster's id was proposed; it may have been refused.
                () = sleep(self.timing.session), if leads && image.cluster_id().is_zero() => {}
            }
        }
    }

    /// The sessions, on the leader.
    pub(crate) fn sessions(&self) -> Vec<SessionStatus> {
        let leading = lock(&self.duties.leading);
        leading.as_ref().map_or_else(Vec::new, |leading| leading.sessions.status(self.now()))
    }

    /// Hears of the connection to a node.
    pub(crate) fn on_peer(self: &Arc<Self>, node: NodeId, event: PeerEvent) {
        lock(&self.peers).insert(node, event);
        let now = self.now();
        if let Some(leading) = lock(&self.duties.leading).as_mut() {
            match event {
                PeerEvent::Refused => leading.sessions.on_refused(node),
                PeerEvent::Disconnected => leading.sessions.on_disconnected(node, now),
                PeerEvent::Connected => {}
            }
        }
        if let Store::Raft(raft) = &self.store
            && event != PeerEvent::Connected
        {
            // If it led the quorum, the voters need not wait for its silence.
            raft.on_lost(node);
        }
        match event {
            PeerEvent::Connected => self.turn(),
            PeerEvent::Disconnected => {
                // Nobody may be listening, which is all the same.
                let _ = self.duties.lost.send(node);
                self.duties.signals.sessions_changed.notify_one();
                self.find_out(node);
            }
            PeerEvent::Refused => {
                let _ = self.duties.lost.send(node);
                self.duties.signals.sessions_changed.notify_one();
            }
        }
    }

    /// Calls a node whose connection broke, so that its host can say that nobody listens there.
    fn find_out(self: &Arc<Self>, node: NodeId) {
        if !self.is_leader() {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let payload = request(inner.caller(), |_| {});
            if let Err(error) = inner.call(node, kind::PROBE, payload, inner.timing.session / 2).await {
                tracing::debug!(node, "its connection broke: {error}");
            }
        });
    }
}
