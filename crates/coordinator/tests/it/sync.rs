//! SyncGroup.

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

/// Two members that have joined generation 1; the leader first.
fn joined(h: &mut Harness) -> [std::sync::Arc<str>; 2] {
    let mut ids = [h.new_member(consumer_join(0)), h.new_member(consumer_join(1))];
    let actions = h.pass(1_000);
    let leader = joins(&actions)[0].1.leader.clone();
    ids.sort_by_key(|id| *id != leader);
    ids
}

fn leader_sync(ids: &[std::sync::Arc<str>; 2]) -> Request {
    let assignments = vec![
        (ids[0].clone(), assignment_of(&ids[0])),
        (ids[1].clone(), assignment_of(&ids[1])),
        ("stranger".into(), Bytes::from_static(b"nothing")),
    ];
    Request::SyncGroup(SyncGroupRequest { assignments, ..sync_request(&ids[0], 1) })
}

#[test]
fn assignments_are_answered_once_they_are_in_the_log() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    assert_eq!(h.send(Request::SyncGroup(sync_request(&ids[1], 1))), []);
    let follower = h.last();
    let actions = h.send(leader_sync(&ids));
    let leader = h.last();
    // The rebalance waited 50 ms for the second member, and as long again for a third.
    let state_timestamp_ms = Some(START_WALL_MS + 100);
    let member = |id: &std::sync::Arc<str>| MemberRecord {
        member_id: id.clone(),
        group_instance_id: None,
        client_id: id[..2].into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        subscription: Bytes::from_static(SUBSCRIBED_TO_T),
        assignment: assignment_of(id),
    };
    let mut members: Vec<_> = ids.iter().map(member).collect();
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    let value = GroupMetadataRecord {
        protocol_type: "consumer".into(),
        generation: 1,
        protocol: Some("range".into()),
        leader: Some(ids[0].clone()),
        state_timestamp_ms,
        members,
    };
    let records = vec![Record::GroupMetadata { group: GROUP.into(), value: Some(value) }];
    assert_eq!(actions, [Action::Persist { token: WriteToken(0), records }]);
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));

    let mut expected = [sync_ok(leader, assignment_of(&ids[0])), sync_ok(follower, assignment_of(&ids[1]))];
    if ids[0] > ids[1] {
        expected.reverse();
    }
    assert_eq!(h.persisted(0), expected);
    assert_eq!(h.state(), Some(GroupState::Stable));
}

#[test]
fn a_late_member_gets_its_assignment_at_once() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    let actions = h.send(leader_sync(&ids));
    h.persist_all(actions);
    assert_eq!(
        h.send(Request::SyncGroup(sync_request(&ids[1], 1))),
        [sync_ok(h.last(), assignment_of(&ids[1]))]
    );
}

#[test]
fn a_failed_write_is_told_and_everybody_joins_anew() {
    for (log_error, told) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::RequestTimedOut, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ] {
        let mut h = Harness::new();
        let ids = joined(&mut h);
        h.send(leader_sync(&ids));
        assert_eq!(h.write_failed(0, log_error), [sync_refused(h.last(), told)]);
        assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
        assert_eq!(
            h.send(heartbeat(&ids[0], 1)),
            [heartbeat_reply(h.last(), ErrorCode::RebalanceInProgress)]
        );
    }
}

#[test]
fn a_rebalance_that_begins_while_the_assignment_is_written_wins() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    h.send(leader_sync(&ids));
    let sync = h.last();
    let mut request = JoinGroupRequest { member_id: ids[1].clone(), ..consumer_join(1) };
    request.protocols[0].1 = Bytes::from_static(b"\0\0\0\0\0\0");
    let actions = h.send(Request::JoinGroup(request));
    assert_eq!(actions, [sync_refused(sync, ErrorCode::RebalanceInProgress)]);
    assert_eq!(h.persisted(0), []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_leader_that_repeats_itself_causes_one_write() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    assert_eq!(writes(&h.send(leader_sync(&ids))).len(), 1);
    let first = h.last();
    assert_eq!(h.send(leader_sync(&ids)), [sync_refused(first, ErrorCode::RebalanceInProgress)]);
    assert_eq!(h.persisted(0), [sync_ok(h.last(), assignment_of(&ids[0]))]);
}

#[test]
fn who_never_asks_for_its_assignment_is_out() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    let actions = h.send(leader_sync(&ids));
    h.persist_all(actions);
    for _ in 0..REBALANCE_MS / 5_000 {
        h.send(heartbeat(&ids[0], 1));
        h.send(heartbeat(&ids[1], 1));
        h.pass(5_000);
    }
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(h.send(heartbeat(&ids[1], 1)), [heartbeat_reply(h.last(), ErrorCode::UnknownMemberId)]);
}

#[test]
fn refusals() {
    let mut h = Harness::new();
    let ids = joined(&mut h);
    let base = sync_request(&ids[0], 1);
    let cases = [
        (SyncGroupRequest { group_id: "".into(), ..base.clone() }, ErrorCode::InvalidGroupId),
        (SyncGroupRequest { group_id: "other".into(), ..base.clone() }, ErrorCode::UnknownMemberId),
        (SyncGroupRequest { member_id: "nobody".into(), ..base.clone() }, ErrorCode::UnknownMemberId),
        (SyncGroupRequest { generation: 2, ..base.clone() }, ErrorCode::IllegalGeneration),
        (SyncGroupRequest { protocol_type: None, ..base.clone() }, ErrorCode::InconsistentGroupProtocol),
        (SyncGroupRequest { protocol_name: None, ..base.clone() }, ErrorCode::InconsistentGroupProtocol),
        (
            SyncGroupRequest { protocol_type: Some("connect".into()), ..base.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncGroupRequest { protocol_name: Some("sticky".into()), ..base.clone() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            SyncGroupRequest { group_instance_id: Some("i".into()), ..base.clone() },
            ErrorCode::UnknownMemberId,
        ),
    ];
    for (request, error) in cases {
        let actions = h.send(Request::SyncGroup(request.clone()));
        assert_eq!(actions, [sync_refused(h.last(), error)], "{request:?}");
    }
    let old = SyncGroupRequest { api_version: 4, protocol_type: None, protocol_name: None, ..base };
    assert_eq!(writes(&h.send(Request::SyncGroup(old))).len(), 1, "version 4 names no protocol");
}

#[test]
fn during_a_rebalance_there_is_no_assignment() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    h.new_member(consumer_join(7));
    assert_eq!(
        h.send(Request::SyncGroup(sync_request(&ids[1], 1))),
        [sync_refused(h.last(), ErrorCode::RebalanceInProgress)]
    );
}
