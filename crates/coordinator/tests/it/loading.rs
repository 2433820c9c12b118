//! Loading from the log, and resigning.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{ErrorCode, TopicId};
use chronik_coordinator::*;

use crate::harness::*;

fn offset(partition: i32, offset: Option<i64>) -> Record {
    let value = offset.map(|offset| OffsetCommitRecord {
        offset,
        leader_epoch: -1,
        topic_id: TopicId::ZERO,
        metadata: "".into(),
        commit_timestamp_ms: START_WALL_MS,
        expire_timestamp_ms: None,
    });
    Record::OffsetCommit { group: GROUP.into(), topic: "t".into(), partition, value }
}

fn group(generation: i32, members: &[&str]) -> Record {
    let members = members.iter().map(|id| MemberRecord {
        member_id: Arc::from(*id),
        group_instance_id: None,
        client_id: "c0".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        subscription: Bytes::from_static(SUBSCRIBED_TO_T),
        assignment: assignment_of(id),
    });
    let members: Vec<_> = members.collect();
    let value = GroupMetadataRecord {
        protocol_type: "consumer".into(),
        generation,
        protocol: (!members.is_empty()).then(|| "range".into()),
        leader: members.first().map(|member| member.member_id.clone()),
        state_timestamp_ms: Some(START_WALL_MS - 1_000),
        members,
    };
    Record::GroupMetadata { group: GROUP.into(), value: Some(value) }
}

fn load(h: &mut Harness, records: impl IntoIterator<Item = Record>) -> Vec<Action> {
    records.into_iter().for_each(|record| h.coordinator.load_record(record));
    h.coordinator.loaded(h.now)
}

#[test]
fn until_it_is_loaded_it_says_so() {
    let mut h = Harness::loading(CoordinatorConfig::default());
    let error = ErrorCode::CoordinatorLoadInProgress;
    assert_eq!(h.send(Request::JoinGroup(consumer_join(0))), [join_refused(h.last(), error, "")]);
    assert_eq!(h.send(Request::OffsetCommit(commit("", -1, 5))), [commit_reply(h.last(), error)]);
    assert_eq!(h.send(heartbeat(&"m".into(), 1)), [heartbeat_reply(h.last(), error)]);
    assert_eq!(h.handle(Event::Tick), []);
    assert_eq!(load(&mut h, []), []);
    assert_eq!(h.send(heartbeat(&"m".into(), 1)), [heartbeat_reply(h.last(), ErrorCode::UnknownMemberId)]);
}

#[test]
fn a_group_goes_on_where_it_was() {
    let mut h = Harness::loading(CoordinatorConfig::default());
    load(&mut h, [group(3, &["a"]), offset(0, Some(5)), group(7, &["a", "b"])]);
    assert_eq!(h.state(), Some(GroupState::Stable));
    assert_eq!(fetch(&mut h), 5);
    assert_eq!(h.send(heartbeat(&"b".into(), 7)), [heartbeat_reply(h.last(), ErrorCode::None)]);
    assert_eq!(
        h.send(Request::SyncGroup(sync_request(&"b".into(), 7))),
        [sync_ok(h.last(), assignment_of("b"))]
    );
    h.pass(SESSION_MS as u64 - 1);
    h.send(heartbeat(&"b".into(), 7));
    h.pass(1);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance), "a has not been heard of");
}

#[test]
fn the_log_s_last_word_counts() {
    let mut h = Harness::loading(CoordinatorConfig::default());
    let tombstone = Record::GroupMetadata { group: GROUP.into(), value: None };
    let records = [
        offset(0, Some(5)),
        group(1, &["a"]),
        offset(1, Some(1)),
        tombstone,
        offset(0, Some(7)),
        offset(1, None),
        offset(2, None),
    ];
    load(&mut h, records);
    assert_eq!(h.state(), Some(GroupState::Empty));
    let left: Vec<_> =
        h.coordinator.committed_offsets().map(|(_, _, partition, value)| (partition, value.offset)).collect();
    assert_eq!(left, [(0, 7)]);
}

#[test]
fn a_removed_group_is_gone() {
    let mut h = Harness::loading(CoordinatorConfig::default());
    let tombstone = Record::GroupMetadata { group: GROUP.into(), value: None };
    load(&mut h, [group(1, &["a"]), offset(0, Some(5)), offset(0, None), tombstone]);
    assert_eq!(h.state(), None);
}

#[test]
fn a_group_that_is_too_large_now_is_rebalanced() {
    let mut h = Harness::loading(CoordinatorConfig { max_group_size: 1, ..Default::default() });
    assert_eq!(load(&mut h, [group(1, &["a", "b"])]), []);
    assert_eq!(h.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(h.send(rejoin(0, &"a".into())), []);
    let actions = h.send(rejoin(0, &"b".into()));
    assert_eq!(actions[0], join_refused(h.last(), ErrorCode::GroupMaxSizeReached, ""));
    assert_eq!(joins(&actions)[1].1.members.len(), 1, "the other one goes on at once");
}

#[test]
fn what_it_writes_it_can_load() {
    let mut h = Harness::new();
    let ids = h.stable_group(3);
    let actions = h.send(Request::OffsetCommit(commit(&ids[0], 1, 5)));
    let mut records: Vec<Record> =
        writes(&actions).iter().flat_map(|(_, records)| records.to_vec()).collect();
    let actions = h.send(Request::JoinGroup(JoinGroupRequest {
        group_id: "other".into(),
        api_version: 3,
        ..consumer_join(0)
    }));
    assert_eq!(actions, []);
    let actions = h.pass(SESSION_MS as u64);
    records.extend(writes(&actions).iter().flat_map(|(_, records)| records.to_vec()));
    let mut again = Harness::loading(CoordinatorConfig::default());
    load(&mut again, records);
    assert_eq!(fetch(&mut again), 5);
}

#[test]
fn resigning_answers_everybody() {
    let mut h = Harness::new();
    h.new_member(consumer_join(0));
    let join = h.last();
    let request = OffsetCommitRequest { group_id: "other".into(), ..commit("", -1, 5) };
    h.send(Request::OffsetCommit(request));
    let written = h.last();
    let request = OffsetFetchRequest { group_id: "other".into(), topics: None, require_stable: false };
    assert_eq!(h.send(Request::OffsetFetch(request)), []);
    assert!(h.coordinator.has_writes());
    let error = ErrorCode::NotCoordinator;
    let id = "c0-00000000-0000-4000-8000-000000000000";
    let nothing = Response::OffsetFetch(OffsetFetchResponse { error, topics: vec![] });
    assert_eq!(
        h.coordinator.resign(),
        [join_refused(join, error, id), commit_reply(written, error), reply(h.last(), nothing)]
    );
    assert!(!h.coordinator.has_writes());
    assert_eq!(h.coordinator.next_deadline(), None);
    assert_eq!(h.persisted(0), []);
    assert_eq!(h.send(Request::JoinGroup(consumer_join(0))), [join_refused(h.last(), error, "")]);

    h.coordinator.start_loading();
    load(&mut h, [offset(0, Some(5))]);
    assert_eq!(fetch(&mut h), 5);
    let actions = h.send(Request::OffsetCommit(commit("", -1, 6)));
    assert_eq!(writes(&actions)[0].0, 1, "tokens are not used twice");
}
