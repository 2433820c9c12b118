//! Members with a `group.instance.id` (KIP-345, KIP-814).

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

fn static_join(instance: &str, random: u8) -> JoinGroupRequest {
    JoinGroupRequest { group_instance_id: Some(instance.into()), random: [random; 16], ..consumer_join(0) }
}

/// A stable group of the static members `i0` (the leader) and `i1`, generation 1.
fn stable(h: &mut Harness) -> [Arc<str>; 2] {
    h.send(Request::JoinGroup(static_join("i0", 0)));
    h.send(Request::JoinGroup(static_join("i1", 1)));
    let actions = h.pass(1_000);
    let ids: Vec<_> = joins(&actions).iter().map(|(_, response)| response.member_id.clone()).collect();
    let ids: [Arc<str>; 2] = ids.try_into().unwrap();
    assert_eq!(joins(&actions)[0].1.leader, ids[0]);
    for (id, instance) in [(&ids[0], "i0"), (&ids[1], "i1")] {
        let assignments = ids.iter().map(|id| (id.clone(), assignment_of(id))).collect();
        let group_instance_id = Some(instance.into());
        let sync = SyncGroupRequest { assignments, group_instance_id, ..sync_request(id, 1) };
        let actions = h.send(Request::SyncGroup(sync));
        h.persist_all(actions);
    }
    assert_eq!(h.state(), Some(GroupState::Stable));
    ids
}

#[test]
fn no_second_join_is_needed() {
    let mut h = Harness::new();
    assert_eq!(h.send(Request::JoinGroup(static_join("i0", 0))), []);
    let actions = h.pass(50);
    assert_eq!(&*joins(&actions)[0].1.member_id, "i0-00000000-0000-4000-8000-000000000000");
}

#[test]
fn one_that_comes_back_causes_no_rebalance() {
    let mut h = Harness::new();
    let ids = stable(&mut h);
    let actions = h.send(Request::JoinGroup(static_join("i1", 9)));
    let new_id: Arc<str> = "i1-09090909-0909-4909-8909-090909090909".into();
    let [(1, [Record::GroupMetadata { value: Some(record), .. }])] = &writes(&actions)[..] else {
        panic!("{actions:?}")
    };
    let member = record.members.iter().find(|member| member.member_id == new_id).unwrap();
    assert_eq!(member.assignment, assignment_of(&ids[1]), "the assignment stays with the instance");
    assert_eq!(actions.len(), 1, "the answer waits for the log");

    let expected = reply(h.last(), Response::JoinGroup(join_ok(1, &ids[0], &new_id)));
    assert_eq!(h.persisted(1), [expected]);
    assert_eq!(h.state(), Some(GroupState::Stable));
    let sync = SyncGroupRequest { group_instance_id: Some("i1".into()), ..sync_request(&new_id, 1) };
    assert_eq!(h.send(Request::SyncGroup(sync)), [sync_ok(h.last(), assignment_of(&ids[1]))]);
}

#[test]
fn the_former_self_is_fenced() {
    let mut h = Harness::new();
    let ids = stable(&mut h);
    let actions = h.send(Request::JoinGroup(static_join("i1", 9)));
    h.persist_all(actions);
    let instance = Some(Arc::from("i1"));
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        generation: 1,
        member_id: ids[1].clone(),
        group_instance_id: instance.clone(),
    };
    let fenced = ErrorCode::FencedInstanceId;
    assert_eq!(h.send(Request::Heartbeat(request)), [heartbeat_reply(h.last(), fenced)]);
    let request = SyncGroupRequest { group_instance_id: instance.clone(), ..sync_request(&ids[1], 1) };
    assert_eq!(h.send(Request::SyncGroup(request)), [sync_refused(h.last(), fenced)]);
    let request = OffsetCommitRequest { group_instance_id: instance, ..commit(&ids[1], 1, 5) };
    assert_eq!(h.send(Request::OffsetCommit(request)), [commit_reply(h.last(), fenced)]);
    let request = JoinGroupRequest { member_id: ids[1].clone(), ..static_join("i1", 1) };
    assert_eq!(h.send(Request::JoinGroup(request)), [join_refused(h.last(), fenced, &ids[1])]);
}

#[test]
fn a_join_that_waits_is_fenced_by_a_second_one() {
    let mut h = Harness::new();
    h.send(Request::JoinGroup(static_join("i0", 0)));
    let first = h.last();
    let actions = h.send(Request::JoinGroup(static_join("i0", 1)));
    assert_eq!(
        actions,
        [join_refused(first, ErrorCode::FencedInstanceId, "i0-00000000-0000-4000-8000-000000000000")]
    );
    let actions = h.pass(1_000);
    assert_eq!(joins(&actions).len(), 1);
}

#[test]
fn a_leader_that_comes_back_is_told_to_skip_the_assignment() {
    let mut h = Harness::new();
    stable(&mut h);
    let actions = h.send(Request::JoinGroup(static_join("i0", 9)));
    let actions = h.persist_all(actions);
    let response = joins(&actions)[0].1;
    assert!(response.skip_assignment);
    assert_eq!(response.leader, response.member_id);
    assert_eq!(response.members.len(), 2);
}

