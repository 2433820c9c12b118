//! The start: the checkpoint, then the journal after it; and where the checkpoint is lost, the segments.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chronik_base::{Clock, Uuid};

use crate::checkpoint::{CheckpointFile, Loaded, Record};
use crate::core::{Core, TailGroup, parse_journal_name};
use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::journal::replay::Replay;
use crate::layout::DataDir;
use crate::listener::{LogListener, Progress};
use crate::manager::{PartitionKey, RecoverySummary};
use crate::options::{LogOptions, PartitionOptions};
use crate::partition::epochs::Epochs;
use crate::partition::{PartitionLog, State, Stored};
use crate::shares::in_shares;
use crate::space::Space;
use crate::sync::Lock;

/// Threads that flush segments at a start.
const FLUSHERS: usize = 8;
/// What takes longer is told.
const TELL_AFTER: Duration = Duration::from_secs(1);

type Partitions = HashMap<PartitionKey, Arc<PartitionLog>>;

/// Opens what is on the disk.
pub(crate) fn open(
    dir: &DataDir,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: LogOptions,
    listener: Arc<dyn LogListener>,
) -> Result<(Arc<Core>, RecoverySummary), LogError> {
    let began = Instant::now();
    let root = dir.path().to_owned();
    let journal_dir = root.join("journal");
    for folder in [&journal_dir, &root.join("partitions")] {
        if !disk.exists(folder) {
            disk.create_dir_all(folder).map_err(LogError::io("make", folder))?;
            disk.sync_dir(&root).map_err(LogError::io("flush", &root))?;
        }
    }
    let names = disk.list(&journal_dir).map_err(LogError::io("list", &journal_dir))?;
    let mut files: Vec<u64> = names.iter().filter_map(|n| parse_journal_name(n)).collect();
    files.sort_unstable();
    let (checkpoint, loaded) =
        CheckpointFile::load(&*disk, &root).map_err(LogError::io("read", root.join("checkpoint")))?;
    let mut summary = RecoverySummary::default();
    let lost = is_lost(&loaded, &files);
    let first_file = files.last().copied().unwrap_or(0).max(loaded.replay_from) + 1;
    let space = Space::new(&*disk, &root);
    let core = Arc::new(Core::new(root, disk, clock, options, listener, first_file, space, checkpoint));

    let mut partitions = Partitions::new();
    if !lost {
        files.retain(|f| *f >= loaded.replay_from);
        for (key, record) in loaded.records {
            partitions.insert(key, Arc::new(from_record(&core, key, record)));
        }
    }
    let (short, long) = odd_logs(&partitions);
    let had_journal = !files.is_empty();
    let replayed = Replay::new(&core, partitions, &mut summary).run(&files)?;
    partitions = replayed.partitions;
    if lost && (had_journal || loaded.broken || has_partitions(&core)?) {
        tracing::warn!("the checkpoint is lost: every segment is read again, which takes its time");
        rebuild_all(&core, &mut partitions, &mut summary)?;
    }
    take_short_logs_offline(&partitions, &short);
    let dirty: Vec<Arc<PartitionLog>> = core.dirty.hold().clone();
    for partition in dirty.iter().chain(&long) {
        partition.tidy()?;
    }
    if had_journal {
        settle(&core, &files)?;
    }
    summary.clean = !lost && loaded.clean && summary.batches == 0 && summary.cut.is_empty();
    summary.partitions = partitions.len();
    for partition in partitions.values() {
        if let Some(why) = partition.offline() {
            summary.offline.push((partition.key(), why));
        }
    }
    summary.offline.sort_by_key(|o| o.0);
    *core.partitions.write().unwrap_or_else(|p| p.into_inner()) = partitions;
    // What is torn was judged by how far this journal had been flushed. Once another one follows it, that can't be told
    // any more, so it is not to be read again (and until that is so, the next journal does not say how far it is flushed).
    // Nor may a start write batches that were taken back to where others are by then. And where there is no checkpoint
    // there is one from here on, also in a new directory: one that is missing is lost.
    core.torn_behind.store(replayed.faults, Relaxed);
    if (replayed.faults || replayed.taken_back || lost || !short.is_empty())
        && let Err(e) = core.checkpoint_after_faults(&replayed.damaged)
    {
        tracing::warn!("no checkpoint could be made after the recovery: {e}");
    }
    if had_journal {
        // The next start shall not have to read the same again.
        core.ask_keeper(|k| k.checkpoint = true);
    }
    summary.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    for cut in &summary.cut {
        tracing::warn!("recovery: {cut}");
    }
    Ok((core, summary))
}

/// Partitions whose last segment has fewer bytes than the checkpoint says, with where their logs end by it; and those
/// whose last segment has more. Only the files' lengths are looked at.
#[allow(clippy::type_complexity, reason = "one caller, which takes it apart")]
fn odd_logs(partitions: &Partitions) -> (Vec<(PartitionKey, i64)>, Vec<Arc<PartitionLog>>) {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for partition in partitions.values() {
        match partition.compare_length() {
            Ordering::Less => short.push((partition.key(), partition.log_end_offset())),
            Ordering::Equal => {}
            Ordering::Greater => long.push(partition.clone()),
        }
    }
    short.sort_unstable();
    (short, long)
}

