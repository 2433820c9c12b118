//! The screens for clusters that are well, or broken in one way or another. `UPDATE_GOLDENS=1` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use chronik_base::NodeId;
use chronik_status::{
    BrokerStatus, ClusterStatus, FollowerLag, FollowerTotal, LagReport, MetadataRole, MetadataStatus, Mode,
    ObserverStatus, PartitionLag, PartitionStatus, PeerState, PeerStatus, PromoteAnswer, Totals, VoterStatus,
};

use super::view::{self, Answer, View};
use super::{lag, promote, render};

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} is not what it was; UPDATE_GOLDENS=1 accepts it:\n{text}");
}

fn address(id: NodeId) -> String {
    format!("10.0.0.{id}:9092")
}

/// What node `id` of three says while all is well; node 1 leads the metadata.
fn says(id: NodeId) -> ClusterStatus {
    let leads = id == 1;
    let voter = |voter| VoterStatus {
        id: voter,
        address: address(voter),
        end_offset: leads.then_some(1_234),
        lag: leads.then_some(0),
        last_contact_ms: (leads && voter != 1).then_some(80),
        ..Default::default()
    };
    let broker = |broker| BrokerStatus {
        id: broker,
        address: address(broker),
        internal_address: address(broker),
        rack: Some(["a", "b", "c"][broker as usize - 1].to_owned()),
        last_heartbeat_ms: leads.then_some(120),
        leaders: 10,
        replicas: 30,
        ..Default::default()
    };
    let peer = |peer| PeerStatus {
        from: id,
        id: Some(peer),
        address: address(peer),
        state: PeerState::Connected,
        since_ms: 60_000,
        ..Default::default()
    };
    let follower = |follower| FollowerTotal {
        leader: id,
        id: follower,
        partitions: 10,
        in_sync: 10,
        last_ack_ms: Some(3),
        ..Default::default()
    };
    let others = || [1, 2, 3].into_iter().filter(|other| *other != id);
    ClusterStatus {
        node_id: id,
        version: "0.1.0".to_owned(),
        mode: Mode::RaftCluster,
        cluster_id: Some("MkU3OEVBNTcwNTJENDM2Qg".to_owned()),
        uptime_ms: 3_600_000,
        metadata: MetadataStatus {
            leader: Some(1),
            term: 3,
            role: if leads { MetadataRole::Leader } else { MetadataRole::Follower },
            commit_offset: 1_234,
            applied_offset: 1_234,
            voters: [1, 2, 3].map(voter).to_vec(),
            ..Default::default()
        },
        brokers: [1, 2, 3].map(broker).to_vec(),
        peers: others().map(peer).collect(),
        totals: Totals { topics: 4, partitions: 30, ..Default::default() },
        followers: others().map(follower).collect(),
        ..Default::default()
    }
}

/// As the connections between nodes say it.
fn nobody_listens(address: &str) -> String {
    format!("nobody listens at {address} (connection refused): start the node there, or correct the address")
}

fn refused() -> Answer<ClusterStatus> {
    Err("Connection refused (os error 111)".to_owned())
}

fn merged(answers: Vec<(NodeId, Answer<ClusterStatus>)>) -> View {
    let answers: BTreeMap<_, _> =
        answers.into_iter().map(|(id, answer)| (id, (address(id), answer))).collect();
    view::merge(answers)
}

/// What node `id` says once node 3 is gone.
fn says_without_3(id: NodeId) -> ClusterStatus {
    let mut status = says(id);
    status.brokers[2].fenced = true;
    status.brokers[2].leaders = 0;
    status.brokers[0].leaders = 15;
    status.brokers[1].leaders = 15;
    if id == 1 {
        status.brokers[2].last_heartbeat_ms = Some(42_000);
        status.metadata.voters[2].lag = Some(17);
        status.metadata.voters[2].last_contact_ms = Some(42_000);
    }
    for peer in status.peers.iter_mut().filter(|peer| peer.id == Some(3)) {
        peer.state = PeerState::Failed;
        peer.problem = Some(nobody_listens(&peer.address));
        peer.since_ms = 42_000;
    }
    status.totals.under_replicated = 30;
    status.totals.not_led_by_preferred = 10;
    status.partitions = (0..30)
        .map(|index| PartitionStatus {
            topic: "orders".to_owned(),
            partition: index,
            leader: Some(1),
            replicas: vec![1, 2, 3],
            isr: vec![1, 2],
            min_isr: 2,
            ..Default::default()
        })
        .collect();
    status.followers[if id == 1 { 1 } else { 0 }].in_sync = 10;
    status.followers.retain(|follower| follower.id != 3);
    status
}

