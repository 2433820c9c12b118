//! What leaders and followers say to each other, in bytes. All integers are big-endian; `docs/peer-protocol.md` has the tables.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chronik_base::{TopicId, Uuid};
use chronik_log::PartitionKey;

/// A call, follower to leader: which partitions it wants to follow, from where.
pub(crate) const SUBSCRIBE: u8 = 32;
/// One way, leader to follower: record batches.
pub(crate) const APPEND: u8 = 33;
/// One way, follower to leader: how far partitions are flushed.
pub(crate) const ACK: u8 = 34;
/// One way, leader to follower: a high watermark or log start offset that moved without records.
pub(crate) const PROGRESS: u8 = 35;
/// One way, leader to follower: somebody waits for what was sent, so flush it now.
pub(crate) const FLUSH: u8 = 36;
/// One way, leader to follower: nothing more comes for this partition in this epoch; subscribe again.
pub(crate) const ENDED: u8 = 37;

/// Bytes of [`AppendHead`] on the wire.
pub(crate) const APPEND_HEAD_BYTES: usize = 16 + 4 + 4 + 8 + 8 + 8 + 1;
/// Partitions of one subscription call, at most.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 2_000;

/// A frame that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a replication frame of kind {kind} is cut short or longer than its fields")]
pub(crate) struct BadFrame {
    kind: u8,
}

/// One partition that a follower wants to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribe {
    pub(crate) key: PartitionKey,
    pub(crate) leader_epoch: i32,
    /// Where the follower's log ends.
    pub(crate) log_end: i64,
    /// What of it is flushed.
    pub(crate) flushed: i64,
    /// The epoch of its last record; -1 if it has none.
    pub(crate) last_epoch: i32,
}

/// What the leader says to a [`Subscribe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// Records follow from the end of the follower's log on.
    Streaming { high_watermark: i64, log_start: i64 },
    /// The logs part: the largest epoch of the leader not above the follower's last, and where it ends.
    Diverged { epoch: i32, end_offset: i64 },
    /// The follower's log ends below the leader's: it begins anew there.
    StartAt { log_start: i64 },
    /// Not now: an error code of Kafka's.
    Refused { error: i16 },
}

/// What goes before the batches of an [`APPEND`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendHead {
    pub(crate) key: PartitionKey,
    pub(crate) leader_epoch: i32,
    /// Offset of the first record; where a follower's log must end.
    pub(crate) from: i64,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Somebody waits until it is flushed.
    pub(crate) flush: bool,
}

/// How far one partition is flushed at a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) key: PartitionKey,
    pub(crate) leader_epoch: i32,
    pub(crate) flushed: i64,
}

/// A partition's marks at its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) key: PartitionKey,
    pub(crate) leader_epoch: i32,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

fn put_key(to: &mut BytesMut, key: PartitionKey) {
    to.put_slice(&key.topic_id.0);
    to.put_i32(key.partition);
}

/// Takes fields off the front of a frame.
struct Fields {
    bytes: Bytes,
    kind: u8,
}

impl Fields {
    fn new(kind: u8, bytes: Bytes) -> Self {
        Self { bytes, kind }
    }

    fn need(&self, count: usize) -> Result<(), BadFrame> {
        if self.bytes.remaining() < count { Err(BadFrame { kind: self.kind }) } else { Ok(()) }
    }

    fn u8(&mut self) -> Result<u8, BadFrame> {
        self.need(1)?;
        Ok(self.bytes.get_u8())
    }

    fn i16(&mut self) -> Result<i16, BadFrame> {
        self.need(2)?;
        Ok(self.bytes.get_i16())
    }

    fn i32(&mut self) -> Result<i32, BadFrame> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    fn i64(&mut self) -> Result<i64, BadFrame> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    fn key(&mut self) -> Result<PartitionKey, BadFrame> {
        self.need(16)?;
        let mut id = [0; 16];
        self.bytes.copy_to_slice(&mut id);
        let topic_id: TopicId = Uuid(id);
        Ok(PartitionKey { topic_id, partition: self.i32()? })
    }

    /// The rest as so many entries, each of `size` bytes.
    fn entries<T>(
        mut self,
        size: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, BadFrame>,
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

pub(crate) fn encode_subscribe(all: &[Subscribe]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * 44);
    for one in all {
        put_key(&mut to, one.key);
        to.put_i32(one.leader_epoch);
        to.put_i64(one.log_end);
        to.put_i64(one.flushed);
        to.put_i32(one.last_epoch);
    }
    to.freeze()
}

pub(crate) fn decode_subscribe(bytes: Bytes) -> Result<Vec<Subscribe>, BadFrame> {
    Fields::new(SUBSCRIBE, bytes).entries(44, |from| {
        Ok(Subscribe {
            key: from.key()?,
            leader_epoch: from.i32()?,
            log_end: from.i64()?,
            flushed: from.i64()?,
            last_epoch: from.i32()?,
        })
    })
}

pub(crate) fn encode_subscribed(all: &[Subscribed]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * 17);
    for one in all {
        let (tag, a, b) = match *one {
            Subscribed::Streaming { high_watermark, log_start } => (0, high_watermark, log_start),
            Subscribed::Diverged { epoch, end_offset } => (1, i64::from(epoch), end_offset),
            Subscribed::StartAt { log_start } => (2, log_start, 0),
            Subscribed::Refused { error } => (3, i64::from(error), 0),
        };
        to.put_u8(tag);
        to.put_i64(a);
        to.put_i64(b);
    }
    to.freeze()
}

