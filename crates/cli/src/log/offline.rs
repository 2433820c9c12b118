//! Opens the log of a node that does not run, without writing a byte of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use chronik_base::{Chunk, Uuid};
use chronik_log::{
    DataDir, LogListener, LogManager, LogOptions, PartitionKey, PartitionLog, Progress, RecoverySummary,
};
use chronik_meta::{MetaStore, StoreOptions};
use chronik_node::SystemClock;
use chronik_records::{Batch, Batches};

use super::read_only_disk::ReadOnlyDisk;

/// Bytes of records that one read takes.
const READ_BYTES: usize = 1 << 20;

/// The log of a node, as its next start would find it.
pub struct OfflineLog {
    manager: Arc<LogManager>,
    /// What the start would find and do.
    pub recovery: RecoverySummary,
    topics: BTreeMap<String, Uuid>,
}

/// A partition with the name of its topic.
pub struct OfflinePartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    log: Arc<PartitionLog>,
}

/// Nobody waits for anything here.
struct Deaf;

impl LogListener for Deaf {
    fn on_written(&self, _: &[Progress]) {}

    fn on_flushed(&self, _: &[Progress]) {}

    fn on_failed(&self, _: &[Progress], _: &str) {}
}

impl OfflineLog {
    /// Opens the log in `data_dir`. The directory's lock is held as long as this lives.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        ensure!(
            data_dir.join("format").exists(),
            "{} is no data directory of a node: it has no file `format`",
            data_dir.display()
        );
        let dir = DataDir::open(data_dir)?;
        let topics = topics(data_dir)?;
        // Nothing is to happen by itself.
        let options = LogOptions {
            retention_check_ms: u64::from(u32::MAX),
            checkpoint_interval_ms: u64::from(u32::MAX),
            ..LogOptions::default()
        };
        let disk = Arc::new(ReadOnlyDisk::default());
        let (manager, recovery) =
            LogManager::open(dir, disk, Arc::new(SystemClock::new()), options, Arc::new(Deaf))?;
        Ok(Self { manager, recovery, topics })
    }

    /// The partitions of `topic` (a name or an id), or of every topic; of these, only `partition` if it is given.
    pub fn partitions(
        &self,
        topic: Option<&str>,
        partition: Option<i32>,
    ) -> anyhow::Result<Vec<OfflinePartition>> {
        let wanted = topic.map(|topic| self.topic_id(topic)).transpose()?;
        let names: BTreeMap<Uuid, &String> = self.topics.iter().map(|(name, id)| (*id, name)).collect();
        let mut found: Vec<OfflinePartition> = self
            .manager
            .partitions()
            .into_iter()
            .filter(|log| wanted.is_none_or(|wanted| wanted == log.key().topic_id))
            .filter(|log| partition.is_none_or(|wanted| wanted == log.key().partition))
            .map(|log| {
                let PartitionKey { topic_id, partition } = log.key();
                let topic = names.get(&topic_id).map_or_else(|| topic_id.to_string(), |name| (*name).clone());
                OfflinePartition { topic, partition, log }
            })
            .collect();
        found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        if let (Some(topic), true) = (topic, found.is_empty()) {
            match partition {
                Some(partition) => bail!("there is no log of {topic}-{partition} here"),
                None => bail!("there is no log of topic {topic} here: nothing was ever written to it"),
            }
        }
        Ok(found)
    }

    fn topic_id(&self, topic: &str) -> anyhow::Result<Uuid> {
        if let Some(id) = self.topics.get(topic) {
            return Ok(*id);
        }
        topic.parse().with_context(|| {
            let names: Vec<&str> = self.topics.keys().map(String::as_str).collect();
            format!("there is no topic {topic} here; there are: {}", names.join(", "))
        })
    }
}

/// The topics by name. The metadata are read from a copy, as reading them cuts off what is torn.
fn topics(data_dir: &Path) -> anyhow::Result<BTreeMap<String, Uuid>> {
    let copy = tempfile::tempdir().context("can't make a temporary directory")?;
    let meta = data_dir.join("meta");
    let entries = match std::fs::read_dir(&meta) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", meta.display())),
    };
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, copy.path().join(name))
                .with_context(|| format!("can't copy {}", path.display()))?;
        }
    }
    let options = StoreOptions { flush: false, ..StoreOptions::default() };
    let (store, _) = MetaStore::open(copy.path(), options)?;
    Ok(store.image().topics().map(|topic| (topic.name.to_string(), topic.id)).collect())
}

impl OfflinePartition {
    /// The offset of the first record that is there.
    pub fn start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    /// The offset after the last record.
    pub fn end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    /// Visits the batches from the one that holds `from` on, up to `to`, each with its CRC checked.
    ///
    /// # Errors
    /// What can't be read, or is damaged; or what `visit` makes of a batch.
    pub fn batches(
        &self,
        from: i64,
        to: i64,
        mut visit: impl FnMut(&Batch<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(why) = self.log.offline() {
            bail!("{why}");
        }
        let mut next = from.max(self.start_offset());
        while next < to.min(self.end_offset()) {
            let plan = self.log.read(next, READ_BYTES, i64::MAX, true)?;
            if plan.next_offset <= next {
                break;
            }
            let mut bytes = Vec::with_capacity(plan.bytes);
            for chunk in &plan.chunks {
                match chunk {
                    Chunk::Bytes(piece) => bytes.extend_from_slice(piece),
                    Chunk::File(range) => bail!("{range:?} is not in memory"),
                }
            }
            for batch in Batches::new(&bytes) {
                let batch = batch.with_context(|| format!("at offset {next}"))?;
                let base = batch.header().base_offset;
                if base >= to {
                    return Ok(());
                }
                batch.verify_crc().with_context(|| format!("at offset {base}"))?;
                visit(&batch)?;
            }
            next = plan.next_offset;
        }
        Ok(())
    }
}
