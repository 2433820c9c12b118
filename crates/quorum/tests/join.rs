//! Nodes that ask to join, and nodes that are asked.
#![allow(clippy::unwrap_used)]

mod common;

use chronik_base::{NodeId, Uuid};
use chronik_meta::Endpoint;
use chronik_quorum::{Invitation, InviteAnswer, JoinRequest, Joined, Mode, Restart, kind};
use common::*;

fn request(directory: u8) -> JoinRequest {
    JoinRequest {
        cluster_id: Uuid::ZERO,
        directory: uuid(directory),
        incarnation: uuid(directory + 1),
        wanted: None,
        rack: Some("r1".to_owned()),
        endpoints: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_given_once_for_each_directory() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let cluster = one.image().cluster_id();
    let joins: Vec<_> = [50, 60, 50, 70]
        .map(|directory| {
            let one = one.clone();
            tokio::spawn(async move { (directory, one.join(request(directory)).await.unwrap()) })
        })
        .into_iter()
        .collect();
    let mut ids = std::collections::BTreeMap::new();
    for join in joins {
        let (directory, joined) = join.await.unwrap();
        assert_eq!(joined.cluster_id, cluster);
        assert_eq!(joined.voters, [(1, address(1))]);
        assert_eq!(*ids.entry(directory).or_insert(joined.node_id), joined.node_id);
    }
    let mut given: Vec<_> = ids.values().copied().collect();
    given.sort_unstable();
    assert_eq!(given, [2, 3, 4]);
    assert!(one.image().broker(ids[&50]).unwrap().fenced, "it has not come yet");

    // After a restart of the voter, too.
    net.kill(1, false).await;
    let one = net.start_as(1, Mode::Single, How { cluster_id: Some(cluster), ..How::new(1) }).await;
    assert_eq!(one.join(request(60)).await.unwrap().node_id, ids[&60]);
    assert_eq!(one.join(JoinRequest { wanted: Some(9), ..request(80) }).await.unwrap().node_id, 9);
    let problem = one.join(JoinRequest { wanted: Some(7), ..request(60) }).await.unwrap_err();
    assert!(problem.contains("--node-id"), "{problem}");
    let problem = one.join(JoinRequest { wanted: Some(1), ..request(90) }).await.unwrap_err();
    assert!(problem.contains("in use by a live broker"), "{problem}");
    let problem = one.join(JoinRequest { cluster_id: uuid(5), ..request(90) }).await.unwrap_err();
    assert!(problem.contains("empty --data-dir"), "{problem}");
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_with_an_empty_disk_takes_its_own_place_again() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let at = |address: NodeId, directory: u8| {
        let host = format!("10.0.0.{address}");
        let endpoints = vec![Endpoint { listener: "INTERNAL".to_owned(), host, port: 9092 }];
        JoinRequest { endpoints, ..request(directory) }
    };
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    let problem = one.join(at(2, 50)).await.unwrap_err();
    assert!(problem.contains("still taken for alive"), "{problem}");
    net.kill(2, true).await;
    until("it is fenced", || one.image().broker(2).unwrap().fenced).await;
    assert_eq!(one.join(at(3, 60)).await.unwrap().node_id, 3, "another address is another node");
    assert_eq!(one.join(at(2, 50)).await.unwrap().node_id, 2);
    assert_eq!(one.image().broker(2).unwrap().directory, uuid(50));
    // The voter's place is taken by nobody who doesn't say that it is the voter.
    assert_eq!(one.join(at(1, 70)).await.unwrap().node_id, 4);
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_can_be_asked() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    let two = net.start(2, observer(&[1])).await;
    all_ready(&[&two]).await;
    let answer = two.handle(-1, kind::JOIN, request(50).encode()).await.unwrap();
    let joined = Joined::decode(answer).unwrap();
    assert_eq!((joined.node_id, joined.leader), (3, Some(1)));
    assert!(one.image().broker(3).is_some());
    net.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_node_follows_an_invitation_and_one_with_topics_does_not() {
    let net = Net::new();
    let one = net.start(1, Mode::Single).await;
    done(&one, vec![topic("mine", 1, &[&[1]])]).await;
    let cluster = one.image().cluster_id();
    let two = net.start(2, Mode::Single).await;
    let joined = one.join(JoinRequest { directory: uuid(102), ..request(50) }).await.unwrap();
    assert_eq!(joined.node_id, 2);
    let invitation =
        Invitation { cluster_id: cluster, leader: 1, leader_address: address(1), node_id: joined.node_id };
    let invite = |payload| two.handle(1, kind::INVITE, payload);
    let answer = InviteAnswer::decode(invite(invitation.encode()).await.unwrap()).unwrap();
    assert_eq!(answer, InviteAnswer::Joining);
    assert_eq!(net.restarts(), [(2, Restart::Follow(invitation.clone()))]);

    net.kill(2, false).await;
    let two = net.start_as(2, observer(&[1]), How { cluster_id: Some(cluster), ..How::new(2) }).await;
    all_ready(&[&two]).await;
    all_alike(&[&one, &two]).await;
    let again = two.handle(1, kind::INVITE, invitation.encode()).await.unwrap();
    assert_eq!(InviteAnswer::decode(again).unwrap(), InviteAnswer::Member);

    let three = net.start(3, Mode::Single).await;
    done(&three, vec![topic("its-own", 1, &[&[3]])]).await;
    let answer = three.handle(1, kind::INVITE, invitation.encode()).await.unwrap();
    let InviteAnswer::Refused(problem) = InviteAnswer::decode(answer).unwrap() else { panic!("it follows") };
    assert!(problem.contains("has topics of its own") && problem.contains("empty --data-dir"), "{problem}");
    assert!(three.status().problems.iter().any(|line| line.contains("has topics of its own")));
    net.close().await;
}