#[test]
fn before_version_9_a_leader_that_comes_back_is_told_that_its_former_self_leads() {
    let mut h = Harness::new();
    let ids = stable(&mut h);
    let request = JoinGroupRequest { api_version: 8, ..static_join("i0", 9) };
    let actions = h.send(Request::JoinGroup(request));
    let actions = h.persist_all(actions);
    let response = joins(&actions)[0].1;
    assert!(!response.skip_assignment);
    assert_eq!(response.leader, ids[0]);
    assert_eq!(response.members, []);
}

#[test]
fn a_failed_write_is_told_and_the_member_may_come_again() {
    let mut h = Harness::new();
    stable(&mut h);
    h.send(Request::JoinGroup(static_join("i1", 9)));
    let refused = join_refused(h.last(), ErrorCode::CoordinatorNotAvailable, "");
    assert_eq!(h.write_failed(1, ErrorCode::NotEnoughReplicas), [refused]);
    assert_eq!(h.state(), Some(GroupState::Stable));
    let actions = h.send(Request::JoinGroup(static_join("i1", 10)));
    let actions = h.persist_all(actions);
    assert_eq!(joins(&actions)[0].1.error, ErrorCode::None);
}

#[test]
fn a_rebalance_that_begins_while_the_new_id_is_written_answers_the_join() {
    let mut h = Harness::new();
    let ids = stable(&mut h);
    h.send(Request::JoinGroup(static_join("i1", 9)));
    let join = h.last();
    let lead = JoinGroupRequest { member_id: ids[0].clone(), ..static_join("i0", 0) };
    let actions = h.send(Request::JoinGroup(lead));
    assert!(joins(&actions).iter().any(|(request, response)| *request == join && response.generation == 2));
    assert_eq!(h.persisted(1), [], "it is answered already");
}

#[test]
fn another_choice_of_protocol_causes_a_rebalance() {
    let mut h = Harness::new();
    for instance in ["i0", "i1"] {
        let protocols = vec![("a".into(), Bytes::new()), ("b".into(), Bytes::new())];
        let random = instance.as_bytes()[1];
        h.send(Request::JoinGroup(JoinGroupRequest { protocols, ..static_join(instance, random) }));
    }
    let actions = h.pass(1_000);
    let id = joins(&actions)[0].1.leader.clone();
    let sync = SyncGroupRequest { protocol_name: Some("a".into()), ..sync_request(&id, 1) };
    let actions = h.send(Request::SyncGroup(sync));
    h.persist_all(actions);
    assert_eq!(h.state(), Some(GroupState::Stable));
    let protocols = vec![("b".into(), Bytes::new())];
    let actions = h.send(Request::JoinGroup(JoinGroupRequest { protocols, ..static_join("i1", 9) }));
    assert_eq!(actions, []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn one_that_comes_back_during_the_assignment_causes_a_rebalance() {
    let mut h = Harness::new();
    h.send(Request::JoinGroup(static_join("i0", 0)));
    h.send(Request::JoinGroup(static_join("i1", 1)));
    h.pass(1_000);
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
    assert_eq!(h.send(Request::JoinGroup(static_join("i1", 9))), []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn one_that_is_away_keeps_its_place_until_its_session_ends() {
    let mut h = Harness::new();
    let ids = stable(&mut h);
    let lead = JoinGroupRequest {
        member_id: ids[0].clone(),
        session_timeout_ms: 1_000_000,
        rebalance_timeout_ms: 5_000,
        ..static_join("i0", 0)
    };
    assert_eq!(h.send(Request::JoinGroup(lead)), []);
    // i1 is silent, but its session of 10 s outlasts no rebalance of 60 s: it is out, and i0 goes on.
    let actions = h.pass(SESSION_MS as u64);
    assert_eq!(joins(&actions).len(), 1);
    assert_eq!(joins(&actions)[0].1.members.len(), 1);
}

#[test]
fn a_rebalance_keeps_static_members_that_are_away() {
    let mut h = Harness::new();
    for (instance, random) in [("i0", 0), ("i1", 1)] {
        let request = JoinGroupRequest {
            session_timeout_ms: 100_000,
            rebalance_timeout_ms: 5_000,
            ..static_join(instance, random)
        };
        h.send(Request::JoinGroup(request));
    }
    let actions = h.pass(1_000);
    let id = joins(&actions)[0].1.leader.clone();
    let actions = h.send(Request::SyncGroup(sync_request(&id, 1)));
    h.persist_all(actions);
    let lead = JoinGroupRequest {
        member_id: id,
        session_timeout_ms: 100_000,
        rebalance_timeout_ms: 5_000,
        ..static_join("i0", 0)
    };
    assert_eq!(h.send(Request::JoinGroup(lead)), []);
    let actions = h.pass(5_000);
    assert_eq!(joins(&actions)[0].1.members.len(), 2, "the other one is still assigned to");
}
