//! A change of the metadata from any node: carried out here if this node leads, else by the leader.
//!
//! A submission may be sent more than once, because an answer was lost or the leader changed. It carries the process and a number: the leader that has
//! seen it gives the same answer again. The next leader has not seen it and may carry it out a second time; see [`crate::remembered`] for
//! why that does no harm. Nothing orders two submissions that wait at the same time.

use std::sync::Arc;
use std::time::Duration;

use chronik_base::{CallError, ErrorCode, NodeId};
use chronik_meta::{Command, MetaError, MetaHandle, Reply, Results};
use chronik_raft::WriteError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::inner::{Inner, Matter, Store, address_of, lock};
use crate::message::{self, Role, Submit, Submitted, kind};
use crate::remembered::{Seen, is_done_already};

/// How long a submission waits before it asks again, if nothing tells that there is another leader.
const RETRY: Duration = Duration::from_millis(50);

impl Inner {
    /// Has `commands` carried out; `done` hears what became of each.
    pub(crate) fn submit(
        self: &Arc<Self>,
        commands: Vec<Command>,
        done: impl FnOnce(Results) + Send + 'static,
    ) {
        self.counts.submitted(commands.len());
        if let Store::Local(handle) = &self.store
            && self.role() == Role::Voter
        {
            return handle.submit(commands, done);
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            let results = inner.submit_anywhere(commands).await;
            done(results);
        });
    }

    /// [`Inner::submit`], waiting.
    pub(crate) async fn commit(self: &Arc<Self>, commands: Vec<Command>) -> Results {
        let count = commands.len();
        let (sender, receiver) = oneshot::channel();
        self.submit(commands, move |results| {
            // Who asked may have gone.
            let _ = sender.send(results);
        });
        receiver.await.unwrap_or_else(|_| vec![Err(MetaError::Closed); count])
    }

    async fn submit_anywhere(self: &Arc<Self>, commands: Vec<Command>) -> Results {
        let started = Instant::now();
        let deadline = started + self.timing.request;
        let submit = Submit {
            incarnation: self.registration.incarnation,
            sequence: self.next_sequence(),
            wait_ms: millis(self.timing.request),
            commands,
        };
        let mut attempt = Attempt { may_be_done: false, is_asking: false };
        let outcome = tokio::time::timeout_at(deadline, self.try_until_done(&submit, &mut attempt)).await;
        let (submitted, count) = (outcome.unwrap_or(Err(MetaError::NoQuorum)), submit.commands.len());
        match submitted {
            Ok(results) if attempt.may_be_done => self.settle(&submit.commands, results),
            Ok(results) => results,
            // It may have been carried out by a leader that did not say so.
            Err(MetaError::NoQuorum) if attempt.may_be_done || attempt.is_asking => {
                self.counts.timed_out();
                let waited_ms = u64::from(millis(started.elapsed()));
                vec![Err(MetaError::TimedOut { waited_ms }); count]
            }
            Err(error) => {
                if error == MetaError::NoQuorum {
                    self.counts.no_quorum();
                }
                vec![Err(error); count]
            }
        }
    }

    async fn try_until_done(
        self: &Arc<Self>,
        submit: &Submit,
        attempt: &mut Attempt,
    ) -> Result<Results, MetaError> {
        loop {
            let mut turns = self.turns.subscribe();
            let leader = self.leader();
            attempt.is_asking = leader.is_some();
            let answer = match leader {
                Some(leader) if leader == self.me() => self.carry_out(submit.commands.clone()).await?,
                Some(leader) => {
                    self.counts.forwarded();
                    tokio::select! {
                        answer = self.ask_leader(leader, submit, attempt) => answer,
                        // The leader may be gone or paused without its connection saying so.
                        () = self.another_leader(leader) => {
                            attempt.may_be_done = true;
                            continue;
                        }
                    }
                }
                None => {
                    self.wait_for_leader().await?;
                    continue;
                }
            };
            match answer {
                Submitted::Done { offset, results } => {
                    self.applied(offset).await;
                    return Ok(results);
                }
                Submitted::NotLeader(hint) => {
                    attempt.is_asking = false;
                    if let Some(hint) = hint.filter(|hint| Some(*hint) != leader) {
                        self.hear_leader(Some(hint));
                    }
                    tokio::select! {
                        () = sleep(RETRY) => {}
                        _ = turns.changed() => {}
                    }
                }
            }
        }
    }

    /// Carries commands out as the leader, if this node is.
    async fn carry_out(&self, commands: Vec<Command>) -> Result<Submitted, MetaError> {
        let results = match &self.store {
            Store::Local(_) if self.role() == Role::Observer => return Ok(Submitted::NotLeader(None)),
            Store::Local(handle) => local(handle, commands).await,
            Store::Raft(raft) => match raft.write(commands).await {
                Ok(results) => results,
                Err(WriteError::NotLeader { leader }) => return Ok(Submitted::NotLeader(leader)),
                // There may be a leader elsewhere by now; if not, the wait for one is short.
                Err(WriteError::NoQuorum { .. }) => return Ok(Submitted::NotLeader(None)),
                Err(error) => return Err(meta_error(error)),
            },
        };
        Ok(Submitted::Done { offset: self.published.applied(), results })
    }

    async fn ask_leader(&self, leader: NodeId, submit: &Submit, attempt: &mut Attempt) -> Submitted {
        let payload = message::request(self.caller(), |out| submit.put(out));
        let answer = self.call(leader, kind::SUBMIT, payload, self.timing.request).await;
        match answer.map(|payload| message::read(payload, Submitted::get)) {
            Ok(Ok(submitted)) => submitted,
            Ok(Err(error)) => {
                attempt.may_be_done = true;
                let problem = format!("its answer to a change of metadata is bad: {error}");
                self.note_problem(leader, Matter::Answers, Some(problem));
                Submitted::NotLeader(None)
            }
            Err(error) => {
                attempt.may_be_done |=
                    !matches!(error, CallError::UnknownNode(_) | CallError::Refused { .. });
                tracing::debug!(leader, "a change of metadata was not answered: {error}");
                Submitted::NotLeader(None)
            }
        }
    }

    /// Resolves when somebody other than `leader`, or nobody, is known to lead.
    async fn another_leader(&self, leader: NodeId) {
        let mut turns = self.turns.subscribe();
        while self.leader() == Some(leader) {
            if turns.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits for a leader, unless there has been none for so long that no election can be going on.
    async fn wait_for_leader(&self) -> Result<(), MetaError> {
        let mut turns = self.turns.subscribe();
        let limit = u64::from(millis(self.timing.no_leader));
        loop {
            if self.leader().is_some() {
                return Ok(());
            }
            let since = *lock(&self.known).leaderless_since.get_or_insert_with(|| self.now());
            let left = (since + limit).saturating_sub(self.now());
            if left == 0 {
                return Err(MetaError::NoQuorum);
            }
            tokio::select! {
                () = sleep(Duration::from_millis(left)) => {}
                _ = turns.changed() => {}
            }
        }
    }

    /// After a submission that may have been carried out twice: refusals that only say that it was.
    fn settle(&self, commands: &[Command], results: Results) -> Results {
        let image = self.image();
        let settled = commands.iter().zip(results).map(|(command, result)| match result {
            Err(_) if is_done_already(&image, command) => Ok(Reply::Done),
            result => result,
        });
        settled.collect()
    }

    /// Answers another node's submission.
    pub(crate) async fn on_submit(self: &Arc<Self>, from: NodeId, submit: Submit) -> Submitted {
        if !self.is_leader() {
            return Submitted::NotLeader(self.leader().filter(|leader| *leader != self.me()));
        }
        let count = submit.commands.len();
        if let Some(refusal) = submit.commands.iter().find_map(|command| self.is_doubled(command)) {
            return Submitted::Done { offset: 0, results: vec![Err(refusal); count] };
        }
        let key = (from, submit.incarnation, submit.sequence);
        let mut outcome = match self.remembered.see(key) {
            Seen::Before(outcome) => outcome,
            Seen::New(sender, outcome) => {
                let inner = Arc::clone(self);
                // A task of its own: the call may end before it, and the caller may ask again.
                self.spawn(async move {
                    let submitted = match inner.carry_out(submit.commands).await {
                        Ok(submitted) => submitted,
                        Err(error) => Submitted::Done { offset: 0, results: vec![Err(error); count] },
                    };
                    if matches!(submitted, Submitted::NotLeader(_)) {
                        inner.remembered.forget(&key);
                    }
                    sender.send_replace(Some(submitted));
                });
                outcome
            }
        };
        let wait = Duration::from_millis(u64::from(submit.wait_ms));
        let outcome = tokio::time::timeout(wait, outcome.wait_for(Option::is_some)).await;
        let submitted = outcome.ok().and_then(Result::ok).and_then(|outcome| outcome.clone());
        submitted.unwrap_or_else(|| {
            let waited_ms = u64::from(submit.wait_ms);
            Submitted::Done { offset: 0, results: vec![Err(MetaError::TimedOut { waited_ms }); count] }
        })
    }

    /// Refuses a registration under the id of a broker that lives and has another data directory: one of the two was started with a wrong id. If
    /// it is a wiped disk, the earlier process is gone, and fenced soon.
    fn is_doubled(&self, command: &Command) -> Option<MetaError> {
        let Command::RegisterBroker { id, directory, .. } = command else { return None };
        let image = self.image();
        let other = image
            .broker(*id)
            .filter(|other| !other.fenced && other.directory != *directory && !other.directory.is_zero())?;
        Some(MetaError::Remote {
            code: ErrorCode::DuplicateBrokerRegistration,
            message: format!(
                "node id {id} is in use by a live broker at {} with another data directory: give one of them another --node-id",
                address_of(&other.endpoints)
            ),
        })
    }
}

struct Attempt {
    /// True once a leader may have carried the submission out without saying so.
    may_be_done: bool,
    /// True while an answer is waited for.
    is_asking: bool,
}

async fn local(handle: &MetaHandle, commands: Vec<Command>) -> Results {
    let count = commands.len();
    let (sender, receiver) = oneshot::channel();
    handle.submit(commands, move |results| {
        let _ = sender.send(results);
    });
    receiver.await.unwrap_or_else(|_| vec![Err(MetaError::Closed); count])
}

fn meta_error(error: WriteError) -> MetaError {
    match error {
        WriteError::NotLeader { leader } => MetaError::NotLeader { leader },
        WriteError::NoQuorum { .. } => MetaError::NoQuorum,
        WriteError::TimedOut { waited_ms } => MetaError::TimedOut { waited_ms },
        WriteError::Stopped(problem) => MetaError::Storage(problem),
        too_large @ WriteError::TooLarge { .. } => MetaError::Storage(too_large.to_string()),
        WriteError::Closed => MetaError::Closed,
    }
}

/// A duration in milliseconds; what doesn't fit is cut.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
