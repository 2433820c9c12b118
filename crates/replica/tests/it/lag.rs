//! What is told of lag and of whom a wait is for.

use chronik_replica::{MemberState, WaitCause, WaitingOn};

use crate::world::{ack, decide, leader, stream, subscribe};

fn cause(leader: &chronik_replica::Leader<u32>, now: u64) -> Option<(i32, WaitCause)> {
    leader.waiting_on(now).map(|waiting| (waiting.node, waiting.cause))
}

#[test]
fn names_who_holds_the_high_watermark_back() {
    let mut leader = leader(&[1, 2, 3], &[1, 2, 3], 0);
    assert_eq!(leader.waiting_on(0), None);
    leader.on_written(10, |_| {});
    assert_eq!(cause(&leader, 0), Some((2, WaitCause::NeverSubscribed)));
    [2, 3].into_iter().for_each(|node| subscribe(&mut leader, node, 0, 0));
    ack(&mut leader, 3, 10, 50);
    ack(&mut leader, 2, 4, 60);
    assert_eq!(cause(&leader, 0), Some((1, WaitCause::OwnFlush)));
    leader.on_flushed(10, |_| {});
    let slow = WaitingOn { node: 2, acked_end: 4, acked_ago_ms: Some(40), cause: WaitCause::Slow };
    assert_eq!(leader.waiting_on(100), Some(slow));
    leader.on_follower_disconnected(2, stream(1), 100);
    assert_eq!(cause(&leader, 100), Some((2, WaitCause::Disconnected)));
    leader.on_follower_refused(2, 110);
    assert_eq!(leader.waiting_on(110).unwrap().cause.to_string(), "connection refused");
}

#[test]
fn says_when_the_isr_is_what_is_too_small() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.set_min_insync_replicas(2);
    decide(&mut leader, 8, &[1, 2], &[1], 0);
    leader.on_flushed(3, |_| {});
    assert_eq!(cause(&leader, 0), Some((1, WaitCause::TooFewInSync)));
}

#[test]
fn counts_records_and_time_since_it_was_caught_up() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    let lag = leader.lag(5_000).next().unwrap();
    assert_eq!((lag.records, lag.behind_ms, lag.state), (0, 0, MemberState::CaughtUp));
    leader.on_appended(3, 3_000);
    leader.on_appended(10, 4_000);
    ack(&mut leader, 2, 4, 4_500);
    let lag = leader.lag(5_000).next().unwrap();
    assert_eq!((lag.node, lag.in_isr, lag.records), (2, true, 6));
    assert_eq!(
        (lag.behind_ms, lag.acked_ago_ms),
        (2_000, Some(500)),
        "it came to hold what there was at 3,000"
    );
    assert_eq!(lag.state, MemberState::CatchingUp);
}
