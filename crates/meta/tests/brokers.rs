//! Brokers register, are fenced and let in again, stop and are wiped: what that does to partitions.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use chronik_base::{ErrorCode, Uuid};
use chronik_meta::{Command, Endpoint, MetaError};
use common::cluster::Cluster;

const MIN_2: &[(&str, &str)] = &[("min.insync.replicas", "2")];

#[test]
fn a_broker_begins_fenced_with_an_epoch_that_was_never_used() {
    let mut cluster = Cluster::new(0);
    assert_eq!(cluster.register(1, 1, 1), 1);
    assert!(cluster.image.broker(1).unwrap().fenced);
    cluster.unfence(1);
    assert!(cluster.image.broker(1).unwrap().may_lead());
    assert_eq!(cluster.register(1, 2, 1), 3);
    assert!(cluster.image.broker(1).unwrap().fenced);
    assert_eq!(cluster.image.candidates(), []);
}

#[test]
fn the_same_process_registers_again_and_keeps_its_standing() {
    let mut cluster = Cluster::with_topic(2, &[1, 2], &[]);
    let endpoint = Endpoint { listener: "kafka".to_owned(), host: "elsewhere".to_owned(), port: 1 };
    let before = cluster.state();
    let epoch = cluster.epoch(1);
    let reply = cluster.run(Command::RegisterBroker {
        id: 1,
        rack: Some("r".to_owned()),
        endpoints: vec![endpoint.clone()],
        incarnation: Uuid([1; 16]),
        directory: Uuid([1; 16]),
    });
    assert_eq!(reply, Ok(chronik_meta::Reply::Registered { epoch }));
    assert_eq!(cluster.state(), before);
    let broker = cluster.image.broker(1).unwrap();
    assert!(!broker.fenced);
    assert_eq!((broker.endpoint("kafka"), broker.rack.as_deref()), (Some(&endpoint), Some("r")));
}

#[test]
fn another_process_under_the_same_id_deposes_the_one_before() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    cluster.register(1, 9, 1);
    assert_eq!(cluster.state(), (2, 1, vec![2, 3], vec![]));
    cluster.unfence(1);
    assert_eq!(cluster.state(), (2, 1, vec![2, 3], vec![]));
}

#[test]
fn a_lone_broker_that_restarts_leads_in_a_new_epoch() {
    let mut cluster = Cluster::with_topic(1, &[1], &[]);
    cluster.register(1, 9, 1);
    assert_eq!(cluster.state(), (-1, 1, vec![1], vec![]));
    cluster.unfence(1);
    assert_eq!(cluster.state(), (1, 2, vec![1], vec![]));
}

#[test]
fn a_wiped_broker_is_in_no_isr_even_if_it_was_the_last() {
    let mut cluster = Cluster::with_topic(2, &[1, 2], &[]);
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![]));
    cluster.register(1, 9, 9);
    assert_eq!(cluster.state(), (-1, 1, vec![], vec![]));
    cluster.unfence(1);
    cluster.unfence(2);
    assert_eq!(cluster.state().0, -1, "neither is known to hold what was acknowledged");
    cluster.elect(true).unwrap();
    assert_eq!(cluster.state(), (1, 2, vec![1], vec![]));
}

#[test]
fn a_wiped_broker_is_no_eligible_leader() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], MIN_2);
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![3]));
    cluster.register(3, 9, 9);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![]));
    // Nor does it become one by leaving the ISR for that reason.
    let mut cluster = Cluster::with_topic(2, &[1, 2], MIN_2);
    cluster.register(2, 9, 9);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![]));
}

#[test]
fn a_directory_that_was_not_known_is_none_that_was_wiped() {
    let mut cluster = Cluster::new(0);
    cluster.register(1, 1, 0);
    assert!(!cluster.image.broker(1).unwrap().fenced);
    cluster.create(&[1], &[]).unwrap();
    cluster.register(1, 2, 5);
    cluster.unfence(1);
    assert_eq!(cluster.state(), (1, 2, vec![1], vec![]));
    let command = Command::RegisterBroker {
        id: 1,
        rack: None,
        endpoints: Vec::new(),
        incarnation: Uuid([3; 16]),
        directory: Uuid::ZERO,
    };
    let error = cluster.run(command).unwrap_err();
    assert_eq!((&error, error.code()), (&MetaError::NoDirectory(1), ErrorCode::InvalidRegistration));
}

