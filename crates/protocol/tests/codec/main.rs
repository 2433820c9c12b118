//! The codec against kafka-protocol, an independent one, and against bytes that are no message.
//!
//! Messages are made at random from the schema tables by an interpreter of their own ([`wire`]). Ours and theirs have
//! to decode the same bytes and encode them back unchanged, so what one writes the other reads, in both directions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by panicking")]

#[path = "../../../../xtask/src/codegen/schema.rs"]
#[allow(dead_code, reason = "the generator uses the rest")]
mod schema;
mod wire;

use std::fmt::Debug;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use chronik_protocol::{Decode, DecodeError, Encode, Reader, Versioned, Writer, messages};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use proptest::prelude::*;
use schema::{Block, Role, Schema};
use wire::Random;

/// Reads a message of a version, writes it again, and counts the bytes that were left over.
type ReadAndWrite<E> = fn(Bytes, i16) -> Result<(Vec<u8>, usize), E>;

/// One message type: how to read the bytes and write them again, here and there.
struct Case {
    module: &'static str,
    name: &'static str,
    versions: std::ops::RangeInclusive<i16>,
    ours: ReadAndWrite<DecodeError>,
    their_versions: std::ops::RangeInclusive<i16>,
    theirs: ReadAndWrite<String>,
}

fn ours<T: Decode + Encode>(bytes: Bytes, version: i16) -> Result<(Vec<u8>, usize), DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = T::decode(&mut reader, version)?;
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    let length = writer.len();
    let written = writer.into_bytes().unwrap().to_vec();
    assert_eq!(written.len(), length);
    Ok((written, reader.remaining()))
}

fn theirs<T: Decodable + Encodable + Debug>(
    mut bytes: Bytes,
    version: i16,
) -> Result<(Vec<u8>, usize), String> {
    let message = T::decode(&mut bytes, version).map_err(|error| format!("decode: {error:#}"))?;
    let mut out = BytesMut::new();
    message.encode(&mut out, version).map_err(|error| format!("encode {message:?}: {error:#}"))?;
    Ok((out.to_vec(), bytes.len()))
}

fn case<O: Decode + Encode + Versioned, T: Decodable + Encodable + Debug + Message>(
    module: &'static str,
    name: &'static str,
) -> Case {
    let their_versions = T::VERSIONS.min..=T::VERSIONS.max;
    Case { module, name, versions: O::VERSIONS, ours: ours::<O>, their_versions, theirs: theirs::<T> }
}

macro_rules! cases {
    ($($module:ident $($name:ident)*;)*) => {
        vec![$($(case::<messages::$module::$name, theirs::$name>(stringify!($module), stringify!($name)),)*)*]
    };
}

fn cases() -> Vec<Case> {
    cases! {
        produce ProduceRequest ProduceResponse;
        fetch FetchRequest FetchResponse;
        list_offsets ListOffsetsRequest ListOffsetsResponse;
        metadata MetadataRequest MetadataResponse;
        offset_commit OffsetCommitRequest OffsetCommitResponse;
        offset_fetch OffsetFetchRequest OffsetFetchResponse;
        find_coordinator FindCoordinatorRequest FindCoordinatorResponse;
        join_group JoinGroupRequest JoinGroupResponse;
        heartbeat HeartbeatRequest HeartbeatResponse;
        leave_group LeaveGroupRequest LeaveGroupResponse;
        sync_group SyncGroupRequest SyncGroupResponse;
        describe_groups DescribeGroupsRequest DescribeGroupsResponse;
        list_groups ListGroupsRequest ListGroupsResponse;
        sasl_handshake SaslHandshakeRequest SaslHandshakeResponse;
        api_versions ApiVersionsRequest ApiVersionsResponse;
        create_topics CreateTopicsRequest CreateTopicsResponse;
        delete_topics DeleteTopicsRequest DeleteTopicsResponse;
        delete_records DeleteRecordsRequest DeleteRecordsResponse;
        init_producer_id InitProducerIdRequest InitProducerIdResponse;
        offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
        describe_configs DescribeConfigsRequest DescribeConfigsResponse;
        alter_configs AlterConfigsRequest AlterConfigsResponse;
        describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse;
        sasl_authenticate SaslAuthenticateRequest SaslAuthenticateResponse;
        create_partitions CreatePartitionsRequest CreatePartitionsResponse;
        delete_groups DeleteGroupsRequest DeleteGroupsResponse;
        elect_leaders ElectLeadersRequest ElectLeadersResponse;
        incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
        alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
        list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
        offset_delete OffsetDeleteRequest OffsetDeleteResponse;
        describe_quorum DescribeQuorumRequest DescribeQuorumResponse;
        describe_cluster DescribeClusterRequest DescribeClusterResponse;
        describe_producers DescribeProducersRequest DescribeProducersResponse;
        unregister_broker UnregisterBrokerRequest UnregisterBrokerResponse;
        describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
        add_raft_voter AddRaftVoterRequest AddRaftVoterResponse;
        remove_raft_voter RemoveRaftVoterRequest RemoveRaftVoterResponse;
        consumer_protocol ConsumerProtocolSubscription ConsumerProtocolAssignment;
    }
}

