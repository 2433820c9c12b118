//! What the indexing thread and queries share.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chronik_base::TopicId;

use crate::host::TopicInfo;
use crate::indexer::Counters;
use crate::topic_index::Snapshot;

/// What is known of a topic that is searched.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// `None` until the index was opened and checked.
    pub(crate) snapshot: Option<Snapshot>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Why it does not come further.
    pub(crate) problem: Option<String>,
}

/// Shared by the indexing thread and queries. No lock is held across I/O.
#[derive(Default)]
pub(crate) struct Shared {
    topics: RwLock<HashMap<TopicId, Known>>,
    stopping: Mutex<bool>,
    woken: Condvar,
    pub(crate) counters: Counters,
}

impl Shared {
    /// What is known of a topic.
    pub(crate) fn topic(&self, id: &TopicId) -> Option<Known> {
        self.read().get(id).cloned()
    }

    /// What is known of every topic that is searched here.
    pub(crate) fn topics(&self) -> Vec<(TopicId, Known)> {
        self.read().iter().map(|(id, known)| (*id, known.clone())).collect()
    }

    pub(crate) fn publish(&self, info: &TopicInfo, snapshot: Snapshot, bytes: u64) {
        let known = Known { name: info.name.clone(), snapshot: Some(snapshot), bytes, problem: None };
        self.write().insert(info.id, known);
    }

    /// A topic whose index is being opened.
    pub(crate) fn set_building(&self, info: &TopicInfo) {
        let known = Known { name: info.name.clone(), snapshot: None, bytes: 0, problem: None };
        self.write().entry(info.id).or_insert(known);
    }

    pub(crate) fn set_problem(&self, id: &TopicId, problem: String) {
        if let Some(known) = self.write().get_mut(id) {
            known.problem = Some(problem);
        }
    }

    pub(crate) fn forget(&self, id: &TopicId) {
        self.write().remove(id);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping()
    }

    /// Ends the indexing thread.
    pub(crate) fn stop(&self) {
        *self.stopping() = true;
        self.woken.notify_all();
    }

    /// Waits, or until the node stops.
    pub(crate) fn wait(&self, time: Duration) {
        let stopping = self.stopping();
        if !*stopping {
            drop(self.woken.wait_timeout(stopping, time));
        }
    }

    fn stopping(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<TopicId, Known>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TopicId, Known>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }
}
