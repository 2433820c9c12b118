//! Who is alive, as told by heartbeats, connections and the clock. Time is a number here.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_meta::{Command, Heartbeat, MetaError, Sessions};
use common::cluster::Cluster;

const TIMEOUT: u64 = 1500;

/// A cluster whose commands are applied as soon as they are asked for.
struct Watch {
    cluster: Cluster,
    sessions: Sessions,
    now: u64,
}

impl Watch {
    fn new(brokers: i32) -> Self {
        let mut watch = Self { cluster: Cluster::new(brokers), sessions: Sessions::new(TIMEOUT, 0), now: 0 };
        assert_eq!(watch.tick(), []);
        watch
    }

    fn beat_of(&self, node: i32) -> Heartbeat {
        Heartbeat { node, epoch: self.cluster.epoch(node), offset: self.cluster.image.offset(), ready: true }
    }

    /// A heartbeat; true if the broker is let in by it.
    fn beat(&mut self, node: i32) -> bool {
        let beat = self.beat_of(node);
        let command = self.sessions.on_heartbeat(&self.cluster.image, &beat, self.now).unwrap();
        let let_in = command.is_some();
        if let Some(command) = command {
            assert_eq!(command, Command::UnfenceBroker { id: node, epoch: beat.epoch });
            self.cluster.run(command).unwrap();
        }
        let_in
    }

    /// The brokers that are to be fenced; they are.
    fn tick(&mut self) -> Vec<i32> {
        let commands = self.sessions.tick(&self.cluster.image, self.now);
        let fenced = commands.into_iter().map(|command| {
            let Command::FenceBroker { id, .. } = command else { panic!("{command:?}") };
            self.cluster.run(command).unwrap();
            id
        });
        fenced.collect()
    }

    /// Time passes in steps of 100 ms, with heartbeats of `alive`; who is fenced, and when.
    fn pass(&mut self, ms: u64, alive: &[i32]) -> Vec<(u64, i32)> {
        let mut fenced = Vec::new();
        for _ in 0..ms / 100 {
            self.now += 100;
            for node in alive {
                self.beat(*node);
            }
            let now = self.now;
            fenced.extend(self.tick().into_iter().map(|id| (now, id)));
        }
        fenced
    }
}

#[test]
fn silence_ends_a_session() {
    let mut watch = Watch::new(3);
    assert_eq!(watch.pass(5000, &[1, 2, 3]), []);
    assert_eq!(watch.pass(3000, &[1, 3]), [(5000 + TIMEOUT, 2)]);
    assert!(watch.beat(2), "it is heard again");
    assert_eq!(watch.pass(3000, &[1, 2, 3]), []);
}

#[test]
fn a_new_leader_gives_everybody_a_whole_session() {
    let mut watch = Watch::new(2);
    watch.sessions = Sessions::new(TIMEOUT, 10_000);
    watch.now = 10_000;
    assert_eq!(watch.tick(), []);
    assert_eq!(watch.pass(3000, &[1]), [(10_000 + TIMEOUT, 2)]);
}

#[test]
fn a_broker_is_let_in_once_it_knows_of_its_registration_and_can_serve() {
    let mut watch = Watch::new(1);
    let epoch = watch.cluster.register(1, 2, 1);
    let early = Heartbeat { node: 1, epoch, offset: epoch as u64 - 1, ready: true };
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &early, 0), Ok(None));
    let busy = Heartbeat { offset: epoch as u64, ready: false, ..early };
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &busy, 0), Ok(None));
    let good = Heartbeat { ready: true, ..busy };
    let unfence = Some(Command::UnfenceBroker { id: 1, epoch });
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &good, 0), Ok(unfence.clone()));
    // It is on its way, but may get lost.
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &good, 100), Ok(None));
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &good, TIMEOUT), Ok(unfence));
}

#[test]
fn who_is_not_registered_so_must_register() {
    let mut watch = Watch::new(1);
    let old = watch.beat_of(1);
    let current = watch.cluster.register(1, 2, 1);
    let stale = MetaError::StaleBrokerEpoch { broker: 1, epoch: old.epoch, current: Some(current) };
    assert_eq!(watch.sessions.on_heartbeat(&watch.cluster.image, &old, 0), Err(stale));
    let unknown = Heartbeat { node: 9, ..old };
    assert!(watch.sessions.on_heartbeat(&watch.cluster.image, &unknown, 0).is_err());
}

#[test]
fn nobody_listening_means_dead_at_once() {
    let mut watch = Watch::new(2);
    watch.pass(1000, &[1, 2]);
    watch.sessions.on_refused(2);
    assert_eq!(watch.tick(), [2]);
    assert_eq!(watch.tick(), []);
    assert_eq!(watch.sessions.status(watch.now)[1].left_ms, 0);
    // Its next process is another matter.
    watch.cluster.register(2, 9, 2);
    assert!(watch.beat(2));
    watch.sessions.on_refused(2);
    assert_eq!(watch.tick(), [2]);
}

#[test]
fn a_heartbeat_from_before_the_refusal_does_not_count() {
    let mut watch = Watch::new(2);
    watch.sessions.on_refused(2);
    assert!(!watch.beat(2));
    assert_eq!(watch.tick(), [2]);
}

#[test]
fn a_broker_that_lives_behind_a_wrong_address_is_fenced_once_only() {
    let mut watch = Watch::new(2);
    watch.sessions.on_refused(2);
    assert_eq!(watch.tick(), [2]);
    assert!(watch.beat(2));
    for _ in 0..10 {
        watch.sessions.on_refused(2);
        assert_eq!(watch.pass(500, &[1, 2]), []);
    }
}

#[test]
fn after_a_broken_connection_half_a_session_must_do() {
    let mut watch = Watch::new(2);
    watch.pass(1000, &[1, 2]);
    watch.sessions.on_disconnected(2, 1000);
    watch.pass(500, &[1]);
    watch.sessions.on_disconnected(2, 1500);
    assert!(!watch.sessions.status(1500)[1].connected);
    assert_eq!(watch.pass(1000, &[1]), [(1800, 2)], "750 ms after the first break");
    assert!(watch.beat(2));
    watch.sessions.on_disconnected(2, watch.now);
    assert_eq!(watch.pass(3000, &[1, 2]), [], "heard again in time");
}

#[test]
fn one_that_was_about_to_stop_has_stopped_when_its_connection_ends() {
    let mut watch = Watch::new(2);
    watch.cluster.shut_down(2);
    assert_eq!(watch.pass(1000, &[1, 2]), []);
    watch.sessions.on_disconnected(2, watch.now);
    assert_eq!(watch.tick(), [2]);
    assert!(!watch.beat(2), "it must register again");
}

#[test]
fn a_pause_of_the_leader_itself_is_nobodys_death() {
    let mut watch = Watch::new(3);
    watch.pass(1000, &[1, 2, 3]);
    watch.now += 60_000;
    assert_eq!(watch.tick(), []);
    // From then on as ever.
    let fenced = watch.pass(3000, &[1, 2]);
    assert!(matches!(fenced[..], [(at, 3)] if at <= 61_000 + TIMEOUT), "{fenced:?}");
}

#[test]
fn a_command_that_gets_lost_is_asked_for_again() {
    let watch = Watch::new(1);
    let mut sessions = Sessions::new(TIMEOUT, 0);
    let image = &watch.cluster.image;
    let mut asked = Vec::new();
    for now in (0..5000).step_by(100) {
        asked.extend(sessions.tick(image, now).into_iter().map(|_| now));
    }
    assert_eq!(asked, [1500, 3000, 4500]);
}
