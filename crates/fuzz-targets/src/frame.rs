//! Decoding of frames: requests as a broker reads them, answers as a client does.

use bytes::Bytes;
use chronik_protocol::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use chronik_protocol::messages::group_records::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use chronik_protocol::{
    Decode, Encode, Reader, Request, RequestHeader, Versioned, Writer, decode_member_payload, decode_payload,
    first_bytes,
};

/// Calls a macro with every request, as `module::Name`.
macro_rules! with_each_request {
    ($call:ident) => {
        $call!(
            add_raft_voter::AddRaftVoterRequest,
            alter_configs::AlterConfigsRequest,
            alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            api_versions::ApiVersionsRequest,
            create_partitions::CreatePartitionsRequest,
            create_topics::CreateTopicsRequest,
            delete_groups::DeleteGroupsRequest,
            delete_records::DeleteRecordsRequest,
            delete_topics::DeleteTopicsRequest,
            describe_cluster::DescribeClusterRequest,
            describe_configs::DescribeConfigsRequest,
            describe_groups::DescribeGroupsRequest,
            describe_log_dirs::DescribeLogDirsRequest,
            describe_producers::DescribeProducersRequest,
            describe_quorum::DescribeQuorumRequest,
            describe_topic_partitions::DescribeTopicPartitionsRequest,
            elect_leaders::ElectLeadersRequest,
            fetch::FetchRequest,
            find_coordinator::FindCoordinatorRequest,
            heartbeat::HeartbeatRequest,
            incremental_alter_configs::IncrementalAlterConfigsRequest,
            init_producer_id::InitProducerIdRequest,
            join_group::JoinGroupRequest,
            leave_group::LeaveGroupRequest,
            list_groups::ListGroupsRequest,
            list_offsets::ListOffsetsRequest,
            list_partition_reassignments::ListPartitionReassignmentsRequest,
            metadata::MetadataRequest,
            offset_commit::OffsetCommitRequest,
            offset_delete::OffsetDeleteRequest,
            offset_fetch::OffsetFetchRequest,
            offset_for_leader_epoch::OffsetForLeaderEpochRequest,
            produce::ProduceRequest,
            remove_raft_voter::RemoveRaftVoterRequest,
            sasl_authenticate::SaslAuthenticateRequest,
            sasl_handshake::SaslHandshakeRequest,
            sync_group::SyncGroupRequest,
            unregister_broker::UnregisterBrokerRequest,
        );
    };
}
pub(crate) use with_each_request;

/// The default of the limit on a frame, in bytes.
const FRAME_MAX: u32 = 100 << 20;

/// Reads `data` as the first bytes of a connection, as a request (header and body, without its length), as the answer to
/// such a request, and as the payloads that groups exchange. What can be read must survive being written and read again.
pub fn frame(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = first_bytes(data, FRAME_MAX);
    payloads(&bytes);
    let mut reader = Reader::new(bytes.clone());
    let Ok(header) = RequestHeader::decode(&mut reader) else {
        return;
    };
    let mut writer = Writer::new();
    header.encode(&mut writer);
    let written = writer.into_bytes().expect("a header is in memory");
    assert_eq!(RequestHeader::decode(&mut Reader::new(written)), Ok(header.clone()));

    // An answer of the same API and version stands where the request's body does.
    let body = bytes.slice(bytes.len() - reader.remaining()..);
    let (key, version) = (header.api_key, header.api_version);
    macro_rules! try_each {
        ($($module:ident :: $name:ident),* $(,)?) => {
            $(try_one::<chronik_protocol::messages::$module::$name>(key, version, &body);)*
        };
    }
    with_each_request!(try_each);
}

fn try_one<R: Request>(key: i16, version: i16, body: &Bytes) {
    if key == R::KEY.code() {
        if R::VERSIONS.contains(&version) {
            round_trip::<R>(body, version);
        }
        if R::Response::VERSIONS.contains(&version) {
            round_trip::<R::Response>(body, version);
        }
    }
}

fn round_trip<T: Decode + Encode>(body: &Bytes, version: i16) {
    if let Ok(message) = T::decode(&mut Reader::new(body.clone()), version) {
        let once = write(&message, version);
        let mut reader = Reader::new(once.clone());
        let again = T::decode(&mut reader, version).expect("what was written can be read");
        assert_eq!(reader.remaining(), 0, "what was written is read to its end");
        assert_eq!(write(&again, version), once);
    }
}

fn write<T: Encode>(message: &T, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    let length = writer.len();
    let bytes = writer.into_bytes().unwrap_or_default();
    assert_eq!(bytes.len(), length);
    bytes
}

fn payloads(bytes: &Bytes) {
    payload::<OffsetCommitKey>(bytes);
    payload::<OffsetCommitValue>(bytes);
    payload::<GroupMetadataKey>(bytes);
    payload::<GroupMetadataValue>(bytes);
    let _ = decode_member_payload::<ConsumerProtocolSubscription>(bytes.clone());
    let _ = decode_member_payload::<ConsumerProtocolAssignment>(bytes.clone());
}

fn payload<T: Decode + Encode + Versioned>(bytes: &Bytes) {
    if let Ok((version, message)) = decode_payload::<T>(bytes.clone()) {
        round_trip::<T>(&write(&message, version), version);
    }
}
