//! What leaders and followers say to each other, in bytes: one-way messages on the follower's connection to the leader
//! (`docs/replication-protocol.md`).
//!
//! All integers are big-endian. A subscription names its stream (`chronik_replica::StreamId`); everything that belongs to the
//! stream carries that name, so that what is left of an earlier connection or epoch is never taken for news.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chronik_base::Uuid;
use chronik_log::PartitionKey;
use chronik_replica::{Answer, StreamId, Subscription, SubscriptionRefusal};

/// Follower to leader: which partitions it wants to follow, from where.
pub(crate) const SUBSCRIBE: u8 = 32;
/// Leader to follower: record batches.
pub(crate) const APPEND: u8 = 33;
/// Follower to leader: how far partitions are flushed.
pub(crate) const ACK: u8 = 34;
/// Leader to follower: a high watermark or log start offset that moved without records.
pub(crate) const PROGRESS: u8 = 35;
/// Leader to follower: somebody waits for what was sent, so flush it now.
pub(crate) const FLUSH: u8 = 36;
/// Leader to follower: nothing more comes in this stream; subscribe again.
pub(crate) const ENDED: u8 = 37;
/// Leader to follower: the answers to a subscription.
pub(crate) const SUBSCRIBED: u8 = 38;

/// Follower to leader: what is sent can't be written here; the streams are over.
pub(crate) const UNABLE: u8 = 39;

/// Partitions of one subscription, at most.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 2_000;

const KEY_BYTES: usize = 16 + 4;
const STREAM_BYTES: usize = 8 + 8;
const SUBSCRIBE_BYTES: usize = KEY_BYTES + STREAM_BYTES + 4 + 8 + 8 + 4;
const SUBSCRIBED_BYTES: usize = KEY_BYTES + STREAM_BYTES + 1 + 8 + 8 + 8;
const APPEND_HEAD_BYTES: usize = KEY_BYTES + STREAM_BYTES + 4 + 8 + 8 + 8 + 8 + 1;
const ACK_BYTES: usize = KEY_BYTES + STREAM_BYTES + 4 + 8;
const MARKS_BYTES: usize = KEY_BYTES + STREAM_BYTES + 4 + 8 + 8;
const PLACE_BYTES: usize = KEY_BYTES + STREAM_BYTES;

/// A frame that can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replication frame of kind {kind} is cut short, longer than its fields, or of an unknown shape")]
pub(crate) struct BadFrame {
    kind: u8,
}

/// What goes before the batches of an [`APPEND`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendHead {
    pub(crate) key: PartitionKey,
    pub(crate) stream: StreamId,
    pub(crate) leader_epoch: i32,
    /// Where a follower's log must end, and where it ends with the batches.
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Somebody waits until it is flushed.
    pub(crate) flush: bool,
}

/// How far one partition is flushed at a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionAck {
    pub(crate) key: PartitionKey,
    pub(crate) ack: chronik_replica::Ack,
}

/// A partition's marks at its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) key: PartitionKey,
    pub(crate) stream: StreamId,
    pub(crate) leader_epoch: i32,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

fn put_place(to: &mut BytesMut, key: PartitionKey, stream: StreamId) {
    to.put_slice(&key.topic_id.0);
    to.put_i32(key.partition);
    to.put_i64(stream.broker_epoch);
    to.put_u64(stream.number);
}

/// Takes fields off the front of a frame.
struct Fields {
    bytes: Bytes,
    kind: u8,
}

