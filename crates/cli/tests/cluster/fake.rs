//! A cluster of a few lines: Kafka's protocol and HTTP on one port, as a node has them. One listener plays every broker.
//! What it is told to move takes a few looks to move.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chronik_base::{Chunk, ErrorCode, Uuid};
use chronik_protocol::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use chronik_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use chronik_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use chronik_protocol::messages::describe_cluster::{DescribeClusterBroker, DescribeClusterResponse};
use chronik_protocol::messages::describe_quorum::{
    DescribeQuorumResponse, PartitionDataResponse, ReplicaState, TopicDataResponse,
};
use chronik_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use chronik_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use chronik_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use chronik_protocol::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use chronik_protocol::messages::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use chronik_protocol::{ApiKey, Decode, Encode, Reader, RequestHeader, Str, Writer, response_frame};
use chronik_status::{BrokerStatus, ClusterStatus, LagReport, PromoteAnswer, PromoteRequest};

/// A partition: where it is, and where it is going.
#[derive(Clone, Default)]
pub struct Partition {
    pub replicas: Vec<i32>,
    pub target: Option<Vec<i32>>,
    /// How often it still has to be looked at until it has moved.
    pub looks: u32,
}

/// The cluster's state, and what it was asked to do.
#[derive(Default)]
pub struct State {
    pub port: u16,
    /// Id and rack.
    pub brokers: Vec<(i32, Option<&'static str>)>,
    pub fenced: Vec<i32>,
    pub voters: Vec<i32>,
    pub observers: Vec<i32>,
    pub partitions: BTreeMap<(String, i32), Partition>,
    pub lag: LagReport,
    /// Changes, one line each.
    pub done: Vec<String>,
}

/// A running fake.
#[derive(Clone)]
pub struct Fake(pub Arc<Mutex<State>>);

impl Fake {
    /// Starts it.
    pub fn start(mut state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        state.port = listener.local_addr().unwrap().port();
        let fake = Self(Arc::new(Mutex::new(state)));
        let served = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (served, stream) = (served.clone(), stream.unwrap());
                std::thread::spawn(move || served.serve(stream));
            }
        });
        fake
    }

    /// Runs the binary against it.
    pub fn run(&self, args: &[&str]) -> Output {
        let server = format!("127.0.0.1:{}", self.0.lock().unwrap().port);
        Command::new(env!("CARGO_BIN_EXE_chronik"))
            .args(args)
            .args(["--bootstrap-server", &server])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs the binary, which must succeed, and returns what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the binary, which must fail, and returns its error.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    /// What was changed since the last call.
    pub fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().done)
    }

    /// Where a partition's replicas are.
    pub fn replicas(&self, topic: &str, partition: i32) -> Vec<i32> {
        self.0.lock().unwrap().partitions[&(topic.to_owned(), partition)].replicas.clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut first = [0; 4];
        while stream.read_exact(&mut first).is_ok() {
            if first.is_ascii() && first[0] != 0 {
                return self.serve_http(&mut stream, &first);
            }
            let mut frame = vec![0; u32::from_be_bytes(first) as usize];
            stream.read_exact(&mut frame).unwrap();
            for chunk in answer(Bytes::from(frame), &mut self.0.lock().unwrap()) {
                let Chunk::Bytes(bytes) = chunk else { unreachable!() };
                stream.write_all(&bytes).unwrap();
            }
        }
    }

    fn serve_http(&self, stream: &mut TcpStream, first: &[u8]) {
        let mut request = first.to_vec();
        let text = loop {
            let text = String::from_utf8(request.clone()).unwrap();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
                break text;
            }
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        };
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let state = self.0.lock().unwrap();
        let answer = match head.split(['?', ' ']).nth(1).unwrap() {
            "/v1/cluster/status" => serde_json::to_string(&status(&state)).unwrap(),
            "/v1/cluster/lag" => serde_json::to_string(&state.lag).unwrap(),
            "/v1/cluster/promote" => {
                let request: PromoteRequest = serde_json::from_str(body).unwrap();
                let answer = PromoteAnswer {
                    node_id: 2,
                    done: request.voters_are_gone,
                    leads: 3,
                    ..Default::default()
                };
                serde_json::to_string(&answer).unwrap()
            }
            other => panic!("{other}"),
        };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
    }
}

