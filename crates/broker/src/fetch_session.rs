//! Incremental fetch sessions (KIP-227): what a consumer asked for before, so that it need not ask again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chronik_base::{ErrorCode, TopicId};
use chronik_protocol::Str;

use crate::sync::Hold;

/// The epoch of a request that wants no session, or ends the one it names.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// The epoch of a request that opens a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// A session that was not used for so long may give its slot to a new one.
const EVICTION_MS: u64 = 120_000;

/// A topic as the request named it: by name up to version 12, by id from version 13 on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum TopicRef {
    Name(Str),
    Id(TopicId),
}

/// A partition of a [`TopicRef`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PartitionRef {
    pub(crate) topic: TopicRef,
    pub(crate) partition: i32,
}

/// What a fetch wants of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// One partition of a session.
#[derive(Clone, Debug)]
pub(crate) struct SessionPartition {
    pub(crate) partition: PartitionRef,
    pub(crate) wanted: Wanted,
    /// What the client was last told; it is told again only what changed.
    pub(crate) told: Option<Told>,
}

/// The part of an answer that is repeated only when it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
}

/// The partitions of one session, in the order in which they are served.
#[derive(Debug, Default)]
pub(crate) struct Session {
    partitions: Vec<SessionPartition>,
    positions: HashMap<PartitionRef, usize>,
}

impl Session {
    /// Every partition, in serving order.
    pub(crate) fn partitions(&self) -> &[SessionPartition] {
        &self.partitions
    }

    /// Adds partitions, or changes what is wanted of them.
    pub(crate) fn update(&mut self, wanted: impl IntoIterator<Item = (PartitionRef, Wanted)>) {
        for (partition, wanted) in wanted {
            match self.positions.get(&partition).and_then(|&at| self.partitions.get_mut(at)) {
                Some(known) => known.wanted = wanted,
                None => {
                    self.positions.insert(partition.clone(), self.partitions.len());
                    self.partitions.push(SessionPartition { partition, wanted, told: None });
                }
            }
        }
    }

    /// Takes partitions out.
    pub(crate) fn forget(&mut self, forgotten: impl IntoIterator<Item = PartitionRef>) {
        let mut any = false;
        for partition in forgotten {
            any |= self.positions.remove(&partition).is_some();
        }
        if any {
            self.partitions.retain(|known| self.positions.contains_key(&known.partition));
            self.renumber();
        }
    }

    /// Remembers what was told, and moves the partitions that got data to the end, so that the others come first next
    /// time: a busy partition doesn't starve its neighbours.
    pub(crate) fn answered(&mut self, told: impl IntoIterator<Item = (PartitionRef, Told, bool)>) {
        let mut served = Vec::new();
        for (partition, now, with_data) in told {
            if let Some(&at) = self.positions.get(&partition)
                && let Some(known) = self.partitions.get_mut(at)
            {
                known.told = Some(now);
                if with_data {
                    served.push(at);
                }
            }
        }
        if served.is_empty() || served.len() == self.partitions.len() {
            return;
        }
        let mut moved = vec![false; self.partitions.len()];
        served.iter().for_each(|&at| moved[at] = true);
        let (back, front): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.partitions).into_iter().zip(moved).partition(|(_, moved)| *moved);
        self.partitions = front.into_iter().chain(back).map(|(partition, _)| partition).collect();
        self.renumber();
    }

    fn renumber(&mut self) {
        for (at, known) in self.partitions.iter().enumerate() {
            if let Some(position) = self.positions.get_mut(&known.partition) {
                *position = at;
            }
        }
    }
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    next_epoch: i32,
    last_used_ms: u64,
    by_id: bool,
}

/// All sessions of the node.
#[derive(Debug)]
pub(crate) struct SessionCache {
    slots: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<i32, Slot>,
    seed: u64,
}

