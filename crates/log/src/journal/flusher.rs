//! The thread that flushes: one flush of the journal, and of what went straight to segments, for everybody who waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::entry::JournalPosition;
use crate::core::{Core, count};
use crate::disk::DiskFile;
use crate::listener::Progress;
use crate::options::FlushMode;
use crate::partition::PartitionLog;
use crate::sync::{Lock, wait, wait_for};

/// A segment that was written to directly.
struct DirtySegment {
    partition: Arc<PartitionLog>,
    segment: i64,
    file: Arc<dyn DiskFile>,
}

/// What is written and not flushed.
#[derive(Default)]
struct Unflushed {
    progress: Vec<Progress>,
    journals: Vec<(u64, Arc<dyn DiskFile>)>,
    segments: Vec<DirtySegment>,
    sequence: u64,
    end: JournalPosition,
    /// When the oldest of it was written.
    since_ms: Option<u64>,
}

#[derive(Default)]
struct Inner {
    unflushed: Unflushed,
    /// Numbers the contents of `unflushed`, so that partitions know whether they are in it.
    generation: u64,
    /// The journal file in use, which any later write makes unflushed again.
    journal: Option<(u64, Arc<dyn DiskFile>)>,
    written: u64,
    flushed: u64,
    flushed_at: JournalPosition,
    waits: bool,
    failed: bool,
    stop: bool,
}

/// What the flush thread and those who wait for it share.
#[derive(Default)]
pub(crate) struct Flush {
    inner: Mutex<Inner>,
    wake: Condvar,
    done: Condvar,
    requested: AtomicU64,
    /// The same as in `inner`, to be read without its lock.
    flushed: AtomicU64,
    /// A flush is under way.
    flushing: AtomicBool,
}

impl Flush {
    /// Asks for a flush of the entries up to number `sequence`.
    pub(crate) fn request(&self, sequence: u64) {
        self.requested.fetch_max(sequence, Ordering::SeqCst);
    }

