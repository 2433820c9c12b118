//! What leaders and administrators ask for: in-sync sets, elections, reassignments; and what is refused.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_base::{ErrorCode, Uuid};
use chronik_meta::{AlterPartition, Command, MetaError};
use common::cluster::{Cluster, TOPIC};

const MIN_2: &[(&str, &str)] = &[("min.insync.replicas", "2")];

/// What a proposal is refused with, in code and words.
fn refusal(cluster: &mut Cluster, proposal: AlterPartition) -> (ErrorCode, String) {
    let before = cluster.image.clone();
    let error = cluster.run(Command::AlterPartition(proposal)).unwrap_err();
    assert_eq!(cluster.image, before);
    (error.code(), error.to_string())
}

#[test]
fn a_proposal_changes_the_isr_and_the_partition_epoch_only() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], MIN_2);
    cluster.alter(&[3, 1]);
    assert_eq!(cluster.state(), (1, 0, vec![1, 3], vec![]));
    cluster.alter(&[1]);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![3]));
    cluster.alter(&[1, 2]);
    assert_eq!(cluster.state(), (1, 0, vec![1, 2], vec![]));
    cluster.alter(&[1, 2]);
    assert_eq!(cluster.partition().partition_epoch, 4, "raised also if nothing else changes");
}

#[test]
fn a_proposal_on_what_is_no_longer_so_is_refused() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    cluster.alter(&[1, 2, 3]);
    let good = cluster.proposal(&[1, 2]);
    let (code, text) = refusal(&mut cluster, AlterPartition { leader_epoch: 1, ..good.clone() });
    assert_eq!(code, ErrorCode::FencedLeaderEpoch);
    assert!(text.contains("at leader epoch 0, not 1"), "{text}");
    let (code, text) = refusal(&mut cluster, AlterPartition { leader: 2, ..good.clone() });
    assert_eq!(code, ErrorCode::NotLeaderOrFollower);
    assert!(text.contains("led by 1, not by 2"), "{text}");
    let (code, text) = refusal(&mut cluster, AlterPartition { partition_epoch: 0, ..good.clone() });
    assert_eq!(code, ErrorCode::InvalidUpdateVersion);
    assert!(text.contains("partition epoch 1, the change is made for 0"), "{text}");
    let (code, _) = refusal(&mut cluster, AlterPartition { topic: Uuid([9; 16]), ..good.clone() });
    assert_eq!(code, ErrorCode::UnknownTopicId);
    let (code, text) = refusal(&mut cluster, AlterPartition { partition: 1, ..good });
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    assert!(text.contains("no partition 1: it has 1"), "{text}");
}

#[test]
fn a_proposal_names_replicas_that_may_be_in_sync() {
    let mut cluster = Cluster::with_topic(4, &[1, 2, 3], &[]);
    let refuse = |cluster: &mut Cluster, isr: &[i32]| {
        let proposal = cluster.proposal(isr);
        refusal(cluster, proposal)
    };
    for (isr, why) in [
        (&[][..], "the leader must be in sync"),
        (&[2, 3][..], "the leader must be in sync"),
        (&[1, 2, 2][..], "a broker is named twice"),
        (&[1, 4][..], "in-sync replicas must be replicas"),
    ] {
        let (code, text) = refuse(&mut cluster, isr);
        assert_eq!(code, ErrorCode::InvalidReplicaAssignment, "{text}");
        assert!(text.contains(why), "{text}");
    }
    cluster.fence(2);
    let (code, text) = refuse(&mut cluster, &[1, 2]);
    assert_eq!(code, ErrorCode::IneligibleReplica);
    assert!(text.contains("broker 2 cannot join the ISR") && text.contains("it is fenced"), "{text}");
}

