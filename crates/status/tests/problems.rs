//! What is wrong with clusters that are broken in one way or another, word by word.

use chronik_status::{
    BrokerStatus, ClusterStatus, FollowerTotal, Kind, MetadataRole, MetadataStatus, PartitionStatus,
    PeerState, PeerStatus, Severity, Totals, VoterStatus,
};

/// Three nodes, one topic with three partitions, all well.
fn healthy() -> ClusterStatus {
    let address = |id: i32| format!("127.0.0.1:909{}", id + 1);
    let voter = |id| VoterStatus {
        id,
        address: address(id),
        lag: Some(0),
        last_contact_ms: Some(100),
        ..Default::default()
    };
    let broker = |id| BrokerStatus {
        id,
        address: address(id),
        last_heartbeat_ms: Some(120),
        leaders: 1,
        replicas: 3,
        ..Default::default()
    };
    let peer = |id| PeerStatus {
        from: 1,
        id: Some(id),
        address: address(id),
        state: PeerState::Connected,
        ..Default::default()
    };
    ClusterStatus {
        node_id: 1,
        metadata: MetadataStatus {
            leader: Some(1),
            role: MetadataRole::Leader,
            voters: [1, 2, 3].map(voter).to_vec(),
            ..Default::default()
        },
        brokers: [1, 2, 3].map(broker).to_vec(),
        peers: [2, 3].map(peer).to_vec(),
        totals: Totals { topics: 1, partitions: 3, ..Default::default() },
        followers: vec![FollowerTotal { leader: 1, id: 2, partitions: 3, in_sync: 3, ..Default::default() }],
        ..Default::default()
    }
}

fn partition(index: i32, leader: Option<i32>, isr: &[i32], elr: &[i32], min_isr: u32) -> PartitionStatus {
    PartitionStatus {
        topic: "orders".to_owned(),
        partition: index,
        leader,
        replicas: vec![1, 2, 3],
        isr: isr.to_vec(),
        eligible_leaders: elr.to_vec(),
        min_isr,
        ..Default::default()
    }
}

/// As the connections between nodes say it.
fn nobody_listens(address: &str) -> String {
    format!("nobody listens at {address} (connection refused): start the node there, or correct the address")
}

fn problems(status: &ClusterStatus) -> Vec<(Severity, Kind, String, String)> {
    let problems = status.find_problems();
    problems
        .into_iter()
        .map(|problem| (problem.severity, problem.kind, problem.what, problem.action))
        .collect()
}

#[test]
fn a_healthy_cluster_has_none() {
    assert_eq!(problems(&healthy()), []);
}

#[test]
fn one_node_down_is_told_once() {
    let mut status = healthy();
    status.brokers[2].fenced = true;
    status.brokers[2].last_heartbeat_ms = Some(12_400);
    status.peers[1].state = PeerState::Failed;
    status.peers[1].problem = Some(nobody_listens("127.0.0.1:9094"));
    status.metadata.voters[2].last_contact_ms = Some(12_400);
    status.totals.under_replicated = 3;
    status.partitions = (0..3).map(|index| partition(index, Some(1), &[1, 2], &[], 2)).collect();
    assert_eq!(
        problems(&status),
        [(
            Severity::AtRisk,
            Kind::FencedBroker,
            "node 3 is down: nobody listens at 127.0.0.1:9094 (connection refused); it was last heard of 12 s ago; 3 replicas are there".to_owned(),
            "start it; if it is gone for good, `chronik cluster remove-voter 3`, then `chronik cluster drain 3 --unregister`".to_owned()
        )]
    );
}

#[test]
fn two_of_three_nodes_down() {
    let mut status = healthy();
    status.metadata.leader = None;
    status.metadata.problem = Some("1 of 3 voters is reached".to_owned());
    for peer in &mut status.peers {
        peer.state = PeerState::Failed;
        peer.problem = Some(nobody_listens(&peer.address));
    }
    // Nobody is there to fence them, and the partitions of this node wait for the minimum.
    status.partitions = vec![partition(0, Some(1), &[1], &[], 2)];
    status.totals.under_min_isr = 1;
    let problems = problems(&status);
    assert_eq!(problems[0].1, Kind::NoQuorum);
    assert_eq!(
        problems[0].2,
        "the metadata has no leader (1 of 3 voters is reached): 2 of 3 voters are needed. Topics, settings and leaders can't change; \
         partitions whose replicas are up go on"
    );
    assert_eq!(problems[0].3, "start node 2 at 127.0.0.1:9093, node 3 at 127.0.0.1:9094");
    assert_eq!(problems[1].1, Kind::UnderMinIsr);
    assert!(problems[1].2.ends_with("so acks=all is refused: orders-0"), "{}", problems[1].2);
    assert_eq!(
        problems[2].2,
        "node 1 can't reach node 2: nobody listens at 127.0.0.1:9093 (connection refused)"
    );
}