pub(crate) fn decode_subscribed(bytes: Bytes) -> Result<Vec<Subscribed>, BadFrame> {
    Fields::new(SUBSCRIBE, bytes).entries(17, |from| {
        let (tag, a, b) = (from.u8()?, from.i64()?, from.i64()?);
        let bad = BadFrame { kind: SUBSCRIBE };
        Ok(match tag {
            0 => Subscribed::Streaming { high_watermark: a, log_start: b },
            1 => Subscribed::Diverged { epoch: i32::try_from(a).map_err(|_| bad)?, end_offset: b },
            2 => Subscribed::StartAt { log_start: a },
            3 => Subscribed::Refused { error: i16::try_from(a).map_err(|_| bad)? },
            _ => return Err(bad),
        })
    })
}

pub(crate) fn encode_append(head: &AppendHead) -> Bytes {
    let mut to = BytesMut::with_capacity(APPEND_HEAD_BYTES);
    put_key(&mut to, head.key);
    to.put_i32(head.leader_epoch);
    to.put_i64(head.from);
    to.put_i64(head.high_watermark);
    to.put_i64(head.log_start);
    to.put_u8(u8::from(head.flush));
    to.freeze()
}

/// The head, and the batches behind it (a slice of the frame).
pub(crate) fn decode_append(bytes: Bytes) -> Result<(AppendHead, Bytes), BadFrame> {
    let mut from = Fields::new(APPEND, bytes);
    let head = AppendHead {
        key: from.key()?,
        leader_epoch: from.i32()?,
        from: from.i64()?,
        high_watermark: from.i64()?,
        log_start: from.i64()?,
        flush: from.u8()? != 0,
    };
    Ok((head, from.bytes))
}

pub(crate) fn encode_acks(all: &[Ack]) -> Bytes {
    let mut to = BytesMut::with_capacity(all.len() * 32);
    for one in all {
        put_key(&mut to, one.key);
        to.put_i32(one.leader_epoch);
        to.put_i64(one.flushed);
    }
    to.freeze()
}

pub(crate) fn decode_acks(bytes: Bytes) -> Result<Vec<Ack>, BadFrame> {
    Fields::new(ACK, bytes).entries(32, |from| {
        Ok(Ack { key: from.key()?, leader_epoch: from.i32()?, flushed: from.i64()? })
    })
}

pub(crate) fn encode_marks(one: &Marks) -> Bytes {
    let mut to = BytesMut::with_capacity(40);
    put_key(&mut to, one.key);
    to.put_i32(one.leader_epoch);
    to.put_i64(one.high_watermark);
    to.put_i64(one.log_start);
    to.freeze()
}

pub(crate) fn decode_marks(bytes: Bytes) -> Result<Vec<Marks>, BadFrame> {
    Fields::new(PROGRESS, bytes).entries(40, |from| {
        Ok(Marks {
            key: from.key()?,
            leader_epoch: from.i32()?,
            high_watermark: from.i64()?,
            log_start: from.i64()?,
        })
    })
}

/// A partition and an epoch: what [`FLUSH`] and [`ENDED`] carry.
pub(crate) fn encode_place(key: PartitionKey, leader_epoch: i32) -> Bytes {
    let mut to = BytesMut::with_capacity(24);
    put_key(&mut to, key);
    to.put_i32(leader_epoch);
    to.freeze()
}

pub(crate) fn decode_places(kind: u8, bytes: Bytes) -> Result<Vec<(PartitionKey, i32)>, BadFrame> {
    Fields::new(kind, bytes).entries(24, |from| Ok((from.key()?, from.i32()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic_id: Uuid([7; 16]), partition }
    }

    #[test]
    fn everything_comes_back_as_it_was_sent() {
        let subscribe = [Subscribe { key: key(1), leader_epoch: 2, log_end: 3, flushed: 2, last_epoch: -1 }];
        assert_eq!(decode_subscribe(encode_subscribe(&subscribe)).unwrap(), subscribe);
        let answers = [
            Subscribed::Streaming { high_watermark: 5, log_start: 1 },
            Subscribed::Diverged { epoch: -1, end_offset: 9 },
            Subscribed::StartAt { log_start: 8 },
            Subscribed::Refused { error: 74 },
        ];
        assert_eq!(decode_subscribed(encode_subscribed(&answers)).unwrap(), answers);
        let head = AppendHead {
            key: key(3),
            leader_epoch: 4,
            from: 10,
            high_watermark: 9,
            log_start: 2,
            flush: true,
        };
        let mut frame = encode_append(&head).to_vec();
        frame.extend_from_slice(b"batches");
        assert_eq!(decode_append(frame.into()).unwrap(), (head, Bytes::from_static(b"batches")));
        let acks = [Ack { key: key(0), leader_epoch: 1, flushed: 7 }; 3];
        assert_eq!(decode_acks(encode_acks(&acks)).unwrap(), acks);
        let marks = Marks { key: key(2), leader_epoch: 1, high_watermark: 3, log_start: 0 };
        assert_eq!(decode_marks(encode_marks(&marks)).unwrap(), [marks]);
        assert_eq!(decode_places(FLUSH, encode_place(key(5), 6)).unwrap(), [(key(5), 6)]);
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
