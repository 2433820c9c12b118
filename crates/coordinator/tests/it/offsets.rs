//! OffsetCommit, OffsetFetch, OffsetDelete, and deleted topics.

use std::sync::Arc;

use chronik_base::{ErrorCode, TopicId};
use chronik_coordinator::*;

use crate::harness::*;

fn commit_record(partition: i32, value: Option<OffsetCommitRecord>) -> Record {
    Record::OffsetCommit { group: GROUP.into(), topic: "t".into(), partition, value }
}

fn value(offset: i64) -> OffsetCommitRecord {
    OffsetCommitRecord {
        offset,
        leader_epoch: -1,
        topic_id: TopicId::ZERO,
        metadata: "".into(),
        commit_timestamp_ms: START_WALL_MS,
        expire_timestamp_ms: None,
    }
}

fn delete(topic: &str) -> Request {
    Request::OffsetDelete(OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: vec![TopicPartitions { topic: topic.into(), partitions: vec![0, 1], ..Default::default() }],
    })
}

fn deleted(request: RequestId, topic: &str, error: ErrorCode) -> Action {
    let topics = vec![TopicErrors { topic: topic.into(), partitions: vec![(0, error), (1, error)] }];
    reply(request, Response::OffsetDelete(OffsetDeleteResponse { error: ErrorCode::None, topics }))
}

#[test]
fn a_commit_without_a_group_is_answered_and_shown_once_it_is_in_the_log() {
    let mut h = Harness::new();
    let actions = h.send(Request::OffsetCommit(commit("", -1, 5)));
    let request = h.last();
    let records = vec![commit_record(0, Some(value(5)))];
    assert_eq!(actions, [Action::Persist { token: WriteToken(0), records }]);
    assert_eq!(h.send(fetch_request()), [], "a fetch waits for what was sent before it");
    let actions = h.persisted(0);
    assert_eq!(actions[0], commit_reply(request, ErrorCode::None));
    assert_eq!(fetched(&actions[1]), 5);
    assert_eq!(fetch(&mut h), 5);
    assert_eq!(h.state(), Some(GroupState::Empty));
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let mut h = Harness::new();
    let actions = h.send(Request::OffsetCommit(commit("", -1, 5)));
    h.persist_all(actions);
    h.send(Request::OffsetCommit(commit("", -1, 6)));
    assert_eq!(
        h.write_failed(1, ErrorCode::KafkaStorageError),
        [commit_reply(h.last(), ErrorCode::NotCoordinator)]
    );
    assert_eq!(fetch(&mut h), 5);
}

#[test]
fn a_first_commit_that_fails_leaves_no_group_behind() {
    let mut h = Harness::new();
    h.send(Request::OffsetCommit(commit("", -1, 6)));
    h.write_failed(0, ErrorCode::RequestTimedOut);
    assert_eq!(h.state(), None);
}

#[test]
fn ends_of_writes_take_effect_in_the_order_of_the_log() {
    let mut h = Harness::new();
    h.send(Request::OffsetCommit(commit("", -1, 5)));
    h.send(Request::OffsetCommit(commit("", -1, 6)));
    assert_eq!(h.persisted(1), []);
    let actions = h.persisted(0);
    assert_eq!(
        actions,
        [commit_reply(RequestId(1), ErrorCode::None), commit_reply(RequestId(2), ErrorCode::None)]
    );
    assert_eq!(fetch(&mut h), 6);
}

#[test]
fn who_may_commit() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    let with_instance =
        |request: OffsetCommitRequest| OffsetCommitRequest { group_instance_id: Some("i".into()), ..request };
    let cases = [
        (commit(&ids[0], 0, 1), ErrorCode::IllegalGeneration),
        (commit(&ids[0], -1, 1), ErrorCode::IllegalGeneration),
        (commit("nobody", 1, 1), ErrorCode::UnknownMemberId),
        (commit("", -1, 1), ErrorCode::UnknownMemberId),
        (with_instance(commit(&ids[0], 1, 1)), ErrorCode::UnknownMemberId),
        (OffsetCommitRequest { group_id: "other".into(), ..commit("m", 1, 1) }, ErrorCode::IllegalGeneration),
        (
            OffsetCommitRequest { group_id: "other".into(), api_version: 9, ..commit("m", 1, 1) },
            ErrorCode::GroupIdNotFound,
        ),
    ];
    for (request, error) in cases {
        let actions = h.send(Request::OffsetCommit(request.clone()));
        assert_eq!(actions, [commit_reply(h.last(), error)], "{request:?}");
    }
    let actions = h.send(Request::OffsetCommit(commit(&ids[0], 1, 1)));
    assert_eq!(writes(&actions).len(), 1);

    h.new_member(consumer_join(5));
    let actions = h.send(Request::OffsetCommit(commit(&ids[0], 1, 2)));
    assert_eq!(writes(&actions).len(), 1, "before it joins anew, a member commits what it has done");
    h.send(rejoin(0, &ids[0]));
    assert_eq!(h.state(), Some(GroupState::CompletingRebalance));
    let actions = h.send(Request::OffsetCommit(commit(&ids[0], 2, 3)));
    assert_eq!(actions, [commit_reply(h.last(), ErrorCode::RebalanceInProgress)]);
}

