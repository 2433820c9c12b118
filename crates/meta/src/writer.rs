//! The thread that owns the store: commands from everywhere, one flush for all that wait.
//!
//! A quorum takes this place later: the shape (submit, then a reply once the command is durable and applied) is the same.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use crate::command::{Command, Reply};
use crate::error::MetaError;
use crate::image::{Image, MetaOffset};
use crate::store::MetaStore;

/// What each command of a submission came to, in order.
pub type Results = Vec<Result<Reply, MetaError>>;

/// A change of the image.
#[derive(Debug)]
pub struct ImageChange<'a> {
    /// The image before.
    pub before: &'a Arc<Image>,
    /// The image after; readers see it already.
    pub after: &'a Arc<Image>,
    /// The commands between the two, in order.
    pub commands: &'a [Command],
}

/// At most so many commands share a flush, so that nobody waits for a frame without bounds.
const COMMIT_MAX: usize = 10_000;

struct Submission {
    commands: Vec<Command>,
    done: Box<dyn FnOnce(Results) + Send>,
}

/// How a follower of other voters hears that what it was given is kept.
type Kept = Box<dyn FnOnce(Result<(), MetaError>) + Send>;

enum Work {
    Commit(Submission),
    /// Commands that were decided elsewhere.
    Follow {
        first: MetaOffset,
        commands: Vec<Command>,
        done: Kept,
    },
    /// An image that was made elsewhere.
    Install {
        image: Image,
        done: Kept,
    },
}

/// The metadata as the rest of the node sees it: the image to read, and a way to change it.
pub struct MetaHandle {
    image: Arc<RwLock<Arc<Image>>>,
    sender: Mutex<Option<Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MetaHandle {
    /// Starts the thread that owns `store`. It calls `on_change` after each commit, before the commit's submitters hear of it: so what
    /// a change asks of this node can be in place when a client is answered.
    pub fn start(
        store: MetaStore,
        on_change: impl FnMut(ImageChange<'_>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let image = Arc::new(RwLock::new(Arc::clone(store.image())));
        let (sender, receiver) = mpsc::channel();
        let published = Arc::clone(&image);
        let thread = thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || run(store, &receiver, &published, on_change))?;
        Ok(Self { image, sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// The image as of the last commit.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has `commands` checked, made durable and applied, in order. `done` gets what became of each; it is called on the writer's
    /// thread (or here, when the writer has stopped) and must not block.
    pub fn submit(&self, commands: Vec<Command>, done: impl FnOnce(Results) + Send + 'static) {
        self.give(Work::Commit(Submission { commands, done: Box::new(done) }));
    }

    /// Takes commands that were decided elsewhere and have their numbers: see [`MetaStore::follow`]. `done` is called once they are durable and
    /// applied, or with what is wrong.
    pub fn append(
        &self,
        first: MetaOffset,
        commands: Vec<Command>,
        done: impl FnOnce(Result<(), MetaError>) + Send + 'static,
    ) {
        self.give(Work::Follow { first, commands, done: Box::new(done) });
    }

    /// Takes an image in place of everything: see [`MetaStore::install`]. `done` is called once it is durable, or with what is wrong.
    pub fn install(&self, image: Image, done: impl FnOnce(Result<(), MetaError>) + Send + 'static) {
        self.give(Work::Install { image, done: Box::new(done) });
    }

    fn give(&self, work: Work) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = match sender {
            Some(sender) => sender.send(work).err().map(|error| error.0),
            None => Some(work),
        };
        if let Some(work) = refused {
            refuse(work);
        }
    }

    /// [`MetaHandle::submit`], waiting for the results. Not for threads that serve connections.
    pub fn commit(&self, commands: Vec<Command>) -> Results {
        let count = commands.len();
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(commands, move |results| {
            // The receiver is below: it waits.
            let _ = sender.send(results);
        });
        receiver.recv().unwrap_or_else(|_| vec![Err(MetaError::Closed); count])
    }

    /// Stops the writer after what was submitted so far. Later submissions are refused with [`MetaError::Closed`].
    pub fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        // What `on_change` holds may be the last to hold this handle; a thread cannot wait for itself.
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the metadata writer ended by a panic");
        }
    }
}

impl Drop for MetaHandle {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for MetaHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MetaHandle(at {})", self.image().offset())
    }
}

fn refuse(work: Work) {
    match work {
        Work::Commit(Submission { commands, done }) => {
            done(commands.iter().map(|_| Err(MetaError::Closed)).collect());
        }
        Work::Follow { done, .. } | Work::Install { done, .. } => done(Err(MetaError::Closed)),
    }
}

fn run(
    mut store: MetaStore,
    receiver: &Receiver<Work>,
    published: &RwLock<Arc<Image>>,
    mut on_change: impl FnMut(ImageChange<'_>),
) {
    let mut next = receiver.recv().ok();
    while let Some(work) = next.take() {
        match work {
            Work::Commit(first) => {
                let mut count = first.commands.len();
                let mut submissions = vec![first];
                while count < COMMIT_MAX {
                    match receiver.try_recv() {
                        Ok(Work::Commit(more)) => {
                            count += more.commands.len();
                            submissions.push(more);
                        }
                        other => {
                            next = other.ok();
                            break;
                        }
                    }
                }
                commit(&mut store, submissions, published, &mut on_change);
            }
            Work::Follow { first, commands, done } => {
                let before = Arc::clone(store.image());
                let result = store.follow(first, &commands);
                let applied = store.image().offset().saturating_sub(before.offset());
                let known = commands.len().saturating_sub(usize::try_from(applied).unwrap_or(usize::MAX));
                publish(&store, &before, commands.get(known..).unwrap_or(&[]), published, &mut on_change);
                done(result);
            }
            Work::Install { image, done } => {
                let before = Arc::clone(store.image());
                let result = store.install(Arc::new(image));
                publish(&store, &before, &[], published, &mut on_change);
                done(result.map_err(|error| MetaError::Storage(error.to_string())));
            }
        }
        if store.wants_snapshot()
            && let Err(error) = store.snapshot()
        {
            tracing::error!("no snapshot of the metadata: {error}");
        }
        next = next.or_else(|| receiver.recv().ok());
    }
}

/// Lets readers see the store's image, and tells of it, if it is another one than `before`.
fn publish(
    store: &MetaStore,
    before: &Arc<Image>,
    commands: &[Command],
    published: &RwLock<Arc<Image>>,
    on_change: &mut impl FnMut(ImageChange<'_>),
) {
    let after = Arc::clone(store.image());
    if !Arc::ptr_eq(&after, before) {
        *published.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        on_change(ImageChange { before, after: &after, commands });
    }
}

fn commit(
    store: &mut MetaStore,
    submissions: Vec<Submission>,
    published: &RwLock<Arc<Image>>,
    on_change: &mut impl FnMut(ImageChange<'_>),
) {
    let mut commands = Vec::new();
    let mut waiting = Vec::new();
    for submission in submissions {
        waiting.push((submission.commands.len(), submission.done));
        commands.extend(submission.commands);
    }
    let before = Arc::clone(store.image());
    let mut results = store.commit(&commands);
    let mut outcomes = results.iter();
    commands.retain(|_| outcomes.next().is_some_and(Result::is_ok));
    if !commands.is_empty() {
        publish(store, &before, &commands, published, on_change);
    }
    for (count, done) in waiting {
        let rest = results.split_off(count.min(results.len()));
        done(std::mem::replace(&mut results, rest));
    }
}
