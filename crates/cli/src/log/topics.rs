//! The topics of a data directory by name, and the logs that a command line means.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use chronik_base::Uuid;
use chronik_log::PartitionKey;
use chronik_log::offline::OfflineLogs;
use chronik_meta::{Identity, MetaStore, Role, StoreOptions};

/// The ids of the topics, by name.
pub struct Topics(BTreeMap<String, Uuid>);

/// A partition that has a log, with the name of its topic.
pub struct Partition {
    /// The topic's name; its id if it has none any more.
    pub topic: String,
    /// The partition.
    pub key: PartitionKey,
}

/// A copy of a directory of files; `None` if it is not there.
fn copy(directory: &Path) -> anyhow::Result<Option<tempfile::TempDir>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", directory.display())),
    };
    let copy = tempfile::tempdir().context("can't make a temporary directory")?;
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, copy.path().join(name))
                .with_context(|| format!("can't copy {}", path.display()))?;
        }
    }
    Ok(Some(copy))
}

impl Topics {
    /// Reads them from a copy, as reading metadata cuts off what is torn.
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let identity = Identity::find(data_dir)?;
        let is_voter = identity.as_ref().is_some_and(|identity| identity.role == Role::Voter);
        let Some(copy) = copy(&data_dir.join(if is_voter { "raft" } else { "meta" }))? else {
            return Ok(Self(BTreeMap::new()));
        };
        let image = match identity {
            Some(identity) if is_voter => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                runtime.block_on(chronik_raft::read_image(identity.node_id, copy.path()))?
            }
            _ => {
                let options = StoreOptions { flush: false, ..StoreOptions::default() };
                MetaStore::open(copy.path(), options)?.0.image().clone()
            }
        };
        Ok(Self(image.topics().map(|topic| (topic.name.to_string(), topic.id)).collect()))
    }

    /// The partitions of `topic` (a name or an id), or of every topic; of these, only `partition` if it is given.
    pub fn select(
        &self,
        logs: &OfflineLogs,
        topic: Option<&str>,
        partition: Option<i32>,
    ) -> anyhow::Result<Vec<Partition>> {
        let wanted = topic.map(|topic| self.id(topic)).transpose()?;
        let names: BTreeMap<Uuid, &String> = self.0.iter().map(|(name, id)| (*id, name)).collect();
        let mut found: Vec<Partition> = logs
            .partitions()
            .into_iter()
            .filter(|key| wanted.is_none_or(|wanted| wanted == key.topic_id))
            .filter(|key| partition.is_none_or(|wanted| wanted == key.partition))
            .map(|key| {
                let topic = names.get(&key.topic_id);
                Partition {
                    topic: topic.map_or_else(|| key.topic_id.to_string(), |name| (*name).clone()),
                    key,
                }
            })
            .collect();
        found.sort_by(|a, b| (&a.topic, a.key.partition).cmp(&(&b.topic, b.key.partition)));
        if let (Some(topic), true) = (topic, found.is_empty()) {
            match partition {
                Some(partition) => bail!("there is no log of {topic}-{partition} here"),
                None => bail!("there is no log of topic {topic} here: nothing was ever written to it"),
            }
        }
        Ok(found)
    }

    fn id(&self, topic: &str) -> anyhow::Result<Uuid> {
        if let Some(id) = self.0.get(topic) {
            return Ok(*id);
        }
        topic.parse().map_err(|_| {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            anyhow!("there is no topic of the name or id {topic} here; topics that are: {names}")
        })
    }
}
