//! The topic of a run: made for it and removed after it, or one that exists and is left as it is.
//!
//! The tool never writes into or removes a topic that it did not create, unless `--use-existing` allows the writing.

use crate::args::Target;
use crate::interrupt;
use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use std::time::{Duration, Instant};

/// Longest wait for an answer to an administrative request.
pub const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(10);

/// A context that says nothing: lost connections show in the results.
pub struct Silent;

impl ClientContext for Silent {
    fn error(&self, _error: KafkaError, _reason: &str) {}
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

type Admin = AdminClient<Silent>;

/// The client settings that everything shares.
pub fn client_config(target: &Target) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &target.bootstrap_server);
    config.set("client.id", "chronik-bench");
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    config.set("socket.nagle.disable", "true");
    config
}

/// Settings from the command line, applied last so that they win.
pub fn apply_settings(config: &mut ClientConfig, target: &Target) {
    for (key, value) in &target.settings {
        config.set(key, value);
    }
}

fn admin(target: &Target) -> Result<Admin> {
    let mut config = client_config(target);
    // librdkafka ignores what is for another kind of client.
    apply_settings(&mut config, target);
    config.create_with_context(Silent).context("making the admin client")
}

fn options(patience: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience))
}

fn wait_for<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(future))
}

/// The topic of a run. Dropping it removes it, if the run created it.
pub struct Topic {
    admin: Admin,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// True if this run created it.
    pub created: bool,
    removed: bool,
}

impl Topic {
    /// Creates the topic, or finds it where `--use-existing` says that it is there.
    pub fn prepare(target: &Target) -> Result<Self> {
        let admin = admin(target)?;
        if target.use_existing {
            let partitions = existing(&admin, target)?;
            let name = target.topic.clone();
            return Ok(Self { admin, name, partitions, created: false, removed: true });
        }
        create(&admin, target, PATIENCE)?;
        let topic = Self {
            admin,
            name: target.topic.clone(),
            partitions: target.partitions,
            created: true,
            removed: target.keep_topic,
        };
        wait_for_leaders(&topic.admin, target)?;
        Ok(topic)
    }

    /// The brokers of the cluster, HOST:PORT.
    pub fn brokers(&self) -> Result<Vec<String>> {
        let metadata = self.admin.inner().fetch_metadata(Some(&self.name), PATIENCE)?;
        Ok(metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect())
    }

    /// The largest batch that the topic takes, if the broker tells.
    pub fn largest_batch(&self) -> Option<usize> {
        let asked = [ResourceSpecifier::Topic(&self.name)];
        let answers = wait_for(self.admin.describe_configs(&asked, &options(PATIENCE))).ok()?.ok()?;
        let config = answers.into_iter().next()?.ok()?;
        config.get("max.message.bytes")?.value.as_ref()?.parse().ok()
    }

    /// First and next offset of a partition.
    pub fn watermarks(&self, partition: i32) -> Result<(i64, i64)> {
        patiently(|| self.admin.inner().fetch_watermarks(&self.name, partition, PATIENCE))
            .with_context(|| format!("asking for the offsets of {}-{partition}", self.name))
    }

    /// Removes a group of this run. One that stays costs the broker little and expires with its offsets.
    pub fn forget_group(&self, name: &str) {
        let _ = wait_for(self.admin.delete_groups(&[name], &options(PATIENCE)));
    }

    /// Removes the topic now, if the run created it and it is not to be kept.
    pub fn remove(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let deleted = wait_for(self.admin.delete_topics(&[&self.name], &options(PATIENCE)))?;
        let results = deleted.with_context(|| format!("removing topic {} of this run", self.name))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => bail!("removing topic {topic} of this run: {code}"),
            }
        }
        Ok(())
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("chronik-bench: {error:#}");
        }
    }
}

/// The same target with a topic that stays at the end.
pub fn to_keep(target: &Target) -> Target {
    Target { keep_topic: !target.use_existing, ..target.clone() }
}

