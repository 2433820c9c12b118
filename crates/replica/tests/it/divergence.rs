//! Logs that differ are joined by their epochs (KIP-101, KIP-279).

use chronik_replica::{
    Answer, EpochLog, Follower, FollowerAction, LeaderLog, SubscriptionRefusal, answer_subscription,
};

use crate::world::{Log, stream};

/// Subscribes until the leader streams; the follower's log is then what is left of it, and how often it was cut.
pub fn join(follower_log: &mut Log, leader_log: &Log) -> usize {
    let mut follower = Follower::new(1, 9, 0, 0);
    for round in 0..100 {
        let asked = follower.subscribe(stream(round), follower_log, follower_log.log_end());
        let leader = LeaderLog { epoch: 9, high_watermark: 0, log: leader_log };
        match follower.on_answer(stream(round), answer_subscription(&asked, leader), follower_log).unwrap() {
            FollowerAction::Stream => return round as usize,
            FollowerAction::TruncateTo(end) => {
                assert!(end < follower_log.log_end(), "each round cuts something");
                follower_log.truncate(end);
            }
            FollowerAction::ResetTo(start) => follower_log.reset(start),
            FollowerAction::Refused(refusal) => panic!("{refusal}"),
        }
    }
    panic!("no end: {follower_log:?} joins {leader_log:?}");
}

fn joined(follower: &[i32], leader: &[i32]) -> (Vec<i32>, usize) {
    let mut log = Log::new(follower);
    let rounds = join(&mut log, &Log::new(leader));
    (log.epochs, rounds)
}

#[test]
fn equal_logs_and_shorter_ones_are_not_cut() {
    assert_eq!(joined(&[0, 0, 1], &[0, 0, 1]), (vec![0, 0, 1], 0));
    assert_eq!(joined(&[0, 0], &[0, 0, 1]), (vec![0, 0], 0));
    assert_eq!(joined(&[], &[0, 0, 1]), (vec![], 0));
}

#[test]
fn a_longer_tail_of_the_same_epoch_is_cut() {
    assert_eq!(joined(&[0, 0, 0, 0], &[0, 0]), (vec![0, 0], 1));
    assert_eq!(joined(&[0, 0, 0, 0], &[0, 0, 2]), (vec![0, 0], 1));
}

#[test]
fn an_epoch_that_the_leader_never_had_is_cut() {
    // KIP-279's case: several fast leader changes, each side with an epoch of its own.
    assert_eq!(joined(&[0, 1, 1], &[0, 2, 2]), (vec![0], 1));
    assert_eq!(joined(&[0, 0, 3, 5], &[0, 0, 3, 3, 4, 6]).0, [0, 0, 3]);
    assert_eq!(joined(&[0, 0, 0, 2], &[0, 0, 1, 1]).0, [0, 0]);
}

#[test]
fn nothing_in_common_starts_anew() {
    assert_eq!(joined(&[1, 1], &[2, 2, 2]), (vec![], 1));
    assert_eq!(joined(&[1, 1], &[]), (vec![], 1));
}

#[test]
fn a_log_that_ends_before_the_leaders_begins_is_reset_to_it() {
    let leader = Log { start: 10, epochs: vec![4, 4] };
    let mut behind = Log::new(&[0, 0]);
    join(&mut behind, &leader);
    assert_eq!(behind, Log { start: 10, epochs: vec![] });
    let mut meets = Log::new(&[0; 10]);
    join(&mut meets, &leader);
    assert_eq!(meets.log_end(), 10, "what came before is as good as any");
    let mut beyond = Log { start: 20, epochs: vec![] };
    join(&mut beyond, &leader);
    assert_eq!(beyond.log_end(), 10);
}

#[test]
fn another_epoch_of_the_leader_is_refused() {
    let log = Log::new(&[0]);
    for (found, refusal) in [
        (8, SubscriptionRefusal::StaleEpoch { found: 8, current: 9 }),
        (10, SubscriptionRefusal::NewerEpoch { found: 10, current: 9 }),
    ] {
        let asked = Follower::new(1, found, 0, 0).subscribe(stream(1), &log, 1);
        let leader = LeaderLog { epoch: 9, high_watermark: 0, log: &log };
        assert_eq!(answer_subscription(&asked, leader), Answer::Refused(refusal));
    }
}