/// A file that lost its end: what the checkpoint speaks of was flushed before, so this is damage and not a torn end.
fn take_short_logs_offline(partitions: &Partitions, short: &[(PartitionKey, i64)]) {
    for (key, end) in short {
        let Some(partition) = partitions.get(key) else { continue };
        // Retention may have removed the segment since, or a cut made it shorter on purpose, also where the log grew again.
        let cut = partition.lock().files_cut;
        if cut || partition.log_start_offset() >= *end || partition.log_end_offset() < *end {
            continue;
        }
        partition.take_offline(&format!(
            "its last segment's file is shorter than it was when all below offset {end} was flushed to it; restore it from a replica or a backup, or delete the topic"
        ));
    }
}

/// Whether the checkpoint can't be built on: it is missing where there is something else, or what it says is not the
/// last that was known when the journal before was removed.
fn is_lost(loaded: &Loaded, files: &[u64]) -> bool {
    if !loaded.found {
        return true;
    }
    loaded.broken && !files.contains(&loaded.replay_from)
}

fn has_partitions(core: &Core) -> Result<bool, LogError> {
    let folder = core.root.join("partitions");
    let names = core.disk.list(&folder).map_err(LogError::io("list", folder))?;
    Ok(names.iter().any(|n| parse_partition_name(n).is_some()))
}

/// A partition as a checkpoint noted it. Its files are not touched.
fn from_record(core: &Arc<Core>, key: PartitionKey, r: Record) -> PartitionLog {
    let mut state = State::empty(Arc::<PartitionOptions>::default(), r.end);
    state.active.segment = r.segment;
    state.active.position = r.position;
    state.active.created_ms = r.created_ms;
    state.stored = Stored {
        end: r.end,
        segment: r.segment,
        position: r.position,
        index: r.index,
        sealed_bytes: r.sealed_bytes,
        applied: r.applied,
        reindex: false,
    };
    state.applied = r.applied;
    state.settled_segment = r.segment;
    state.listed = r.sealed_bytes == 0;
    state.epochs = Epochs::from_entries(r.epochs);
    for (id, producer) in r.producers {
        state.producers.insert(id, producer);
    }
    state.offline = r.offline.map(Into::into);
    state.cleaned.to = r.cleaned_to;
    state.cleaned.horizon_ms = r.cleaned_horizon_ms;
    PartitionLog::new(core.clone(), key, r.log_start, state)
}

/// What was replayed is in the operating system's hands at least; now it is on the disk, as the offsets claim. The
/// journal files stay until the next checkpoint.
fn settle(core: &Arc<Core>, files: &[u64]) -> Result<(), LogError> {
    for file in files {
        let path = core.journal_path(*file);
        let handle = core.disk.open(&path, OpenMode::Write).map_err(LogError::io("open", &path))?;
        handle.sync_data().map_err(LogError::io("flush", &path))?;
    }
    let dir = core.journal_dir();
    core.disk.sync_dir(&dir).map_err(LogError::io("flush", dir))?;
    let dirty: Vec<Arc<PartitionLog>> = core.dirty.hold().clone();
    settle_all(&dirty)?;
    let progress: Vec<Progress> = dirty
        .into_iter()
        .map(|p| {
            let end = p.log_end_offset();
            (p, end)
        })
        .collect();
    core.tails.hold().push_back(TailGroup { progress });
    let bytes = files.iter().filter_map(|f| core.disk.file_len(&core.journal_path(*f)).ok()).sum();
    core.replay_since_checkpoint.store(bytes, Relaxed);
    Ok(())
}

/// Flushes what only the segments hold.
fn settle_all(partitions: &[Arc<PartitionLog>]) -> Result<(), LogError> {
    let one = |partition: &Arc<PartitionLog>| {
        partition.flush_unsettled()?;
        partition.reindex()
    };
    let began = Instant::now();
    in_shares(partitions, FLUSHERS, |some| some.iter().try_for_each(one))?;
    if began.elapsed() > TELL_AFTER {
        tracing::info!(
            "recovery: {} partitions flushed in {} ms",
            partitions.len(),
            began.elapsed().as_millis()
        );
    }
    Ok(())
}

/// The partition that a folder is of.
fn parse_partition_name(name: &str) -> Option<PartitionKey> {
    let (topic, partition) = name.split_once('-')?;
    Some(PartitionKey { topic_id: Uuid::from_hex(topic)?, partition: partition.parse().ok()? })
}

/// Learns about all partitions from their segments.
fn rebuild_all(
    core: &Arc<Core>,
    partitions: &mut Partitions,
    summary: &mut RecoverySummary,
) -> Result<(), LogError> {
    // What the journal holds has to be in the segments first.
    for partition in partitions.values() {
        partition.spill().map_err(LogError::io("write segments of", core.root.clone()))?;
    }
    let known: Vec<PartitionKey> = partitions.keys().copied().collect();
    let folder = core.root.join("partitions");
    let names = core.disk.list(&folder).map_err(LogError::io("list", &folder))?;
    let deleted = core.deleted.hold().clone();
    for key in names.iter().filter_map(|n| parse_partition_name(n)) {
        if !deleted.contains(&key) {
            partitions.entry(key).or_insert_with(|| {
                Arc::new(PartitionLog::new(core.clone(), key, 0, State::empty(Arc::default(), 0)))
            });
        }
    }
    let all = partitions.len();
    for (done, (key, partition)) in partitions.iter().enumerate() {
        match partition.rebuild(known.contains(key)) {
            Ok(Some(cut)) => summary.cut.push(cut),
            Ok(None) => {}
            Err(LogError::Io { source, action, path }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::Io { source, action, path });
            }
            Err(e) => partition.take_offline(&e.to_string()),
        }
        summary.rebuilt += 1;
        if (done + 1) % 100 == 0 {
            tracing::info!("recovery: {} of {all} partitions read", done + 1);
        }
    }
    Ok(())
}