#[test]
fn the_empty_group_id_may_commit_and_fetch() {
    let mut h = Harness::new();
    let request = OffsetCommitRequest { group_id: "".into(), ..commit("", -1, 5) };
    let actions = h.send(Request::OffsetCommit(request));
    h.persist_all(actions);
    assert_eq!(h.coordinator.group_state(""), Some(GroupState::Empty));
}

#[test]
fn commits_keep_a_session_alive() {
    let mut h = Harness::new();
    let ids = h.stable_group(1);
    for offset in 0..5 {
        h.pass(SESSION_MS as u64 - 1);
        h.send(Request::OffsetCommit(commit(&ids[0], 1, offset)));
    }
    assert_eq!(h.state(), Some(GroupState::Stable));
}

#[test]
fn of_a_partition_named_twice_the_last_word_counts() {
    let mut h = Harness::new();
    let mut request = commit("", -1, 5);
    request.topics.push(commit("", -1, 4).topics.remove(0));
    let actions = h.send(Request::OffsetCommit(request));
    assert_eq!(writes(&actions)[0].1.len(), 2);
    h.persist_all(actions);
    assert_eq!(fetch(&mut h), 4);
}

#[test]
fn too_much_metadata_is_refused_for_its_partition_only() {
    let mut h = Harness::with(CoordinatorConfig { offset_metadata_max: 3, ..Default::default() });
    let mut request = commit("", -1, 5);
    let partition = |partition, metadata: &str| OffsetCommitPartition {
        partition,
        offset: 5,
        leader_epoch: 2,
        metadata: Some(metadata.into()),
    };
    request.topics[0].partitions = vec![partition(0, "four"), partition(1, "äöü"), partition(2, "")];
    let actions = h.send(Request::OffsetCommit(request));
    let [(0, records)] = &writes(&actions)[..] else { panic!("{actions:?}") };
    let value =
        |metadata: &str| OffsetCommitRecord { leader_epoch: 2, metadata: metadata.into(), ..value(5) };
    assert_eq!(*records, [commit_record(1, Some(value("äöü"))), commit_record(2, Some(value("")))]);
    let errors = vec![(0, ErrorCode::OffsetMetadataTooLarge), (1, ErrorCode::None), (2, ErrorCode::None)];
    let topics = vec![TopicErrors { topic: "t".into(), partitions: errors }];
    assert_eq!(h.persisted(0), [reply(h.last(), Response::OffsetCommit(OffsetCommitResponse { topics }))]);
}

#[test]
fn all_offsets_are_fetched_by_topic() {
    let mut h = Harness::new();
    let mut request = commit("", -1, 5);
    request.topics.push(OffsetCommitTopic { topic: "a".into(), ..request.topics[0].clone() });
    let actions = h.send(Request::OffsetCommit(request));
    h.persist_all(actions);
    let fetch = OffsetFetchRequest { group_id: GROUP.into(), topics: None, require_stable: false };
    let topic = |name: &str| OffsetFetchTopic { topic: name.into(), partitions: vec![(0, Some(value(5)))] };
    let response = OffsetFetchResponse { error: ErrorCode::None, topics: vec![topic("a"), topic("t")] };
    assert_eq!(
        h.send(Request::OffsetFetch(fetch.clone())),
        [reply(h.last(), Response::OffsetFetch(response))]
    );
    let nothing = OffsetFetchResponse { error: ErrorCode::None, topics: vec![] };
    assert_eq!(
        h.send(Request::OffsetFetch(OffsetFetchRequest { group_id: "other".into(), ..fetch })),
        [reply(h.last(), Response::OffsetFetch(nothing))]
    );
}

