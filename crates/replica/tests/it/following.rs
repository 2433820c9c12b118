//! The follower: what it takes, what it refuses, what it says.

use chronik_replica::{
    Ack, Answer, Append, Follower, FollowerAction, FollowerError, FollowerState, SubscriptionRefusal,
};

use crate::world::{Log, stream};

fn append(number: u64, base_offset: i64, end_offset: i64) -> Append {
    Append { epoch: 3, stream: stream(number), base_offset, end_offset, high_watermark: 100, log_start: 0 }
}

fn streaming(log: &Log) -> Follower {
    let mut follower = Follower::new(1, 3, 0, 0);
    follower.subscribe(stream(1), log, log.epochs.len() as i64);
    let answer = Answer::Stream { high_watermark: 1, log_start: 0 };
    assert_eq!(follower.on_answer(stream(1), answer, log), Ok(FollowerAction::Stream));
    follower
}

#[test]
fn asks_from_its_logs_end() {
    let log = Log::new(&[0, 0, 2]);
    let mut follower = Follower::new(1, 3, 0, 0);
    let asked = follower.subscribe(stream(1), &log, 2);
    assert_eq!((asked.epoch, asked.log_end, asked.flushed_end, asked.last_epoch), (3, 3, 2, 2));
    assert_eq!(follower.state(), FollowerState::Subscribing);
}

#[test]
fn takes_batches_in_order_and_acknowledges_what_is_flushed() {
    let mut follower = streaming(&Log::new(&[0, 0]));
    assert_eq!(follower.on_append(&append(1, 2, 5)), Ok(()));
    assert_eq!(follower.high_watermark(), 5, "at most its own log's end");
    assert_eq!(follower.on_flushed(2), None, "the leader knows");
    assert_eq!(follower.on_flushed(4), Some(Ack { epoch: 3, stream: stream(1), flushed_end: 4 }));
    assert_eq!(follower.on_flushed(4), None);
    assert_eq!(follower.on_append(&append(1, 5, 5)), Ok(()), "only news of the high watermark");
}

#[test]
fn acknowledges_what_was_flushed_while_it_waited_for_the_answer() {
    let log = Log::new(&[0, 0, 0]);
    let mut follower = Follower::new(1, 3, 0, 0);
    follower.subscribe(stream(1), &log, 1);
    assert_eq!(follower.on_flushed(3), None, "there is no stream yet");
    follower.on_answer(stream(1), Answer::Stream { high_watermark: 0, log_start: 0 }, &log).unwrap();
    assert_eq!(follower.ack(), Some(Ack { epoch: 3, stream: stream(1), flushed_end: 3 }));
    assert_eq!(follower.ack(), None);
}

#[test]
fn refuses_another_epoch_and_another_stream() {
    let mut follower = streaming(&Log::new(&[0]));
    for epoch in [2, 4] {
        let error = FollowerError::Fenced { found: epoch, current: 3 };
        assert_eq!(follower.on_append(&Append { epoch, ..append(1, 1, 2) }), Err(error));
    }
    let stale = follower.on_append(&append(0, 1, 2));
    assert_eq!(stale, Err(FollowerError::StaleStream { found: stream(0) }));
    assert_eq!(follower.on_append(&append(1, 1, 2)), Ok(()));
}

#[test]
fn a_gap_or_a_repetition_ends_the_stream() {
    for base_offset in [0, 2] {
        let mut follower = streaming(&Log::new(&[0]));
        let error = FollowerError::Gap { found: base_offset, expected: 1 };
        assert_eq!(follower.on_append(&append(1, base_offset, 3)), Err(error));
        assert_eq!(follower.state(), FollowerState::Idle);
        assert_eq!(follower.on_flushed(1), None);
    }
}

#[test]
fn an_answer_to_an_earlier_subscription_truncates_nothing() {
    let log = Log::new(&[0, 0]);
    let mut follower = Follower::new(1, 3, 0, 0);
    follower.subscribe(stream(1), &log, 2);
    follower.on_disconnected();
    follower.subscribe(stream(2), &log, 2);
    let late = Answer::Diverged { epoch: 0, end_offset: 1, log_start: 0 };
    assert_eq!(
        follower.on_answer(stream(1), late, &log),
        Err(FollowerError::StaleStream { found: stream(1) })
    );
    assert_eq!(follower.state(), FollowerState::Subscribing);
    assert_eq!(follower.on_answer(stream(2), late, &log), Ok(FollowerAction::TruncateTo(1)));
    assert!(follower.on_answer(stream(2), late, &log).is_err(), "an answer counts once");
}

#[test]
fn a_refusal_leaves_it_idle() {
    let log = Log::default();
    let mut follower = Follower::new(1, 3, 0, 0);
    follower.subscribe(stream(1), &log, 0);
    let refusal = SubscriptionRefusal::NotLeader;
    let action = follower.on_answer(stream(1), Answer::Refused(refusal), &log);
    assert_eq!(action, Ok(FollowerAction::Refused(refusal)));
    assert_eq!(follower.state(), FollowerState::Idle);
}

#[test]
fn what_is_cut_off_is_not_committed_when_the_log_grows_over_it_again() {
    let mut log = Log::new(&[0, 0, 0, 0]);
    let mut follower = Follower::new(1, 3, 4, 4);
    assert_eq!(follower.high_watermark(), 4);
    log.truncate(1);
    follower.subscribe(stream(1), &log, 1);
    follower.on_answer(stream(1), Answer::Stream { high_watermark: 0, log_start: 0 }, &log).unwrap();
    follower.on_append(&Append { high_watermark: 2, ..append(1, 1, 4) }).unwrap();
    assert_eq!(follower.high_watermark(), 2);
}
