//! The state machine: the metadata image, on a thread of its own, where the owner's `on_change` runs too.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use chronik_meta::{CodecError, Command, Image, ImageChange, Results};
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use tokio::sync::{Notify, oneshot};

use crate::error::StartError;
use crate::messages::snapshot_id;
use crate::options::OnChange;
use crate::storage::{LogStore, SnapshotFile, io_error};
use crate::types::{
    Applied, Content, Entry, LogId, Snapshot, SnapshotImage, SnapshotMeta, StorageError, StoredMembership,
    TypeConfig,
};

/// What is applied, for all who read it.
#[derive(Default)]
pub(crate) struct MachineShared {
    image: RwLock<Arc<Image>>,
    applied: Mutex<(Option<LogId>, StoredMembership)>,
    /// Woken when something was applied.
    pub(crate) advanced: Notify,
}

impl MachineShared {
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last applied entry, and the voters as of then.
    pub(crate) fn applied(&self) -> (Option<LogId>, StoredMembership) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, image: &Arc<Image>, applied: Option<LogId>, membership: StoredMembership) {
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(image);
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = (applied, membership);
    }
}

enum Job {
    Apply(Vec<Entry>, oneshot::Sender<Result<Vec<Applied>, Unreadable>>),
    Install(SnapshotMeta, Arc<Image>, oneshot::Sender<io::Result<()>>),
}

/// An entry that cannot be read, and why.
struct Unreadable(LogId, CodecError);

/// The state machine as the library holds it.
pub(crate) struct Machine {
    shared: Arc<MachineShared>,
    jobs: Sender<Job>,
    snapshots: SnapshotFile,
    log: LogStore,
}

impl Machine {
    /// Starts the thread. The image begins as the snapshot has it.
    pub(crate) fn start(
        snapshots: SnapshotFile,
        log: LogStore,
        on_change: OnChange,
    ) -> Result<(Self, Arc<MachineShared>), StartError> {
        let shared = Arc::new(MachineShared::default());
        let current = snapshots.current();
        let found = current.map(|(meta, image)| (image, meta.last_log_id, meta.last_membership));
        let (image, applied, membership) = found.unwrap_or_default();
        shared.publish(&image, applied, membership.clone());
        let (jobs, receiver) = mpsc::channel();
        let worker = Worker {
            shared: Arc::clone(&shared),
            snapshots: snapshots.clone(),
            log: log.clone(),
            image,
            applied,
            membership,
            on_change,
        };
        thread::Builder::new()
            .name("raft-apply".to_owned())
            .spawn(move || worker.run(&receiver))
            .map_err(io_error("start a thread for", "the metadata image".as_ref()))?;
        Ok((Self { shared: Arc::clone(&shared), jobs, snapshots, log }, shared))
    }
}

struct Worker {
    shared: Arc<MachineShared>,
    snapshots: SnapshotFile,
    log: LogStore,
    image: Arc<Image>,
    applied: Option<LogId>,
    membership: StoredMembership,
    on_change: OnChange,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            // Nobody waits for an answer when the library stopped in between.
            match job {
                Job::Apply(entries, done) => {
                    let _ = done.send(self.apply(entries));
                }
                Job::Install(meta, image, done) => {
                    let _ = done.send(self.install(meta, image));
                }
            }
            self.shared.advanced.notify_waiters();
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Applied>, Unreadable> {
        let mut next = (*self.image).clone();
        let mut accepted = Vec::new();
        let mut replaced = false;
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut results = Results::new();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Normal(payload) => match payload.content() {
                    Ok(Content::Commands(commands)) => {
                        for command in commands {
                            results.push(apply_one(&mut next, command, &mut accepted));
                        }
                    }
                    Ok(Content::Image(image)) => {
                        // An image is what a cluster begins with; a second one came from a race of two beginnings, and is left aside
                        // by every node alike.
                        if next.offset() == 0 {
                            next = *image;
                            replaced = true;
                        }
                    }
                    Err(error) => return Err(Unreadable(entry.log_id, error)),
                },
            }
            self.applied = Some(entry.log_id);
            answers.push(Applied(results));
        }
        if replaced {
            accepted.clear();
        }
        self.put(next, &accepted);
        Ok(answers)
    }

    fn install(&mut self, meta: SnapshotMeta, image: Arc<Image>) -> io::Result<()> {
        self.snapshots.write_patiently(&meta, &image, self.log.closing())?;
        self.log.covered(meta.last_log_id);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.put((*image).clone(), &[]);
        Ok(())
    }

    /// Makes `next` the image. Readers see it before the owner is told of it, and the owner is told before any submitter.
    fn put(&mut self, next: Image, commands: &[Command]) {
        if next.offset() == self.image.offset() {
            self.shared.publish(&self.image, self.applied, self.membership.clone());
            return;
        }
        let before = std::mem::replace(&mut self.image, Arc::new(next));
        self.shared.publish(&self.image, self.applied, self.membership.clone());
        (self.on_change)(ImageChange { before: &before, after: &self.image, commands });
    }
}

fn apply_one(
    image: &mut Image,
    command: Command,
    accepted: &mut Vec<Command>,
) -> Result<chronik_meta::Reply, chronik_meta::MetaError> {
    image.check(&command)?;
    let reply = image.apply(&command);
    accepted.push(command);
    Ok(reply)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok(self.shared.applied())
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (sender, receiver) = oneshot::channel();
        // A thread that is gone drops the sender, too.
        let _ = self.jobs.send(Job::Apply(entries.into_iter().collect(), sender));
        let applied = receiver.await;
        let applied = applied.map_err(|error| StorageIOError::write_state_machine(AnyError::new(&error)))?;
        applied.map_err(|Unreadable(id, error)| StorageIOError::apply(id, AnyError::new(&error)).into())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (last_log_id, last_membership) = self.shared.applied();
        let meta =
            SnapshotMeta { last_log_id, last_membership, snapshot_id: snapshot_id(last_log_id.as_ref()) };
        Builder { meta, image: self.shared.image(), snapshots: self.snapshots.clone(), log: self.log.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotImage>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotImage>,
    ) -> Result<(), StorageError> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.jobs.send(Job::Install(meta.clone(), snapshot.0, sender));
        let installed = receiver.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        installed.map_err(|error| {
            StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)).into()
        })
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let current = self.snapshots.current();
        Ok(current.map(|(meta, image)| Snapshot { meta, snapshot: Box::new(SnapshotImage(image)) }))
    }
}

/// Writes a snapshot of the image as it was when this was made.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    image: Arc<Image>,
    snapshots: SnapshotFile,
    log: LogStore,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (snapshots, log) = (self.snapshots.clone(), self.log.clone());
        let (meta, image) = (self.meta.clone(), Arc::clone(&self.image));
        let written = tokio::task::spawn_blocking(move || {
            let closing: &AtomicBool = log.closing();
            snapshots.write_patiently(&meta, &image, closing)?;
            log.covered(meta.last_log_id);
            Ok(())
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error: io::Error| {
            StorageIOError::write_snapshot(Some(self.meta.signature()), AnyError::new(&error))
        })?;
        let snapshot = Box::new(SnapshotImage(Arc::clone(&self.image)));
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
