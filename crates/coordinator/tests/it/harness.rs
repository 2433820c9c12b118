//! A coordinator with a clock that the test moves, and short ways to say things.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{ErrorCode, TopicId};
use chronik_coordinator::*;

pub const GROUP: &str = "g";
pub const START_WALL_MS: i64 = 1_700_000_000_000;
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

/// What a consumer of topic `t` sends as its metadata.
pub const SUBSCRIBED_TO_T: &[u8] = b"\0\0\0\0\0\x01\0\x01t";

pub struct Harness {
    pub coordinator: GroupCoordinator,
    pub now: Now,
    next_request: u64,
}

impl Harness {
    /// An empty coordinator that has loaded; the first rebalance waits 50 ms.
    pub fn new() -> Self {
        Self::with(CoordinatorConfig::default())
    }

    pub fn with(config: CoordinatorConfig) -> Self {
        let mut harness = Self::loading(config);
        assert_eq!(harness.coordinator.loaded(harness.now), []);
        harness
    }

    /// A coordinator that is still to be loaded.
    pub fn loading(config: CoordinatorConfig) -> Self {
        let now = Now { monotonic_ms: 1_000, wall_ms: START_WALL_MS };
        Self { coordinator: GroupCoordinator::new(config), now, next_request: 0 }
    }

    pub fn state(&self) -> Option<GroupState> {
        self.coordinator.group_state(GROUP)
    }

    pub fn generation(&self) -> Option<i32> {
        self.coordinator.group_generation(GROUP)
    }

    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        self.coordinator.handle(self.now, event)
    }

    /// Sends a request; the next one after request n is named n + 1.
    pub fn send(&mut self, request: Request) -> Vec<Action> {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.handle(Event::Request { id, request })
    }

    /// The name of the request that was sent last.
    pub fn last(&self) -> RequestId {
        RequestId(self.next_request)
    }

    /// Lets time pass, with a tick at each deadline on the way.
    pub fn pass(&mut self, ms: u64) -> Vec<Action> {
        let end = self.now.monotonic_ms + ms;
        let mut actions = Vec::new();
        while let Some(deadline) = self.coordinator.next_deadline().filter(|deadline| *deadline <= end) {
            self.set_time(deadline);
            actions.extend(self.handle(Event::Tick));
        }
        self.set_time(end);
        actions
    }

    fn set_time(&mut self, monotonic_ms: u64) {
        let step = monotonic_ms.saturating_sub(self.now.monotonic_ms);
        self.now.monotonic_ms += step;
        self.now.wall_ms += i64::try_from(step).unwrap();
    }

    pub fn persisted(&mut self, token: u64) -> Vec<Action> {
        self.handle(Event::Persisted { token: WriteToken(token), result: Ok(()) })
    }

    pub fn write_failed(&mut self, token: u64, error: ErrorCode) -> Vec<Action> {
        self.handle(Event::Persisted { token: WriteToken(token), result: Err(error) })
    }

    /// Carries out every write among the actions; the actions that follow are added.
    pub fn persist_all(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut all = Vec::new();
        let mut todo = std::collections::VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            if let Action::Persist { token, .. } = &action {
                todo.extend(self.persisted(token.0));
            }
            all.push(action);
        }
        all
    }

    /// A member that joins by KIP-394; what its id is. It waits for the rebalance to end.
    pub fn new_member(&mut self, request: JoinGroupRequest) -> Arc<str> {
        let (error, member_id) = match &self.send(Request::JoinGroup(request.clone()))[..] {
            [Action::Reply { response: Response::JoinGroup(response), .. }] => {
                (response.error, response.member_id.clone())
            }
            other => panic!("expected MEMBER_ID_REQUIRED, got {other:?}"),
        };
        assert_eq!(error, ErrorCode::MemberIdRequired);
        let actions =
            self.send(Request::JoinGroup(JoinGroupRequest { member_id: member_id.clone(), ..request }));
        assert_eq!(actions, [], "the member waits");
        member_id
    }

    /// A stable group of `count` consumers of topic `t`, generation 1; their ids, the leader first.
    pub fn stable_group(&mut self, count: u8) -> Vec<Arc<str>> {
        let mut members: Vec<_> = (0..count).map(|i| self.new_member(consumer_join(i))).collect();
        let actions = self.pass(1_000);
        let leader = joins(&actions)[0].1.leader.clone();
        members.sort_by_key(|member| *member != leader);
        let assignments = members.iter().map(|member| (member.clone(), assignment_of(member))).collect();
        let sync = SyncGroupRequest { assignments, ..sync(&leader, 1) };
        let actions = self.send(Request::SyncGroup(sync));
        self.persist_all(actions);
        for member in &members[1..] {
            self.send(Request::SyncGroup(sync_request(member, 1)));
        }
        assert_eq!(self.state(), Some(GroupState::Stable));
        members
    }
}

