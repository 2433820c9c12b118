//! What a consumer group was given and what it committed, compared with the log as it is.

use super::{PARTITIONS, TOPIC};
use crate::admin;
use anyhow::{Context, Result, bail};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const DETAILS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a member is in the partitions it has: the offset that comes next.
pub type Positions = BTreeMap<i32, i64>;

/// What one group was given, and what it committed.
pub struct Seen {
    pub group: &'static str,
    /// By partition and offset, the CRC-32C of the record; `None` where nothing was read yet.
    records: Vec<Vec<Option<u32>>>,
    /// By partition, the highest offset whose commit was acknowledged.
    committed: Vec<i64>,
    pub commits: u64,
    pub read: u64,
    pub wrong: u64,
    pub details: Vec<String>,
}

/// The same for all of a group's members.
pub type Shared = Arc<Mutex<Seen>>;

/// Locks what a group has seen.
pub fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// Nothing yet.
    pub fn new(group: &'static str) -> Shared {
        Arc::new(Mutex::new(Self {
            group,
            records: vec![Vec::new(); PARTITIONS],
            committed: vec![0; PARTITIONS],
            commits: 0,
            read: 0,
            wrong: 0,
            details: Vec::new(),
        }))
    }

    pub fn wrong(&mut self, detail: String) {
        self.wrong += 1;
        if self.details.len() < DETAILS {
            self.details.push(format!("{}: {detail}", self.group));
        }
    }

    /// A member was given a record.
    pub fn given(&mut self, positions: &mut Positions, partition: i32, offset: i64, checksum: u32) {
        match positions.insert(partition, offset + 1) {
            None => {
                let committed = self.committed.get(partition as usize).copied().unwrap_or_default();
                if offset < committed {
                    self.wrong(format!(
                        "a commit was lost: {TOPIC}-{partition} was given from {offset} on, after {committed} was committed"
                    ));
                }
            }
            Some(expected) if expected != offset => {
                self.wrong(format!("{TOPIC}-{partition}: offset {offset} came where {expected} was next"));
            }
            Some(_) => {}
        }
        self.note(partition as usize, offset, checksum);
    }

    /// The coordinator acknowledged these offsets.
    pub fn committed(&mut self, offsets: impl IntoIterator<Item = (i32, i64)>) {
        self.commits += 1;
        for (partition, offset) in offsets {
            if let Some(committed) = self.committed.get_mut(partition as usize) {
                *committed = (*committed).max(offset);
            }
        }
    }

    /// Notes a record; a second reading must give the same.
    fn note(&mut self, partition: usize, offset: i64, checksum: u32) {
        let Some(records) = self.records.get_mut(partition) else { return };
        let at = offset as usize;
        if records.len() <= at {
            records.resize(at + 1, None);
        }
        let Some(slot) = records.get_mut(at) else { return };
        let before = slot.replace(checksum);
        self.read += u64::from(before.is_none());
        if before.is_some_and(|before| before != checksum) {
            self.wrong(format!("{TOPIC}-{partition} offset {offset} was read twice, with different bytes"));
        }
    }

    /// Offsets below the ends that the group was never given.
    fn skipped(&self, ends: &[i64]) -> usize {
        let skipped = |(partition, end): (usize, &i64)| {
            let records = self.records.get(partition).map_or(&[][..], Vec::as_slice);
            (0..*end as usize).filter(|at| records.get(*at).copied().flatten().is_none()).count()
        };
        ends.iter().enumerate().map(skipped).sum()
    }
}

/// The log as it is once nobody writes to it any more.
pub struct Log {
    bootstrap: String,
    ends: Vec<i64>,
}

