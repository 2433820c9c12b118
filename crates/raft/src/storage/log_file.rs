//! The log's files: segments of frames, numbered, only ever appended to and removed whole from the front.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::frame::{self, Found, Record};
use super::{
    Cut, HEAD, StorageOptions, check_crc, check_head, damaged, flush_directory, head, io_error, put_crc,
    unreadable,
};
use crate::codec::{Reader, put_optional_log_id};
use crate::error::StartError;
use crate::types::{Entry, LogId};

const NAME: &[u8; 8] = b"CHRONQLG";
const PREFIX: &str = "log-";
/// The last segment is filled with zeros this far ahead of its end: a flush that changes neither a file's size nor its blocks waits for
/// nothing but its own bytes.
const AHEAD: u64 = 256 << 10;

/// A segment's head: name, version, number (8), the log id before its first entry (25), CRC-32C of the last two (4).
const SEGMENT_HEAD: usize = HEAD + 8 + 25 + 4;

/// What the files hold.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) entries: VecDeque<Entry>,
    /// The last entry that was removed from the front.
    pub(super) purged: Option<LogId>,
    /// The last entry, also if it is purged.
    pub(super) last: Option<LogId>,
    pub(super) cut: Option<Cut>,
    /// Files in front of a gap that removals left.
    leftovers: Vec<PathBuf>,
}

struct Segment {
    number: u64,
    path: PathBuf,
    /// Bytes up to the end of its last frame.
    length: u64,
    /// Bytes of the file.
    allocated: u64,
    /// The index of the last entry before it.
    before: Option<u64>,
    /// The highest index of an entry that was ever written to it.
    highest: Option<u64>,
    /// The lowest index from which on a frame in it removes entries.
    lowest_cut: Option<u64>,
}

impl Segment {
    fn new(number: u64, path: PathBuf, before: Option<LogId>) -> Self {
        let before = before.map(|id| id.index);
        Self { number, path, length: 0, allocated: 0, before, highest: None, lowest_cut: None }
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Entries(entries) => {
                self.highest = self.highest.max(entries.last().map(|entry| entry.log_id.index));
            }
            Record::Truncate(since) => self.note_cut(*since),
            Record::Purge(_) => {}
        }
    }

    fn note_cut(&mut self, since: u64) {
        self.lowest_cut = Some(self.lowest_cut.map_or(since, |lowest| lowest.min(since)));
    }
}

/// The files, open for appending.
pub(super) struct LogFile {
    directory: PathBuf,
    durable: bool,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    /// The last segment's file.
    active: Option<File>,
    /// The last entry in the files: what the next segment's head names.
    last: Option<LogId>,
}

impl LogFile {
    /// Reads the log in the directory. `snapshot` is the last entry that the snapshot has: what was purged must be in it.
    pub(super) fn open(
        options: &StorageOptions,
        snapshot: Option<LogId>,
    ) -> Result<(Self, Replayed), StartError> {
        let mut log = Self {
            directory: options.directory.clone(),
            durable: options.durable,
            segment_bytes: options.segment_bytes,
            segments: VecDeque::new(),
            active: None,
            last: None,
        };
        let mut replayed = Replayed::default();
        let numbers = segment_numbers(&options.directory)?;
        let begin = first_of_run(&numbers);
        let run = numbers.get(begin..).unwrap_or(&[]);
        for number in run {
            log.read_segment(*number, Some(number) == run.last(), &mut replayed)?;
        }
        if replayed.purged.map(|id| id.index) > snapshot.map(|id| id.index) {
            let problem = format!(
                "the log begins behind entry {}, and the snapshot ends at {}: what is between is missing",
                replayed.purged.map_or(0, |id| id.index),
                snapshot.map_or("nothing".to_owned(), |id| id.index.to_string()),
            );
            return Err(damaged(&options.directory.join("snapshot"), 0, problem));
        }
        // Removed before a crash that kept only some of the removals: the snapshot has what was in them.
        replayed.leftovers = numbers
            .get(..begin)
            .unwrap_or(&[])
            .iter()
            .map(|n| segment_path(&options.directory, *n))
            .collect();
        log.last = replayed.last;
        Ok((log, replayed))
    }

    /// Makes the files what was read, and opens the last one: cuts the torn end, removes what is left over. Apart from reading, so that nothing
    /// is changed where something else shows that the log is damaged.
    pub(super) fn settle(&mut self, replayed: &Replayed) -> Result<(), StartError> {
        for path in &replayed.leftovers {
            fs::remove_file(path).map_err(io_error("remove", path))?;
        }
        match &replayed.cut {
            Some(cut) if cut.position == 0 => {
                fs::remove_file(&cut.path).map_err(io_error("remove", &cut.path))?;
            }
            Some(cut) => {
                cut_file(&cut.path, cut.position, self.durable).map_err(io_error("cut", &cut.path))?
            }
            None => {}
        }
        if let Some(segment) = self.segments.back() {
            let file = File::options().write(true).open(&segment.path);
            self.active = Some(file.map_err(io_error("open", &segment.path))?);
        }
        Ok(())
    }

