//! DescribeGroups, ListGroups and DeleteGroups.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

fn describe(api_version: i16, group: &str) -> Request {
    Request::DescribeGroups(DescribeGroupsRequest { api_version, groups: vec![group.into()] })
}

fn described(request: RequestId, description: GroupDescription) -> Action {
    reply(request, Response::DescribeGroups(DescribeGroupsResponse { groups: vec![description] }))
}

fn delete(groups: &[&str]) -> Request {
    let groups = groups.iter().map(|group| Arc::from(*group)).collect();
    Request::DeleteGroups(DeleteGroupsRequest { groups })
}

fn deleted(request: RequestId, groups: &[(&str, ErrorCode)]) -> Action {
    let groups = groups.iter().map(|(group, error)| (Arc::from(*group), *error)).collect();
    reply(request, Response::DeleteGroups(DeleteGroupsResponse { groups }))
}

fn list(h: &mut Harness, states: &[&str], types: &[&str]) -> Vec<(String, GroupState)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect();
    let request = ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) };
    match &h.send(Request::ListGroups(request))[..] {
        [Action::Reply { response: Response::ListGroups(response), .. }] => {
            response.groups.iter().map(|group| (group.group_id.to_string(), group.state)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stable_group_is_described_in_full() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    let mut description = GroupDescription {
        error: ErrorCode::None,
        group_id: GROUP.into(),
        state: Some(GroupState::Stable),
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        members: vec![MemberDescription {
            member_id: ids[0].clone(),
            group_instance_id: None,
            client_id: "c0".into(),
            client_host: "/127.0.0.1".into(),
            metadata: Bytes::from_static(SUBSCRIBED_TO_T),
            assignment: assignment_of(&ids[0]),
        }],
    };
    assert_eq!(h.send(describe(5, GROUP)), [described(h.last(), description.clone())]);

    h.new_member(consumer_join(1));
    description.state = Some(GroupState::PreparingRebalance);
    description.protocol = "".into();
    description.members[0].metadata = Bytes::new();
    let actions = h.send(describe(5, GROUP));
    let [Action::Reply { response: Response::DescribeGroups(response), .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(response.groups[0].members.len(), 2);
    description.members.push(response.groups[0].members[1].clone());
    assert_eq!(response.groups[0], description);
}

#[test]
fn an_unknown_group_is_dead_and_from_version_6_an_error() {
    let mut h = Harness::new();
    let description = |error| GroupDescription {
        error,
        group_id: "no".into(),
        state: Some(GroupState::Dead),
        protocol_type: "".into(),
        protocol: "".into(),
        members: vec![],
    };
    assert_eq!(h.send(describe(5, "no")), [described(h.last(), description(ErrorCode::None))]);
    let not_found = description(ErrorCode::GroupIdNotFound);
    assert_eq!(h.send(describe(6, "no")), [described(h.last(), not_found)]);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut h = Harness::new();
    h.stable_group(1);
    let request = OffsetCommitRequest { group_id: "simple".into(), ..commit("", -1, 5) };
    let actions = h.send(Request::OffsetCommit(request));
    h.persist_all(actions);
    let stable = ("g".to_owned(), GroupState::Stable);
    let empty = ("simple".to_owned(), GroupState::Empty);
    assert_eq!(list(&mut h, &[], &[]), [stable.clone(), empty.clone()]);
    assert_eq!(list(&mut h, &["Empty", "Dead"], &["Classic"]), [empty]);
    assert_eq!(list(&mut h, &["stable"], &[]), [stable]);
    assert_eq!(list(&mut h, &["stAble"], &["consumer"]), []);
    assert_eq!(list(&mut h, &["nonsense"], &[]), []);
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_that_is_in_the_log() {
    let mut h = Harness::new();
    let actions = h.send(Request::OffsetCommit(commit("", -1, 5)));
    h.persist_all(actions);
    let actions = h.send(delete(&[GROUP, "no", GROUP]));
    let request = h.last();
    let records = vec![
        Record::OffsetCommit { group: GROUP.into(), topic: "t".into(), partition: 0, value: None },
        Record::GroupMetadata { group: GROUP.into(), value: None },
    ];
    assert_eq!(actions, [Action::Persist { token: WriteToken(1), records }]);
    assert_eq!(h.state(), Some(GroupState::Dead));
    assert_eq!(
        h.send(Request::OffsetCommit(commit("", -1, 6))),
        [commit_reply(h.last(), ErrorCode::CoordinatorNotAvailable)]
    );
    assert_eq!(
        h.send(Request::JoinGroup(consumer_join(0))),
        [join_refused(h.last(), ErrorCode::CoordinatorNotAvailable, "")]
    );
    assert_eq!(
        h.persisted(1),
        [deleted(
            request,
            &[
                (GROUP, ErrorCode::None),
                ("no", ErrorCode::GroupIdNotFound),
                (GROUP, ErrorCode::GroupIdNotFound)
            ]
        )]
    );
    assert_eq!(h.state(), None);
    assert_eq!(fetch(&mut h), -1);
    assert_eq!(h.coordinator.topics().count(), 0);
}

#[test]
fn a_deletion_that_fails_leaves_the_group_as_it_was() {
    let mut h = Harness::new();
    let actions = h.send(Request::OffsetCommit(commit("", -1, 5)));
    h.persist_all(actions);
    h.send(delete(&[GROUP]));
    assert_eq!(
        h.write_failed(1, ErrorCode::NotEnoughReplicas),
        [deleted(h.last(), &[(GROUP, ErrorCode::CoordinatorNotAvailable)])]
    );
    assert_eq!(h.state(), Some(GroupState::Empty));
    assert_eq!(fetch(&mut h), 5);
}

#[test]
fn a_deletion_covers_commits_on_their_way() {
    let mut h = Harness::new();
    h.send(Request::OffsetCommit(commit("", -1, 5)));
    let actions = h.send(delete(&[GROUP]));
    assert_eq!(writes(&actions)[0].1.len(), 2);
    h.persisted(0);
    h.persisted(1);
    assert_eq!(h.state(), None);
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut h = Harness::new();
    h.stable_group(1);
    assert_eq!(h.send(delete(&[GROUP])), [deleted(h.last(), &[(GROUP, ErrorCode::NonEmptyGroup)])]);
}