    /// True while a flush is under way.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing.load(Ordering::SeqCst)
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.hold();
        inner.unflushed = Unflushed::default();
        inner.journal = None;
    }

    /// Wakes the flush thread if it has something to do.
    pub(crate) fn kick(&self) {
        if self.requested.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst) {
            let mut inner = self.inner.hold();
            self.wake_if_due(&mut inner);
        }
    }

    fn wake_if_due(&self, inner: &mut Inner) {
        let wanted = self.requested.load(Ordering::SeqCst);
        if inner.waits && inner.written > inner.flushed && wanted > inner.flushed {
            inner.waits = false;
            self.wake.notify_one();
        }
    }

    /// A journal file is there, and all its bytes are new.
    pub(crate) fn note_journal(&self, file: u64, handle: &Arc<dyn DiskFile>) {
        let mut inner = self.inner.hold();
        inner.journal = Some((file, handle.clone()));
    }

    /// A segment was written to directly.
    pub(crate) fn note_direct(&self, partition: &Arc<PartitionLog>, segment: i64, file: &Arc<dyn DiskFile>) {
        let mut inner = self.inner.hold();
        let known = |s: &DirtySegment| s.segment == segment && Arc::ptr_eq(&s.partition, partition);
        if !inner.unflushed.segments.iter().rev().any(known) {
            let dirty = DirtySegment { partition: partition.clone(), segment, file: file.clone() };
            inner.unflushed.segments.push(dirty);
        }
    }

    /// A group was written. False if nothing will be flushed any more.
    pub(crate) fn note_written(
        &self,
        progress: &[Progress],
        sequence: u64,
        end: JournalPosition,
        now_ms: u64,
    ) -> bool {
        let mut inner = self.inner.hold();
        if inner.failed {
            return false;
        }
        let inner = &mut *inner;
        let generation = inner.generation;
        for (partition, offset) in progress {
            let place = partition.flush_place(generation, inner.unflushed.progress.len());
            match inner.unflushed.progress.get_mut(place) {
                Some(known) => known.1 = *offset,
                None => inner.unflushed.progress.push((partition.clone(), *offset)),
            }
        }
        if let Some((number, file)) = &inner.journal
            && inner.unflushed.journals.last().is_none_or(|(last, _)| last != number)
        {
            inner.unflushed.journals.push((*number, file.clone()));
        }
        inner.unflushed.sequence = sequence;
        inner.unflushed.end = end;
        let begins = inner.unflushed.since_ms.is_none();
        inner.unflushed.since_ms.get_or_insert(now_ms);
        inner.written = inner.written.max(sequence);
        if begins && inner.waits {
            // It slept without a limit; from now on it sleeps until this is overdue.
            inner.waits = false;
            self.wake.notify_one();
        }
        self.wake_if_due(inner);
        self.done.notify_all();
        true
    }

    /// Where the journal is flushed up to: this file up to here, and those before it whole.
    pub(crate) fn journal_flushed(&self) -> JournalPosition {
        self.inner.hold().flushed_at
    }

    /// Nothing is flushed any more. Gives what was not.
    pub(crate) fn fail(&self) -> Vec<Progress> {
        let mut inner = self.inner.hold();
        inner.failed = true;
        self.done.notify_all();
        std::mem::take(&mut inner.unflushed).progress
    }

    /// The entries up to number `sequence` were taken back.
    pub(crate) fn skip_to(&self, sequence: u64) {
        let mut inner = self.inner.hold();
        inner.written = inner.written.max(sequence);
        if inner.unflushed.progress.is_empty() {
            inner.flushed = inner.flushed.max(sequence);
            self.flushed.store(inner.flushed, Ordering::SeqCst);
        } else {
            inner.unflushed.sequence = inner.unflushed.sequence.max(sequence);
        }
        self.done.notify_all();
    }

    /// Waits for a flush of the entries up to number `sequence`. False if there won't be one.
    pub(crate) fn wait_for(&self, sequence: u64) -> bool {
        let mut inner = self.inner.hold();
        while inner.flushed < sequence && !inner.failed && !inner.stop {
            inner = wait(&self.done, inner);
        }
        inner.flushed >= sequence
    }

    /// Waits until the entries up to number `sequence` are written. False if they won't be.
    pub(crate) fn wait_written(&self, sequence: u64) -> bool {
        let mut inner = self.inner.hold();
        while inner.written < sequence && !inner.failed && !inner.stop {
            inner = wait(&self.done, inner);
        }
        inner.written >= sequence
    }

    /// Ends the flush thread.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.hold();
        inner.stop = true;
        inner.waits = false;
        self.wake.notify_all();
        self.done.notify_all();
    }

    /// Waits for something to flush; `None` when stopped.
    fn take(&self, flush_ms: u64, now_ms: &dyn Fn() -> u64) -> Option<Unflushed> {
        let mut inner = self.inner.hold();
        loop {
            if inner.stop || inner.failed {
                return None;
            }
            let something = inner.written > inner.flushed;
            let wanted = self.requested.load(Ordering::SeqCst) > inner.flushed;
            let age = inner.unflushed.since_ms.map(|since| now_ms().saturating_sub(since));
            let overdue = age.is_some_and(|age| age >= flush_ms);
            if something && (wanted || overdue) {
                inner.generation += 1;
                inner.waits = false;
                return Some(std::mem::take(&mut inner.unflushed));
            }
            inner.waits = true;
            inner = match age {
                Some(age) => {
                    wait_for(&self.wake, inner, Duration::from_millis((flush_ms - age.min(flush_ms)).max(1)))
                }
                None => wait(&self.wake, inner),
            };
        }
    }

    /// What was taken is as safe as it is meant to be: on the disk, or (`synced` is false) with the operating system alone,
    /// of which the journal must not say that it was flushed.
    fn finish(&self, flushed: &Unflushed, synced: bool) {
        let mut inner = self.inner.hold();
        inner.flushed = inner.flushed.max(flushed.sequence);
        if synced {
            inner.flushed_at = flushed.end;
        }
        self.flushed.store(inner.flushed, Ordering::SeqCst);
        self.done.notify_all();
    }
}

