//! The submissions that the metadata leader carried out or is carrying out: who asks again, because the answer was lost, gets the answer and
//! not a second execution.
//!
//! It is memory of one leader. A submission that is repeated to the next leader is carried out again; the commands are made for that: each
//! names an epoch, an id or a count that a repetition no longer fits, or it says the same again. What looks like a refusal then is told
//! apart by [`is_done_already`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use chronik_base::{NodeId, Uuid};
use chronik_meta::{Command, Image};
use tokio::sync::watch;

use crate::message::Submitted;

/// Submissions that are remembered. At 4096 in 5 s (the time limit of a submission) a node would change metadata 800 times a second.
const MAX: usize = 4096;

/// Names a submission: node, process, number.
pub(crate) type Key = (NodeId, Uuid, u64);

/// The outcome once it is there.
pub(crate) type Outcome = watch::Receiver<Option<Submitted>>;

#[derive(Default)]
struct Known {
    outcomes: HashMap<Key, Outcome>,
    order: VecDeque<Key>,
}

/// The last submissions.
#[derive(Default)]
pub(crate) struct Remembered {
    known: Mutex<Known>,
}

/// Whether a submission is new.
pub(crate) enum Seen {
    /// It is: whoever carries it out says so here.
    New(watch::Sender<Option<Submitted>>, Outcome),
    /// It is not.
    Before(Outcome),
}

impl Remembered {
    /// Looks the submission up, or notes it.
    pub(crate) fn see(&self, key: Key) -> Seen {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = known.outcomes.get(&key) {
            return Seen::Before(outcome.clone());
        }
        while known.order.len() >= MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.outcomes.remove(&oldest);
        }
        let (sender, outcome) = watch::channel(None);
        known.outcomes.insert(key, outcome.clone());
        known.order.push_back(key);
        Seen::New(sender, outcome)
    }

    /// Forgets a submission that was not carried out.
    pub(crate) fn forget(&self, key: &Key) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.outcomes.remove(key);
        known.order.retain(|other| other != key);
    }
}

/// Whether `image` has what `command` asks for, so that a refusal of its repetition only says that the first one was carried out.
pub(crate) fn is_done_already(image: &Image, command: &Command) -> bool {
    match command {
        Command::SetClusterId { id } => image.cluster_id() == *id,
        Command::CreateTopic { id, .. } => image.topic_by_id(id).is_some(),
        Command::DeleteTopic { id } => image.topic_by_id(id).is_none(),
        Command::UnregisterBroker { id } => image.broker(*id).is_none(),
        Command::CreatePartitions { topic, first, assignments } => {
            image.topic_by_id(topic).is_some_and(|topic| {
                (*first..).zip(assignments).all(|(index, replicas)| {
                    topic.partitions.get(index).is_some_and(|partition| *partition.replicas == **replicas)
                })
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_submission_is_seen_once() {
        let remembered = Remembered::default();
        let key = |sequence| (3, Uuid::from_random([9; 16]), sequence);
        let Seen::New(sender, _) = remembered.see(key(1)) else { panic!("seen") };
        let Seen::Before(outcome) = remembered.see(key(1)) else { panic!("new") };
        assert_eq!(*outcome.borrow(), None);
        sender.send_replace(Some(Submitted::NotLeader(None)));
        assert_eq!(*outcome.borrow(), Some(Submitted::NotLeader(None)));
        remembered.forget(&key(1));
        assert!(matches!(remembered.see(key(1)), Seen::New(..)));
        for sequence in 2..MAX as u64 + 2 {
            assert!(matches!(remembered.see(key(sequence)), Seen::New(..)));
        }
        assert!(matches!(remembered.see(key(1)), Seen::New(..)), "the oldest one is forgotten");
        assert_eq!(remembered.known.lock().unwrap().outcomes.len(), MAX);
    }
}
