//! Making sure that the topic is there.

use crate::args::Target;
use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The client settings that every handle shares.
pub fn client_config(target: &Target) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &target.bootstrap);
    config.set("client.id", "chronik-bench");
    config.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "100");
    config
}

/// Settings from the command line, applied last so that they win.
pub fn apply_settings(config: &mut ClientConfig, target: &Target) {
    for (key, value) in &target.settings {
        config.set(key, value);
    }
}

/// Creates the topic unless it exists, and waits until its partitions have leaders.
pub fn ensure(target: &Target) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(target).create().context("making the admin client")?;
    create(&admin, target, PATIENCE)
}

/// The same at a cluster that is starting. librdkafka asks for the controller once and then waits for minutes where
/// there is none yet, so this asks again until there are as many nodes as replicas, and gives up soon: the caller
/// comes again with a new client.
pub fn ensure_while_starting(target: &Target) -> Result<()> {
    const ATTEMPT: Duration = Duration::from_millis(500);
    let admin: AdminClient<DefaultClientContext> =
        client_config(target).create().context("making the admin client")?;
    let metadata = admin.inner().fetch_metadata(None, ATTEMPT);
    let nodes =
        metadata.with_context(|| format!("asking {} for metadata", target.bootstrap))?.brokers().len();
    if nodes < target.replication_factor as usize {
        bail!(
            "{nodes} nodes at {}, {} wanted (--replication-factor)",
            target.bootstrap,
            target.replication_factor
        );
    }
    create(&admin, target, ATTEMPT)
}

fn create(admin: &AdminClient<DefaultClientContext>, target: &Target, patience: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let replication = TopicReplication::Fixed(target.replication_factor);
    let topic = NewTopic::new(&target.topic, target.partitions, replication);
    let options = AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience));
    let results = runtime
        .block_on(admin.create_topics([&topic], &options))
        .with_context(|| format!("creating topic {} at {}", target.topic, target.bootstrap))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => bail!("creating topic {topic} at {}: {code}", target.bootstrap),
        }
    }
    wait_for_leaders(admin, target)
}

/// Deletes the topic; one that is not there is no error.
pub fn delete(target: &Target) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(target).create().context("making the admin client")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let results = runtime
        .block_on(admin.delete_topics(&[&target.topic], &options))
        .with_context(|| format!("deleting topic {}", target.topic))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((topic, code)) => bail!("deleting topic {topic}: {code}"),
        }
    }
    Ok(())
}

fn wait_for_leaders(admin: &AdminClient<DefaultClientContext>, target: &Target) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let metadata = admin
            .inner()
            .fetch_metadata(Some(&target.topic), PATIENCE)
            .with_context(|| format!("asking {} for metadata", target.bootstrap))?;
        let topic = metadata.topics().first();
        let led = topic.map_or(0, |t| t.partitions().iter().filter(|p| p.leader() >= 0).count());
        if led >= target.partitions as usize {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(anyhow!(
                "topic {} has {led} partitions with a leader after {} s, {} wanted (--partitions); \
                 an older topic of that name may have fewer",
                target.topic,
                PATIENCE.as_secs(),
                target.partitions
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
