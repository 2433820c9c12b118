//! The client against a broker of a few lines, which misbehaves where it is told to.

#![allow(clippy::unwrap_used, reason = "a test may end by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::{Chunk, ErrorCode};
use chronik_client::{Client, ClientError, EARLIEST, LATEST, Options, ReadOptions, To, partition_for_key};
use chronik_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use chronik_protocol::messages::create_topics::CreateTopicsRequest;
use chronik_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use chronik_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use chronik_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use chronik_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use chronik_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use chronik_protocol::{ApiKey, Decode, Encode, Reader, RequestHeader, Str, response_frame};
use chronik_records::{BatchBuilder, BatchOptions, set_position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the broker has, and how it is to misbehave.
#[derive(Default)]
struct State {
    port: u16,
    /// Batches of the one partition, with the offset after them.
    log: Vec<(i64, Bytes)>,
    /// Error codes to answer the next Produce requests with.
    refusals: Vec<ErrorCode>,
    /// Error codes to answer the next FindCoordinator requests with.
    lost_coordinator: Vec<ErrorCode>,
    /// True to know only version 0 of ApiVersions.
    old: bool,
}

type Shared = Arc<Mutex<State>>;

async fn start(state: State) -> (Shared, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::new(Mutex::new(State { port, ..state }));
    let served = Arc::clone(&shared);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&served)));
        }
    });
    (shared, options(&format!("127.0.0.1:{port}")))
}

fn options(bootstrap: &str) -> Options {
    Options {
        bootstrap: bootstrap.to_owned(),
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        ..Options::default()
    }
}

async fn serve(mut stream: TcpStream, state: Shared) {
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.unwrap();
        let answer = answer(Bytes::from(frame), &mut state.lock().unwrap());
        for chunk in answer {
            let Chunk::Bytes(bytes) = chunk else { unreachable!() };
            stream.write_all(&bytes).await.unwrap();
        }
    }
}

fn answer(frame: Bytes, state: &mut State) -> Vec<Chunk> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).unwrap();
    let key = header.key().unwrap();
    let version = header.api_version;
    let frame = |version: i16, body: &dyn Fn(&mut chronik_protocol::Writer)| {
        struct Body<'a>(&'a dyn Fn(&mut chronik_protocol::Writer));
        impl Encode for Body<'_> {
            fn encode(&self, writer: &mut chronik_protocol::Writer, _: i16) {
                (self.0)(writer);
            }
        }
        response_frame(key, version, header.correlation_id, &Body(body))
    };
    match key {
        ApiKey::ApiVersions => {
            let version = if state.old { 0 } else { version };
            let keys = [(0, 12), (1, 12), (2, 11), (3, 13), (10, 5), (12, 4), (18, 4)];
            let api_keys = keys
                .map(|(api_key, max_version)| ApiVersion { api_key, min_version: 0, max_version })
                .to_vec();
            let error_code = if state.old { ErrorCode::UnsupportedVersion.code() } else { 0 };
            let response = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut reader, version).unwrap();
            let topic = |name: Str| {
                let known = name == "t";
                let partition = MetadataResponsePartition { leader_id: 1, ..Default::default() };
                MetadataResponseTopic {
                    error_code: if known { 0 } else { ErrorCode::UnknownTopicOrPartition.code() },
                    name: Some(name),
                    partitions: if known { vec![partition] } else { Vec::new() },
                    ..Default::default()
                }
            };
            let names = request.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
            let response = MetadataResponse {
                brokers: vec![MetadataResponseBroker {
                    node_id: 1,
                    host: Str::from("127.0.0.1"),
                    port: i32::from(state.port),
                    ..Default::default()
                }],
                controller_id: 1,
                topics: names.map(topic).collect(),
                ..Default::default()
            };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut reader, version).unwrap();
            let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
            let refused = state.refusals.pop();
            let base_offset = state.log.last().map_or(0, |(next, _)| *next);
            if refused.is_none() {
                let mut batch = records.to_vec();
                set_position(&mut batch, base_offset, 0);
                let count = chronik_records::BatchHeader::parse(&batch).unwrap().record_count;
                state.log.push((base_offset + i64::from(count), Bytes::from(batch)));
            }
            let partition = PartitionProduceResponse {
                error_code: refused.map_or(0, ErrorCode::code),
                base_offset,
                ..Default::default()
            };
            let topic = TopicProduceResponse {
                name: Str::from("t"),
                partition_responses: vec![partition],
                ..Default::default()
            };
            let response = ProduceResponse { responses: vec![topic], ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(&mut reader, version).unwrap();
            let offset = request.topics[0].partitions[0].fetch_offset;
            let batches: Vec<Chunk> = state
                .log
                .iter()
                .filter(|(next, _)| *next > offset)
                .map(|(_, b)| Chunk::Bytes(b.clone()))
                .collect();
            let partition = PartitionData {
                high_watermark: state.log.last().map_or(0, |(next, _)| *next),
                records: Some(batches),
                ..Default::default()
            };
            let topic = FetchableTopicResponse {
                topic: Str::from("t"),
                partitions: vec![partition],
                ..Default::default()
            };
            let response = FetchResponse { responses: vec![topic], ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(&mut reader, version).unwrap();
            assert_eq!(request.replica_id, -1);
            let end = state.log.last().map_or(0, |(next, _)| *next);
            let offset = match request.topics[0].partitions[0].timestamp {
                LATEST => end,
                EARLIEST => 0,
                _ => -1,
            };
            let partition = ListOffsetsPartitionResponse { offset, ..Default::default() };
            let topic = ListOffsetsTopicResponse { name: Str::from("t"), partitions: vec![partition] };
            let response = ListOffsetsResponse { topics: vec![topic], ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::decode(&mut reader, version).unwrap();
            assert_eq!(request.coordinator_keys, [Str::from("g")]);
            let coordinator = Coordinator {
                key: Str::from("g"),
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port: i32::from(state.port),
                error_code: state.lost_coordinator.pop().map_or(0, ErrorCode::code),
                error_message: None,
            };
            let response = FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        ApiKey::Heartbeat => {
            let response = HeartbeatResponse { error_code: 25, ..Default::default() };
            frame(version, &|w| response.encode(w, version))
        }
        other => panic!("{other} was not asked for"),
    }
}

fn batch(values: &[&str]) -> Bytes {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    for value in values {
        batch.append(1, None, Some(value.as_bytes()), &[]).unwrap();
    }
    batch.finish().unwrap()
}

#[tokio::test]
async fn records_go_and_come_back() {
    let refusals = vec![ErrorCode::NotLeaderOrFollower];
    let (_, options) = start(State { refusals, ..State::default() }).await;
    let client = Client::connect(options).await.unwrap();
    let limit = Duration::from_secs(2);
    assert_eq!(client.produce("t", 0, batch(&["a", "b"]), -1, limit).await.unwrap().base_offset, 0);
    assert_eq!(client.produce("t", 0, batch(&["c"]), 1, limit).await.unwrap().base_offset, 2);
    assert_eq!(client.offset_at("t", 0, LATEST).await.unwrap(), Some(3));
    assert_eq!(client.offset_at("t", 0, EARLIEST).await.unwrap(), Some(0));
    assert_eq!(client.offset_at("t", 0, 1).await.unwrap(), None);

    // From within the first batch; the visitor stops after one record and goes on from there.
    let mut reader = client.read("t", BTreeMap::from([(0, 1)]), ReadOptions::default());
    let mut seen = Vec::new();
    let note = |seen: &mut Vec<(i64, Vec<u8>)>, record: &chronik_records::Record<'_>| {
        seen.push((record.offset, record.value.unwrap().to_vec()));
    };
    let count = reader.poll(|_, record| {
        note(&mut seen, record);
        false
    });
    assert_eq!(count.await.unwrap(), 1);
    assert!(!reader.is_at_end());
    let count = reader.poll(|_, record| {
        note(&mut seen, record);
        true
    });
    assert_eq!(count.await.unwrap(), 1);
    assert_eq!(seen, [(1, b"b".to_vec()), (2, b"c".to_vec())]);
    assert!(reader.is_at_end());
    assert_eq!(reader.positions(), &BTreeMap::from([(0, 3)]));
}