#[test]
fn what_a_former_registration_says_is_refused() {
    let mut cluster = Cluster::new(1);
    let old = cluster.epoch(1);
    let new = cluster.register(1, 2, 1);
    for command in [
        Command::UnfenceBroker { id: 1, epoch: old },
        Command::FenceBroker { id: 1, epoch: old },
        Command::BeginShutdown { id: 1, epoch: old },
        Command::YieldLeaderships { id: 1, epoch: old },
    ] {
        let error = cluster.run(command).unwrap_err();
        assert_eq!(error, MetaError::StaleBrokerEpoch { broker: 1, epoch: old, current: Some(new) });
        assert_eq!(error.code(), ErrorCode::StaleBrokerEpoch);
    }
    let error = cluster.run(Command::UnfenceBroker { id: 7, epoch: 1 }).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BrokerIdNotRegistered);
    assert!(error.to_string().contains("broker 7 is not registered"), "{error}");
}

#[test]
fn leaderships_of_the_dead_go_on_in_the_order_of_the_replicas() {
    let mut cluster = Cluster::with_topic(4, &[2, 4, 1, 3], &[]);
    cluster.alter(&[2, 1, 3]);
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 1, vec![1, 3], vec![]));
    cluster.fence(1);
    assert_eq!(cluster.state(), (3, 2, vec![3], vec![]));
    cluster.fence(3);
    assert_eq!(cluster.state(), (-1, 3, vec![3], vec![]), "the last one stays");
    cluster.unfence(2);
    assert_eq!(cluster.state().0, -1, "2 may lack what 3 acknowledged alone");
    cluster.unfence(3);
    assert_eq!(cluster.state(), (3, 4, vec![3], vec![]));
    assert_eq!((cluster.image.tally().elections, cluster.image.tally().unclean), (3, 0));
}

#[test]
fn who_can_not_write_gives_its_leaderships_to_those_in_sync_and_stays_a_replica() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    let yields = |cluster: &mut Cluster, id| {
        let epoch = cluster.epoch(id);
        let command = Command::YieldLeaderships { id, epoch };
        assert_eq!(command.encode()[..2], [17, 0]);
        assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        cluster.run(command).unwrap();
    };
    yields(&mut cluster, 3);
    assert_eq!(cluster.state(), (1, 0, vec![1, 2, 3], vec![]), "it leads nothing");
    yields(&mut cluster, 1);
    assert_eq!(cluster.state(), (2, 1, vec![2, 3], vec![]));
    yields(&mut cluster, 2);
    assert_eq!(cluster.state(), (3, 2, vec![3], vec![]));
    yields(&mut cluster, 3);
    assert_eq!(cluster.state(), (3, 2, vec![3], vec![]), "nobody else has everything");
    cluster.alter(&[3, 1]);
    yields(&mut cluster, 3);
    assert_eq!(cluster.state().0, 1, "it may lead again once it is in sync again");
}

#[test]
fn a_follower_that_dies_changes_no_leader_and_fencing_twice_changes_nothing() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 0, vec![1, 3], vec![]));
    assert_eq!(cluster.partition().partition_epoch, 1);
    cluster.fence(2);
    cluster.unfence(2);
    assert_eq!(cluster.partition().partition_epoch, 1);
}

#[test]
fn who_leaves_an_isr_below_the_minimum_can_still_lead() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], MIN_2);
    cluster.fence(3);
    assert_eq!(cluster.state(), (1, 0, vec![1, 2], vec![]), "two are enough: 3 falls behind from now on");
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![2]));
    cluster.fence(1);
    assert_eq!(cluster.state(), (-1, 1, vec![1], vec![2]));
    cluster.unfence(3);
    assert_eq!(cluster.state().0, -1);
    cluster.unfence(2);
    assert_eq!(cluster.state(), (2, 2, vec![2], vec![1]));
    cluster.alter(&[2, 3]);
    assert_eq!(cluster.state(), (2, 2, vec![2, 3], vec![]), "enough again: 1 falls behind");
}

#[test]
fn an_isr_without_anybody_alive_stays_whole() {
    // Both are about to stop, so neither can take over from the other.
    let mut cluster = Cluster::with_topic(2, &[1, 2], MIN_2);
    cluster.shut_down(2);
    cluster.shut_down(1);
    assert_eq!(cluster.state(), (1, 0, vec![1, 2], vec![]));
    cluster.fence(1);
    assert_eq!(cluster.state(), (-1, 1, vec![1, 2], vec![]));
    cluster.fence(2);
    assert_eq!(cluster.state(), (-1, 1, vec![1, 2], vec![]));
    cluster.register(1, 9, 1);
    cluster.unfence(1);
    assert_eq!(cluster.state(), (1, 2, vec![1], vec![2]));
}