pub fn assignment_of(member: &str) -> Bytes {
    Bytes::from(format!("for {member}"))
}

/// The first join of a consumer, whose client id is `c0`, `c1` …
pub fn consumer_join(client: u8) -> JoinGroupRequest {
    JoinGroupRequest {
        api_version: 9,
        group_id: GROUP.into(),
        client_id: format!("c{client}").into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(SUBSCRIBED_TO_T))],
        random: [client; 16],
        ..JoinGroupRequest::default()
    }
}

/// A later join of the same consumer.
pub fn rejoin(client: u8, member: &Arc<str>) -> Request {
    Request::JoinGroup(JoinGroupRequest { member_id: member.clone(), ..consumer_join(client) })
}

fn sync(member: &Arc<str>, generation: i32) -> SyncGroupRequest {
    sync_request(member, generation)
}

pub fn sync_request(member: &Arc<str>, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest {
        api_version: 5,
        group_id: GROUP.into(),
        generation,
        member_id: member.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..SyncGroupRequest::default()
    }
}

pub fn heartbeat(member: &Arc<str>, generation: i32) -> Request {
    Request::Heartbeat(HeartbeatRequest {
        group_id: GROUP.into(),
        generation,
        member_id: member.clone(),
        group_instance_id: None,
    })
}

pub fn commit(member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        api_version: 8,
        group_id: GROUP.into(),
        generation,
        member_id: member.into(),
        group_instance_id: None,
        retention_time_ms: -1,
        topics: vec![OffsetCommitTopic {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partitions: vec![OffsetCommitPartition {
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: None,
            }],
        }],
    }
}

pub fn fetch_request() -> Request {
    Request::OffsetFetch(OffsetFetchRequest {
        group_id: GROUP.into(),
        topics: Some(vec![TopicPartitions { topic: "t".into(), partitions: vec![0], ..Default::default() }]),
        require_stable: true,
    })
}

/// The offset of partition `t-0` that OffsetFetch shows, or -1.
pub fn fetch(harness: &mut Harness) -> i64 {
    fetched(&harness.send(fetch_request())[0])
}

/// The offset that an answer to [`fetch_request`] shows, or -1.
pub fn fetched(answer: &Action) -> i64 {
    match answer {
        Action::Reply { response: Response::OffsetFetch(response), .. } => {
            assert_eq!(response.error, ErrorCode::None);
            response.topics[0].partitions[0].1.as_ref().map_or(-1, |committed| committed.offset)
        }
        other => panic!("expected an answer to OffsetFetch, got {other:?}"),
    }
}

pub fn reply(request: RequestId, response: Response) -> Action {
    Action::Reply { request, response }
}

pub fn join_refused(request: RequestId, error: ErrorCode, member_id: &str) -> Action {
    reply(
        request,
        Response::JoinGroup(JoinGroupResponse {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: "".into(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: vec![],
        }),
    )
}

/// A successful answer to the join of a consumer.
pub fn join_ok(generation: i32, leader: &Arc<str>, member: &Arc<str>) -> JoinGroupResponse {
    JoinGroupResponse {
        error: ErrorCode::None,
        generation,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: leader.clone(),
        skip_assignment: false,
        member_id: member.clone(),
        members: vec![],
    }
}

pub fn sync_refused(request: RequestId, error: ErrorCode) -> Action {
    let (protocol_type, protocol_name, assignment) = (None, None, Bytes::new());
    reply(request, Response::SyncGroup(SyncGroupResponse { error, protocol_type, protocol_name, assignment }))
}

pub fn sync_ok(request: RequestId, assignment: Bytes) -> Action {
    reply(
        request,
        Response::SyncGroup(SyncGroupResponse {
            error: ErrorCode::None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment,
        }),
    )
}

pub fn heartbeat_reply(request: RequestId, error: ErrorCode) -> Action {
    reply(request, Response::Heartbeat(HeartbeatResponse { error }))
}

pub fn commit_reply(request: RequestId, error: ErrorCode) -> Action {
    reply(
        request,
        Response::OffsetCommit(OffsetCommitResponse {
            topics: vec![TopicErrors { topic: "t".into(), partitions: vec![(0, error)] }],
        }),
    )
}

/// The answers to joins among the actions.
pub fn joins(actions: &[Action]) -> Vec<(RequestId, &JoinGroupResponse)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Reply { request, response: Response::JoinGroup(response) } => Some((*request, response)),
            _ => None,
        })
        .collect()
}

/// The writes among the actions.
pub fn writes(actions: &[Action]) -> Vec<(u64, &[Record])> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Persist { token, records } => Some((token.0, &records[..])),
            _ => None,
        })
        .collect()
}
