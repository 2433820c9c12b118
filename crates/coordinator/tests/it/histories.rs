//! Random histories of several groups, checked after every event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chronik_base::ErrorCode;
use chronik_coordinator::*;
use proptest::prelude::*;

use crate::harness::{START_WALL_MS, SUBSCRIBED_TO_T};

const CLIENTS: usize = 6;
const GROUPS: [&str; 2] = ["g0", "g1"];

#[derive(Clone, Debug)]
enum Step {
    Join {
        client: usize,
        old_version: bool,
        protocol: usize,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Leave {
        client: usize,
        by_instance: bool,
    },
    Commit {
        client: usize,
        as_member: bool,
        offset: i64,
    },
    Fetch {
        group: usize,
        all: bool,
    },
    DeleteOffsets {
        group: usize,
    },
    DeleteGroup {
        group: usize,
    },
    DeleteTopic,
    Describe,
    Forget {
        client: usize,
    },
    Pass {
        ms: u64,
    },
    EndWrite {
        which: usize,
        ok: bool,
    },
    /// Everybody of the group joins and syncs, so that histories come beyond the first rebalance.
    Settle {
        group: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => (client(), any::<bool>(), 0..3usize)
            .prop_map(|(client, old_version, protocol)| Step::Join { client, old_version, protocol }),
        6 => client().prop_map(|client| Step::Sync { client }),
        4 => client().prop_map(|client| Step::Heartbeat { client }),
        1 => (client(), any::<bool>()).prop_map(|(client, by_instance)| Step::Leave { client, by_instance }),
        4 => (client(), any::<bool>(), 0..100i64)
            .prop_map(|(client, as_member, offset)| Step::Commit { client, as_member, offset }),
        3 => (0..GROUPS.len(), any::<bool>()).prop_map(|(group, all)| Step::Fetch { group, all }),
        1 => (0..GROUPS.len()).prop_map(|group| Step::DeleteOffsets { group }),
        1 => (0..GROUPS.len()).prop_map(|group| Step::DeleteGroup { group }),
        1 => Just(Step::DeleteTopic),
        1 => Just(Step::Describe),
        1 => client().prop_map(|client| Step::Forget { client }),
        6 => prop_oneof![0..200u64, 0..20_000u64, 0..2_000_000u64].prop_map(|ms| Step::Pass { ms }),
        9 => (0..3usize, prop::bool::weighted(0.9)).prop_map(|(which, ok)| Step::EndWrite { which, ok }),
        2 => (0..GROUPS.len()).prop_map(|group| Step::Settle { group }),
    ]
}

/// What a client knows. Clients 4 and 5 are static members.
#[derive(Clone, Default)]
struct Client {
    member_id: Arc<str>,
    generation: i32,
    members: Vec<Arc<str>>,
    protocol: Option<Arc<str>>,
}

/// The log, as far as it is written: the last value of each key.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    offsets: BTreeMap<(Arc<str>, Arc<str>, i32), i64>,
    groups: BTreeMap<Arc<str>, GroupMetadataRecord>,
}

struct World {
    coordinator: GroupCoordinator,
    now: Now,
    clients: Vec<Client>,
    next_request: u64,
    /// Requests without an answer, and which client sent them.
    waiting: BTreeMap<RequestId, (Option<usize>, Request)>,
    /// Writes in the order of the log, and how they ended.
    writes: VecDeque<(WriteToken, Vec<Record>, Option<bool>)>,
    log: Log,
    /// Of each group: the generation, and who was told to lead it.
    generations: BTreeMap<Arc<str>, (i32, Option<Arc<str>>)>,
}

impl World {
    fn new() -> Self {
        let config = CoordinatorConfig {
            max_group_size: 4,
            offsets_retention_ms: 1_000_000,
            offsets_retention_check_interval_ms: 300_000,
            ..CoordinatorConfig::default()
        };
        let now = Now { monotonic_ms: 0, wall_ms: START_WALL_MS };
        let mut coordinator = GroupCoordinator::new(config);
        assert_eq!(coordinator.loaded(now), []);
        Self {
            coordinator,
            now,
            clients: vec![Client::default(); CLIENTS],
            next_request: 0,
            waiting: BTreeMap::new(),
            writes: VecDeque::new(),
            log: Log::default(),
            generations: BTreeMap::new(),
        }
    }

