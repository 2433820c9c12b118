//! The high watermark is what every member of the ISR has flushed, and a wait for `acks=all` ends with it.

use chronik_replica::{Leader, LeaderError, Progress};

use crate::world::{ack, decide, leader, start, stream, subscribe};

#[test]
fn alone_it_is_what_is_flushed() {
    let mut leader = leader(&[1], &[1], 10);
    assert_eq!(leader.high_watermark(), 10);
    assert_eq!(leader.wait_for_write(12, 0, 10, 1), None);
    assert_eq!(leader.wait_for_commit(12, 0, 10, 2), None);
    assert!(leader.wants_flush());
    let mut out = Vec::new();
    leader.on_written(12, |who| out.push(who));
    assert_eq!(out, [1]);
    assert_eq!(leader.high_watermark(), 10, "written is not flushed");
    let progress = leader.on_flushed(12, |who| out.push(who));
    assert_eq!(progress, Progress { high_watermark: 12, advanced: true });
    assert_eq!(out, [1, 2]);
    assert_eq!(leader.wait_for_commit(12, 0, 10, 3), Some(3));
    assert!(!leader.wants_flush());
}

#[test]
fn every_member_of_the_isr_counts_and_nobody_else() {
    let mut leader = leader(&[1, 2, 3, 4], &[1, 2, 3], 0);
    [2, 3, 4].into_iter().for_each(|node| subscribe(&mut leader, node, 0, 0));
    assert_eq!(leader.wait_for_commit(5, 0, 10, 1), None);
    assert_eq!(leader.on_flushed(5, |_| {}).high_watermark, 0);
    assert_eq!(ack(&mut leader, 2, 5, 1), []);
    assert_eq!(ack(&mut leader, 4, 5, 1), [], "it is not in the ISR");
    assert_eq!(leader.high_watermark(), 0);
    assert_eq!(ack(&mut leader, 3, 5, 1), [1]);
    assert_eq!(leader.high_watermark(), 5);
}

#[test]
fn a_word_of_another_epoch_or_of_a_stranger_moves_nothing() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_flushed(5, |_| {});
    for (node, epoch, error) in [
        (2, 2, LeaderError::Fenced { found: 2, current: 3 }),
        (2, 4, LeaderError::Fenced { found: 4, current: 3 }),
        (9, 3, LeaderError::NotReplica(9)),
    ] {
        assert_eq!(leader.on_follower_flushed(node, epoch, stream(1), 5, 1, |_| {}), Err(error));
    }
    assert_eq!(leader.high_watermark(), 0);
}

#[test]
fn a_removed_member_neither_holds_it_back_nor_moves_it() {
    let mut leader = leader(&[1, 2, 3], &[1, 2, 3], 0);
    [2, 3].into_iter().for_each(|node| subscribe(&mut leader, node, 0, 0));
    leader.wait_for_commit(5, 0, 10, 1);
    leader.on_flushed(5, |_| {});
    ack(&mut leader, 2, 3, 1);
    assert_eq!(decide(&mut leader, 8, &[1, 2, 3], &[1, 2], 2), []);
    assert_eq!(leader.high_watermark(), 3);
    assert_eq!(ack(&mut leader, 3, 5, 3), []);
    assert_eq!(leader.high_watermark(), 3);
    assert_eq!(ack(&mut leader, 2, 5, 3), [1]);
}

#[test]
fn a_new_leader_begins_with_what_it_knew_and_never_goes_back() {
    let replicas = [1, 2];
    let mut leader = Leader::<u32>::new(chronik_replica::LeaderStart {
        high_watermark: 4,
        ..start(&replicas, &replicas, 10)
    });
    assert_eq!((leader.high_watermark(), leader.epoch_start()), (4, 10));
    subscribe(&mut leader, 2, 2, 0);
    assert_eq!(leader.high_watermark(), 4);
    ack(&mut leader, 2, 8, 1);
    assert_eq!(leader.high_watermark(), 8);
}

#[test]
fn an_older_decision_changes_nothing() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.on_flushed(5, |_| {});
    decide(&mut leader, 7, &[1], &[1], 0);
    assert_eq!(leader.high_watermark(), 0);
    decide(&mut leader, 8, &[1], &[1], 0);
    assert_eq!(leader.high_watermark(), 5);
    assert_eq!(leader.partition_epoch(), 8);
}

#[test]
fn a_cut_forgets_what_was_not_written() {
    let mut leader = leader(&[1], &[1], 10);
    leader.on_written(20, |_| {});
    leader.on_cut(15);
    assert_eq!(leader.wait_for_write(16, 0, 10, 1), None);
    assert!(leader.has_waiters());
}