/// The tables, by module.
fn schemas() -> Vec<Schema> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut schemas = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "schema") {
            let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
            schemas.push(schema::parse(&module, &std::fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
    schemas
}

fn find<'a>(schemas: &'a [Schema], case: &Case) -> (&'a Schema, &'a Block) {
    let schema = schemas.iter().find(|schema| schema.module == case.module).unwrap();
    (schema, schema.blocks.iter().find(|block| block.body.name == case.name).unwrap())
}

/// Runs `check` for every message and version, with the bytes of one random message.
fn for_each(seed: u64, mut check: impl FnMut(&Case, i16, Vec<u8>, &mut Random)) {
    let schemas = schemas();
    for case in cases() {
        let (schema, block) = find(&schemas, &case);
        for version in case.versions.clone() {
            let mut random = Random(seed);
            let bytes = wire::message(schema, block, version, &mut random);
            check(&case, version, bytes, &mut random);
        }
    }
}

#[test]
fn every_message_of_the_tables_is_tested() {
    let cases = cases();
    for schema in schemas().iter().filter(|schema| schema.module != "group_records") {
        for block in schema.blocks.iter().filter(|block| block.role != Role::Nested) {
            assert!(cases.iter().any(|case| case.name == block.body.name), "{} has no case", block.body.name);
        }
    }
}

#[test]
fn versions_known_to_both_are_many() {
    // The oracle ends with Kafka 4.1; whatever it has and the tables have is compared.
    let both: usize = cases()
        .iter()
        .map(|case| case.versions.clone().filter(|version| case.their_versions.contains(version)).count())
        .sum();
    let ours: usize = cases().iter().map(|case| case.versions.clone().count()).sum();
    assert!(both * 100 >= ours * 95, "{both} of {ours}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_read_and_write_the_same_bytes(seed in any::<u64>()) {
        for_each(seed, |case, version, bytes, _| {
            let bytes = Bytes::from(bytes);
            let at = format!("{} version {version} of seed {seed}", case.name);
            assert_eq!((case.ours)(bytes.clone(), version), Ok((bytes.to_vec(), 0)), "ours, {at}");
            if case.their_versions.contains(&version) {
                assert_eq!((case.theirs)(bytes.clone(), version), Ok((bytes.to_vec(), 0)), "theirs, {at}");
            }
        });
    }

    #[test]
    fn damaged_messages_are_errors_or_messages_but_never_panics(seed in any::<u64>()) {
        for_each(seed, |case, version, mut bytes, random| {
            for _ in 0..8 {
                if bytes.is_empty() {
                    break;
                }
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => bytes[at] ^= 1 << random.below(8),
                    // A huge count or length in both forms.
                    _ => {
                        let end = bytes.len().min(at + 5);
                        bytes[at..end].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07][..end - at]);
                    }
                }
                if let Ok((_, left)) = (case.ours)(Bytes::from(bytes.clone()), version) {
                    assert!(left <= bytes.len());
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_cut_short_is_an_error_at_every_byte(seed in any::<u64>()) {
        for_each(seed, |case, version, bytes, _| {
            let bytes = Bytes::from(bytes);
            for end in 0..bytes.len() {
                let result = (case.ours)(bytes.slice(..end), version);
                assert!(result.is_err(), "{} version {version} cut at {end} of {}", case.name, bytes.len());
            }
        });
    }
}

#[test]
fn group_records_come_back_as_they_were() {
    use chronik_protocol::messages::group_records::*;
    let schemas = schemas();
    let schema = schemas.iter().find(|schema| schema.module == "group_records").unwrap();
    for block in schema.blocks.iter().filter(|block| block.role == Role::Data) {
        let read_and_write = match block.body.name.as_str() {
            "OffsetCommitKey" => ours::<OffsetCommitKey>,
            "OffsetCommitValue" => ours::<OffsetCommitValue>,
            "GroupMetadataKey" => ours::<GroupMetadataKey>,
            "GroupMetadataValue" => ours::<GroupMetadataValue>,
            other => panic!("{other} is not tested"),
        };
        for version in block.versions.first..=block.versions.last {
            for seed in 0..50 {
                let bytes = wire::message(schema, block, version, &mut Random(seed));
                assert_eq!(
                    read_and_write(Bytes::from(bytes.clone()), version),
                    Ok((bytes, 0)),
                    "{} version {version} of seed {seed}",
                    block.body.name
                );
            }
        }
    }
}

#[test]
fn unknown_versions_are_errors() {
    for case in cases() {
        for version in [*case.versions.start() - 1, *case.versions.end() + 1, i16::MIN, i16::MAX] {
            let result = (case.ours)(Bytes::from_static(&[0; 64]), version);
            assert!(
                matches!(result, Err(DecodeError::UnknownVersion { .. })),
                "{} version {version}",
                case.name
            );
        }
    }
}

#[test]
fn huge_counts_in_eight_bytes_are_refused_at_once() {
    let started = std::time::Instant::now();
    for case in cases() {
        for version in case.versions.clone() {
            for pattern in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x07], [0, 0, 0, 0]] {
                for at in 0..=4 {
                    let mut bytes = vec![0; 8];
                    bytes[at..at + 4].copy_from_slice(&pattern);
                    // Whatever it is taken for, eight bytes hold at most eight elements.
                    let _ = (case.ours)(Bytes::from(bytes), version);
                }
            }
        }
    }
    assert!(started.elapsed().as_secs() < 10, "something was reserved for what was only claimed");
}
