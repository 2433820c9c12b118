//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

#[test]
fn a_new_member_is_told_its_id_and_joins_with_it() {
    let mut h = Harness::new();
    let actions = h.send(Request::JoinGroup(consumer_join(0)));
    let id: Arc<str> = "c0-00000000-0000-4000-8000-000000000000".into();
    assert_eq!(actions, [join_refused(RequestId(1), ErrorCode::MemberIdRequired, &id)]);
    assert_eq!(h.state(), Some(GroupState::Empty));
    assert_eq!(h.send(rejoin(0, &id)), []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));

    let actions = h.pass(50);
    let mut response = join_ok(1, &id, &id);
    response.members = vec![JoinGroupMember {
        member_id: id.clone(),
        group_instance_id: None,
        metadata: Bytes::from_static(SUBSCRIBED_TO_T),
    }];
    assert_eq!(actions, [reply(RequestId(2), Response::JoinGroup(response))]);
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
}

#[test]
fn before_version_4_no_id_is_required() {
    let mut h = Harness::new();
    let request = JoinGroupRequest { api_version: 3, ..consumer_join(0) };
    assert_eq!(h.send(Request::JoinGroup(request)), []);
    let actions = h.pass(50);
    assert_eq!(joins(&actions)[0].1.generation, 1);
}

#[test]
fn the_first_message_of_a_new_group_does_not_wait_for_300_ms() {
    let mut h = Harness::new();
    let start = h.now.monotonic_ms;
    h.new_member(consumer_join(0));
    let deadline = h.coordinator.next_deadline().unwrap();
    assert!(deadline - start < 300, "waits {} ms", deadline - start);
}

#[test]
fn without_a_delay_the_first_member_is_served_at_once() {
    let mut h = Harness::with(CoordinatorConfig { initial_rebalance_delay_ms: 0, ..Default::default() });
    let request = JoinGroupRequest { api_version: 3, ..consumer_join(0) };
    let actions = h.send(Request::JoinGroup(request));
    assert_eq!(joins(&actions)[0].1.error, ErrorCode::None);
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
}

#[test]
fn arrivals_prolong_the_first_rebalance() {
    let mut h = Harness::new();
    h.new_member(consumer_join(0));
    h.pass(40);
    h.new_member(consumer_join(1));
    assert_eq!(h.pass(40), [], "50 ms after the first, 40 ms after the second");
    let actions = h.pass(20);
    let members: Vec<_> = joins(&actions).iter().map(|(_, response)| response.members.len()).collect();
    assert_eq!(members, [2, 0], "both in one generation, the leader sees both");
}

#[test]
fn arrivals_prolong_the_first_rebalance_up_to_a_limit() {
    let mut h = Harness::new();
    let start = h.now.monotonic_ms;
    for client in 0..100 {
        let request = JoinGroupRequest { api_version: 3, ..consumer_join(client) };
        let actions = h.send(Request::JoinGroup(request));
        assert_eq!(actions, []);
        if !h.pass(40).is_empty() {
            break;
        }
    }
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
    let waited = h.now.monotonic_ms - start;
    assert!((1_000..=1_040).contains(&waited), "waited {waited} ms");
}

#[test]
fn a_rebalance_ends_when_the_last_member_has_joined() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let third = h.new_member(consumer_join(7));
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(h.send(rejoin(0, &ids[0])), []);
    let actions = h.send(rejoin(1, &ids[1]));
    assert_eq!(joins(&actions).len(), 3);
    assert!(joins(&actions).iter().all(|(_, response)| response.generation == 2));
    assert!(joins(&actions).iter().any(|(_, response)| response.member_id == third));
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
}

#[test]
fn who_does_not_join_in_time_is_out() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    h.send(rejoin(0, &ids[0]));
    // The other one lives, but does not join.
    let mut actions = Vec::new();
    for _ in 0..REBALANCE_MS / 5_000 {
        h.send(heartbeat(&ids[1], 1));
        actions.extend(h.pass(5_000));
    }
    assert_eq!(joins(&actions).len(), 1);
    assert_eq!(joins(&actions)[0].1.members.len(), 1);
    assert_eq!(h.send(heartbeat(&ids[1], 1)), [heartbeat_reply(h.last(), ErrorCode::UnknownMemberId)]);
}

#[test]
fn an_id_that_was_handed_out_holds_the_rebalance_up_until_its_session_ends() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    h.send(Request::JoinGroup(consumer_join(9)));
    assert_eq!(h.send(rejoin(0, &ids[0])), [], "waits for the one to come");
    let actions = h.pass(SESSION_MS as u64);
    assert_eq!(joins(&actions).len(), 1);
    assert_eq!(h.generation(), Some(2));
}

