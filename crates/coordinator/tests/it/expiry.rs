//! Offsets and groups that expire (KIP-211).

use chronik_base::ErrorCode;
use chronik_coordinator::*;

use crate::harness::*;

const MINUTE: u64 = 60_000;

/// Offsets expire after ten minutes, looked for every minute.
fn harness() -> Harness {
    Harness::with(CoordinatorConfig {
        offsets_retention_ms: 10 * MINUTE as i64,
        offsets_retention_check_interval_ms: MINUTE,
        ..CoordinatorConfig::default()
    })
}

fn committed(h: &mut Harness, request: OffsetCommitRequest) {
    let actions = h.send(Request::OffsetCommit(request));
    h.persist_all(actions);
}

/// Lets time pass and carries out the writes.
fn pass(h: &mut Harness, ms: u64) {
    let actions = h.pass(ms);
    h.persist_all(actions);
}

#[test]
fn without_members_ever_each_offset_expires_by_its_commit() {
    let mut h = harness();
    committed(&mut h, commit("", -1, 5));
    pass(&mut h, 9 * MINUTE + MINUTE / 2);
    let mut other = commit("", -1, 6);
    other.topics[0].partitions[0].partition = 1;
    committed(&mut h, other);
    assert_eq!(fetch(&mut h), 5);
    pass(&mut h, MINUTE);
    assert_eq!(fetch(&mut h), -1);
    assert_eq!(h.state(), Some(GroupState::Empty), "the other one is still there");
    pass(&mut h, 10 * MINUTE);
    assert_eq!(h.state(), None);
}

#[test]
fn offsets_outlive_the_last_member_by_the_retention_time() {
    let mut h = harness();
    let ids = h.stable_group(1);
    committed(&mut h, commit(&ids[0], 1, 5));
    for _ in 0..60 {
        pass(&mut h, 9_000);
        let actions = h.send(heartbeat(&ids[0], 1));
        assert_eq!(actions, [heartbeat_reply(h.last(), ErrorCode::None)]);
    }
    assert_eq!(fetch(&mut h), 5);
    pass(&mut h, SESSION_MS as u64);
    assert_eq!(h.state(), Some(GroupState::Empty));
    pass(&mut h, 9 * MINUTE);
    assert_eq!(fetch(&mut h), 5);
    pass(&mut h, 2 * MINUTE);
    assert_eq!(fetch(&mut h), -1);
    assert_eq!(h.state(), None, "the group has gone with its offsets");
}

#[test]
fn a_stable_group_loses_the_offsets_of_topics_that_it_consumes_no_more() {
    let mut h = harness();
    let ids = h.stable_group(1);
    committed(&mut h, commit(&ids[0], 1, 5));
    let mut other = commit(&ids[0], 1, 6);
    other.topics[0].topic = "u".into();
    committed(&mut h, other);
    for _ in 0..80 {
        pass(&mut h, 9_000);
        h.send(heartbeat(&ids[0], 1));
    }
    let left: Vec<_> = h.coordinator.committed_offsets().map(|(_, topic, _, _)| topic.to_string()).collect();
    assert_eq!(left, ["t"]);
}

#[test]
fn a_retention_time_of_the_commit_counts() {
    let mut h = harness();
    committed(&mut h, OffsetCommitRequest { retention_time_ms: 2 * MINUTE as i64, ..commit("", -1, 5) });
    pass(&mut h, MINUTE);
    assert_eq!(fetch(&mut h), 5);
    pass(&mut h, MINUTE);
    assert_eq!(fetch(&mut h), -1);
}

#[test]
fn an_empty_group_without_offsets_goes_at_the_next_look() {
    let mut h = harness();
    h.stable_group(1);
    pass(&mut h, SESSION_MS as u64);
    assert_eq!(h.state(), Some(GroupState::Empty));
    let actions = h.pass(MINUTE);
    let tombstone = Record::GroupMetadata { group: GROUP.into(), value: None };
    assert_eq!(writes(&actions), [(2, &[tombstone][..])]);
    assert_eq!(h.state(), Some(GroupState::Dead));
    h.persist_all(actions);
    assert_eq!(h.state(), None);
}

#[test]
fn a_removal_that_fails_is_tried_again() {
    let mut h = harness();
    committed(&mut h, commit("", -1, 5));
    let actions = h.pass(10 * MINUTE);
    let [(token, _)] = writes(&actions)[..] else { panic!("{actions:?}") };
    h.write_failed(token, ErrorCode::KafkaStorageError);
    assert_eq!(h.state(), Some(GroupState::Empty));
    assert_eq!(fetch(&mut h), 5);
    pass(&mut h, MINUTE);
    assert_eq!(h.state(), None);
}

#[test]
fn the_search_goes_over_some_groups_at_a_time() {
    let mut h = Harness::with(CoordinatorConfig {
        offsets_retention_ms: 10 * MINUTE as i64,
        offsets_retention_check_interval_ms: 10 * MINUTE,
        ..CoordinatorConfig::default()
    });
    for group in 0..250 {
        committed(&mut h, OffsetCommitRequest { group_id: format!("g{group}").into(), ..commit("", -1, 5) });
    }
    let steps = |h: &mut Harness, ms| writes(&h.pass(ms)).len();
    assert_eq!(steps(&mut h, 10 * MINUTE - 1), 0);
    assert_eq!(steps(&mut h, 1), 100);
    assert_eq!(steps(&mut h, 1), 100);
    assert_eq!(steps(&mut h, 1), 50);
    assert_eq!(steps(&mut h, 9 * MINUTE), 0);
}