impl Core {
    /// Flushes until stopped.
    pub(crate) fn run_flusher(self: &Arc<Self>) {
        let clock = self.clock.clone();
        let now = move || clock.monotonic_ms();
        while let Some(unflushed) = self.flush.take(self.options.flush_ms.max(1), &now) {
            if self.flush_mode() == FlushMode::Os {
                self.flush.finish(&unflushed, false);
                continue;
            }
            let began = Instant::now();
            self.flush.flushing.store(true, Ordering::SeqCst);
            let synced = self.sync(&unflushed);
            self.flush.flushing.store(false, Ordering::SeqCst);
            if let Err(what) = synced {
                // What this flush was for is not flushed either.
                self.flush.put_back(unflushed);
                self.poison(&what);
                return;
            }
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            count(&self.counters.flushes, 1);
            count(&self.counters.flush_us, took);
            self.counters.flush_us_max.fetch_max(took, Ordering::Relaxed);
            for (partition, end) in &unflushed.progress {
                partition.note_flushed(*end);
            }
            // The listener first: who waits for the flush in order to cut a log must not have it told of the old end later.
            self.listener.on_flushed(&unflushed.progress);
            self.flush.finish(&unflushed, true);
            // Those who wait for the next flush only left the writer asleep meanwhile, and no time is lost in waking it.
            self.write_queued();
        }
    }

    /// Flushes files, several at once if there are several.
    fn sync(&self, unflushed: &Unflushed) -> Result<(), String> {
        let journal = |(number, file): &(u64, Arc<dyn DiskFile>)| {
            file.sync_data().map_err(|e| format!("flushing journal file {number} failed: {e}"))?;
            if self.flush.is_new_journal(*number) {
                self.disk
                    .sync_dir(&self.journal_dir())
                    .map_err(|e| format!("flushing the journal's folder failed: {e}"))?;
            }
            Ok(())
        };
        let segment = |s: &DirtySegment| {
            match s.file.sync_data().and_then(|()| s.partition.sync_new_files(s.segment)) {
                // Its folder may be gone by now, and nobody waits for it.
                Err(_) if s.partition.lock().deleted => Ok(()),
                Err(e) => Err(format!(
                    "flushing segment {} of partition {} failed: {e}",
                    s.segment,
                    s.partition.key()
                )),
                Ok(()) => Ok(()),
            }
        };
        if unflushed.segments.is_empty() {
            return unflushed.journals.iter().try_for_each(journal);
        }
        const HELPERS: usize = 3;
        let share = unflushed.segments.len().div_ceil(HELPERS);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = unflushed
                .segments
                .chunks(share)
                .map(|some| scope.spawn(move || some.iter().try_for_each(segment)))
                .collect();
            let mut result = unflushed.journals.iter().try_for_each(journal);
            for helper in helpers {
                let theirs = helper.join().unwrap_or_else(|_| Err("a flush helper ended early".to_owned()));
                result = result.and(theirs);
            }
            result
        })
    }
}

impl Flush {
    /// Returns what could not be flushed to what is not.
    fn put_back(&self, mut older: Unflushed) {
        let mut inner = self.inner.hold();
        inner.generation += 1;
        let newer = std::mem::take(&mut inner.unflushed);
        for (partition, end) in newer.progress {
            match older.progress.iter_mut().find(|(p, _)| Arc::ptr_eq(p, &partition)) {
                Some(known) => known.1 = end,
                None => older.progress.push((partition, end)),
            }
        }
        inner.unflushed = older;
    }

    /// True the first time it is asked of a journal file: its name is to be flushed, too.
    fn is_new_journal(&self, number: u64) -> bool {
        self.inner.hold().flushed_at.file < number
    }
}