    fn group_of(client: usize) -> Arc<str> {
        GROUPS[client % GROUPS.len()].into()
    }

    fn instance_of(client: usize) -> Option<Arc<str>> {
        (client >= 4).then(|| format!("i{client}").into())
    }

    fn send(&mut self, client: Option<usize>, request: Request) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.waiting.insert(id, (client, request.clone()));
        self.handle(Event::Request { id, request });
    }

    fn handle(&mut self, event: Event) {
        let actions = self.coordinator.handle(self.now, event);
        self.carry_out(actions);
        self.check_generations();
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Persist { token, records } => {
                    assert!(!records.is_empty());
                    assert!(self.writes.back().is_none_or(|(last, ..)| *last < token), "tokens rise");
                    self.writes.push_back((token, records, None));
                }
                Action::Reply { request, response } => {
                    let (client, sent) =
                        self.waiting.remove(&request).expect("answered once, and only if asked");
                    self.check_answer(client, &sent, response);
                }
            }
        }
    }

    fn check_generations(&mut self) {
        for group in GROUPS.map(Arc::from) {
            match self.coordinator.group_generation(&group) {
                None => drop(self.generations.remove(&group)),
                Some(generation) => {
                    let known = self.generations.entry(group).or_insert((generation, None));
                    assert!(generation >= known.0, "generation {generation} after {}", known.0);
                    if generation > known.0 {
                        *known = (generation, None);
                    }
                }
            }
        }
    }

    fn check_answer(&mut self, client: Option<usize>, sent: &Request, response: Response) {
        match (sent, response) {
            (Request::JoinGroup(request), Response::JoinGroup(response)) => {
                self.check_join(client.unwrap(), request, response);
            }
            (Request::SyncGroup(request), Response::SyncGroup(response)) => {
                if response.error.is_ok() {
                    let group = &self.log.groups[&request.group_id];
                    let member = group.members.iter().find(|member| member.member_id == request.member_id);
                    let member = member.expect("a member that has an assignment is in the log");
                    assert_eq!(member.assignment, response.assignment, "the log has what the client is told");
                    assert_eq!(group.generation, request.generation);
                }
            }
            (Request::OffsetCommit(_), Response::OffsetCommit(response)) => {
                assert_eq!(response.topics.len(), 1);
            }
            (Request::OffsetFetch(request), Response::OffsetFetch(response)) => {
                for topic in &response.topics {
                    for (partition, shown) in &topic.partitions {
                        let key = (request.group_id.clone(), topic.topic.clone(), *partition);
                        let shown = shown.as_ref().map(|shown| shown.offset);
                        assert_eq!(shown, self.log.offsets.get(&key).copied(), "what is shown is in the log");
                    }
                }
            }
            (Request::Heartbeat(_), Response::Heartbeat(_))
            | (Request::LeaveGroup(_), Response::LeaveGroup(_))
            | (Request::OffsetDelete(_), Response::OffsetDelete(_))
            | (Request::DescribeGroups(_), Response::DescribeGroups(_))
            | (Request::DeleteGroups(_), Response::DeleteGroups(_)) => {}
            (sent, response) => panic!("{sent:?} was answered {response:?}"),
        }
    }

    fn check_join(&mut self, client: usize, request: &JoinGroupRequest, response: JoinGroupResponse) {
        let knows = &mut self.clients[client];
        match response.error {
            ErrorCode::None => {
                assert!(response.protocol_name.is_some(), "the members have a protocol in common");
                // A generation may begin and end within one event; its first answer tells of it.
                let leads = response.leader == response.member_id;
                if leads && !response.skip_assignment {
                    let (generation, leader) = self
                        .generations
                        .entry(request.group_id.clone())
                        .or_insert((response.generation, None));
                    if *generation < response.generation {
                        (*generation, *leader) = (response.generation, None);
                    }
                    if *generation == response.generation {
                        let first = leader.get_or_insert_with(|| response.member_id.clone());
                        assert_eq!(*first, response.member_id, "one leader in a generation");
                    }
                    assert!(response.members.iter().any(|member| member.member_id == response.member_id));
                } else if !leads {
                    assert_eq!(response.members, []);
                }
                knows.member_id = response.member_id;
                knows.generation = response.generation;
                knows.protocol = response.protocol_name;
                knows.members = response.members.into_iter().map(|member| member.member_id).collect();
            }
            ErrorCode::MemberIdRequired => knows.member_id = response.member_id,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => *knows = Client::default(),
            _ => {}
        }
    }

    fn end_write(&mut self, which: usize, ok: bool) {
        let open: Vec<usize> =
            (0..self.writes.len()).filter(|position| self.writes[*position].2.is_none()).collect();
        let Some(position) = open.get(which.min(open.len().saturating_sub(1))) else { return };
        self.writes[*position].2 = Some(ok);
        let token = self.writes[*position].0;
        while let Some((_, _, Some(ok))) = self.writes.front() {
            let ok = *ok;
            let (_, records, _) = self.writes.pop_front().unwrap();
            if ok {
                self.log.append(records);
            }
        }
        let result = if ok { Ok(()) } else { Err(ErrorCode::NotEnoughReplicas) };
        self.handle(Event::Persisted { token, result });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= end) {
            self.set_time(deadline);
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
        self.now.wall_ms += ms as i64;
    }

    fn run(&mut self, number: usize, step: Step) {
        match step {
            Step::Join { client, old_version, protocol } => {
                let protocols: &[&str] = [&["a", "b"][..], &["b", "a"], &["a"]][protocol];
                let request = JoinGroupRequest {
                    api_version: if old_version { 3 } else { 9 },
                    group_id: Self::group_of(client),
                    member_id: self.clients[client].member_id.clone(),
                    group_instance_id: Self::instance_of(client),
                    client_id: format!("c{client}").into(),
                    client_host: "/".into(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 30_000,
                    protocol_type: "consumer".into(),
                    protocols: protocols
                        .iter()
                        .map(|name| (Arc::from(*name), Bytes::from_static(SUBSCRIBED_TO_T)))
                        .collect(),
                    random: ((number * CLIENTS + client) as u128).to_be_bytes(),
                };
                self.send(Some(client), Request::JoinGroup(request));
            }
            Step::Sync { client } => {
                let knows = self.clients[client].clone();
                let assignment = |member: &Arc<str>| {
                    (member.clone(), Bytes::from(format!("{member} in {}", knows.generation)))
                };
                let request = SyncGroupRequest {
                    api_version: 4,
                    group_id: Self::group_of(client),
                    generation: knows.generation,
                    member_id: knows.member_id.clone(),
                    group_instance_id: Self::instance_of(client),
                    protocol_type: None,
                    protocol_name: knows.protocol.clone(),
                    assignments: knows.members.iter().map(assignment).collect(),
                };
                self.send(Some(client), Request::SyncGroup(request));
            }
            Step::Heartbeat { client } => {
                let request = HeartbeatRequest {
                    group_id: Self::group_of(client),
                    generation: self.clients[client].generation,
                    member_id: self.clients[client].member_id.clone(),
                    group_instance_id: Self::instance_of(client),
                };
                self.send(Some(client), Request::Heartbeat(request));
            }
            Step::Leave { client, by_instance } => {
                let group_instance_id = Self::instance_of(client);
                let member_id = match group_instance_id {
                    Some(_) if by_instance => Arc::default(),
                    _ => self.clients[client].member_id.clone(),
                };
                let members = vec![MemberIdentity { member_id, group_instance_id }];
                let request = LeaveGroupRequest { group_id: Self::group_of(client), members };
                self.send(Some(client), Request::LeaveGroup(request));
            }
            Step::Commit { client, as_member, offset } => {
                let knows = &self.clients[client];
                let request = OffsetCommitRequest {
                    api_version: 8,
                    group_id: Self::group_of(client),
                    generation: if as_member { knows.generation } else { -1 },
                    member_id: if as_member { knows.member_id.clone() } else { Arc::default() },
                    group_instance_id: Self::instance_of(client).filter(|_| as_member),
                    retention_time_ms: -1,
                    topics: vec![OffsetCommitTopic {
                        topic: if offset % 2 == 0 { "t".into() } else { "u".into() },
                        partitions: vec![OffsetCommitPartition {
                            partition: (offset % 3) as i32,
                            offset,
                            leader_epoch: -1,
                            metadata: None,
                        }],
                        ..OffsetCommitTopic::default()
                    }],
                };
                self.send(Some(client), Request::OffsetCommit(request));
            }
            Step::Fetch { group, all } => {
                let topic = |name: &str| TopicPartitions {
                    topic: name.into(),
                    partitions: vec![0, 1, 2],
                    ..TopicPartitions::default()
                };
                let topics = (!all).then(|| vec![topic("t"), topic("u")]);
                let group_id = GROUPS[group].into();
                let request = OffsetFetchRequest { group_id, topics, require_stable: true };
                self.send(None, Request::OffsetFetch(request));
            }
            Step::DeleteOffsets { group } => {
                let topic = TopicPartitions {
                    topic: "u".into(),
                    partitions: vec![0, 1],
                    ..TopicPartitions::default()
                };
                let request = OffsetDeleteRequest { group_id: GROUPS[group].into(), topics: vec![topic] };
                self.send(None, Request::OffsetDelete(request));
            }
            Step::DeleteGroup { group } => {
                let request = DeleteGroupsRequest { groups: vec![GROUPS[group].into()] };
                self.send(None, Request::DeleteGroups(request));
            }
            Step::DeleteTopic => self.handle(Event::TopicDeleted { topic: "u".into() }),
            Step::Describe => {
                let groups = GROUPS.map(Arc::from).to_vec();
                let request = DescribeGroupsRequest { api_version: 6, groups };
                self.send(None, Request::DescribeGroups(request));
            }
            Step::Forget { client } => self.clients[client] = Client::default(),
            Step::Pass { ms } => self.pass(ms),
            Step::EndWrite { which, ok } => self.end_write(which, ok),
            Step::Settle { group } => {
                let clients = || (group..CLIENTS).step_by(GROUPS.len());
                for client in clients().chain(clients()) {
                    self.run(number, Step::Join { client, old_version: false, protocol: 0 });
                }
                self.pass(1_200);
                clients().for_each(|client| self.run(number, Step::Sync { client }));
                self.end_write(0, true);
            }
        }
    }

    fn committed(coordinator: &GroupCoordinator) -> BTreeMap<(Arc<str>, Arc<str>, i32), i64> {
        coordinator
            .committed_offsets()
            .map(|(group, topic, partition, committed)| {
                ((group.clone(), topic.clone(), partition), committed.offset)
            })
            .collect()
    }

    /// When all writes have ended, nothing may be left over, and the log must say the same as the memory.
    fn finish(mut self) {
        while !self.writes.is_empty() {
            self.end_write(0, true);
        }
        assert_eq!(Self::committed(&self.coordinator), self.log.offsets);
        let topics: BTreeSet<Arc<str>> = self.coordinator.topics().cloned().collect();
        let expected: BTreeSet<Arc<str>> =
            self.log.offsets.keys().map(|(_, topic, _)| topic.clone()).collect();
        assert_eq!(topics, expected);

        let mut loaded = GroupCoordinator::new(CoordinatorConfig::default());
        self.log.records.iter().for_each(|record| loaded.load_record(record.clone()));
        loaded.loaded(self.now);
        assert_eq!(Self::committed(&loaded), self.log.offsets);

        let actions = self.coordinator.resign();
        self.carry_out(actions);
        assert_eq!(self.waiting.keys().collect::<Vec<_>>(), Vec::<&RequestId>::new(), "all are answered");
    }
}

impl Log {
    fn append(&mut self, records: Vec<Record>) {
        for record in &records {
            match record {
                Record::OffsetCommit { group, topic, partition, value } => {
                    let key = (group.clone(), topic.clone(), *partition);
                    match value {
                        Some(value) => drop(self.offsets.insert(key, value.offset)),
                        None => drop(self.offsets.remove(&key)),
                    }
                }
                Record::GroupMetadata { group, value } => match value {
                    Some(value) => drop(self.groups.insert(group.clone(), value.clone())),
                    None => drop(self.groups.remove(group)),
                },
            }
        }
        self.records.extend(records);
    }
}

proptest! {
    #[test]
    fn every_history_keeps_the_promises(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for (number, step) in steps.into_iter().enumerate() {
            world.run(number, step);
        }
        world.finish();
    }
}