impl Log {
    /// Asks for the end of every partition.
    pub fn look(bootstrap: &str) -> Result<Self> {
        let consumer = consumer(bootstrap, "chaos-last")?;
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let marks = consumer.fetch_watermarks(TOPIC, partition as i32, PATIENCE / 2);
            ends.push(marks.with_context(|| format!("asking for the end of {TOPIC}-{partition}"))?.1);
        }
        Ok(Self { bootstrap: bootstrap.to_owned(), ends })
    }

    /// Waits until the groups were given everything.
    pub fn wait_given(&self, groups: &[Shared], within: Duration) {
        let started = Instant::now();
        let left = |seen: &Shared| lock(seen).skipped(&self.ends) > 0;
        while started.elapsed() < within && groups.iter().any(left) {
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Compares with everything that the groups were given, and with the offsets that their coordinators have now; the
    /// groups must have ended.
    pub fn compare(&self, groups: &[Shared]) -> Result<()> {
        for seen in groups {
            let mut seen = lock(seen);
            let left = seen.skipped(&self.ends);
            if left > 0 {
                seen.wrong(format!("{left} records were not given to it in time"));
            }
            self.compare_offsets(&mut seen)?;
        }
        self.read_again(groups)
    }

    fn compare_offsets(&self, seen: &mut Seen) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(TOPIC, 0, PARTITIONS as i32 - 1);
        let now = consumer(&self.bootstrap, seen.group)?
            .committed_offsets(list, PATIENCE / 2)
            .with_context(|| format!("asking for what {} committed", seen.group))?;
        for element in now.elements() {
            let committed = seen.committed.get(element.partition() as usize).copied().unwrap_or_default();
            let kept = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
            if kept < committed {
                seen.wrong(format!(
                    "a commit was lost: {TOPIC}-{} has {kept}, after {committed} was committed",
                    element.partition()
                ));
            }
        }
        Ok(())
    }

    /// Reads everything once more: what was read before must be there, unchanged.
    fn read_again(&self, groups: &[Shared]) -> Result<()> {
        let consumer = consumer(&self.bootstrap, "chaos-last")?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(TOPIC, partition as i32, Offset::Beginning)?;
        }
        consumer.assign(&list).context("assigning the partitions")?;
        let mut next = vec![0; self.ends.len()];
        let mut last_arrival = Instant::now();
        while next.iter().zip(&self.ends).any(|(next, end)| next < end) {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                last_arrival = Instant::now();
                let partition = message.partition() as usize;
                if let Some(next) = next.get_mut(partition) {
                    *next = message.offset() + 1;
                }
                let checksum = crc32c::crc32c(message.payload().unwrap_or_default());
                groups.iter().for_each(|seen| lock(seen).note(partition, message.offset(), checksum));
            } else if last_arrival.elapsed() > PATIENCE {
                let (patience, ends) = (PATIENCE.as_secs(), &self.ends);
                bail!("nothing came for {patience} s when all was read again; offsets {next:?} of {ends:?}");
            }
        }
        for seen in groups {
            let mut seen = lock(seen);
            for (partition, end) in self.ends.iter().enumerate() {
                let read = seen.records.get(partition).map_or(0, Vec::len);
                if read as i64 > *end {
                    seen.wrong(format!(
                        "{TOPIC}-{partition} ends at {end}, but was read up to {read} before"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn consumer(bootstrap: &str, group: &str) -> Result<BaseConsumer> {
    admin::client_config(bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .context("making a consumer that looks at the log")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong after the group was given these offsets of partition 0 by one member.
    fn wrong(committed: i64, given: &[(i64, u32)]) -> u64 {
        let seen = Seen::new("g");
        let mut seen = lock(&seen);
        seen.committed([(0, committed)]);
        let mut positions = Positions::new();
        given.iter().for_each(|(offset, checksum)| seen.given(&mut positions, 0, *offset, *checksum));
        seen.wrong
    }

    #[test]
    fn a_member_goes_on_where_the_group_committed_and_skips_nothing() {
        assert_eq!(wrong(5, &[(5, 1), (6, 2), (7, 3)]), 0);
        assert_eq!(wrong(5, &[(4, 1)]), 1, "a commit was lost");
        assert_eq!(wrong(0, &[(0, 1), (2, 2)]), 1, "one was skipped");
        assert_eq!(wrong(0, &[(0, 1), (0, 1)]), 1, "one came twice");
    }

    #[test]
    fn what_is_read_again_must_be_the_same() {
        let seen = Seen::new("g");
        let mut seen = lock(&seen);
        for checksum in [7, 7, 8] {
            seen.given(&mut Positions::new(), 0, 0, checksum);
        }
        assert_eq!((seen.read, seen.wrong), (1, 1));
        assert_eq!(seen.skipped(&[3]), 2);
    }
}