impl Fields {
    fn need(&self, count: usize) -> Result<(), BadFrame> {
        if self.bytes.remaining() < count { Err(BadFrame { kind: self.kind }) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, BadFrame> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    fn i32(&mut self) -> Result<i32, BadFrame> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    fn i64(&mut self) -> Result<i64, BadFrame> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    fn place(&mut self) -> Result<(PartitionKey, StreamId), BadFrame> {
        self.need(PLACE_BYTES)?;
        let mut id = [0; 16];
        self.bytes.copy_to_slice(&mut id);
        let key = PartitionKey { topic_id: Uuid(id), partition: self.bytes.get_i32() };
        Ok((key, StreamId { broker_epoch: self.bytes.get_i64(), number: self.bytes.get_u64() }))
    }

    /// The rest as so many entries, each of `size` bytes.
    fn entries<T>(
        mut self,
        size: usize,
        one: impl Fn(&mut Self) -> Result<T, BadFrame>,
    ) -> Result<Vec<T>, BadFrame> {
        if !self.bytes.remaining().is_multiple_of(size) {
            return Err(BadFrame { kind: self.kind });
        }
        let mut all = Vec::with_capacity(self.bytes.remaining() / size);
        while self.bytes.has_remaining() {
            all.push(one(&mut self)?);
        }
        Ok(all)
    }
}

pub(crate) fn encode_subscribe(all: &[(PartitionKey, Subscription)]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * SUBSCRIBE_BYTES);
    for (key, one) in all {
        put_place(&mut to, *key, one.stream);
        to.put_i32(one.epoch);
        to.put_i64(one.log_end);
        to.put_i64(one.flushed_end);
        to.put_i32(one.last_epoch);
    }
    to.freeze()
}

pub(crate) fn decode_subscribe(bytes: Bytes) -> Result<Vec<(PartitionKey, Subscription)>, BadFrame> {
    Fields { bytes, kind: SUBSCRIBE }.entries(SUBSCRIBE_BYTES, |from| {
        let (key, stream) = from.place()?;
        let subscription = Subscription {
            stream,
            epoch: from.i32()?,
            log_end: from.i64()?,
            flushed_end: from.i64()?,
            last_epoch: from.i32()?,
        };
        Ok((key, subscription))
    })
}

pub(crate) fn encode_subscribed(all: &[(PartitionKey, StreamId, Answer)]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * SUBSCRIBED_BYTES);
    for (key, stream, answer) in all {
        put_place(&mut to, *key, *stream);
        let (tag, a, b, c) = match *answer {
            Answer::Stream { high_watermark, log_start } => (0, high_watermark, log_start, 0),
            Answer::Diverged { epoch, end_offset, log_start } => (1, i64::from(epoch), end_offset, log_start),
            Answer::Reset { log_start } => (2, log_start, 0, 0),
            Answer::Refused(SubscriptionRefusal::StaleEpoch { found, current }) => {
                (3, i64::from(found), i64::from(current), 0)
            }
            Answer::Refused(SubscriptionRefusal::NewerEpoch { found, current }) => {
                (4, i64::from(found), i64::from(current), 0)
            }
            Answer::Refused(SubscriptionRefusal::NotLeader) => (5, 0, 0, 0),
            Answer::Refused(SubscriptionRefusal::NotReplica(node)) => (6, i64::from(node), 0, 0),
        };
        to.put_u8(tag);
        [a, b, c].into_iter().for_each(|field| to.put_i64(field));
    }
    to.freeze()
}

pub(crate) fn decode_subscribed(bytes: Bytes) -> Result<Vec<(PartitionKey, StreamId, Answer)>, BadFrame> {
    Fields { bytes, kind: SUBSCRIBED }.entries(SUBSCRIBED_BYTES, |from| {
        let (key, stream) = from.place()?;
        let (tag, a, b, c) = (from.u8()?, from.i64()?, from.i64()?, from.i64()?);
        let bad = BadFrame { kind: SUBSCRIBED };
        let small = |field: i64| i32::try_from(field).map_err(|_| bad);
        let answer = match tag {
            0 => Answer::Stream { high_watermark: a, log_start: b },
            1 => Answer::Diverged { epoch: small(a)?, end_offset: b, log_start: c },
            2 => Answer::Reset { log_start: a },
            3 => Answer::Refused(SubscriptionRefusal::StaleEpoch { found: small(a)?, current: small(b)? }),
            4 => Answer::Refused(SubscriptionRefusal::NewerEpoch { found: small(a)?, current: small(b)? }),
            5 => Answer::Refused(SubscriptionRefusal::NotLeader),
            6 => Answer::Refused(SubscriptionRefusal::NotReplica(small(a)?)),
            _ => return Err(bad),
        };
        Ok((key, stream, answer))
    })
}

pub(crate) fn encode_append(head: &AppendHead) -> Bytes {
    let mut to = BytesMut::with_capacity(APPEND_HEAD_BYTES);
    put_place(&mut to, head.key, head.stream);
    to.put_i32(head.leader_epoch);
    to.put_i64(head.from);
    to.put_i64(head.to);
    to.put_i64(head.high_watermark);
    to.put_i64(head.log_start);
    to.put_u8(u8::from(head.flush));
    to.freeze()
}

/// The head, and the batches behind it (a slice of the frame).
pub(crate) fn decode_append(bytes: Bytes) -> Result<(AppendHead, Bytes), BadFrame> {
    let mut from = Fields { bytes, kind: APPEND };
    let (key, stream) = from.place()?;
    let head = AppendHead {
        key,
        stream,
        leader_epoch: from.i32()?,
        from: from.i64()?,
        to: from.i64()?,
        high_watermark: from.i64()?,
        log_start: from.i64()?,
        flush: from.u8()? != 0,
    };
    Ok((head, from.bytes))
}

pub(crate) fn encode_acks(all: &[PartitionAck]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * ACK_BYTES);
    for PartitionAck { key, ack } in all {
        put_place(&mut to, *key, ack.stream);
        to.put_i32(ack.epoch);
        to.put_i64(ack.flushed_end);
    }
    to.freeze()
}

