//! LeaveGroup.

use std::sync::Arc;

use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

fn leave(members: &[(&str, Option<&str>)]) -> Request {
    let members = members.iter().map(|(member_id, instance_id)| MemberIdentity {
        member_id: (*member_id).into(),
        group_instance_id: instance_id.map(Arc::from),
    });
    Request::LeaveGroup(LeaveGroupRequest { group_id: GROUP.into(), members: members.collect() })
}

fn left(request: RequestId, members: &[(&str, Option<&str>, ErrorCode)]) -> Action {
    let members = members.iter().map(|(member_id, instance_id, error)| LeaveGroupMember {
        member_id: (*member_id).into(),
        group_instance_id: instance_id.map(Arc::from),
        error: *error,
    });
    let response = LeaveGroupResponse { error: ErrorCode::None, members: members.collect() };
    reply(request, Response::LeaveGroup(response))
}

fn whole_error(request: RequestId, error: ErrorCode) -> Action {
    reply(request, Response::LeaveGroup(LeaveGroupResponse { error, members: vec![] }))
}

#[test]
fn the_last_member_leaves_an_empty_group_behind() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    let actions = h.send(leave(&[(&ids[0], None)]));
    assert_eq!(actions.len(), 2);
    assert!(matches!(
        &writes(&actions)[..],
        [(
            1,
            [Record::GroupMetadata {
                value: Some(GroupMetadataRecord { generation: 2, protocol: None, .. }),
                ..
            }]
        )]
    ));
    assert_eq!(actions[1], left(h.last(), &[(&ids[0], None, ErrorCode::None)]));
    assert_eq!(h.state(), Some(GroupState::Empty));
}

#[test]
fn several_leave_with_one_rebalance() {
    let mut h = Harness::new();
    let ids = h.stable_group(3);
    let actions = h.send(leave(&[(&ids[0], None), (&ids[1], None), ("nobody", None)]));
    assert_eq!(
        actions,
        [left(
            h.last(),
            &[
                (&ids[0], None, ErrorCode::None),
                (&ids[1], None, ErrorCode::None),
                ("nobody", None, ErrorCode::UnknownMemberId)
            ]
        )]
    );
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(h.generation(), Some(1), "the third member has yet to join");
}

#[test]
fn a_member_that_leaves_lets_the_others_go_on() {
    let mut h = Harness::new();
    let ids = h.stable_group(2);
    let client = if ids[0].starts_with("c0") { 0 } else { 1 };
    h.send(rejoin(client, &ids[0]));
    let join = h.last();
    let actions = h.send(leave(&[(&ids[1], None)]));
    assert_eq!(joins(&actions).iter().map(|(request, _)| *request).collect::<Vec<_>>(), [join]);
    assert_eq!(actions[1], left(h.last(), &[(&ids[1], None, ErrorCode::None)]));
}

#[test]
fn what_a_leaving_member_waits_for_is_refused() {
    let mut h = Harness::new();
    let id = h.new_member(consumer_join(0));
    let join = h.last();
    let actions = h.send(leave(&[(&id, None)]));
    assert_eq!(
        actions,
        [join_refused(join, ErrorCode::UnknownMemberId, ""), left(h.last(), &[(&id, None, ErrorCode::None)])]
    );
}

#[test]
fn an_id_that_was_only_handed_out_can_leave() {
    let mut h = Harness::new();
    let actions = h.send(Request::JoinGroup(consumer_join(0)));
    let id = joins(&actions)[0].1.member_id.clone();
    assert_eq!(h.send(leave(&[(&id, None)])), [left(h.last(), &[(&id, None, ErrorCode::None)])]);
    assert_eq!(h.state(), None);
    assert_eq!(h.send(rejoin(0, &id)), [join_refused(h.last(), ErrorCode::UnknownMemberId, &id)]);
}

#[test]
fn static_members_are_removed_by_their_instance_id() {
    let mut h = Harness::new();
    h.send(Request::JoinGroup(JoinGroupRequest { group_instance_id: Some("i".into()), ..consumer_join(0) }));
    let actions = h.pass(50);
    let id = joins(&actions)[0].1.member_id.clone();
    assert_eq!(
        h.send(leave(&[("", Some("other")), ("wrong", Some("i")), (&id, Some("other"))])),
        [left(
            h.last(),
            &[
                ("", Some("other"), ErrorCode::UnknownMemberId),
                ("wrong", Some("i"), ErrorCode::FencedInstanceId),
                (&id, Some("other"), ErrorCode::UnknownMemberId)
            ]
        )]
    );
    let actions = h.send(leave(&[("", Some("i"))]));
    assert_eq!(actions.last(), Some(&left(h.last(), &[("", Some("i"), ErrorCode::None)])));
    assert_eq!(h.state(), Some(GroupState::Empty));
}

#[test]
fn refusals_as_a_whole() {
    let mut h = Harness::new();
    let request = LeaveGroupRequest { group_id: "".into(), members: vec![] };
    assert_eq!(h.send(Request::LeaveGroup(request)), [whole_error(h.last(), ErrorCode::InvalidGroupId)]);
    assert_eq!(
        h.send(leave(&[("a", None)])),
        [left(h.last(), &[("a", None, ErrorCode::UnknownMemberId)])],
        "an unknown group has no members"
    );
}