    fn read_segment(
        &mut self,
        number: u64,
        is_last: bool,
        replayed: &mut Replayed,
    ) -> Result<(), StartError> {
        let path = segment_path(&self.directory, number);
        let bytes = Bytes::from(fs::read(&path).map_err(io_error("read", &path))?);
        let Some(before) = read_head(&path, &bytes, number, is_last)? else {
            // Nothing in it was ever acknowledged.
            let reason = "the first write was cut short".to_owned();
            replayed.cut = Some(Cut { path, position: 0, bytes: bytes.len() as u64, reason });
            return Ok(());
        };
        if self.segments.is_empty() {
            replayed.purged = before;
            replayed.last = before;
        } else if before != replayed.last {
            let text = |id: Option<LogId>| id.map_or("nothing".to_owned(), |id| id.to_string());
            let problem = format!(
                "it continues from {}, the log before it ends at {}",
                text(before),
                text(replayed.last)
            );
            return Err(damaged(&path, HEAD, problem));
        }
        let mut segment = Segment::new(number, path.clone(), before);
        let mut position = SEGMENT_HEAD;
        loop {
            match frame::read(&bytes, position) {
                Found::End => break,
                Found::Record(record, end) => {
                    segment.note(&record);
                    replayed.take(record).map_err(|problem| damaged(&path, position, problem))?;
                    position = end;
                }
                Found::Unreadable(error) => return Err(unreadable(&path, position, &error)),
                Found::Nothing(reason) => {
                    let behind = frame::next_whole(&bytes, position);
                    if let Some(next) = behind
                        .map(|next| format!("a whole frame behind it at byte {next}"))
                        .or_else(|| (!is_last).then(|| "a later file behind it".to_owned()))
                    {
                        return Err(damaged(&path, position, format!("{reason}, and there is {next}")));
                    }
                    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(position, |last| last + 1);
                    let cut = end.saturating_sub(position) as u64;
                    replayed.cut = Some(Cut {
                        path: path.clone(),
                        position: position as u64,
                        bytes: cut,
                        reason: reason.to_owned(),
                    });
                    break;
                }
            }
        }
        segment.length = position as u64;
        segment.allocated = if replayed.cut.is_some() { segment.length } else { bytes.len() as u64 };
        self.segments.push_back(segment);
        Ok(())
    }

    /// Appends the frame of `entries`, whose last one is `last`, and flushes it. After an error of the kind that passes (a full disk) it may be
    /// tried again; what was written is taken back.
    pub(super) fn append(&mut self, frame: &[u8], last: LogId) -> io::Result<()> {
        self.write(frame)?;
        if let Some(segment) = self.segments.back_mut() {
            segment.highest = segment.highest.max(Some(last.index));
        }
        self.last = Some(last);
        Ok(())
    }

    /// Writes that the entries from `since` on are gone; `last` is the one that is the last now.
    pub(super) fn truncate(&mut self, since: u64, last: Option<LogId>) -> io::Result<()> {
        self.write(&frame::truncate(since))?;
        if let Some(segment) = self.segments.back_mut() {
            segment.note_cut(since);
        }
        self.last = last;
        Ok(())
    }