#[test]
fn all_is_well() {
    let view = merged(vec![(1, Ok(says(1))), (2, Ok(says(2))), (3, Ok(says(3)))]);
    assert_eq!(view.status.problems, []);
    check("status_well", &render::status(&view));
}

#[test]
fn a_node_is_down() {
    let view = merged(vec![(1, Ok(says_without_3(1))), (2, Ok(says_without_3(2))), (3, refused())]);
    check("status_node_down", &render::status(&view));
}

#[test]
fn a_node_has_left() {
    let mut status = says(1);
    status.brokers.retain(|broker| broker.id != 3);
    status.metadata.voters.retain(|voter| voter.id != 3);
    status.followers.retain(|follower| follower.id != 3);
    for peer in status.peers.iter_mut().filter(|peer| peer.id == Some(3)) {
        peer.state = PeerState::Failed;
        peer.problem = Some(nobody_listens(&peer.address));
    }
    let view = merged(vec![(1, Ok(status)), (2, Ok(says(2))), (3, refused())]);
    check("status_node_left", &render::status(&view));
}

#[test]
fn two_of_three_are_down() {
    let mut status = says(2);
    status.metadata.leader = None;
    status.metadata.role = MetadataRole::Candidate;
    status.metadata.term = 9;
    status.metadata.problem = Some("1 of 3 voters is reached".to_owned());
    for peer in &mut status.peers {
        peer.state = PeerState::Failed;
        peer.problem = Some(nobody_listens(&peer.address));
    }
    status.partitions = vec![
        PartitionStatus {
            topic: "orders".to_owned(),
            partition: 7,
            leader: Some(2),
            replicas: vec![2, 3, 1],
            isr: vec![2],
            min_isr: 2,
            ..Default::default()
        },
        PartitionStatus {
            topic: "orders".to_owned(),
            partition: 8,
            replicas: vec![1],
            isr: vec![1],
            min_isr: 1,
            ..Default::default()
        },
    ];
    status.totals.offline = 1;
    status.totals.under_min_isr = 1;
    status.totals.under_replicated = 2;
    status.followers.clear();
    let view = merged(vec![(1, refused()), (2, Ok(status)), (3, refused())]);
    check("status_no_quorum", &render::status(&view));
}

#[test]
fn a_follower_named_at_a_port_where_nobody_listens() {
    let mut status = says(1);
    status.mode = Mode::Standalone;
    status.brokers.truncate(1);
    status.brokers[0].rack = None;
    status.metadata.voters.truncate(1);
    status.peers = vec![PeerStatus {
        from: 1,
        address: "localhost:9193".to_owned(),
        state: PeerState::Failed,
        problem: Some(nobody_listens("localhost:9193")),
        ..Default::default()
    }];
    status.followers.clear();
    check("status_follower_unreachable", &render::status(&merged(vec![(1, Ok(status))])));
}

#[test]
fn a_node_joins_while_another_lags() {
    let mut leader = says(1);
    let mut joining = BrokerStatus { id: 4, address: address(4), fenced: true, ..Default::default() };
    joining.last_heartbeat_ms = Some(90);
    leader.brokers.push(joining);
    leader.metadata.observers =
        vec![ObserverStatus { id: 4, end_offset: 800, lag: 434, ..Default::default() }];
    leader.peers.push(PeerStatus {
        from: 1,
        id: Some(4),
        address: address(4),
        state: PeerState::Connected,
        ..Default::default()
    });
    leader.followers[0] = FollowerTotal {
        leader: 1,
        id: 2,
        partitions: 10,
        in_sync: 8,
        lag_records: 1_200_000,
        lag_bytes: 350 << 20,
        lag_ms_max: 45_000,
        last_ack_ms: Some(250),
        cause: Some("disk is slow".to_owned()),
    };
    leader.partitions = (0..2)
        .map(|index| PartitionStatus {
            topic: "events".to_owned(),
            partition: index,
            leader: Some(1),
            replicas: vec![1, 2, 3],
            isr: vec![1, 3],
            min_isr: 2,
            ..Default::default()
        })
        .collect();
    leader.totals.under_replicated = 2;
    let mut newcomer =
        ClusterStatus { node_id: 4, not_ready: Some("the metadata is being copied".to_owned()), ..says(2) };
    newcomer.metadata.role = MetadataRole::Observer;
    newcomer.metadata.applied_offset = 800;
    newcomer.uptime_ms = 2_000;
    newcomer.peers.clear();
    newcomer.followers.clear();
    let view = merged(vec![(1, Ok(leader)), (2, Ok(says(2))), (3, Ok(says(3))), (4, Ok(newcomer))]);
    check("status_joining_and_lagging", &render::status(&view));
}

