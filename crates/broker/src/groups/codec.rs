//! Records of the offsets topic as bytes, in Kafka's own layout, so that Kafka's tools can read them.

use bytes::Bytes;
use chronik_base::TopicId;
use chronik_coordinator::{GroupMetadataRecord, MemberRecord, OffsetCommitRecord, Record};
use chronik_protocol::messages::group_records::{
    GroupMetadataKey, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
};
use chronik_protocol::{DecodeError, decode_payload, encode_payload, payload_version};

use super::text::{arc, text};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
/// The versions of values that can say when an offset expires, what the topic's id is, and neither.
const OFFSET_EXPIRES_VERSION: i16 = 1;
const OFFSET_TOPIC_ID_VERSION: i16 = 4;
const OFFSET_VALUE_VERSION: i16 = 3;
const GROUP_VALUE_VERSION: i16 = 3;

/// Key and value; without a value it is a tombstone.
pub(super) fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    match record {
        Record::OffsetCommit { group, topic, partition, value } => {
            let key = OffsetCommitKey { group: text(group), topic: text(topic), partition: *partition };
            (encode_payload(&key, OFFSET_KEY_VERSION), value.as_ref().map(encode_offset))
        }
        Record::GroupMetadata { group, value } => {
            let key = GroupMetadataKey { group: text(group) };
            (encode_payload(&key, GROUP_KEY_VERSION), value.as_ref().map(encode_group))
        }
    }
}

/// The record of a key and value; `None` for keys of other kinds, which belong to protocols that are not served yet.
pub(super) fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Record>, DecodeError> {
    match payload_version(&key)? {
        0 | OFFSET_KEY_VERSION => {
            let (_, key) = decode_payload::<OffsetCommitKey>(key)?;
            let value = value.map(decode_offset).transpose()?;
            Ok(Some(Record::OffsetCommit {
                group: arc(&key.group),
                topic: arc(&key.topic),
                partition: key.partition,
                value,
            }))
        }
        GROUP_KEY_VERSION => {
            let (_, key) = decode_payload::<GroupMetadataKey>(key)?;
            let value = value.map(decode_group).transpose()?;
            Ok(Some(Record::GroupMetadata { group: arc(&key.group), value }))
        }
        _ => Ok(None),
    }
}

fn encode_offset(record: &OffsetCommitRecord) -> Bytes {
    let value = OffsetCommitValue {
        offset: record.offset,
        leader_epoch: record.leader_epoch,
        metadata: text(&record.metadata),
        commit_timestamp: record.commit_timestamp_ms,
        expire_timestamp: record.expire_timestamp_ms.unwrap_or(-1),
        topic_id: record.topic_id,
    };
    let version = match record.expire_timestamp_ms {
        Some(_) => OFFSET_EXPIRES_VERSION,
        None if record.topic_id != TopicId::ZERO => OFFSET_TOPIC_ID_VERSION,
        None => OFFSET_VALUE_VERSION,
    };
    encode_payload(&value, version)
}

fn decode_offset(value: Bytes) -> Result<OffsetCommitRecord, DecodeError> {
    let (_, value) = decode_payload::<OffsetCommitValue>(value)?;
    Ok(OffsetCommitRecord {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        topic_id: value.topic_id,
        metadata: arc(&value.metadata),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
    })
}

fn encode_group(record: &GroupMetadataRecord) -> Bytes {
    let members = record.members.iter().map(|member| MemberMetadata {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    });
    let value = GroupMetadataValue {
        protocol_type: text(&record.protocol_type),
        generation: record.generation,
        protocol: record.protocol.as_deref().map(text),
        leader: record.leader.as_deref().map(text),
        current_state_timestamp: record.state_timestamp_ms.unwrap_or(-1),
        members: members.collect(),
    };
    encode_payload(&value, GROUP_VALUE_VERSION)
}

fn decode_group(value: Bytes) -> Result<GroupMetadataRecord, DecodeError> {
    let (_, value) = decode_payload::<GroupMetadataValue>(value)?;
    let members = value.members.into_iter().map(|member| MemberRecord {
        member_id: arc(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(arc),
        client_id: arc(&member.client_id),
        client_host: arc(&member.client_host),
        rebalance_timeout_ms: member.rebalance_timeout,
        session_timeout_ms: member.session_timeout,
        subscription: member.subscription,
        assignment: member.assignment,
    });
    Ok(GroupMetadataRecord {
        protocol_type: arc(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_deref().map(arc),
        leader: value.leader.as_deref().map(arc),
        state_timestamp_ms: (value.current_state_timestamp != -1).then_some(value.current_state_timestamp),
        members: members.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset() -> OffsetCommitRecord {
        OffsetCommitRecord {
            offset: 42,
            leader_epoch: 3,
            topic_id: TopicId::ZERO,
            metadata: "m".into(),
            commit_timestamp_ms: 1_700_000_000_000,
            expire_timestamp_ms: None,
        }
    }

    fn there_and_back(record: &Record) -> Record {
        let (key, value) = encode(record);
        decode(key, value).unwrap().unwrap()
    }

    #[test]
    fn offsets_come_back() {
        let record =
            |value| Record::OffsetCommit { group: "g".into(), topic: "t".into(), partition: 7, value };
        let with_id = OffsetCommitRecord { topic_id: TopicId::from_random([1; 16]), ..offset() };
        for value in [None, Some(offset()), Some(with_id)] {
            assert_eq!(there_and_back(&record(value.clone())), record(value));
        }
        // The one version that knows of expiry knows no leader epoch.
        let expires = OffsetCommitRecord { expire_timestamp_ms: Some(5), leader_epoch: -1, ..offset() };
        assert_eq!(there_and_back(&record(Some(expires.clone()))), record(Some(expires)));
    }

    #[test]
    fn groups_come_back() {
        let member = MemberRecord {
            member_id: "c-1".into(),
            group_instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"a"),
        };
        let stable = GroupMetadataRecord {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("c-1".into()),
            state_timestamp_ms: Some(9),
            members: vec![member],
        };
        let empty = GroupMetadataRecord {
            protocol: None,
            leader: None,
            state_timestamp_ms: None,
            members: vec![],
            ..stable.clone()
        };
        for value in [None, Some(stable), Some(empty)] {
            let record = Record::GroupMetadata { group: "g".into(), value };
            assert_eq!(there_and_back(&record), record);
        }
    }

    #[test]
    fn other_kinds_of_keys_are_passed_over() {
        let (key, _) = encode(&Record::GroupMetadata { group: "g".into(), value: None });
        let mut key = key.to_vec();
        key[1] = 3;
        assert_eq!(decode(Bytes::from(key), None), Ok(None));
        assert!(decode(Bytes::from_static(b"\0"), None).is_err());
    }
}