#[test]
fn a_group_that_nobody_ever_joined_is_forgotten() {
    let mut h = Harness::new();
    h.send(Request::JoinGroup(consumer_join(0)));
    assert_eq!(h.pass(SESSION_MS as u64), []);
    assert_eq!(h.state(), None);
}

#[test]
fn a_second_join_takes_the_place_of_the_first() {
    let mut h = Harness::new();
    let id = h.new_member(consumer_join(0));
    let first = h.last();
    assert_eq!(h.send(rejoin(0, &id)), [join_refused(first, ErrorCode::RebalanceInProgress, &id)]);
    let second = h.last();
    let actions = h.pass(50);
    assert_eq!(joins(&actions).iter().map(|(request, _)| *request).collect::<Vec<_>>(), [second]);
}

#[test]
fn a_repeated_join_is_answered_with_the_generation_as_it_is() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let response = join_ok(1, &ids[0], &ids[1]);
    let client = if ids[1].starts_with("c0") { 0 } else { 1 };
    assert_eq!(
        h.send(rejoin(client, &ids[1])),
        [reply(h.last(), Response::JoinGroup(response))],
        "a follower with nothing new causes no rebalance"
    );
    assert_eq!(h.state(), Some(GroupState::Stable));
    assert_eq!(h.send(rejoin(1 - client, &ids[0])), [], "the leader does");
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn new_metadata_of_a_member_causes_a_rebalance() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let mut request = JoinGroupRequest { member_id: ids[1].clone(), ..consumer_join(1) };
    request.protocols[0].1 = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01u");
    assert_eq!(h.send(Request::JoinGroup(request)), []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let mut h = Harness::new();
    let lists: [&[&str]; 3] = [&["a", "b", "c"], &["b", "a"], &["b", "a", "x"]];
    for (client, list) in lists.iter().enumerate() {
        let protocols = list.iter().map(|name| (Arc::from(*name), Bytes::new())).collect();
        h.new_member(JoinGroupRequest { protocols, ..consumer_join(client as u8) });
    }
    let actions = h.pass(1_000);
    assert_eq!(joins(&actions)[0].1.protocol_name.as_deref(), Some("b"));
}

#[test]
fn refusals() {
    let mut h = Harness::with(CoordinatorConfig { max_group_size: 1, ..Default::default() });
    let ids = h.stable_group(1);
    let base = consumer_join(0);
    let unknown: Arc<str> = "nobody".into();
    let cases = [
        (JoinGroupRequest { group_id: "".into(), ..base.clone() }, ErrorCode::InvalidGroupId, ""),
        (
            JoinGroupRequest { session_timeout_ms: 5_999, ..base.clone() },
            ErrorCode::InvalidSessionTimeout,
            "",
        ),
        (
            JoinGroupRequest { session_timeout_ms: 1_800_001, ..base.clone() },
            ErrorCode::InvalidSessionTimeout,
            "",
        ),
        (
            JoinGroupRequest { group_id: "other".into(), member_id: unknown.clone(), ..base.clone() },
            ErrorCode::UnknownMemberId,
            "nobody",
        ),
        (
            JoinGroupRequest { protocol_type: "".into(), group_id: "other".into(), ..base.clone() },
            ErrorCode::InconsistentGroupProtocol,
            "",
        ),
        (
            JoinGroupRequest { protocols: vec![], group_id: "other".into(), ..base.clone() },
            ErrorCode::InconsistentGroupProtocol,
            "",
        ),
        (
            JoinGroupRequest {
                member_id: ids[0].clone(),
                protocols: vec![("other".into(), Bytes::new())],
                ..base.clone()
            },
            ErrorCode::InconsistentGroupProtocol,
            &ids[0],
        ),
        (
            JoinGroupRequest { member_id: ids[0].clone(), protocol_type: "connect".into(), ..base.clone() },
            ErrorCode::InconsistentGroupProtocol,
            &ids[0],
        ),
        (base.clone(), ErrorCode::GroupMaxSizeReached, ""),
        (
            JoinGroupRequest {
                member_id: ids[0].clone(),
                group_instance_id: Some("i".into()),
                ..base.clone()
            },
            ErrorCode::UnknownMemberId,
            &ids[0],
        ),
    ];
    for (request, error, member_id) in cases {
        let actions = h.send(Request::JoinGroup(request.clone()));
        assert_eq!(actions, [join_refused(h.last(), error, member_id)], "{request:?}");
    }
    assert_eq!(h.coordinator.group_state("other"), None, "a refused join leaves no group behind");
    assert_eq!(h.state(), Some(GroupState::Stable));
}

#[test]
fn an_unknown_member_of_a_group_with_room_is_told_so() {
    let mut h = Harness::new();
    h.stable_group(1);
    let actions = h.send(rejoin(0, &"nobody".into()));
    assert_eq!(actions, [join_refused(h.last(), ErrorCode::UnknownMemberId, "nobody")]);
}
