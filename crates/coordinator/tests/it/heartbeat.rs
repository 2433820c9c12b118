//! Heartbeat, and what happens without.

use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

#[test]
fn heartbeats_keep_a_member() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    for _ in 0..10 {
        assert_eq!(h.pass(SESSION_MS as u64 - 1), []);
        assert_eq!(h.send(heartbeat(&ids[0], 1)), [heartbeat_reply(h.last(), ErrorCode::None)]);
    }
    assert_eq!(h.state(), Some(GroupState::Stable));
}

#[test]
fn silence_ends_a_membership_and_the_last_one_empties_the_group() {
    let mut h = Harness::new();
    h.stable_group(1);
    let actions = h.pass(SESSION_MS as u64);
    // The session began when the rebalance ended, 950 ms before the group was handed to this test.
    let value = GroupMetadataRecord {
        protocol_type: "consumer".into(),
        generation: 2,
        protocol: None,
        leader: None,
        state_timestamp_ms: Some(START_WALL_MS + 1_000 + i64::from(SESSION_MS)),
        members: vec![],
    };
    let records = vec![Record::GroupMetadata { group: GROUP.into(), value: Some(value) }];
    assert_eq!(actions, [Action::Persist { token: WriteToken(1), records }]);
    assert_eq!(h.state(), Some(GroupState::Empty));
    assert_eq!(h.persisted(1), []);
}

#[test]
fn silence_of_one_member_causes_a_rebalance() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    for _ in 0..3 {
        h.pass(4_000);
        h.send(heartbeat(&ids[0], 1));
    }
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(h.send(heartbeat(&ids[0], 1)), [heartbeat_reply(h.last(), ErrorCode::RebalanceInProgress)]);
    let client = if ids[0].starts_with("c0") { 0 } else { 1 };
    let actions = h.send(rejoin(client, &ids[0]));
    assert_eq!(joins(&actions)[0].1.generation, 2);
}

#[test]
fn a_member_that_waits_for_others_is_not_silent() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let (lead, other) = (&ids[0], &ids[1]);
    let client = if lead.starts_with("c0") { 0 } else { 1 };
    h.send(rejoin(client, lead));
    for _ in 0..5 {
        h.pass(5_000);
        h.send(heartbeat(other, 1));
    }
    let actions = h.send(rejoin(1 - client, other));
    assert_eq!(joins(&actions).len(), 2, "after 25 s both are there");
}

#[test]
fn refusals() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    let base = HeartbeatRequest {
        group_id: GROUP.into(),
        generation: 1,
        member_id: ids[0].clone(),
        group_instance_id: None,
    };
    let cases = [
        (HeartbeatRequest { group_id: "".into(), ..base.clone() }, ErrorCode::InvalidGroupId),
        (HeartbeatRequest { group_id: "other".into(), ..base.clone() }, ErrorCode::UnknownMemberId),
        (HeartbeatRequest { member_id: "nobody".into(), ..base.clone() }, ErrorCode::UnknownMemberId),
        (HeartbeatRequest { generation: 0, ..base.clone() }, ErrorCode::IllegalGeneration),
        (
            HeartbeatRequest { group_instance_id: Some("i".into()), ..base.clone() },
            ErrorCode::UnknownMemberId,
        ),
        (base, ErrorCode::None),
    ];
    for (request, error) in cases {
        let actions = h.send(Request::Heartbeat(request.clone()));
        assert_eq!(actions, [heartbeat_reply(h.last(), error)], "{request:?}");
    }
}