pub(crate) fn decode_acks(bytes: Bytes) -> Result<Vec<PartitionAck>, BadFrame> {
    Fields { bytes, kind: ACK }.entries(ACK_BYTES, |from| {
        let (key, stream) = from.place()?;
        let ack = chronik_replica::Ack { stream, epoch: from.i32()?, flushed_end: from.i64()? };
        Ok(PartitionAck { key, ack })
    })
}

pub(crate) fn encode_marks(one: &Marks) -> Bytes {
    let mut to = BytesMut::with_capacity(MARKS_BYTES);
    put_place(&mut to, one.key, one.stream);
    to.put_i32(one.leader_epoch);
    to.put_i64(one.high_watermark);
    to.put_i64(one.log_start);
    to.freeze()
}

pub(crate) fn decode_marks(bytes: Bytes) -> Result<Vec<Marks>, BadFrame> {
    Fields { bytes, kind: PROGRESS }.entries(MARKS_BYTES, |from| {
        let (key, stream) = from.place()?;
        Ok(Marks {
            key,
            stream,
            leader_epoch: from.i32()?,
            high_watermark: from.i64()?,
            log_start: from.i64()?,
        })
    })
}

/// A partition and a stream: what [`FLUSH`] and [`ENDED`] carry.
pub(crate) fn encode_place(key: PartitionKey, stream: StreamId) -> Bytes {
    let mut to = BytesMut::with_capacity(PLACE_BYTES);
    put_place(&mut to, key, stream);
    to.freeze()
}

/// Several of these, for [`UNABLE`].
pub(crate) fn encode_places(all: &[(PartitionKey, StreamId)]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * PLACE_BYTES);
    all.iter().for_each(|(key, stream)| put_place(&mut to, *key, *stream));
    to.freeze()
}

pub(crate) fn decode_places(kind: u8, bytes: Bytes) -> Result<Vec<(PartitionKey, StreamId)>, BadFrame> {
    Fields { bytes, kind }.entries(PLACE_BYTES, Fields::place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: StreamId = StreamId { broker_epoch: 12, number: 3 };

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic_id: Uuid([7; 16]), partition }
    }

    #[test]
    fn everything_comes_back_as_it_was_sent() {
        let subscription =
            Subscription { epoch: 2, stream: STREAM, log_end: 3, flushed_end: 2, last_epoch: -1 };
        let subscribe = [(key(1), subscription)];
        assert_eq!(decode_subscribe(encode_subscribe(&subscribe)).unwrap(), subscribe);
        let answers = [
            Answer::Stream { high_watermark: 5, log_start: 1 },
            Answer::Diverged { epoch: -1, end_offset: 9, log_start: 2 },
            Answer::Reset { log_start: 8 },
            Answer::Refused(SubscriptionRefusal::StaleEpoch { found: 1, current: 2 }),
            Answer::Refused(SubscriptionRefusal::NewerEpoch { found: 3, current: 2 }),
            Answer::Refused(SubscriptionRefusal::NotLeader),
            Answer::Refused(SubscriptionRefusal::NotReplica(9)),
        ]
        .map(|answer| (key(4), STREAM, answer));
        assert_eq!(decode_subscribed(encode_subscribed(&answers)).unwrap(), answers);
        let head = AppendHead {
            key: key(3),
            stream: STREAM,
            leader_epoch: 4,
            from: 10,
            to: 12,
            high_watermark: 9,
            log_start: 2,
            flush: true,
        };
        let mut frame = encode_append(&head).to_vec();
        frame.extend_from_slice(b"batches");
        assert_eq!(decode_append(frame.into()).unwrap(), (head, Bytes::from_static(b"batches")));
        let ack = chronik_replica::Ack { epoch: 1, stream: STREAM, flushed_end: 7 };
        let acks = [PartitionAck { key: key(0), ack }; 3];
        assert_eq!(decode_acks(encode_acks(&acks)).unwrap(), acks);
        let marks = Marks { key: key(2), stream: STREAM, leader_epoch: 1, high_watermark: 3, log_start: 0 };
        assert_eq!(decode_marks(encode_marks(&marks)).unwrap(), [marks]);
        assert_eq!(decode_places(FLUSH, encode_place(key(5), STREAM)).unwrap(), [(key(5), STREAM)]);
        let two = [(key(5), STREAM), (key(6), StreamId { number: 9, ..STREAM })];
        assert_eq!(decode_places(UNABLE, encode_places(&two)).unwrap(), two);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_subscribe(bytes.clone());
            let _ = decode_subscribed(bytes.clone());
            let _ = decode_append(bytes.clone());
            let _ = decode_acks(bytes.clone());
            let _ = decode_marks(bytes.clone());
            let _ = decode_places(FLUSH, bytes);
        }
    }
}
