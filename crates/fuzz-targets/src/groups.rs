//! Group state: a coordinator that is loaded from any records and then given any requests, ends of writes and times.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{ErrorCode, Uuid};
use chronik_coordinator::{
    Action, CoordinatorConfig, DeleteGroupsRequest, DescribeGroupsRequest, Event, GroupCoordinator,
    GroupMetadataRecord, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    MemberIdentity, MemberRecord, Now, OffsetCommitPartition, OffsetCommitRecord, OffsetCommitRequest,
    OffsetCommitTopic, OffsetDeleteRequest, OffsetFetchRequest, Record, Request, RequestId, Response,
    SyncGroupRequest, TopicPartitions, WriteToken,
};

use crate::input::Input;

const START: Now = Now { monotonic_ms: 1_000, wall_ms: 1_700_000_000_000 };

/// Longer histories only repeat what shorter ones show.
const STEPS_MAX: usize = 400;

/// With this in the environment a history is told as it goes, to explain a finding.
const TRACE: &str = "CHRONIK_FUZZ_TRACE";

/// Reads `data` as a history: records to load, then events. Every request has to be answered once, in the end all of them,
/// and what the coordinator shows has to be what a new one reads from the log.
pub fn groups(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::load(&mut input);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.finish();
}

type Offsets = BTreeMap<(Arc<str>, Arc<str>, i32), i64>;

struct World {
    coordinator: GroupCoordinator,
    now: Now,
    requests: u64,
    waiting: BTreeSet<RequestId>,
    /// Writes in the order of the log, and how they ended.
    writes: VecDeque<(WriteToken, Vec<Record>, Option<bool>)>,
    log: Vec<Record>,
    /// Member ids that were handed out.
    members: Vec<Arc<str>>,
    trace: bool,
}

impl World {
    fn load(input: &mut Input<'_>) -> Self {
        let config = CoordinatorConfig {
            max_group_size: usize::from(input.below(4)) + 1,
            initial_rebalance_delay_ms: u64::from(input.below(2)) * 50,
            offsets_retention_ms: 1_000_000,
            offsets_retention_check_interval_ms: 300_000,
            ..CoordinatorConfig::default()
        };
        let mut world = Self {
            coordinator: GroupCoordinator::new(config),
            now: START,
            requests: 0,
            waiting: BTreeSet::new(),
            writes: VecDeque::new(),
            log: Vec::new(),
            members: Vec::new(),
            trace: std::env::var_os(TRACE).is_some(),
        };
        for _ in 0..input.below(6) {
            let record = world.record(input);
            world.tell(&record);
            world.coordinator.load_record(record.clone());
            world.log.push(record);
        }
        if input.flag() {
            let request = world.request(input);
            world.send(request);
        }
        let actions = world.coordinator.loaded(world.now);
        world.carry_out(actions);
        world
    }

    fn tell(&self, what: &dyn std::fmt::Debug) {
        if self.trace {
            eprintln!("{} ms: {what:?}", self.now.monotonic_ms);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => self.handle(Event::TopicDeleted { topic: topic(input) }),
            1 => self.handle(Event::Tick),
            2 | 3 => self.pass(input),
            4..=6 => {
                let (which, ok) = (input.byte(), input.below(8) > 0);
                self.end_write(which.into(), ok);
            }
            _ => {
                let request = self.request(input);
                self.send(request);
            }
        }
    }

    fn send(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.waiting.insert(id);
        self.handle(Event::Request { id, request });
    }

