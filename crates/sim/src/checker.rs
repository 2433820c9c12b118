//! What must hold at every step, and the history by which it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronik_base::NodeId;
use chronik_replica::EpochLog;

use crate::event::Tp;
use crate::log::{Batch, SimLog};
use crate::plan::Plan;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The partition, if it is about one.
    pub tp: Option<Tp>,
    /// What happened.
    pub text: String,
}

impl Violation {
    pub(crate) fn at(tp: Option<Tp>, text: String) -> Self {
        Self { tp, text }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tp {
            Some(tp) => write!(f, "{tp}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What is known of one partition.
#[derive(Debug, Default)]
struct Known {
    /// Everything that was below somebody's high watermark, in order: what was committed must stay as it is.
    committed: Vec<Arc<Batch>>,
    /// The first offset that is not in `committed`.
    end: i64,
    /// The last sequence of each producer in it.
    sequences: BTreeMap<i64, i32>,
    /// What was committed by the leader of each epoch.
    by_epoch: BTreeMap<i32, i64>,
    /// Who acknowledged in each epoch.
    leaders: BTreeMap<i32, NodeId>,
    /// An unclean election was allowed and happened.
    may_lose: bool,
}

impl Known {
    fn from(&self, offset: i64) -> &[Arc<Batch>] {
        let at = self.committed.partition_point(|batch| batch.end() <= offset);
        self.committed.get(at..).unwrap_or_default()
    }
}

/// The history of what was promised, and the first promise that was broken.
#[derive(Debug)]
pub(crate) struct Checker {
    known: BTreeMap<Tp, Known>,
    /// The last offset that each group was told to be committed.
    offsets: BTreeMap<usize, i64>,
    producer_ids: BTreeSet<i64>,
    found: Option<Violation>,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
}

impl Checker {
    pub(crate) fn new(plan: &Plan) -> Self {
        let topics = (0u8..).zip(&plan.topics);
        let tps = topics.flat_map(|(topic, of)| (0..of.len() as i32).map(move |index| Tp { topic, index }));
        Self {
            known: tps.map(|tp| (tp, Known::default())).collect(),
            offsets: BTreeMap::new(),
            producer_ids: BTreeSet::new(),
            found: None,
            acknowledged: 0,
            reads: 0,
        }
    }

    pub(crate) fn take(&mut self) -> Option<Violation> {
        self.found.take()
    }

    /// A promise was broken. The first one is what counts.
    pub(crate) fn report(&mut self, tp: Option<Tp>, text: String) {
        if self.found.is_none() {
            self.found = Some(Violation { tp, text });
        }
    }

    /// An election outside of the ISR was allowed and happened: nothing is promised of what the partition held.
    pub(crate) fn allow_loss(&mut self, tp: Tp) {
        if let Some(known) = self.known.get_mut(&tp) {
            known.may_lose = true;
        }
    }

    pub(crate) fn may_lose(&self, tp: Tp) -> bool {
        self.known.get(&tp).is_none_or(|known| known.may_lose)
    }

    /// A node begins to lead in an epoch: everything that leaders of earlier epochs committed must be in its log (points 1 and 2). Later ones may
    /// have committed more, where it hears of its own late.
    pub(crate) fn on_leader(&mut self, tp: Tp, node: NodeId, epoch: i32, log: &SimLog) {
        let Some(known) = self.known.get(&tp) else { return };
        let end = known.by_epoch.range(..epoch).map(|(_, end)| *end).max().unwrap_or(0);
        if let Some(text) = self.missing(tp, log, end) {
            self.report(Some(tp), format!("n{node} leads in epoch {epoch}, and {text}"));
        }
    }

    /// What of all that is committed is not in a log, below its start excepted.
    pub(crate) fn missing_at_end(&self, tp: Tp, log: &SimLog) -> Option<String> {
        self.missing(tp, log, self.known.get(&tp)?.end)
    }

    fn missing(&self, tp: Tp, log: &SimLog, end: i64) -> Option<String> {
        let known = self.known.get(&tp).filter(|known| !known.may_lose && end > 0)?;
        if log.log_end() < end {
            return Some(format!("its log ends at {}, committed is {end}", log.log_end()));
        }
        // Where two logs hold the same batch of the same epoch, they hold the same before it; so the last one says it all, and the
        // replicas' high watermarks are compared step by step.
        let last = known.from(end - 1).first()?;
        if last.base < log.log_start() {
            return None;
        }
        match log.at(last.base) {
            Some(batch) if batch == last => None,
            found => Some(format!("at {} it has {found:?}, committed is {last:?}", last.base)),
        }
    }

    /// A leader's high watermark is `end` in its epoch.
    pub(crate) fn on_leaders_word(&mut self, tp: Tp, epoch: i32, end: i64) {
        if let Some(known) = self.known.get_mut(&tp) {
            known.by_epoch.insert(epoch, end);
        }
    }

    /// A replica's high watermark moved: what it covers must be what every other replica had there (points 2 and 4), each producer's records
    /// once and in order (point 7).
    pub(crate) fn on_committed(&mut self, tp: Tp, node: NodeId, log: &SimLog, from: i64, to: i64) {
        let Some(known) = self.known.get_mut(&tp).filter(|known| !known.may_lose) else { return };
        let mut wrong = None;
        for batch in log.from(from).iter().take_while(|batch| batch.end() <= to) {
            if batch.base >= known.end {
                if let Some((id, sequence)) = batch.producer {
                    let last = known.sequences.insert(id, sequence);
                    if last.is_some_and(|last| sequence != last + 1) {
                        wrong = Some(format!("n{node} commits {batch:?} after sequence {last:?}"));
                    }
                }
                known.end = batch.end();
                known.committed.push(batch.clone());
            } else if known.from(batch.base).first().is_some_and(|other| other != batch) {
                let other = known.from(batch.base).first();
                wrong = Some(format!("n{node} commits {batch:?} where {other:?} is committed"));
            }
        }
        if let Some(text) = wrong {
            self.report(Some(tp), text);
        }
    }

    /// A leader acknowledges: with a range of offsets, to a producer that waits for the ISR (points 1 and 3).
    pub(crate) fn on_ack(&mut self, tp: Tp, epoch: i32, node: NodeId, all: Option<(i64, i64)>) {
        self.acknowledged += 1;
        let Some(known) = self.known.get_mut(&tp) else { return };
        let first = *known.leaders.entry(epoch).or_insert(node);
        let (end, may_lose) = (known.end, known.may_lose);
        if first != node {
            self.report(Some(tp), format!("n{first} and n{node} acknowledge in epoch {epoch}"));
        }
        if let Some((base, to)) = all.filter(|(_, to)| *to > end && !may_lose) {
            self.report(Some(tp), format!("n{node} acknowledges {base}..{to}, committed is {end}"));
        }
    }

    /// The leader in office misses something of a producer, which goes on only once it is acknowledged (point 7).
    pub(crate) fn on_gap(&mut self, tp: Tp, node: NodeId, producer: Option<(i64, i32)>) {
        if !self.may_lose(tp) {
            self.report(Some(tp), format!("n{node} misses what {producer:?} was acknowledged before"));
        }
    }

    /// A consumer reads from a node: what it reads is committed and stays (point 2).
    pub(crate) fn on_read(&mut self, tp: Tp, node: NodeId, batch: &Arc<Batch>) {
        self.reads += 1;
        let Some(known) = self.known.get(&tp).filter(|known| !known.may_lose) else { return };
        let committed = known.from(batch.base).first();
        if committed != Some(batch) {
            let text = format!("a consumer read {batch:?} at n{node}, committed is {committed:?}");
            self.report(Some(tp), text);
        }
    }

    /// A group was told that its offset is committed.
    pub(crate) fn on_offset_committed(&mut self, group: usize, offset: i64) {
        let last = self.offsets.entry(group).or_insert(offset);
        *last = (*last).max(offset);
    }

    /// The coordinator in office showed a group's offset.
    pub(crate) fn on_offset_fetched(&mut self, group: usize, offset: i64) {
        let committed = self.offsets.get(&group).copied().unwrap_or(-1);
        if offset < committed && !self.may_lose(crate::groups::GROUPS) {
            let text = format!("group {group} committed {committed} and is shown {offset}");
            self.report(Some(crate::groups::GROUPS), text);
        }
    }

    /// A producer was given an id.
    pub(crate) fn on_producer_id(&mut self, id: i64) {
        if !self.producer_ids.insert(id) {
            self.report(None, format!("two producers got the id {id}"));
        }
    }
}