fn status(state: &State) -> ClusterStatus {
    let broker = BrokerStatus { id: 1, address: format!("127.0.0.1:{}", state.port), ..Default::default() };
    ClusterStatus {
        node_id: 1,
        cluster_id: Some("fake".to_owned()),
        brokers: vec![broker],
        ..Default::default()
    }
    .with_problems()
}

fn answer(frame: Bytes, state: &mut State) -> Vec<Chunk> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).unwrap();
    let (key, version) = (header.key().unwrap(), header.api_version);
    let mut body = Writer::new();
    let w = &mut body;
    match key {
        ApiKey::ApiVersions => {
            let served =
                [(3, 12), (18, 4), (43, 2), (45, 1), (46, 0), (55, 2), (60, 2), (64, 0), (80, 1), (81, 0)];
            let api_keys = served
                .map(|(api_key, max_version)| ApiVersion { api_key, min_version: 0, max_version })
                .to_vec();
            ApiVersionsResponse { api_keys, ..Default::default() }.encode(w, version);
        }
        ApiKey::Metadata => metadata(state).encode(w, version),
        ApiKey::DescribeCluster => {
            let broker = |(id, rack): &(i32, Option<&'static str>)| DescribeClusterBroker {
                broker_id: *id,
                host: Str::from("127.0.0.1"),
                port: i32::from(state.port),
                rack: rack.map(Str::from),
                is_fenced: state.fenced.contains(id),
            };
            let brokers = state.brokers.iter().map(broker).collect();
            DescribeClusterResponse {
                cluster_id: Str::from("fake"),
                controller_id: 1,
                brokers,
                ..Default::default()
            }
            .encode(w, version);
        }
        ApiKey::AlterPartitionReassignments => {
            alter(state, &AlterPartitionReassignmentsRequest::decode(&mut reader, version).unwrap())
                .encode(w, version);
        }
        ApiKey::ListPartitionReassignments => {
            list(state, &ListPartitionReassignmentsRequest::decode(&mut reader, version).unwrap())
                .encode(w, version);
        }
        ApiKey::ElectLeaders => {
            elect(state, &ElectLeadersRequest::decode(&mut reader, version).unwrap()).encode(w, version);
        }
        ApiKey::DescribeQuorum => quorum(state).encode(w, version),
        ApiKey::AddRaftVoter => {
            let request = AddRaftVoterRequest::decode(&mut reader, version).unwrap();
            let listener = &request.listeners[0];
            state.done.push(format!(
                "add voter {} at {}:{}, directory {}",
                request.voter_id, listener.host, listener.port, request.voter_directory_id
            ));
            state.voters.push(request.voter_id);
            AddRaftVoterResponse::default().encode(w, version);
        }
        ApiKey::RemoveRaftVoter => {
            let request = RemoveRaftVoterRequest::decode(&mut reader, version).unwrap();
            state
                .done
                .push(format!("remove voter {}, directory {}", request.voter_id, request.voter_directory_id));
            state.voters.retain(|id| *id != request.voter_id);
            RemoveRaftVoterResponse::default().encode(w, version);
        }
        ApiKey::UnregisterBroker => {
            let request = UnregisterBrokerRequest::decode(&mut reader, version).unwrap();
            state.done.push(format!("unregister {}", request.broker_id));
            UnregisterBrokerResponse::default().encode(w, version);
        }
        other => panic!("{other:?}"),
    }
    struct Body(Bytes);
    impl Encode for Body {
        fn encode(&self, writer: &mut Writer, _: i16) {
            for byte in &self.0 {
                writer.i8(*byte as i8);
            }
        }
    }
    response_frame(key, version, header.correlation_id, &Body(body.into_bytes().unwrap()))
}