#[test]
fn an_offset_of_an_earlier_topic_of_that_name_is_not_shown() {
    let mut h = Harness::new();
    let mut request = commit("", -1, 5);
    request.topics[0].topic_id = TopicId::from_random([1; 16]);
    let actions = h.send(Request::OffsetCommit(request));
    h.persist_all(actions);
    let id = |byte| TopicId::from_random([byte; 16]);
    for (topic_id, shown) in [(TopicId::ZERO, true), (id(1), true), (id(2), false)] {
        let wanted = TopicPartitions { topic: "t".into(), topic_id, partitions: vec![0] };
        let request =
            OffsetFetchRequest { group_id: GROUP.into(), topics: Some(vec![wanted]), require_stable: false };
        let actions = h.send(Request::OffsetFetch(request));
        let [Action::Reply { response: Response::OffsetFetch(response), .. }] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(response.topics[0].partitions[0].1.is_some(), shown, "{topic_id}");
    }
}

#[test]
fn a_removal_covers_what_is_being_committed() {
    let mut h = Harness::new();
    h.send(Request::OffsetCommit(commit("", -1, 5)));
    let actions = h.send(delete("t"));
    assert_eq!(actions, [Action::Persist { token: WriteToken(1), records: vec![commit_record(0, None)] }]);
    assert_eq!(h.send(fetch_request()), []);
    assert_eq!(h.persisted(0), [commit_reply(RequestId(1), ErrorCode::None)]);
    let actions = h.persisted(1);
    assert_eq!(actions[0], deleted(RequestId(2), "t", ErrorCode::None));
    assert_eq!(fetched(&actions[1]), -1);
    assert_eq!(fetch(&mut h), -1);
    assert_eq!(h.state(), None, "nothing is left");
}

#[test]
fn offsets_of_consumed_topics_are_not_removed() {
    let mut h = Harness::new();
    h.stable_group(1);
    assert_eq!(h.send(delete("t")), [deleted(h.last(), "t", ErrorCode::GroupSubscribedToTopic)]);
    assert_eq!(h.send(delete("u")), [deleted(h.last(), "u", ErrorCode::None)]);
}

#[test]
fn offsets_of_an_unreadable_subscription_are_not_removed() {
    let mut h = Harness::new();
    let protocols = vec![("range".into(), bytes::Bytes::from_static(b"?"))];
    h.new_member(JoinGroupRequest { protocols, ..consumer_join(0) });
    h.pass(1_000);
    assert_eq!(h.send(delete("u")), [deleted(h.last(), "u", ErrorCode::GroupSubscribedToTopic)]);
}

#[test]
fn refusals_of_removals() {
    let mut h = Harness::new();
    let whole = |request, error| {
        reply(request, Response::OffsetDelete(OffsetDeleteResponse { error, topics: vec![] }))
    };
    assert_eq!(h.send(delete("t")), [whole(h.last(), ErrorCode::GroupIdNotFound)]);
    let request = OffsetDeleteRequest { group_id: "".into(), topics: vec![] };
    assert_eq!(h.send(Request::OffsetDelete(request)), [whole(h.last(), ErrorCode::InvalidGroupId)]);
    h.new_member(JoinGroupRequest { protocol_type: "connect".into(), ..consumer_join(0) });
    assert_eq!(h.send(delete("t")), [whole(h.last(), ErrorCode::NonEmptyGroup)]);
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut h = Harness::new();
    for group in ["g", "g2"] {
        let request = OffsetCommitRequest { group_id: group.into(), ..commit("", -1, 5) };
        let actions = h.send(Request::OffsetCommit(request));
        h.persist_all(actions);
    }
    assert_eq!(h.coordinator.topics().collect::<Vec<_>>(), [&Arc::from("t")]);
    assert_eq!(h.handle(Event::TopicDeleted { topic: "other".into() }), []);
    let actions = h.handle(Event::TopicDeleted { topic: "t".into() });
    let tombstone = |group: &str| Record::OffsetCommit {
        group: group.into(),
        topic: "t".into(),
        partition: 0,
        value: None,
    };
    let records = vec![tombstone("g"), tombstone("g2")];
    assert_eq!(actions, [Action::Persist { token: WriteToken(2), records }]);
    assert_eq!(h.persisted(2), []);
    assert_eq!(fetch(&mut h), -1);
    assert_eq!(h.coordinator.topics().count(), 0);
}