#[tokio::test]
async fn a_broker_that_knows_only_the_first_version_is_understood() {
    let (_, options) = start(State { old: true, ..State::default() }).await;
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.topic("t", false).await.unwrap().partitions.len(), 1);
}

#[tokio::test]
async fn the_coordinator_is_waited_for() {
    let lost_coordinator = vec![ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable];
    let (_, options) = start(State { lost_coordinator, ..State::default() }).await;
    let client = Client::connect(options).await.unwrap();
    let request = HeartbeatRequest { group_id: Str::from("g"), ..Default::default() };
    assert_eq!(client.send(To::Group("g"), &request).await.unwrap().error_code, 25);
}

#[tokio::test]
async fn refusals_say_what_was_asked_and_why() {
    let refusals = vec![ErrorCode::MessageTooLarge];
    let (_, options) = start(State { refusals, ..State::default() }).await;
    let client = Client::connect(options.clone()).await.unwrap();
    let error = client.produce("t", 0, batch(&["a"]), 1, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "t-0: MESSAGE_TOO_LARGE");
    let error = client.produce("t", 7, batch(&["a"]), 1, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "t-7: UNKNOWN_TOPIC_OR_PARTITION (the topic has 1 partitions)");
    let error = client.topic("none", false).await.unwrap_err();
    assert_eq!(error.to_string(), "topic none: UNKNOWN_TOPIC_OR_PARTITION");
    let error = client.send(To::Any, &CreateTopicsRequest::default()).await.unwrap_err();
    let expected =
        format!("{} does not serve CreateTopics in a version from 2 to 7; it has none", options.bootstrap);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    // Ports that were free a moment ago: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(options(&format!("{free},127.0.0.1:1"))).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, ClientError::NoBootstrap(_)), "{text}");
    assert!(text.contains(&free.to_string()) && text.contains("127.0.0.1:1: "), "{text}");
}

#[tokio::test]
async fn a_web_server_is_recognized() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = Client::connect(options(&address.to_string())).await.err().unwrap().to_string();
    assert!(error.contains("was answered with something else than Kafka's protocol: HTTP"), "{error}");
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = Options { connect_timeout: Duration::from_millis(50), ..options(&address.to_string()) };
    let error = Client::connect(options).await.err().unwrap().to_string();
    assert!(error.contains("got no answer in 50ms"), "{error}");
}

#[test]
fn keys_spread() {
    let mut hit = [0; 6];
    for key in 0..600u32 {
        hit[partition_for_key(&key.to_be_bytes(), 6) as usize] += 1;
    }
    assert!(hit.iter().all(|&count| count > 50), "{hit:?}");
}
