//! The image that the node shows, and what hangs on each change of it: the owner, those who wait for an offset, observers, the leader's duties.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use chronik_meta::{Image, ImageChange, MetaOffset};
use tokio::sync::watch;

use crate::duties::Signals;
use crate::history::History;
use crate::options::OnChange;

/// Commands that are kept for observers, in bytes.
const HISTORY_BYTES: usize = 4 << 20;

/// At most so many bytes of commands go into one answer to an observer (or one command).
const ANSWER_BYTES: usize = 1 << 20;

/// The image as of the last change that the owner has heard of.
pub(crate) struct Published {
    image: RwLock<Arc<Image>>,
    /// The number of the last command that is in the image and that the owner has heard of.
    applied: watch::Sender<MetaOffset>,
    history: Mutex<History>,
    owner: Mutex<OnChange>,
    signals: Arc<Signals>,
}

impl Published {
    pub(crate) fn new(on_change: OnChange, signals: Arc<Signals>) -> Self {
        Self {
            image: RwLock::default(),
            applied: watch::Sender::new(0),
            history: Mutex::new(History::new(0, HISTORY_BYTES)),
            owner: Mutex::new(on_change),
            signals,
        }
    }

    /// The image that was on disk, unless changes have brought a later one already.
    pub(crate) fn begin(&self, image: Arc<Image>) {
        let _in_order = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = image.offset();
        if offset < self.image().offset() {
            return;
        }
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = image;
        self.history.lock().unwrap_or_else(PoisonError::into_inner).restart(offset);
        self.applied.send_replace(offset);
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the last command that is in the image and that the owner has heard of.
    pub(crate) fn applied(&self) -> MetaOffset {
        *self.applied.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<MetaOffset> {
        self.applied.subscribe()
    }

    /// Publishes a change. Whoever makes changes calls this for each one, in order.
    pub(crate) fn change(&self, change: ImageChange<'_>) {
        let ImageChange { before, after, commands } = change;
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(after);
        {
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            // Without another broker nobody observes: nothing is kept for them.
            if after.brokers().nth(1).is_some() {
                history.push(before.offset(), after.offset(), commands);
            } else {
                history.restart(after.offset());
            }
        }
        (*owner)(ImageChange { before, after, commands });
        self.applied.send_replace(after.offset());
        self.signals.on_change(after, commands);
    }

    /// The commands after `offset` for an observer, if they are still there.
    pub(crate) fn commands_after(&self, offset: MetaOffset) -> Option<Vec<Bytes>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).after(offset, ANSWER_BYTES)
    }
}