    fn handle(&mut self, event: Event) {
        self.tell(&event);
        let actions = self.coordinator.handle(self.now, event);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.tell(&action);
            match action {
                Action::Persist { token, records } => {
                    assert!(!records.is_empty(), "a write has records");
                    assert!(self.writes.back().is_none_or(|(last, ..)| *last < token), "tokens rise");
                    self.writes.push_back((token, records, None));
                }
                Action::Reply { request, response } => {
                    assert!(self.waiting.remove(&request), "answered once, and only if asked");
                    if let Response::JoinGroup(response) = response
                        && !self.members.contains(&response.member_id)
                    {
                        self.members.push(response.member_id);
                    }
                }
            }
        }
    }

    /// Writes may end in any order, but they are in the log in the order of their tokens.
    fn end_write(&mut self, which: usize, ok: bool) {
        let open: Vec<usize> = (0..self.writes.len())
            .filter(|at| self.writes.get(*at).is_some_and(|write| write.2.is_none()))
            .collect();
        let Some(write) = open.get(which % open.len().max(1)).and_then(|at| self.writes.get_mut(*at)) else {
            return;
        };
        write.2 = Some(ok);
        let token = write.0;
        while let Some((_, _, Some(done))) = self.writes.front() {
            let done = *done;
            if let Some((_, records, _)) = self.writes.pop_front()
                && done
            {
                self.log.extend(records);
            }
        }
        let result = if ok { Ok(()) } else { Err(ErrorCode::NotEnoughReplicas) };
        self.handle(Event::Persisted { token, result });
    }

    /// Lets time pass, and ticks whenever the coordinator wants it.
    fn pass(&mut self, input: &mut Input<'_>) {
        let ms = match input.below(3) {
            0 => u64::from(input.byte()),
            1 => u64::from(input.byte()) * 100,
            _ => u64::from(input.byte()) * 10_000,
        };
        let end = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= end) {
            self.set_time(deadline.max(self.now.monotonic_ms));
            self.handle(Event::Tick);
            assert!(
                self.coordinator.next_deadline() > Some(self.now.monotonic_ms),
                "a tick does what is due"
            );
        }
        self.set_time(end);
    }

    fn set_time(&mut self, monotonic_ms: u64) {
        let ms = monotonic_ms.saturating_sub(self.now.monotonic_ms);
        self.now.monotonic_ms += ms;
        self.now.wall_ms = self.now.wall_ms.saturating_add_unsigned(ms);
    }

    fn finish(mut self) {
        while !self.writes.is_empty() {
            self.end_write(0, true);
        }
        assert!(!self.coordinator.has_writes());
        let shown = committed(&self.coordinator);
        let mut next = GroupCoordinator::new(CoordinatorConfig::default());
        for record in &self.log {
            next.load_record(record.clone());
        }
        next.loaded(self.now);
        assert_eq!(committed(&next), shown, "the log says what the memory says");
        let actions = self.coordinator.resign();
        self.carry_out(actions);
        assert!(self.waiting.is_empty(), "all requests are answered: {:?}", self.waiting);
    }

    fn member(&self, input: &mut Input<'_>) -> Arc<str> {
        let choice = usize::from(input.byte());
        match choice % 4 {
            0 => "".into(),
            1 => "unknown".into(),
            _ => self.members.get(choice / 4 % self.members.len().max(1)).cloned().unwrap_or_default(),
        }
    }

    fn generation(&self, input: &mut Input<'_>, group: &str) -> i32 {
        let current = self.coordinator.group_generation(group).unwrap_or(0);
        match input.below(5) {
            0 => -1,
            1 => input.i32(),
            _ => current,
        }
    }

    fn request(&self, input: &mut Input<'_>) -> Request {
        let group_id = group(input);
        match input.below(16) {
            0..=3 => Request::JoinGroup(JoinGroupRequest {
                api_version: i16::from(input.below(11)),
                member_id: self.member(input),
                group_instance_id: instance(input),
                client_id: "c".into(),
                client_host: "/".into(),
                session_timeout_ms: duration(input),
                rebalance_timeout_ms: duration(input),
                protocol_type: ["consumer", "connect", ""][usize::from(input.below(3))].into(),
                protocols: (0..input.below(4)).map(|_| (protocol(input), payload(input))).collect(),
                // Two members that drew the same bits would be one.
                random: u128::from(self.requests).to_be_bytes(),
                group_id,
            }),
            4..=6 => Request::SyncGroup(SyncGroupRequest {
                api_version: i16::from(input.below(6)),
                generation: self.generation(input, &group_id),
                member_id: self.member(input),
                group_instance_id: instance(input),
                protocol_type: input.flag().then(|| "consumer".into()),
                protocol_name: input.flag().then(|| protocol(input)),
                assignments: (0..input.below(4)).map(|_| (self.member(input), payload(input))).collect(),
                group_id,
            }),
            7 | 8 => Request::Heartbeat(HeartbeatRequest {
                generation: self.generation(input, &group_id),
                member_id: self.member(input),
                group_instance_id: instance(input),
                group_id,
            }),
            9 => Request::LeaveGroup(LeaveGroupRequest {
                members: (0..input.below(4))
                    .map(|_| MemberIdentity {
                        member_id: self.member(input),
                        group_instance_id: instance(input),
                    })
                    .collect(),
                group_id,
            }),
            10 | 11 => Request::OffsetCommit(OffsetCommitRequest {
                api_version: i16::from(input.below(11)),
                generation: self.generation(input, &group_id),
                member_id: self.member(input),
                group_instance_id: instance(input),
                retention_time_ms: if input.flag() { -1 } else { input.i64() },
                topics: (0..input.below(4))
                    .map(|_| OffsetCommitTopic {
                        topic: topic(input),
                        topic_id: id(input),
                        partitions: (0..input.below(4)).map(|_| commit(input)).collect(),
                    })
                    .collect(),
                group_id,
            }),
            12 => Request::OffsetFetch(OffsetFetchRequest {
                topics: input.flag().then(|| topics(input)),
                require_stable: input.flag(),
                group_id,
            }),
            13 => Request::OffsetDelete(OffsetDeleteRequest { topics: topics(input), group_id }),
            14 if input.flag() => Request::ListGroups(ListGroupsRequest {
                states_filter: if input.flag() { vec!["Stable".into(), protocol(input)] } else { Vec::new() },
                types_filter: if input.flag() { vec!["classic".into()] } else { Vec::new() },
            }),
            14 => Request::DescribeGroups(DescribeGroupsRequest {
                api_version: i16::from(input.below(7)),
                groups: vec![group_id.clone(), group_id, group(input)],
            }),
            _ => Request::DeleteGroups(DeleteGroupsRequest { groups: vec![group_id.clone(), group_id] }),
        }
    }

    fn record(&mut self, input: &mut Input<'_>) -> Record {
        let group = group(input);
        if input.flag() {
            let value = (input.below(4) > 0).then(|| OffsetCommitRecord {
                offset: input.i64(),
                leader_epoch: i32::from(input.byte()) - 1,
                topic_id: id(input),
                metadata: protocol(input),
                commit_timestamp_ms: START.wall_ms - i64::from(input.byte()) * 10_000,
                expire_timestamp_ms: input.flag().then(|| input.i64()),
            });
            return Record::OffsetCommit { group, topic: topic(input), partition: input.i32(), value };
        }
        let value = (input.below(4) > 0).then(|| {
            let members: Vec<MemberRecord> = (0..input.below(4))
                .map(|number| MemberRecord {
                    member_id: format!("m{number}").into(),
                    group_instance_id: input.flag().then(|| format!("i{number}").into()),
                    client_id: "c".into(),
                    client_host: "/".into(),
                    rebalance_timeout_ms: duration(input),
                    session_timeout_ms: duration(input),
                    subscription: payload(input),
                    assignment: payload(input),
                })
                .collect();
            self.members.extend(members.iter().map(|member| member.member_id.clone()));
            GroupMetadataRecord {
                protocol_type: if input.flag() { "consumer".into() } else { "".into() },
                generation: input.i32(),
                protocol: input.flag().then(|| protocol(input)),
                leader: input.flag().then(|| "m0".into()),
                state_timestamp_ms: input.flag().then_some(START.wall_ms),
                members,
            }
        });
        Record::GroupMetadata { group, value }
    }
}