#[test]
fn offline_partitions_name_who_has_what_was_acknowledged() {
    let mut status = healthy();
    status.brokers[1].fenced = true;
    status.brokers[2].fenced = true;
    for peer in &mut status.peers {
        peer.state = PeerState::Failed;
    }
    status.partitions = (0..6).map(|index| partition(index, None, &[], &[2], 2)).collect();
    status.totals.offline = 20;
    status.totals.under_min_isr = 20;
    let problems = problems(&status);
    assert_eq!(problems[0].1, Kind::OfflinePartitions);
    assert_eq!(
        problems[0].2,
        "20 partitions have no leader, so nobody can read or write: orders-0, orders-1, orders-2, orders-3 and 16 more"
    );
    assert!(problems[0].3.starts_with("start node 2: what was acknowledged is there."), "{}", problems[0].3);
    assert_eq!(problems.iter().filter(|problem| problem.1 == Kind::UnderMinIsr).count(), 0);
}

#[test]
fn a_follower_named_at_a_port_where_nobody_listens() {
    let mut status = healthy();
    status.brokers.truncate(1);
    status.metadata.voters.truncate(1);
    status.peers = vec![PeerStatus {
        from: 1,
        address: "localhost:9193".to_owned(),
        state: PeerState::Failed,
        problem: Some(nobody_listens("localhost:9193")),
        ..Default::default()
    }];
    let problems = problems(&status);
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].2,
        "node 1 can't reach a node: nobody listens at localhost:9193 (connection refused)"
    );
    assert!(problems[0].3.contains("replication.followers"));
}

#[test]
fn a_follower_behind_and_one_out_of_sync() {
    let mut status = healthy();
    status.followers = vec![
        FollowerTotal {
            leader: 1,
            id: 2,
            partitions: 3,
            in_sync: 3,
            lag_records: 3_400,
            lag_bytes: 5 << 20,
            lag_ms_max: 7_000,
            ..Default::default()
        },
        FollowerTotal {
            leader: 1,
            id: 3,
            partitions: 3,
            in_sync: 1,
            cause: Some("disk full".to_owned()),
            ..Default::default()
        },
    ];
    status.partitions = (0..2).map(|index| partition(index, Some(1), &[1, 2], &[], 1)).collect();
    status.totals.under_replicated = 2;
    let problems = problems(&status);
    assert_eq!(problems[0].2, "node 3 isn't in sync on 2 partitions (disk full)");
    assert_eq!(problems[1].2, "node 2 is 7 s behind node 1 (3,400 records, 5.0 MiB)");
}

#[test]
fn what_is_worth_knowing_comes_last() {
    let mut status = healthy();
    status.totals.reassigning = 1;
    status.totals.not_led_by_preferred = 14;
    status.brokers[1].shutting_down = true;
    status.metadata.voters[2].lag = Some(5_000);
    let problems = problems(&status);
    let kinds: Vec<Kind> = problems.iter().map(|problem| problem.1).collect();
    assert_eq!(kinds, [Kind::LaggingVoter, Kind::ShuttingDown, Kind::Reassigning, Kind::NotLedByPreferred]);
    assert_eq!(problems[0].2, "voter 3 at 127.0.0.1:9094 is 5,000 entries behind");
    assert_eq!(problems[3].2, "14 partitions are led by another replica than the first");
}

#[test]
fn nodes_that_disagree_on_a_link_are_both_heard() {
    let mut status = healthy();
    for from in [2, 1] {
        status.peers.push(PeerStatus {
            from,
            id: Some(3),
            address: "127.0.0.1:9094".to_owned(),
            state: PeerState::Failed,
            problem: Some("answers as node 4".to_owned()),
            ..Default::default()
        });
    }
    assert_eq!(
        problems(&status)[0].2,
        "nodes 1 and 2 can't reach node 3 at 127.0.0.1:9094: answers as node 4"
    );
}

#[test]
fn programs_read_kebab_case_and_may_leave_fields_out() {
    let mut status = healthy();
    status.totals.reassigning = 1;
    let json = serde_json::to_value(status.clone().with_problems()).unwrap();
    assert_eq!(json["problems"][0]["kind"], "reassigning");
    assert_eq!(json["problems"][0]["severity"], "notice");
    assert_eq!(json["metadata"]["role"], "leader");
    assert_eq!(json["mode"], "standalone");
    assert_eq!(serde_json::from_value::<ClusterStatus>(json).unwrap(), status.with_problems());
    let old: ClusterStatus = serde_json::from_str(r#"{"node_id": 7, "unheard_of": 1}"#).unwrap();
    assert_eq!(old.node_id, 7);
}
