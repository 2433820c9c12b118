//! Payloads of records and of group members: their version stands before them in 16 bits.

use bytes::Bytes;

use crate::{Decode, DecodeError, Encode, Reader, Versioned, Writer};

/// Writes `payload` after its version, for example the key of a record of `__consumer_offsets`.
pub fn encode_payload(payload: &impl Encode, version: i16) -> Bytes {
    let mut w = Writer::new();
    w.i16(version);
    payload.encode(&mut w, version);
    // A payload holds no file range, so there always are bytes.
    w.into_bytes().unwrap_or_default()
}

/// The version that stands before a payload. For a key of `__consumer_offsets` it says what kind of key it is.
///
/// # Errors
/// [`DecodeError::Truncated`].
pub fn payload_version(bytes: &Bytes) -> Result<i16, DecodeError> {
    Reader::new(bytes.clone()).i16("payload.version")
}

/// Reads a payload and gives the version it had.
///
/// # Errors
/// The bytes are no such payload; [`DecodeError::UnknownVersion`] if the codec lacks its version.
pub fn decode_payload<T: Decode + Versioned>(bytes: Bytes) -> Result<(i16, T), DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16("payload.version")?;
    Ok((version, T::decode(&mut r, version)?))
}

/// Reads a member's subscription or assignment. One of a later version than the codec has is read as the last known
/// one: the consumer protocol only ever appends fields, so that old members understand new ones.
///
/// # Errors
/// The bytes are no such payload; [`DecodeError::UnknownVersion`] if its version is below 0.
pub fn decode_member_payload<T: Decode + Versioned>(bytes: Bytes) -> Result<(i16, T), DecodeError> {
    let mut r = Reader::new(bytes);
    let version = r.i16("payload.version")?;
    Ok((version, T::decode(&mut r, version.min(*T::VERSIONS.end()))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Str;
    use crate::messages::consumer_protocol::ConsumerProtocolSubscription;
    use crate::messages::group_records::{GroupMetadataKey, OffsetCommitKey, OffsetCommitValue};

    #[test]
    fn a_committed_offset_as_kafka_writes_it() {
        let key = OffsetCommitKey { group: Str::from("g"), topic: Str::from("t"), partition: 3 };
        let bytes = encode_payload(&key, 1);
        assert_eq!(bytes.as_ref(), b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        assert_eq!(payload_version(&bytes), Ok(1));
        assert_eq!(decode_payload(bytes), Ok((1, key)));
        let value =
            OffsetCommitValue { offset: 5, leader_epoch: 2, commit_timestamp: 9, ..Default::default() };
        let bytes = encode_payload(&value, 3);
        assert_eq!(bytes.as_ref(), b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x02\0\0\0\0\0\0\0\0\0\x09");
        assert_eq!(decode_payload(bytes), Ok((3, value)));
    }

    #[test]
    fn kinds_of_keys_are_not_mixed_up() {
        let bytes = encode_payload(&GroupMetadataKey { group: Str::from("g") }, 2);
        let error = decode_payload::<OffsetCommitKey>(bytes).unwrap_err();
        assert_eq!(error.to_string(), "OffsetCommitKey has no version 2 here; known are 0 to 1");
    }

    #[test]
    fn a_subscription_of_the_future_is_understood() {
        let subscription =
            ConsumerProtocolSubscription { topics: vec![Str::from("t")], ..Default::default() };
        let mut bytes = encode_payload(&subscription, 3).to_vec();
        bytes[1] = 9;
        bytes.extend_from_slice(b"more");
        assert_eq!(decode_member_payload(Bytes::from(bytes)), Ok((9, subscription)));
    }
}
