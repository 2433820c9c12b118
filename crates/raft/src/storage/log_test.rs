//! The log's files against a model: what was flushed is there again after any restart, whatever was torn.

use std::fs;
use std::path::Path;

use openraft::{CommittedLeaderId, EntryPayload};
use proptest::prelude::*;
use tempfile::TempDir;

use super::log_file::{LogFile, Replayed};
use super::{StorageOptions, frame};
use crate::types::{Entry, LogId, Payload};

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn open(directory: &Path, snapshot: Option<LogId>) -> (LogFile, Replayed) {
    let options = StorageOptions { directory: directory.to_owned(), durable: false, segment_bytes: 300 };
    let (mut log, replayed) = LogFile::open(&options, snapshot).expect("opens");
    log.settle(&replayed).expect("settles");
    (log, replayed)
}

/// What a log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: Vec<Entry>,
    purged: Option<LogId>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }

    fn of(replayed: &Replayed) -> Self {
        Self { entries: replayed.entries.iter().cloned().collect(), purged: replayed.purged }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Append this many entries of this many bytes.
    Append(usize, usize),
    /// Remove this many from the end.
    Truncate(usize),
    /// Remove this many from the front.
    Purge(usize),
    /// Forget all, and go on behind a gap: a snapshot came.
    Jump(u64),
    /// Open the files again.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1usize..4, 0usize..120).prop_map(|(count, size)| Step::Append(count, size)),
        2 => (0usize..6).prop_map(Step::Truncate),
        2 => (0usize..8).prop_map(Step::Purge),
        1 => (1u64..50).prop_map(Step::Jump),
        3 => Just(Step::Reopen),
    ]
}

fn append(log: &mut LogFile, model: &mut Model, term: u64, count: usize, size: usize) -> Vec<u8> {
    let next = model.last().map_or(0, |last| last.index + 1);
    let entries: Vec<Entry> = (next..)
        .take(count)
        .map(|index| Entry {
            log_id: log_id(term, index),
            payload: match size % 3 {
                0 => EntryPayload::Blank,
                _ => EntryPayload::Normal(Payload(vec![7; size].into())),
            },
        })
        .collect();
    let bytes = frame::entries(&entries);
    log.append(&bytes, entries.last().expect("one at least").log_id).expect("appended");
    model.entries.extend(entries);
    bytes
}

fn run(directory: &Path, steps: &[Step]) -> (LogFile, Model) {
    let mut model = Model::default();
    let (mut log, _) = open(directory, None);
    for (term, step) in (1..).zip(steps) {
        match *step {
            Step::Append(count, size) => drop(append(&mut log, &mut model, term, count, size)),
            Step::Truncate(count) => {
                let keep = model.entries.len().saturating_sub(count);
                if let Some(first) = model.entries.get(keep).map(|entry| entry.log_id.index) {
                    model.entries.truncate(keep);
                    log.truncate(first, model.last()).expect("truncated");
                }
            }
            Step::Purge(count) => {
                let count = count.min(model.entries.len());
                if let Some(upto) = count.checked_sub(1).map(|last| model.entries[last].log_id) {
                    model.entries.drain(..count);
                    model.purged = Some(upto);
                    log.purge(upto).expect("purged");
                }
            }
            Step::Jump(by) => {
                let upto = log_id(term, model.last().map_or(0, |last| last.index) + by);
                model = Model { entries: Vec::new(), purged: Some(upto) };
                log.purge(upto).expect("purged");
            }
            Step::Reopen => {
                let (again, replayed) = open(directory, model.purged);
                assert_eq!(Model::of(&replayed), model);
                assert_eq!(replayed.last, model.last());
                assert_eq!(replayed.cut, None);
                log = again;
            }
        }
    }
    (log, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_hold_what_the_model_holds(steps in prop::collection::vec(step(), 1..40)) {
        let directory = TempDir::new().expect("a temporary directory");
        let (log, model) = run(directory.path(), &steps);
        if let Some((path, end)) = log.end() {
            let others = files(directory.path()).into_iter().filter(|(other, _)| *other != path);
            prop_assert_eq!(log.bytes(), end as u64 + others.map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        }
        let (_, replayed) = open(directory.path(), model.purged);
        prop_assert_eq!(Model::of(&replayed), model);
    }

    #[test]
    fn a_torn_append_leaves_what_was_before(
        steps in prop::collection::vec(step(), 0..12),
        size in 0usize..200,
        zeros in 0usize..40,
        step in 1usize..20,
    ) {
        let directory = TempDir::new().expect("a temporary directory");
        let (mut log, model) = run(directory.path(), &steps);
        let before = log.end();
        let mut after = model.clone();
        append(&mut log, &mut after, 1_000, 2, size);
        let (path, end) = log.end().expect("a segment");
        let whole = fs::read(&path).expect("read")[..end].to_vec();
        let kept = before.filter(|(old, _)| *old == path).map_or(0, |(_, end)| end);
        for end in (kept..whole.len()).step_by(step) {
            let mut torn = whole[..end].to_vec();
            torn.resize(end + zeros, 0);
            // Where the last bytes are zeros, the write may be whole all the same.
            if torn.starts_with(&whole) {
                continue;
            }
            fs::write(&path, &torn).expect("written");
            let (_, replayed) = open(directory.path(), model.purged);
            prop_assert_eq!(&Model::of(&replayed), &model, "cut at {} of {}", end, whole.len());
            let (_, again) = open(directory.path(), model.purged);
            prop_assert_eq!(again.cut, None, "what was cut is gone");
        }
    }
}

fn files(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(path).expect("read")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_missing_segment_is_damage_unless_the_snapshot_has_it() {
    let directory = TempDir::new().expect("a temporary directory");
    let (mut log, _) = open(directory.path(), None);
    let mut model = Model::default();
    for _ in 0..12 {
        append(&mut log, &mut model, 1, 1, 100);
    }
    let segments = files(directory.path());
    assert!(segments.len() >= 4, "{}", segments.len());
    let options =
        StorageOptions { directory: directory.path().to_owned(), durable: false, segment_bytes: 300 };
    fs::remove_file(&segments[1].0).expect("removed");
    let error = LogFile::open(&options, None).map(drop).expect_err("it is missing").to_string();
    assert!(error.contains("what is between is missing"), "{error}");
    let (_, replayed) = open(directory.path(), Some(log_id(1, 11)));
    assert_eq!(replayed.last, Some(log_id(1, 11)));
    assert!(replayed.purged.is_some());
    assert!(!segments[0].0.exists(), "what is in front of the gap is removed");
    // In the middle of the log a torn end is damage.
    let (path, bytes) = &segments[2];
    fs::write(path, &bytes[..bytes.len() - 1]).expect("written");
    let error = LogFile::open(&options, Some(log_id(1, 11))).map(drop).expect_err("it is torn").to_string();
    assert!(error.contains("there is a later file behind it"), "{error}");
}