impl SessionCache {
    /// Room for `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub(crate) fn new(slots: usize, seed: u64) -> Self {
        Self { slots, inner: Mutex::new(Inner { sessions: HashMap::new(), seed }) }
    }

    /// Opens a session, if there is room or an unused one makes room. Where there is none, the session comes back and the
    /// fetch goes on without.
    pub(crate) fn open(
        &self,
        session: Session,
        by_id: bool,
        now_ms: u64,
    ) -> Result<(i32, Arc<Mutex<Session>>), Session> {
        let mut inner = self.inner.hold();
        if inner.sessions.len() >= self.slots {
            let oldest = inner.sessions.iter().min_by_key(|(_, slot)| slot.last_used_ms);
            match oldest.map(|(&id, slot)| (id, now_ms.saturating_sub(slot.last_used_ms))) {
                Some((id, unused_ms)) if unused_ms >= EVICTION_MS => inner.sessions.remove(&id),
                _ => return Err(session),
            };
        }
        let id = loop {
            // A fixed sequence of well-mixed numbers (splitmix64): ids only have to be hard to hit by accident.
            inner.seed = inner.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = inner.seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = ((mixed ^ (mixed >> 31)) & 0x7fff_ffff) as i32;
            if id != 0 && !inner.sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(session));
        inner
            .sessions
            .insert(id, Slot { session: session.clone(), next_epoch: 1, last_used_ms: now_ms, by_id });
        Ok((id, session))
    }

    /// The session that an incremental request continues.
    pub(crate) fn resume(
        &self,
        id: i32,
        epoch: i32,
        by_id: bool,
        now_ms: u64,
    ) -> Result<Arc<Mutex<Session>>, ErrorCode> {
        let mut inner = self.inner.hold();
        let slot = inner.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if slot.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if slot.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        slot.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        slot.last_used_ms = now_ms;
        Ok(slot.session.clone())
    }

    /// Ends a session.
    pub(crate) fn close(&self, id: i32) {
        self.inner.hold().sessions.remove(&id);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.inner.hold().sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &'static str, partition: i32) -> PartitionRef {
        PartitionRef { topic: TopicRef::Name(Str::from(name)), partition }
    }

    const WANTED: Wanted =
        Wanted { fetch_offset: 0, max_bytes: 100, current_leader_epoch: -1, last_fetched_epoch: -1 };

    fn order(session: &Session) -> Vec<i32> {
        session.partitions().iter().map(|known| known.partition.partition).collect()
    }

    #[test]
    fn partitions_that_got_data_go_to_the_end() {
        let mut session = Session::default();
        session.update((0..4).map(|p| (reference("t", p), WANTED)));
        let told = Told { high_watermark: 1, log_start_offset: 0 };
        session.answered([(reference("t", 0), told, true), (reference("t", 2), told, false)]);
        assert_eq!(order(&session), [1, 2, 3, 0]);
        session.forget([reference("t", 2)]);
        assert_eq!(order(&session), [1, 3, 0]);
        session.update([(reference("t", 0), Wanted { fetch_offset: 7, ..WANTED })]);
        assert_eq!(session.partitions()[2].wanted.fetch_offset, 7);
        assert_eq!(session.partitions()[2].told, Some(told));
    }

    #[test]
    fn epochs_follow_one_another() {
        let cache = SessionCache::new(2, 42);
        let (id, _) = cache.open(Session::default(), true, 0).unwrap();
        assert!(cache.resume(id, 1, true, 0).is_ok());
        assert_eq!(cache.resume(id, 1, true, 0).unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(cache.resume(id, 2, false, 0).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
        assert!(cache.resume(id, 2, true, 0).is_ok());
        cache.close(id);
        assert_eq!(cache.resume(id, 3, true, 0).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn a_full_cache_evicts_only_what_is_unused() {
        let cache = SessionCache::new(1, 42);
        let (first, _) = cache.open(Session::default(), true, 0).unwrap();
        assert!(cache.open(Session::default(), true, EVICTION_MS - 1).is_err());
        let (second, _) = cache.open(Session::default(), true, EVICTION_MS).unwrap();
        assert_ne!(first, second);
        assert_eq!(cache.len(), 1);
    }
}
