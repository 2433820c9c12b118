//! Which brokers are alive, in the eyes of the node that leads the metadata. Pure: it is told of heartbeats, connections and the time, and answers
//! with the commands that should follow.

use std::collections::BTreeMap;

use chronik_base::NodeId;

use crate::command::Command;
use crate::error::MetaError;
use crate::image::{Broker, Image, MetaOffset};

/// A broker says that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The broker.
    pub node: NodeId,
    /// The epoch it was registered with.
    pub epoch: i64,
    /// The number of the last command that it has applied. It is let in once its own registration is among them.
    pub offset: MetaOffset,
    /// Whether it can serve. One that is still opening its logs says no and stays fenced.
    pub ready: bool,
}

/// What is known of one broker's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The broker.
    pub node: NodeId,
    /// The epoch it is registered with.
    pub epoch: i64,
    /// Milliseconds since its last heartbeat; `None` if there was none since this node leads.
    pub heard_ms_ago: Option<u64>,
    /// Milliseconds until it is taken for dead; 0 if it is.
    pub left_ms: u64,
    /// False while the connection to it is broken.
    pub connected: bool,
}

/// The sessions of all brokers. Made anew when a node begins to lead: every broker then has a whole session before it.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout_ms: u64,
    sessions: BTreeMap<NodeId, Session>,
    ticked_ms: u64,
}

#[derive(Clone, Debug)]
struct Session {
    epoch: i64,
    heard_ms: Option<u64>,
    deadline_ms: u64,
    connected: bool,
    /// Nobody listens where it should.
    refused: bool,
    /// It was heard after it had been fenced for a refused connection: refusals say nothing about this one.
    refusals_lie: bool,
    /// The last command that was asked for (true: fence), and when.
    asked: Option<(bool, u64)>,
}

impl Session {
    fn new(epoch: i64, now_ms: u64, timeout_ms: u64) -> Self {
        Self {
            epoch,
            heard_ms: None,
            deadline_ms: now_ms.saturating_add(timeout_ms),
            connected: true,
            refused: false,
            refusals_lie: false,
            asked: None,
        }
    }

    /// True if a command should be asked for now: not while the same one is on its way.
    fn ask(&mut self, fence: bool, now_ms: u64, again_after_ms: u64) -> bool {
        let on_its_way = self
            .asked
            .is_some_and(|(what, when)| what == fence && now_ms < when.saturating_add(again_after_ms));
        if !on_its_way {
            self.asked = Some((fence, now_ms));
        }
        !on_its_way
    }
}

impl Sessions {
    /// Sessions that end `timeout_ms` after the last heartbeat. `now_ms` is of a clock that never goes back, here and below.
    pub fn new(timeout_ms: u64, now_ms: u64) -> Self {
        Self { timeout_ms, sessions: BTreeMap::new(), ticked_ms: now_ms }
    }

    /// A heartbeat came. Gives the command that lets the broker in, if it is fenced and may be let in.
    ///
    /// # Errors
    /// [`MetaError::StaleBrokerEpoch`]: the broker must register (again).
    pub fn on_heartbeat(
        &mut self,
        image: &Image,
        beat: &Heartbeat,
        now_ms: u64,
    ) -> Result<Option<Command>, MetaError> {
        image.check_broker_epoch(beat.node, beat.epoch)?;
        let Some(broker) = image.broker(beat.node) else { return Ok(None) };
        let timeout_ms = self.timeout_ms;
        let session = self.session(broker, now_ms);
        if session.refused && !broker.fenced {
            // Sent before nobody listened there any more: it is dead until it is fenced and heard of again.
            return Ok(None);
        }
        session.refusals_lie |= session.refused;
        session.refused = false;
        session.heard_ms = Some(now_ms);
        session.connected = true;
        session.deadline_ms = now_ms.saturating_add(timeout_ms);
        let caught_up = i64::try_from(beat.offset).is_ok_and(|offset| offset >= broker.epoch);
        let let_in = broker.fenced && !broker.in_shutdown && beat.ready && caught_up;
        let ask = let_in && session.ask(false, now_ms, timeout_ms);
        Ok(ask.then_some(Command::UnfenceBroker { id: beat.node, epoch: beat.epoch }))
    }

    /// The connection to a broker broke. That proves nothing, but half a session must do for it to be heard again. One that was about to
    /// stop has stopped.
    pub fn on_disconnected(&mut self, node: NodeId, now_ms: u64) {
        let half = now_ms.saturating_add(self.timeout_ms / 2);
        if let Some(session) = self.sessions.get_mut(&node) {
            session.connected = false;
            session.deadline_ms = session.deadline_ms.min(half);
        }
    }

    /// Nobody listens at a broker's address, though the machine is there: its process is dead. The next [`Sessions::tick`] says so.
    pub fn on_refused(&mut self, node: NodeId) {
        if let Some(session) = self.sessions.get_mut(&node) {
            session.connected = false;
            session.refused = !session.refusals_lie;
        }
    }

    /// Time passes: which brokers are to be fenced. To be called several times within a session. If this node itself did not run for long
    /// (it was paused), the time is not counted: heartbeats could not be heard.
    pub fn tick(&mut self, image: &Image, now_ms: u64) -> Vec<Command> {
        let timeout_ms = self.timeout_ms;
        let passed = now_ms.saturating_sub(self.ticked_ms);
        self.ticked_ms = now_ms;
        if passed > timeout_ms / 2 {
            for session in self.sessions.values_mut() {
                let later = session.deadline_ms.saturating_add(passed);
                session.deadline_ms = later.min(now_ms.saturating_add(timeout_ms));
            }
        }
        self.sessions.retain(|id, _| image.broker(*id).is_some());
        let mut commands = Vec::new();
        for broker in image.brokers() {
            let session = self.session(broker, now_ms);
            let stopped = broker.in_shutdown && !session.connected;
            let dead = session.refused || stopped || session.deadline_ms <= now_ms;
            if dead && !broker.fenced && session.ask(true, now_ms, timeout_ms) {
                commands.push(Command::FenceBroker { id: broker.id, epoch: broker.epoch });
            }
        }
        commands
    }

    /// What is known of each broker.
    pub fn status(&self, now_ms: u64) -> Vec<SessionStatus> {
        let status = |(node, session): (&NodeId, &Session)| SessionStatus {
            node: *node,
            epoch: session.epoch,
            heard_ms_ago: session.heard_ms.map(|heard| now_ms.saturating_sub(heard)),
            left_ms: if session.refused { 0 } else { session.deadline_ms.saturating_sub(now_ms) },
            connected: session.connected,
        };
        self.sessions.iter().map(status).collect()
    }

    /// The session of a broker; a new one if it has registered since.
    fn session(&mut self, broker: &Broker, now_ms: u64) -> &mut Session {
        let new = || Session::new(broker.epoch, now_ms, self.timeout_ms);
        let session = self.sessions.entry(broker.id).or_insert_with(new);
        if session.epoch != broker.epoch {
            *session = new();
        }
        session
    }
}