#[test]
fn a_member_that_restarted_since_it_was_seen_in_sync_is_refused() {
    let mut cluster = Cluster::with_topic(2, &[1, 2], &[]);
    cluster.alter(&[1]);
    let seen = cluster.proposal(&[1, 2]);
    // Its disk is wiped; nothing of the partition changes by that, so the partition epoch doesn't tell.
    cluster.register(2, 9, 9);
    cluster.unfence(2);
    assert_eq!(cluster.partition().partition_epoch, seen.partition_epoch);
    let (code, text) = refusal(&mut cluster, seen);
    assert_eq!(code, ErrorCode::IneligibleReplica);
    assert!(text.contains("it has registered again"), "{text}");
}

#[test]
fn the_preferred_leader_takes_over_if_it_is_in_sync() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    assert_eq!(
        cluster.elect(false),
        Err(MetaError::ElectionNotNeeded { topic: TOPIC, partition: 0, leader: 1 })
    );
    cluster.fence(1);
    assert_eq!(
        cluster.elect(false),
        Err(MetaError::PreferredNotAvailable { topic: TOPIC, partition: 0, preferred: 1 })
    );
    cluster.unfence(1);
    assert_eq!(cluster.elect(false).unwrap_err().code(), ErrorCode::PreferredLeaderNotAvailable);
    cluster.alter(&[1, 2, 3]);
    cluster.elect(false).unwrap();
    assert_eq!(cluster.state(), (1, 2, vec![1, 2, 3], vec![]));
    assert_eq!(cluster.elect(false).unwrap_err().code(), ErrorCode::ElectionNotNeeded);
}

#[test]
fn an_unclean_election_needs_somebody_alive_and_nobody_leading() {
    let mut cluster = Cluster::with_topic(3, &[1, 2], &[]);
    assert_eq!(cluster.elect(true).unwrap_err().code(), ErrorCode::ElectionNotNeeded);
    cluster.fence(2);
    cluster.fence(1);
    let none = MetaError::NoneEligible { topic: TOPIC, partition: 0, replicas: vec![1, 2] };
    assert_eq!(none.code(), ErrorCode::EligibleLeadersNotAvailable);
    assert_eq!(cluster.elect(true), Err(none));
    cluster.unfence(2);
    assert_eq!(cluster.state(), (-1, 1, vec![1], vec![]));
    cluster.elect(true).unwrap();
    assert_eq!(cluster.state(), (2, 2, vec![2], vec![]));
    assert_eq!(cluster.image.tally().unclean, 1);
}

#[test]
fn a_partition_moves_once_its_new_replicas_are_in_sync() {
    let mut cluster = Cluster::with_topic(5, &[1, 2, 3], &[]);
    cluster.reassign(&[4, 5, 1]).unwrap();
    assert_eq!(cluster.replicas(), (vec![4, 5, 1, 2, 3], vec![4, 5], vec![2, 3]));
    assert_eq!(cluster.state(), (1, 0, vec![1, 2, 3], vec![]));
    cluster.alter(&[1, 2, 3, 4]);
    assert!(cluster.partition().is_reassigned());
    cluster.alter(&[1, 2, 3, 4, 5]);
    assert_eq!(cluster.replicas(), (vec![4, 5, 1], vec![], vec![]));
    assert_eq!(cluster.state(), (1, 0, vec![4, 5, 1], vec![]), "the leader stays: it is one of them");
    // One epoch for the beginning of the move, and one for each proposal.
    assert_eq!(cluster.partition().partition_epoch, 3);
}

#[test]
fn a_leader_that_is_moved_away_hands_over() {
    let mut cluster = Cluster::with_topic(4, &[1, 2], MIN_2);
    cluster.reassign(&[3, 4]).unwrap();
    cluster.alter(&[1, 2, 3, 4]);
    assert_eq!(cluster.replicas(), (vec![3, 4], vec![], vec![]));
    assert_eq!(cluster.state(), (3, 1, vec![3, 4], vec![]));
}