fn committed(coordinator: &GroupCoordinator) -> Offsets {
    coordinator
        .committed_offsets()
        .map(|(group, topic, partition, value)| ((group.clone(), topic.clone(), partition), value.offset))
        .collect()
}

fn group(input: &mut Input<'_>) -> Arc<str> {
    ["g", "h", "g", ""][usize::from(input.below(4))].into()
}

fn topic(input: &mut Input<'_>) -> Arc<str> {
    ["t", "u", ""][usize::from(input.below(3))].into()
}

fn protocol(input: &mut Input<'_>) -> Arc<str> {
    ["range", "sticky", "", "other"][usize::from(input.below(4))].into()
}

fn instance(input: &mut Input<'_>) -> Option<Arc<str>> {
    match input.below(6) {
        0 => Some("i0".into()),
        1 => Some("i1".into()),
        _ => None,
    }
}

fn id(input: &mut Input<'_>) -> Uuid {
    Uuid([input.below(3); 16])
}

fn duration(input: &mut Input<'_>) -> i32 {
    match input.below(6) {
        0 => input.i32(),
        1 => -1,
        2 => 6_000,
        _ => 10_000,
    }
}

/// A subscription of the topic `t`, or anything.
fn payload(input: &mut Input<'_>) -> Bytes {
    if input.flag() {
        Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")
    } else {
        Bytes::copy_from_slice(input.bytes(40))
    }
}

fn commit(input: &mut Input<'_>) -> OffsetCommitPartition {
    OffsetCommitPartition {
        partition: if input.flag() { i32::from(input.below(3)) } else { input.i32() },
        offset: if input.flag() { i64::from(input.byte()) } else { input.i64() },
        leader_epoch: -1,
        metadata: input.flag().then(|| if input.flag() { "m".repeat(5_000).into() } else { "note".into() }),
    }
}

fn topics(input: &mut Input<'_>) -> Vec<TopicPartitions> {
    (0..input.below(4))
        .map(|_| TopicPartitions {
            topic: topic(input),
            topic_id: id(input),
            partitions: (0..input.below(4)).map(|_| i32::from(input.below(3))).collect(),
        })
        .collect()
}
