//! The side that observers ask: what changed after an offset, as soon as something did. Any voter answers from what it has applied, so does an observer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::NodeId;
use chronik_meta::MetaOffset;
use tokio::time::{Instant, sleep_until};

use crate::inner::{Inner, lock};
use crate::message::{Content, Fetch, Fetched, View, Want};

/// Bytes of a snapshot in one answer.
const PIECE: usize = 1 << 20;

/// How long a snapshot that is being fetched is kept while the image goes on changing: 30 s.
const SNAPSHOT_KEPT_MS: u64 = 30_000;

/// How long an observer is shown that asks no more: 30 s. It asks every 5 s at least.
const OBSERVER_KEPT_MS: u64 = 30_000;

/// The longest that an answer waits for a change: 60 s.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What is known of those who ask.
#[derive(Default)]
pub(crate) struct Fetches {
    observers: Mutex<BTreeMap<NodeId, Seen>>,
    snapshot: Mutex<Option<Snapshot>>,
}

/// An observer as the answering side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number of the last command that it has.
    pub(crate) offset: MetaOffset,
    /// When it asked last, on the monotonic clock in milliseconds.
    pub(crate) at_ms: u64,
}

struct Snapshot {
    offset: MetaOffset,
    bytes: Bytes,
    used_ms: u64,
}

impl Fetches {
    /// Who asked not long ago, and for what. Who asks elsewhere now is forgotten.
    pub(crate) fn observers(&self, now_ms: u64) -> BTreeMap<NodeId, Seen> {
        let mut observers = lock(&self.observers);
        observers.retain(|_, seen| now_ms.saturating_sub(seen.at_ms) < OBSERVER_KEPT_MS);
        observers.clone()
    }
}

impl Inner {
    /// Answers an observer: at once if there is news, else when there is, or empty when its time is over.
    pub(crate) async fn on_fetch(self: &Arc<Self>, from: NodeId, fetch: Fetch) -> Fetched {
        let until = Instant::now() + Duration::from_millis(u64::from(fetch.wait_ms)).min(WAIT_MAX);
        lock(&self.fetches.observers).insert(from, Seen { offset: fetch.after, at_ms: self.now() });
        loop {
            let (mut applied, mut turns) = (self.published.watch(), self.turns.subscribe());
            let view = self.view();
            if let Some(content) = self.news(&fetch, &view) {
                return self.fetched(view, content);
            }
            tokio::select! {
                _ = applied.changed() => {}
                _ = turns.changed() => {}
                () = sleep_until(until) => return self.fetched(self.view(), Content::Commands(Vec::new())),
            }
        }
    }

    /// What an observer of another cluster gets.
    pub(crate) fn foreign(&self) -> Fetched {
        Fetched {
            cluster_id: self.cluster(),
            view: View::default(),
            applied: 0,
            content: Content::Commands(Vec::new()),
        }
    }

    fn fetched(&self, view: View, content: Content) -> Fetched {
        Fetched { cluster_id: self.image().cluster_id(), view, applied: self.published.applied(), content }
    }

    fn news(&self, fetch: &Fetch, view: &View) -> Option<Content> {
        let data = lock(&self.known).standing.data;
        match fetch.want {
            Want::Rest { offset, position } => return Some(self.piece(Some(offset), position)),
            // An image of another voter's time may hold what this one never had.
            Want::Snapshot => return Some(self.piece(None, 0)),
            Want::Changes if fetch.generation != data => return Some(self.piece(None, 0)),
            Want::Changes => {}
        }
        let applied = self.published.applied();
        if fetch.after < applied {
            return Some(match self.published.commands_after(fetch.after) {
                Some(commands) => Content::Commands(commands),
                None => self.piece(None, 0),
            });
        }
        (fetch.view != *view).then(|| Content::Commands(Vec::new()))
    }

    /// A piece of the snapshot that was begun with, or else of a new one from its beginning.
    fn piece(&self, wanted: Option<MetaOffset>, position: u64) -> Content {
        let now = self.now();
        let mut kept = lock(&self.fetches.snapshot);
        let goes_on = |snapshot: &Snapshot| match wanted {
            Some(offset) => snapshot.offset == offset,
            // Somebody is fetching it; who begins now need not have a newer one.
            None => {
                snapshot.offset == self.published.applied()
                    || (snapshot.bytes.len() > PIECE
                        && now.saturating_sub(snapshot.used_ms) < SNAPSHOT_KEPT_MS)
            }
        };
        let (mut snapshot, position) = match kept.take() {
            Some(snapshot) if goes_on(&snapshot) => (snapshot, position),
            _ => {
                self.counts.snapshot_made();
                let image = self.image();
                (Snapshot { offset: image.offset(), bytes: image.encode().into(), used_ms: now }, 0)
            }
        };
        snapshot.used_ms = now;
        let total = snapshot.bytes.len();
        let begin = usize::try_from(position).unwrap_or(total).min(total);
        let content = Content::Snapshot {
            offset: snapshot.offset,
            total: total as u64,
            position: begin as u64,
            piece: snapshot.bytes.slice(begin..begin.saturating_add(PIECE).min(total)),
        };
        *kept = Some(snapshot);
        content
    }
}