    /// Writes that the entries up to `upto` are gone, and removes the segments that held nothing else.
    pub(super) fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.write(&frame::purge(&upto))?;
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
        for first in self.segments.drain(..self.removable(upto.index)) {
            fs::remove_file(&first.path)?;
        }
        Ok(())
    }

    /// How many segments from the front are not needed any more: all their entries are purged, and no frame behind them removes entries that
    /// were in them, which without them would make no sense.
    fn removable(&self, purged: u64) -> usize {
        let done = self.segments.iter().take_while(|segment| segment.highest <= Some(purged)).count();
        let stands_alone = |first: &usize| {
            let before = self.segments.get(*first).and_then(|segment| segment.before);
            let mut cuts = self.segments.iter().skip(*first).filter_map(|segment| segment.lowest_cut);
            cuts.all(|cut| Some(cut) > before)
        };
        let most = done.min(self.segments.len().saturating_sub(1));
        (1..=most).rev().find(stands_alone).unwrap_or(0)
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// The last segment's file, and where its last frame ends.
    #[cfg(test)]
    pub(super) fn end(&self) -> Option<(PathBuf, usize)> {
        self.segments.back().map(|segment| (segment.path.clone(), segment.length as usize))
    }

    /// Writes a frame behind the last one, into a new segment if that one is full; one flush either way, and one of the directory with a
    /// new segment.
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        match (&self.active, self.segments.back_mut()) {
            (Some(file), Some(segment)) if segment.length < self.segment_bytes => {
                let end = segment.length + frame.len() as u64;
                let written = if end <= segment.allocated {
                    file.write_all_at(frame, segment.length)
                } else {
                    file.write_all_at(&with_room(frame.to_vec()), segment.length)
                };
                if let Err(error) = written {
                    // Where even this fails, nobody goes on with the file: see the caller.
                    file.set_len(segment.length).map_err(flush_failed)?;
                    segment.allocated = segment.length;
                    return Err(error);
                }
                if self.durable {
                    file.sync_data().map_err(flush_failed)?;
                }
                if end > segment.allocated {
                    segment.allocated = end + AHEAD;
                }
                segment.length = end;
                Ok(())
            }
            (Some(file), Some(segment)) => {
                // What is not used of it is given back; where that fails, the zeros do no harm.
                if file.set_len(segment.length).is_ok() {
                    segment.allocated = segment.length;
                }
                self.begin_segment(frame)
            }
            _ => self.begin_segment(frame),
        }
    }

    fn begin_segment(&mut self, frame: &[u8]) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        let path = segment_path(&self.directory, number);
        let mut bytes = head(NAME);
        bytes.extend_from_slice(&number.to_le_bytes());
        put_optional_log_id(&mut bytes, self.last.as_ref());
        put_crc(&mut bytes, HEAD);
        bytes.extend_from_slice(frame);
        let mut segment = Segment::new(number, path, self.last);
        segment.length = bytes.len() as u64;
        segment.allocated = segment.length + AHEAD;
        let file = File::create(&segment.path)?;
        if let Err(error) = file.write_all_at(&with_room(bytes), 0) {
            fs::remove_file(&segment.path).map_err(flush_failed)?;
            return Err(error);
        }
        if self.durable {
            file.sync_data().map_err(flush_failed)?;
            flush_directory(&self.directory).map_err(flush_failed)?;
        }
        self.segments.push_back(segment);
        self.active = Some(file);
        Ok(())
    }
}

/// The bytes, with zeros behind them for what comes next.
fn with_room(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len() + AHEAD as usize, 0);
    bytes
}

/// After a flush that failed nothing is known of what the disk holds: never an error that passes.
fn flush_failed(error: io::Error) -> io::Error {
    io::Error::other(format!("flush failed: {error}"))
}

impl Replayed {
    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Entries(entries) => {
                for entry in entries {
                    let next = self.last.map_or(0, |last| last.index + 1);
                    if entry.log_id.index != next {
                        return Err(format!("entry {next} should follow, and it is {}", entry.log_id.index));
                    }
                    self.last = Some(entry.log_id);
                    self.entries.push_back(entry);
                }
            }
            Record::Truncate(since) => {
                while self.entries.back().is_some_and(|entry| entry.log_id.index >= since) {
                    self.entries.pop_back();
                }
                self.last = self.entries.back().map(|entry| entry.log_id).or(self.purged);
            }
            Record::Purge(upto) => {
                while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
                    self.entries.pop_front();
                }
                self.purged = self.purged.max(Some(upto));
                self.last = self.entries.back().map(|entry| entry.log_id).or(self.purged);
            }
        }
        Ok(())
    }
}

/// The log id that a segment's head names, or `None` if the segment is a last one whose first write was cut short.
fn read_head(
    path: &Path,
    bytes: &Bytes,
    number: u64,
    is_last: bool,
) -> Result<Option<Option<LogId>>, StartError> {
    let torn = is_last && frame::next_whole(bytes, 0).is_none();
    let blank = bytes.len() < SEGMENT_HEAD || bytes.iter().all(|byte| *byte == 0);
    if torn && blank {
        return Ok(None);
    }
    check_head(path, bytes, NAME)?;
    let Some(body) = bytes.get(HEAD..SEGMENT_HEAD).and_then(check_crc) else {
        return if torn { Ok(None) } else { Err(damaged(path, HEAD, "its head's CRC is wrong")) };
    };
    let mut input = Reader::new(Bytes::copy_from_slice(body));
    let read = input.u64("a segment's number").and_then(|number| Ok((number, input.optional_log_id()?)));
    match read {
        Ok((stated, before)) if stated == number => Ok(Some(before)),
        Ok((stated, _)) => Err(damaged(path, HEAD, format!("it is segment {stated}, by what it says"))),
        Err(error) => Err(unreadable(path, HEAD, &error)),
    }
}

fn cut_file(path: &Path, length: u64, durable: bool) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:020}"))
}

fn segment_numbers(directory: &Path) -> Result<Vec<u64>, StartError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("read", directory))? {
        let name = entry.map_err(io_error("read", directory))?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the last run of numbers without a gap begins.
fn first_of_run(numbers: &[u64]) -> usize {
    let gap = numbers.windows(2).rposition(|pair| matches!(pair, [a, b] if *b != *a + 1));
    gap.map_or(0, |gap| gap + 1)
}