#[test]
fn an_unclean_election_is_counted_and_starts_over() {
    let unclean = &[("unclean.leader.election.enable", "true"), ("min.insync.replicas", "2")];
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], unclean);
    cluster.fence(3);
    cluster.fence(2);
    cluster.unfence(3);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![2]));
    cluster.fence(1);
    assert_eq!(
        cluster.state(),
        (3, 1, vec![3], vec![]),
        "who held more is no longer eligible: it will be cut"
    );
    assert_eq!((cluster.image.tally().elections, cluster.image.tally().unclean), (1, 1));
}

#[test]
fn before_it_stops_a_broker_gives_up_what_others_can_do() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], MIN_2);
    cluster.shut_down(1);
    assert_eq!(cluster.state(), (2, 1, vec![2, 3], vec![]));
    let error = cluster.run(Command::AlterPartition(cluster.proposal(&[1, 2, 3]))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::IneligibleReplica);
    assert!(error.to_string().contains("it is about to stop"), "{error}");
    cluster.shut_down(3);
    assert_eq!(cluster.state(), (2, 1, vec![2, 3], vec![]), "two must stay in sync");
    cluster.alter(&[2, 3]);
    assert_eq!(cluster.image.candidates().iter().map(|c| c.id).collect::<Vec<_>>(), [2]);
    cluster.fence(2);
    assert_eq!(cluster.state().0, -1, "no leadership for one that stops");
    cluster.fence(3);
    cluster.unfence(3);
    assert_eq!(cluster.state().0, -1, "not before it registers again");
    cluster.register(3, 9, 3);
    cluster.unfence(3);
    assert_eq!(cluster.state().0, 3);
}

#[test]
fn a_broker_that_nobody_can_stand_in_for_leads_to_the_end() {
    let mut cluster = Cluster::with_topic(2, &[1, 2], &[]);
    cluster.fence(2);
    cluster.unfence(2);
    cluster.shut_down(1);
    assert_eq!(cluster.state(), (1, 0, vec![1], vec![]));
}

#[test]
fn a_new_topic_begins_with_whoever_is_alive() {
    let mut cluster = Cluster::new(3);
    cluster.fence(2);
    cluster.create(&[2, 3, 1], MIN_2).unwrap();
    assert_eq!(cluster.state(), (3, 0, vec![3, 1], vec![]));
    cluster.fence(1);
    cluster.fence(3);
    let error = cluster
        .run(Command::CreatePartitions {
            topic: common::cluster::TOPIC,
            first: 1,
            assignments: vec![vec![1, 2]],
        })
        .unwrap_err();
    assert_eq!(error, MetaError::AssignedToFenced { partition: 1, replicas: vec![1, 2] });
    assert_eq!(error.code(), ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn settings_that_decide_about_elections_take_effect_at_once() {
    let mut cluster = Cluster::with_topic(3, &[1, 2, 3], &[]);
    cluster.set_default("min.insync.replicas", Some("3"));
    cluster.fence(2);
    assert_eq!(cluster.state(), (1, 0, vec![1, 3], vec![2]), "the default counts");
    cluster.set("min.insync.replicas", Some("2"));
    assert_eq!(cluster.state(), (1, 0, vec![1, 3], vec![]), "the topic's counts more, and two are enough");
    cluster.set("min.insync.replicas", None);
    assert_eq!(cluster.state().3, []);
    cluster.fence(3);
    cluster.fence(1);
    cluster.unfence(2);
    assert_eq!(cluster.state(), (-1, 1, vec![1], vec![3]));
    cluster.set_default("min.insync.replicas", None);
    assert_eq!(
        cluster.state(),
        (-1, 1, vec![1], vec![]),
        "1 alone may acknowledge once it leads: 3 falls behind"
    );
    cluster.set_default("unclean.leader.election.enable", Some("true"));
    assert_eq!(cluster.state(), (2, 2, vec![2], vec![]));
    assert_eq!(cluster.image.tally().unclean, 1);
}

#[test]
fn a_broker_in_use_is_not_forgotten() {
    let mut cluster = Cluster::with_topic(2, &[1], &[]);
    let error = cluster.run(Command::UnregisterBroker { id: 1 }).unwrap_err();
    assert_eq!(error, MetaError::BrokerInUse { broker: 1, topic: "t".to_owned() });
    cluster.run(Command::UnregisterBroker { id: 2 }).unwrap();
    let epoch = cluster.register(2, 9, 2);
    assert_eq!(
        epoch,
        cluster.image.offset() as i64,
        "no epoch is used twice, also of one that was forgotten"
    );
}
