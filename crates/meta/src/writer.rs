//! The thread that owns the store: commands from everywhere, one flush for all that wait.
//!
//! A quorum takes this place later: the shape (submit, then a reply once the command is durable and applied) is the same.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use crate::command::{Command, Reply};
use crate::error::MetaError;
use crate::image::Image;
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

/// The metadata as the rest of the node sees it: the image to read, and a way to change it.
pub struct MetaHandle {
    image: Arc<RwLock<Arc<Image>>>,
    sender: Mutex<Option<Sender<Submission>>>,
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
        let submission = Submission { commands, done: Box::new(done) };
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = match sender {
            Some(sender) => sender.send(submission).err().map(|error| error.0),
            None => Some(submission),
        };
        if let Some(submission) = refused {
            refuse(submission);
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

fn refuse(submission: Submission) {
    let results = submission.commands.iter().map(|_| Err(MetaError::Closed)).collect();
    (submission.done)(results);
}

fn run(
    mut store: MetaStore,
    receiver: &Receiver<Submission>,
    published: &RwLock<Arc<Image>>,
    mut on_change: impl FnMut(ImageChange<'_>),
) {
    while let Ok(first) = receiver.recv() {
        let mut count = first.commands.len();
        let mut submissions = vec![first];
        while count < COMMIT_MAX
            && let Ok(next) = receiver.try_recv()
        {
            count += next.commands.len();
            submissions.push(next);
        }
        commit(&mut store, submissions, published, &mut on_change);
        if store.wants_snapshot()
            && let Err(error) = store.snapshot()
        {
            tracing::error!("no snapshot of the metadata: {error}");
        }
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
    let after = Arc::clone(store.image());
    if after.offset() != before.offset() {
        *published.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        let mut outcomes = results.iter();
        commands.retain(|_| outcomes.next().is_some_and(Result::is_ok));
        on_change(ImageChange { before: &before, after: &after, commands: &commands });
    }
    for (count, done) in waiting {
        let rest = results.split_off(count.min(results.len()));
        done(std::mem::replace(&mut results, rest));
    }
}