/// The same at a cluster that is starting. librdkafka asks for the controller once and then waits for minutes where
/// there is none yet, so this asks again until there are as many nodes as replicas, and gives up soon: the caller
/// comes again with a new client.
pub fn ensure_while_starting(target: &Target) -> Result<()> {
    const ATTEMPT: Duration = Duration::from_millis(500);
    let admin = admin(target)?;
    let metadata = admin.inner().fetch_metadata(None, ATTEMPT);
    let metadata = metadata.with_context(|| format!("asking {} for metadata", target.bootstrap_server))?;
    let nodes = metadata.brokers().len();
    if nodes < target.replication_factor as usize {
        let factor = target.replication_factor;
        bail!("{nodes} nodes at {}, {factor} wanted (--replication-factor)", target.bootstrap_server);
    }
    // A topic of an earlier attempt, or of whoever uses the tool to see a known topic come back, is fine here.
    if !metadata.topics().iter().any(|topic| topic.name() == target.topic) {
        create(&admin, target, ATTEMPT)?;
    }
    wait_for_leaders(&admin, target)
}

fn create(admin: &Admin, target: &Target, patience: Duration) -> Result<()> {
    let replication = TopicReplication::Fixed(target.replication_factor);
    let mut topic = NewTopic::new(&target.topic, target.partitions, replication);
    for (key, value) in &target.topic_config {
        topic = topic.set(key, value);
    }
    let results = wait_for(admin.create_topics([&topic], &options(patience)))?
        .with_context(|| format!("creating topic {} at {}", target.topic, target.bootstrap_server))?;
    for result in results {
        match result {
            Ok(_) => {}
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => bail!(
                "topic {topic} is there already, and this tool writes only into topics that it made: \
                 choose another (--topic), or allow it (--use-existing)"
            ),
            Err((topic, code)) => {
                bail!("creating topic {topic} at {}: {}", target.bootstrap_server, explain(target, code))
            }
        }
    }
    Ok(())
}

fn explain(target: &Target, code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => {
            format!("{code}: there are fewer nodes than {} (--replication-factor)", target.replication_factor)
        }
        RDKafkaErrorCode::InvalidConfig => format!("{code} (--topic-config)"),
        RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidPartitions => {
            format!("{code}: {} partitions (--partitions)", target.partitions)
        }
        code => code.to_string(),
    }
}

/// The partitions of a topic that must be there. All topics are asked for: brokers create one that is asked for alone.
fn existing(admin: &Admin, target: &Target) -> Result<i32> {
    let metadata = admin
        .inner()
        .fetch_metadata(None, PATIENCE)
        .with_context(|| format!("asking {} for metadata", target.bootstrap_server))?;
    match metadata.topics().iter().find(|topic| topic.name() == target.topic) {
        Some(topic) if !topic.partitions().is_empty() => {
            i32::try_from(topic.partitions().len()).context("counting partitions")
        }
        _ => bail!(
            "there is no topic {} at {}; without --use-existing it is created",
            target.topic,
            target.bootstrap_server
        ),
    }
}

/// Asks again while the answer is one for the moment: a node of a cluster may not know yet of a topic that another one created, of
/// its leader, or of a group's coordinator.
pub fn patiently<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if is_for_the_moment(&error) && began.elapsed() < PATIENCE => {
                std::thread::sleep(AGAIN);
            }
            found => return found,
        }
    }
}

fn is_for_the_moment(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

fn wait_for_leaders(admin: &Admin, target: &Target) -> Result<()> {
    let started = Instant::now();
    loop {
        let metadata = admin
            .inner()
            .fetch_metadata(Some(&target.topic), PATIENCE)
            .with_context(|| format!("asking {} for metadata", target.bootstrap_server))?;
        let topic = metadata.topics().first();
        let led = topic.map_or(0, |t| t.partitions().iter().filter(|p| p.leader() >= 0).count());
        if led >= target.partitions as usize {
            return Ok(());
        }
        if started.elapsed() > PATIENCE || interrupt::requested() {
            bail!(
                "topic {} has {led} partitions with a leader after {} s, {} wanted (--partitions)",
                target.topic,
                started.elapsed().as_secs(),
                target.partitions
            );
        }
        std::thread::sleep(AGAIN);
    }
}