#[test]
fn a_move_that_is_only_a_removal_or_an_order_is_done_at_once() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    cluster.reassign(&[3, 2]).unwrap();
    assert_eq!(cluster.replicas(), (vec![3, 2], vec![], vec![]));
    assert_eq!(cluster.state(), (3, 1, vec![3, 2], vec![]));
    cluster.reassign(&[2, 3]).unwrap();
    assert_eq!(cluster.replicas(), (vec![2, 3], vec![], vec![]));
    assert_eq!(cluster.state(), (3, 1, vec![2, 3], vec![]));
    cluster.alter(&[3]);
    cluster.reassign(&[2]).unwrap();
    assert!(cluster.partition().is_reassigned(), "2 is not in sync");
    cluster.alter(&[2, 3]);
    assert_eq!(cluster.state(), (2, 2, vec![2], vec![]));
}

#[test]
fn a_move_is_taken_back() {
    let mut cluster = Cluster::with_topic(4, &[1, 2], &[]);
    let none = MetaError::NoReassignment { topic: TOPIC, partition: 0 };
    assert_eq!(none.code(), ErrorCode::NoReassignmentInProgress);
    assert_eq!(cluster.take_back(), Err(none));
    cluster.reassign(&[3, 4]).unwrap();
    cluster.alter(&[1, 2, 3]);
    cluster.fence(1);
    assert_eq!(cluster.state().0, 3, "replicas of the target come first");
    cluster.take_back().unwrap();
    assert_eq!(cluster.replicas(), (vec![1, 2], vec![], vec![]));
    assert_eq!(cluster.state(), (2, 2, vec![2], vec![]));
}

#[test]
fn a_move_is_replaced_by_another() {
    let mut cluster = Cluster::with_topic(5, &[1, 2], &[]);
    cluster.reassign(&[3, 2]).unwrap();
    cluster.alter(&[1, 2, 3][..2]);
    cluster.reassign(&[4, 1]).unwrap();
    assert_eq!(cluster.replicas(), (vec![4, 1, 2], vec![4], vec![2]), "3 goes at once");
    cluster.reassign(&[1, 2]).unwrap();
    assert_eq!(cluster.replicas(), (vec![1, 2], vec![], vec![]));
}

#[test]
fn a_move_does_not_give_up_the_last_that_is_in_sync() {
    let mut cluster = Cluster::with_topic(4, &[1], &[]);
    cluster.reassign(&[2, 3]).unwrap();
    cluster.alter(&[1, 2]);
    cluster.fence(1);
    assert_eq!(cluster.state(), (2, 1, vec![2], vec![]));
    let error = cluster.take_back().unwrap_err();
    assert_eq!(error, MetaError::NoneInSync { topic: TOPIC, partition: 0, replicas: vec![1] });
    assert_eq!(error.code(), ErrorCode::InvalidReplicaAssignment);
    assert!(cluster.reassign(&[3]).is_err(), "2 was being added: it would go at once");
    cluster.reassign(&[2, 4]).unwrap();
    assert_eq!(cluster.state().0, 2);
}

#[test]
fn a_target_is_a_list_of_brokers() {
    let mut cluster = Cluster::with_topic(2, &[1], &[]);
    assert_eq!(cluster.reassign(&[]).unwrap_err().code(), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(cluster.reassign(&[2, 2]).unwrap_err().code(), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(cluster.reassign(&[9]), Err(MetaError::UnknownBroker(9)));
    let unknown = Command::Reassign { topic: Uuid([9; 16]), partition: 0, target: None };
    assert_eq!(cluster.run(unknown), Err(MetaError::UnknownTopic(Uuid([9; 16]))));
}

#[test]
fn a_move_asks_for_no_more_in_sync_than_its_smaller_side_has() {
    let mut cluster = Cluster::with_topic(3, &[1], MIN_2);
    assert_eq!(cluster.partition().needed_in_sync(2), 1);
    cluster.reassign(&[1, 2]).unwrap();
    assert_eq!(
        cluster.partition().needed_in_sync(2),
        1,
        "or nothing could be acknowledged while 2 catches up"
    );
    cluster.alter(&[1, 2]);
    assert_eq!(cluster.partition().needed_in_sync(2), 2);
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![2]));
    cluster.reassign(&[1]).unwrap();
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![]));
}
