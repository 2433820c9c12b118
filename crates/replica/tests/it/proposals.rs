//! Who is proposed to leave and to join the ISR, and what a proposal in flight means for the high watermark (KIP-497).

use chronik_replica::{DISCONNECT_GRACE_MS, MemberState, PROPOSAL_RETRY_MS, ProposalFailure, StreamStart};

use crate::world::{LAG_MS, ack, decide, leader, nodes, propose, stream, subscribe};

const ALL: [i32; 3] = [1, 2, 3];

#[test]
fn a_member_that_lags_for_too_long_is_left_out() {
    let mut leader = leader(&ALL, &ALL, 0);
    [2, 3].into_iter().for_each(|node| subscribe(&mut leader, node, 0, 0));
    // Long idle: the time counts from the append on.
    const AT: u64 = 7 * LAG_MS;
    leader.on_appended(10, AT);
    leader.on_flushed(10, |_| {});
    ack(&mut leader, 2, 10, AT + 100);
    assert_eq!(propose(&mut leader, AT + LAG_MS - 1), None);
    assert_eq!(leader.next_tick_ms(), Some(AT + LAG_MS));
    let proposal = propose(&mut leader, AT + LAG_MS).unwrap();
    assert_eq!(nodes(&proposal), [1, 2]);
    assert_eq!((proposal.leader_epoch, proposal.partition_epoch), (3, 7));
    assert_eq!(leader.high_watermark(), 0, "a removal counts once it is decided");
    decide(&mut leader, 8, &ALL, &[1, 2], AT + LAG_MS + 5);
    assert_eq!(leader.high_watermark(), 10);
}

#[test]
fn a_member_that_keeps_up_with_what_there_was_stays() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    // It is always a step behind, and never behind the step before.
    for step in 1..100 {
        leader.on_appended(step * 10, step as u64 * 1_000);
        leader.on_flushed(step * 10, |_| {});
        ack(&mut leader, 2, step * 10 - 5, step as u64 * 1_000);
        assert_eq!(propose(&mut leader, step as u64 * 1_000), None);
    }
}

#[test]
fn a_member_that_moves_but_never_catches_up_leaves() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_appended(1_000_000, 0);
    for now in 1..20 {
        ack(&mut leader, 2, now as i64, now * 500);
    }
    let proposal = propose(&mut leader, LAG_MS).unwrap();
    assert_eq!(nodes(&proposal), [1]);
}

#[test]
fn a_goal_that_is_reached_late_gives_the_next_no_whole_time() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_appended(10, 1_000);
    leader.on_appended(20, 1_000 + LAG_MS / 4);
    leader.on_appended(30, 1_000 + LAG_MS / 4 + 1);
    ack(&mut leader, 2, 10, 900 + LAG_MS);
    assert_eq!(leader.next_tick_ms(), Some(1_000 + LAG_MS / 4 + LAG_MS), "the append of 20 counts");
    ack(&mut leader, 2, 20, 950 + LAG_MS);
    assert_eq!(
        leader.next_tick_ms(),
        Some(900 + LAG_MS + LAG_MS),
        "looked at again with the acknowledgement"
    );
    ack(&mut leader, 2, 30, 960 + LAG_MS);
    assert_eq!(leader.next_tick_ms(), None);
}

#[test]
fn a_member_that_is_gone_leaves_though_it_misses_nothing() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_follower_disconnected(2, stream(1), 500);
    assert_eq!(propose(&mut leader, 500 + DISCONNECT_GRACE_MS - 1), None);
    assert_eq!(nodes(&propose(&mut leader, 500 + DISCONNECT_GRACE_MS).unwrap()), [1]);
}

#[test]
fn a_member_whose_connection_is_refused_leaves_at_once() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.on_follower_refused(2, 5);
    assert_eq!(leader.next_tick_ms(), Some(5));
    assert_eq!(nodes(&propose(&mut leader, 5).unwrap()), [1]);
}

#[test]
fn a_member_whose_disk_takes_nothing_leaves_at_once_and_comes_back_with_its_next_subscription() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_written(10, |_| {});
    leader.on_flushed(10, |_| {});
    leader.on_follower_unable(2, stream(0), 4);
    assert_eq!(propose(&mut leader, 4), None, "of an earlier stream");
    leader.on_follower_unable(2, stream(1), 5);
    assert_eq!(leader.lag(5).next().unwrap().state, MemberState::Unable);
    assert_eq!(leader.next_tick_ms(), Some(5));
    assert_eq!(nodes(&propose(&mut leader, 5).unwrap()), [1]);
    decide(&mut leader, 8, &[1, 2], &[1], 6);
    assert_eq!(leader.high_watermark(), 10);
    let again = StreamStart { node: 2, epoch: 3, stream: stream(2), flushed_end: 10 };
    assert_eq!(propose(&mut leader, 7), None, "not while it can't write");
    leader.on_follower_subscribed(again, 8, |_| {}).unwrap();
    assert_eq!(nodes(&propose(&mut leader, 8).unwrap()), [1, 2]);
}

#[test]
fn a_member_that_says_it_will_not_subscribe_leaves_at_once() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    leader.on_follower_unable(2, stream(3), 5);
    assert_eq!(nodes(&propose(&mut leader, 5).unwrap()), [1]);
}