#[test]
fn the_node_that_leads_now_is_believed() {
    let mut deposed = says(1);
    deposed.metadata.commit_offset = 1_000;
    let mut leader = says(2);
    leader.metadata.role = MetadataRole::Leader;
    leader.metadata.leader = Some(2);
    leader.metadata.term = 4;
    let view = merged(vec![(1, Ok(deposed.clone())), (2, Ok(leader))]);
    assert_eq!((view.status.node_id, view.status.metadata.leader), (2, Some(2)));
    // Without one that leads, whoever has the newest metadata.
    let mut follower = says(3);
    follower.metadata.term = 4;
    deposed.metadata.role = MetadataRole::Follower;
    let view = merged(vec![(1, Ok(deposed)), (3, Ok(follower)), (2, refused())]);
    assert_eq!(view.status.node_id, 3);
    assert!(
        view.status.problems[0]
            .what
            .starts_with("node 2 at 10.0.0.2:9092 takes part and can't be asked from here")
    );
}

#[test]
fn a_node_that_answers_as_another_is_not_believed() {
    let view = merged(vec![(1, Ok(says(1))), (2, Ok(says(3)))]);
    assert_eq!(view.nodes[1].silent.as_deref(), Some("answers as node 3"));
}

#[test]
fn programs_get_the_same() {
    let view = merged(vec![(1, Ok(says_without_3(1))), (2, Ok(says_without_3(2))), (3, refused())]);
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["metadata"]["leader"], 1);
    assert_eq!(json["totals"]["under_replicated"], 30);
    assert_eq!(json["problems"][0]["kind"], "fenced-broker");
    assert_eq!(json["problems"][0]["severity"], "at-risk");
    assert_eq!(json["nodes"][2]["silent"], "Connection refused (os error 111)");
    assert_eq!(json["nodes"][0]["role"], "leader");
    assert!(json["nodes"][0].get("silent").is_none());
}

fn report(leader: NodeId, follower: NodeId, records: u64) -> LagReport {
    let bytes = records * 256;
    LagReport {
        node_id: leader,
        leads: 10,
        followers: vec![FollowerTotal {
            leader,
            id: follower,
            partitions: 10,
            in_sync: if records > 0 { 9 } else { 10 },
            lag_records: records,
            lag_bytes: bytes,
            lag_ms_max: records / 10,
            last_ack_ms: Some(40),
            cause: None,
        }],
        partitions: vec![PartitionLag {
            topic: "orders".to_owned(),
            partition: leader,
            leader,
            leader_epoch: 5,
            high_watermark: 1_000_000,
            end_offset: 1_000_010,
            followers: vec![FollowerLag {
                id: follower,
                in_sync: records == 0,
                acked_offset: Some(1_000_010 - records as i64),
                lag_records: records,
                lag_bytes: bytes,
                lag_ms: records / 10,
                last_ack_ms: Some(40),
                cause: (records > 0).then(|| "catching up".to_owned()),
            }],
        }],
        partitions_left_out: u64::from(records > 0) * 3,
    }
}

fn reports(records: u64, limit: usize) -> (LagReport, Vec<super::view::NodeView>) {
    let answers = BTreeMap::from([
        (1, (address(1), Ok(report(1, 2, 0)))),
        (2, (address(2), Ok(report(2, 3, records)))),
        (3, (address(3), Err("Connection refused (os error 111)".to_owned()))),
    ]);
    lag::merge(answers, limit)
}

#[test]
fn lag_of_all_leaders() {
    let (before, _) = reports(100_000, 10);
    let (report, silent) = reports(60_000, 10);
    let speeds = render::speeds(&before, &report, 2_000);
    assert_eq!(speeds[&(2, 3)], (20_000, 20_000 * 256));
    check("lag_catching_up", &render::lag(&report, &silent, &speeds));
    let (report, _) = reports(60_000, 1);
    assert_eq!(report.partitions.len(), 1);
    assert_eq!((report.partitions[0].leader, report.partitions_left_out), (2, 4));
}

#[test]
fn no_lag() {
    check(
        "lag_none",
        &render::lag(
            &LagReport { followers: report(1, 2, 0).followers, ..Default::default() },
            &[],
            &BTreeMap::new(),
        ),
    );
    check("lag_alone", &render::lag(&LagReport::default(), &[], &BTreeMap::new()));
}

#[test]
fn a_promotion_says_what_it_means() {
    let would = PromoteAnswer {
        node_id: 2,
        former_voters: vec![1],
        leads: 29,
        led_unclean: 0,
        offline: 1,
        done: false,
    };
    check("promote_dry_run", &promote::text(&would));
    check(
        "promote_done",
        &promote::text(&PromoteAnswer { done: true, led_unclean: 1, leads: 30, offline: 0, ..would }),
    );
}
