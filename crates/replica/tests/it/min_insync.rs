//! `min.insync.replicas`: refused before the append, failed after it, and nothing committed below it.

use chronik_replica::{DISCONNECT_GRACE_MS, Leader, LeaderError, LeaderStart, Settled};

use crate::world::{ack, decide, start, stream, subscribe};

const ALL: [i32; 3] = [1, 2, 3];

fn leader(isr: &[i32]) -> Leader<u32> {
    Leader::new(LeaderStart { min_insync_replicas: 2, ..start(&ALL, isr, 0) })
}

fn not_enough(in_sync: usize, present: usize) -> Result<(), LeaderError> {
    Err(LeaderError::NotEnoughReplicas { in_sync, present, needed: 2 })
}

#[test]
fn refuses_all_while_too_few_are_in_sync() {
    let mut leader = leader(&[1]);
    assert_eq!(leader.check_in_sync(0), not_enough(1, 1));
    leader.set_min_insync_replicas(1);
    assert_eq!(leader.check_in_sync(0), Ok(()));
}

#[test]
fn refuses_all_once_too_few_are_connected_though_the_isr_is_large() {
    let mut leader = leader(&ALL);
    let mut failed = Vec::new();
    [2, 3].into_iter().for_each(|node| subscribe(&mut leader, node, 0, 100));
    leader.wait_for_commit(5, 100, 60_000, 9);
    leader.on_follower_disconnected(2, stream(1), 1_000);
    leader.on_follower_disconnected(3, stream(1), 2_000);
    let due = 2_000 + DISCONNECT_GRACE_MS;
    assert_eq!(leader.check_in_sync(due - 1), Ok(()), "a connection may break and come back");
    leader.tick(due - 1, |who, how| failed.push((who, how)));
    assert_eq!(failed, []);
    assert_eq!(leader.next_tick_ms(), Some(1_000 + DISCONNECT_GRACE_MS));
    assert_eq!(leader.check_in_sync(due), not_enough(3, 1));
    leader.tick(due, |who, how| failed.push((who, how)));
    assert_eq!(failed, [(9, Settled::NotEnoughReplicas)]);
    assert!(!leader.has_waiters());
}

#[test]
fn a_refused_connection_counts_at_once() {
    let mut leader = leader(&[1, 2]);
    leader.on_follower_refused(2, 10);
    assert_eq!(leader.check_in_sync(10), not_enough(2, 1));
}

#[test]
fn a_dial_that_fails_says_less_than_a_stream_that_lives() {
    let mut leader = leader(&[1, 2]);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_follower_refused(2, 10);
    assert_eq!(leader.check_in_sync(10_000), Ok(()));
}

#[test]
fn followers_have_the_grace_to_subscribe_to_a_new_leader() {
    let mut leader = leader(&[1, 2]);
    assert_eq!(leader.check_in_sync(DISCONNECT_GRACE_MS - 1), Ok(()));
    assert_eq!(leader.check_in_sync(DISCONNECT_GRACE_MS), not_enough(2, 1));
    subscribe(&mut leader, 2, 0, DISCONNECT_GRACE_MS);
    assert_eq!(leader.check_in_sync(DISCONNECT_GRACE_MS), Ok(()));
}

#[test]
fn a_decision_that_leaves_too_few_fails_who_waits_and_stops_the_high_watermark() {
    let mut leader = leader(&[1, 2]);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_flushed(10, |_| {});
    leader.wait_for_commit(10, 0, 60_000, 9);
    ack(&mut leader, 2, 4, 1);
    assert_eq!(decide(&mut leader, 8, &ALL, &[1], 2), [(9, Settled::NotEnoughReplicas)]);
    assert_eq!(leader.high_watermark(), 4, "KIP-966: what one replica has alone is not committed");
    decide(&mut leader, 9, &ALL, &[1, 2], 3);
    assert_eq!(ack(&mut leader, 2, 10, 4), []);
    assert_eq!(leader.high_watermark(), 10);
}

#[test]
fn a_topic_with_fewer_replicas_than_that_is_refused_but_readable() {
    let mut leader = Leader::<u32>::new(LeaderStart { min_insync_replicas: 2, ..start(&[1], &[1], 0) });
    assert_eq!(leader.check_in_sync(0), not_enough(1, 1));
    leader.on_flushed(3, |_| {});
    assert_eq!(leader.high_watermark(), 3);
}