#[test]
fn a_member_that_lost_what_is_committed_leaves_at_once() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    subscribe(&mut leader, 2, 0, 0);
    leader.on_flushed(10, |_| {});
    ack(&mut leader, 2, 10, 1);
    let again = StreamStart { node: 2, epoch: 3, stream: stream(2), flushed_end: 6 };
    leader.on_follower_subscribed(again, 2, |_| {}).unwrap();
    assert_eq!(leader.high_watermark(), 10);
    assert_eq!(nodes(&propose(&mut leader, 2).unwrap()), [1]);
}

#[test]
fn who_joins_holds_all_that_is_committed_and_all_that_the_leader_began_with() {
    let mut leader = leader(&[1, 2], &[1], 10);
    assert_eq!(leader.high_watermark(), 10);
    subscribe(&mut leader, 2, 9, 0);
    assert_eq!(propose(&mut leader, 1), None);
    ack(&mut leader, 2, 10, 2);
    let proposal = propose(&mut leader, 2).unwrap();
    assert_eq!(proposal.isr, [(1, -1), (2, 50)], "with the broker epoch that it subscribed with");
    assert_eq!(propose(&mut leader, 3), None, "one at a time");
}

#[test]
fn who_is_disconnected_or_kept_out_by_the_metadata_does_not_join() {
    let mut leader = leader(&[1, 2], &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    assert_eq!(leader.next_tick_ms(), Some(0));
    assert_eq!(leader.propose(5, |node, broker_epoch| (node, broker_epoch) != (2, 50)), None);
    assert_eq!(leader.next_tick_ms(), Some(5 + PROPOSAL_RETRY_MS), "not asked over and over");
    leader.on_follower_disconnected(2, stream(1), 6);
    assert_eq!(propose(&mut leader, 5 + PROPOSAL_RETRY_MS), None);
    assert_eq!(leader.next_tick_ms(), None);
}

#[test]
fn whom_a_proposal_adds_counts_from_then_on() {
    let mut leader = leader(&[1, 2], &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    propose(&mut leader, 1).unwrap();
    leader.on_flushed(5, |_| {});
    assert_eq!(leader.high_watermark(), 0);
    ack(&mut leader, 2, 5, 2);
    assert_eq!(leader.high_watermark(), 5);
}

#[test]
fn a_refused_proposal_counts_no_more() {
    let mut leader = leader(&[1, 2], &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    propose(&mut leader, 1).unwrap();
    leader.on_flushed(5, |_| {});
    leader.on_proposal_failed(7, ProposalFailure::Refused, 2);
    assert_eq!(leader.on_flushed(6, |_| {}).high_watermark, 6);
    assert!(!leader.is_proposing());
}

#[test]
fn a_proposal_without_an_answer_counts_on_and_is_made_again() {
    let mut leader = leader(&[1, 2], &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    let first = propose(&mut leader, 1).unwrap();
    leader.on_proposal_failed(7, ProposalFailure::Unknown, 2);
    assert_eq!(propose(&mut leader, 3), None);
    assert_eq!(leader.next_tick_ms(), Some(2 + PROPOSAL_RETRY_MS));
    assert_eq!(propose(&mut leader, 2 + PROPOSAL_RETRY_MS), Some(first));
    // The second copy is refused, the first may yet come into force.
    leader.on_proposal_failed(7, ProposalFailure::Refused, 500);
    leader.on_flushed(5, |_| {});
    assert_eq!(leader.high_watermark(), 0);
    decide(&mut leader, 8, &[1, 2], &[1], 600);
    assert_eq!(leader.high_watermark(), 5, "the partition epoch that it was made on has passed");
}

#[test]
fn whom_nobody_knows_to_be_in_is_settled_by_a_decision_for_the_isr_as_it_is() {
    let mut leader = leader(&[1, 2], &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    propose(&mut leader, 1).unwrap();
    leader.on_proposal_failed(7, ProposalFailure::Unknown, 2);
    leader.on_follower_disconnected(2, stream(1), 3);
    leader.on_flushed(5, |_| {});
    assert_eq!(leader.high_watermark(), 0, "the dead candidate may be in the ISR");
    let due = leader.next_tick_ms().unwrap();
    assert_eq!(nodes(&propose(&mut leader, due).unwrap()), [1]);
    decide(&mut leader, 8, &[1, 2], &[1], due + 1);
    assert_eq!(leader.high_watermark(), 5);
}

#[test]
fn the_failure_of_an_earlier_proposal_says_nothing_of_this_one() {
    let mut leader = leader(&ALL, &[1], 0);
    subscribe(&mut leader, 2, 0, 0);
    propose(&mut leader, 1).unwrap();
    decide(&mut leader, 8, &ALL, &[1, 2], 2);
    subscribe(&mut leader, 3, 0, 3);
    propose(&mut leader, 3).unwrap();
    leader.on_proposal_failed(7, ProposalFailure::Refused, 4);
    assert!(leader.is_proposing());
}

#[test]
fn replicas_come_and_go_by_decision() {
    let mut leader = leader(&[1, 2], &[1, 2], 0);
    decide(&mut leader, 8, &[1, 2, 4], &[1, 2], 0);
    subscribe(&mut leader, 4, 0, 1);
    decide(&mut leader, 9, &[1, 4], &[1, 4], 2);
    assert_eq!(leader.isr().collect::<Vec<_>>(), [1, 4]);
    leader.on_flushed(5, |_| {});
    ack(&mut leader, 4, 5, 3);
    assert_eq!(leader.high_watermark(), 5);
    assert!(leader.on_follower_flushed(2, 3, stream(1), 5, 4, |_| {}).is_err());
}