fn metadata(state: &State) -> MetadataResponse {
    let broker = |(id, _): &(i32, _)| MetadataResponseBroker {
        node_id: *id,
        host: Str::from("127.0.0.1"),
        port: i32::from(state.port),
        ..Default::default()
    };
    let mut topics: Vec<MetadataResponseTopic> = Vec::new();
    for ((name, index), partition) in &state.partitions {
        let mut replicas = partition.replicas.clone();
        let adding = partition.target.iter().flatten().filter(|id| !partition.replicas.contains(id));
        replicas.extend(adding);
        let partition = MetadataResponsePartition {
            partition_index: *index,
            leader_id: replicas[0],
            isr_nodes: partition.replicas.clone(),
            replica_nodes: replicas,
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| topic.name.as_deref() == Some(name)) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(MetadataResponseTopic {
                name: Some(Str::from(name)),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    MetadataResponse {
        brokers: state.brokers.iter().map(broker).collect(),
        controller_id: 1,
        topics,
        ..Default::default()
    }
}

fn alter(
    state: &mut State,
    request: &AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut responses = Vec::new();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for wanted in &topic.partitions {
            let found = state.partitions.get_mut(&(topic.name.to_string(), wanted.partition_index)).unwrap();
            let error = match &wanted.replicas {
                None if found.target.take().is_none() => ErrorCode::NoReassignmentInProgress,
                Some(to) if to.len() > state.brokers.len() => ErrorCode::InvalidReplicaAssignment,
                replicas => {
                    state
                        .done
                        .push(format!("move {}-{} to {replicas:?}", topic.name, wanted.partition_index));
                    found.target.clone_from(replicas);
                    found.looks = 2;
                    ErrorCode::None
                }
            };
            partitions.push(ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code: error.code(),
                ..Default::default()
            });
        }
        responses.push(ReassignableTopicResponse { name: topic.name.clone(), partitions });
    }
    AlterPartitionReassignmentsResponse { responses, ..Default::default() }
}

fn list(
    state: &mut State,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for ((name, index), partition) in &mut state.partitions {
        let is_wanted = request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|topic| *topic.name == **name && topic.partition_indexes.contains(index))
        });
        let Some(target) = partition.target.clone().filter(|_| is_wanted) else { continue };
        if partition.looks == 0 {
            partition.replicas = target;
            partition.target = None;
            continue;
        }
        partition.looks -= 1;
        let ongoing = OngoingPartitionReassignment {
            partition_index: *index,
            adding_replicas: target.iter().copied().filter(|id| !partition.replicas.contains(id)).collect(),
            removing_replicas: partition.replicas.iter().copied().filter(|id| !target.contains(id)).collect(),
            replicas: target,
        };
        match topics.last_mut().filter(|topic| *topic.name == **name) {
            Some(topic) => topic.partitions.push(ongoing),
            None => {
                topics.push(OngoingTopicReassignment { name: Str::from(name), partitions: vec![ongoing] })
            }
        }
    }
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}

fn elect(state: &mut State, request: &ElectLeadersRequest) -> ElectLeadersResponse {
    let named = request.topic_partitions.as_ref().map(|topics| {
        topics
            .iter()
            .map(|topic| format!("{}{:?}", topic.topic, topic.partitions))
            .collect::<Vec<_>>()
            .join(" ")
    });
    state.done.push(format!(
        "elect {} of {}",
        request.election_type,
        named.unwrap_or_else(|| "all".to_owned())
    ));
    let partition_result = vec![
        PartitionResult { partition_id: 0, ..Default::default() },
        PartitionResult {
            partition_id: 1,
            error_code: ErrorCode::ElectionNotNeeded.code(),
            ..Default::default()
        },
    ];
    let result = ReplicaElectionResult { topic: Str::from("orders"), partition_result };
    ElectLeadersResponse { replica_election_results: vec![result], ..Default::default() }
}

/// The directory of a node, made of its id.
pub fn directory(id: i32) -> Uuid {
    Uuid([id as u8; 16])
}

fn quorum(state: &State) -> DescribeQuorumResponse {
    let replicas = |ids: &[i32]| {
        let replica = |id: &i32| ReplicaState {
            replica_id: *id,
            replica_directory_id: directory(*id),
            ..Default::default()
        };
        ids.iter().map(replica).collect()
    };
    let partition = PartitionDataResponse {
        leader_id: 1,
        current_voters: replicas(&state.voters),
        observers: replicas(&state.observers),
        ..Default::default()
    };
    let topic =
        TopicDataResponse { topic_name: Str::from("__cluster_metadata"), partitions: vec![partition] };
    DescribeQuorumResponse { topics: vec![topic], ..Default::default() }
}
