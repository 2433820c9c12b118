//! Topics, and the client settings that every client of a run shares.

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Settings that make a client come back at once when its broker does.
pub fn client_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "chronik-harness")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "50")
        .set("retry.backoff.ms", "10")
        .set("socket.nagle.disable", "true");
    config
}

/// A topic to create.
pub struct Topic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    pub settings: &'a [(&'a str, &'a str)],
}

/// Creates topics of one replica and waits until each partition has a leader.
pub fn create_topics(bootstrap: &str, topics: &[Topic<'_>]) -> Result<()> {
    create_replicated(bootstrap, topics, 1)
}

/// Creates topics with so many replicas of each partition and waits until each partition has a leader.
pub fn create_replicated(bootstrap: &str, topics: &[Topic<'_>], replicas: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(bootstrap).create().context("making the admin client")?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(replicas));
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    for result in runtime.block_on(admin.create_topics(&wanted, &options)).context("creating topics")? {
        if let Err((topic, code)) = result {
            bail!("creating topic {topic}: {code}");
        }
    }
    let started = Instant::now();
    for topic in topics {
        loop {
            let metadata =
                admin.inner().fetch_metadata(Some(topic.name), PATIENCE).context("asking for metadata")?;
            let led = metadata
                .topics()
                .first()
                .map_or(0, |found| found.partitions().iter().filter(|p| p.leader() >= 0).count());
            if led >= topic.partitions as usize {
                break;
            }
            if started.elapsed() > PATIENCE {
                bail!("topic {} has {led} of {} partitions with a leader", topic.name, topic.partitions);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
