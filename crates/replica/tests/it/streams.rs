//! What an earlier stream still delivers counts for nothing.

use chronik_replica::{LeaderError, StreamId, StreamStart};

use crate::world::{leader, stream, subscribe};

#[test]
fn an_acknowledgement_of_an_earlier_stream_is_refused() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.on_flushed(9, |_| {});
    subscribe(&mut leader, 2, 5, 0);
    assert_eq!(leader.high_watermark(), 5);
    // The follower came back with an empty disk; what it flushed before is gone.
    let later = StreamId { broker_epoch: 51, number: 1 };
    let again = StreamStart { node: 2, epoch: 3, stream: later, flushed_end: 0 };
    leader.on_follower_subscribed(again, 1, |_| {}).unwrap();
    let stale = leader.on_follower_flushed(2, 3, stream(1), 9, 2, |_| {});
    let error = LeaderError::StaleStream { node: 2, found: stream(1), current: Some(later) };
    assert_eq!(stale, Err(error));
    assert_eq!(error.to_string(), "node 2 speaks of stream 50/1, the current one is 51/1");
    assert_eq!(leader.high_watermark(), 5);
}

#[test]
fn a_subscription_that_was_overtaken_is_refused() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    let second = StreamStart { node: 2, epoch: 3, stream: stream(2), flushed_end: 0 };
    leader.on_follower_subscribed(second, 1, |_| {}).unwrap();
    for number in [1, 2] {
        let late = StreamStart { stream: stream(number), flushed_end: 9, ..second };
        assert!(matches!(
            leader.on_follower_subscribed(late, 2, |_| {}),
            Err(LeaderError::StaleStream { .. })
        ));
    }
}

#[test]
fn a_subscription_of_another_epoch_or_a_stranger_is_refused() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    let start = StreamStart { node: 2, epoch: 2, stream: stream(1), flushed_end: 0 };
    let fenced = leader.on_follower_subscribed(start, 0, |_| {});
    assert_eq!(fenced, Err(LeaderError::Fenced { found: 2, current: 3 }));
    let stranger = leader.on_follower_subscribed(StreamStart { node: 7, epoch: 3, ..start }, 0, |_| {});
    assert_eq!(stranger, Err(LeaderError::NotReplica(7)));
}

#[test]
fn the_end_of_an_earlier_stream_is_not_the_end_of_this_one() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.set_min_insync_replicas(2);
    subscribe(&mut leader, 2, 0, 0);
    let again = StreamStart { node: 2, epoch: 3, stream: stream(2), flushed_end: 0 };
    leader.on_follower_subscribed(again, 1, |_| {}).unwrap();
    leader.on_follower_disconnected(2, stream(1), 2);
    assert_eq!(leader.check_in_sync(60_000), Ok(()));
    leader.on_follower_disconnected(2, stream(2), 3);
    assert!(leader.check_in_sync(60_000).is_err());
}
