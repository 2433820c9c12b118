//! `chronik topic`: creates, lists, describes, alters and deletes topics of any Kafka cluster.

use std::process::ExitCode;

use chronik_base::ErrorCode;
use chronik_client::{Client, To};
use chronik_protocol::Str;
use chronik_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use chronik_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use chronik_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use chronik_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::connect::{self, ConnectArgs, Refusals, parse_pair};
use crate::elect::{self, ElectArgs};
use crate::output;
use crate::topic_describe::{self, TOPIC_RESOURCE};
use crate::topic_reassign::{self, ReassignArgs};

const EXAMPLES: &str = "\
Examples:
  chronik topic create orders --partitions 6 --config retention.ms=604800000
  chronik topic create logs --search
  chronik topic list --json
  chronik topic describe orders
  chronik topic alter orders --partitions 12 --set cleanup.policy=compact --unset retention.ms
  chronik topic reassign orders --to-nodes 1,2,4 --watch
  chronik topic reassign orders --replicas 0=1,2,3 1=2,3,1
  chronik topic delete orders --bootstrap-server kafka1:9092,kafka2:9092";

/// Arguments of `chronik topic`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TopicArgs {
    #[command(flatten)]
    cluster: ConnectArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create topics
    Create(Create),
    /// List topics
    List {
        /// Internal ones too
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and the configs that were set for it
    Describe {
        /// Topics; all, if none is named
        names: Vec<String>,
    },
    /// Add partitions, set and unset configs
    Alter(Alter),
    /// Move a topic's replicas to other nodes, stop a move, or watch it
    Reassign(ReassignArgs),
    /// Elect leaders: the preferred ones, or where there is none any replica
    Elect(ElectArgs),
    /// Delete topics with their records
    Delete {
        /// Topics
        #[arg(required = true)]
        names: Vec<String>,
        /// A topic that is not there is no error
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Args)]
struct Create {
    /// Topics
    #[arg(required = true)]
    names: Vec<String>,
    /// Partitions; without this, what the broker has as default
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas; without this, what the broker has as default
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A config of the topic
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Make its records searchable (search.enabled=true)
    #[arg(long)]
    search: bool,
    /// A topic that is there already is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be created
    #[arg(long)]
    validate_only: bool,
}

#[derive(Args)]
struct Alter {
    /// The topic
    name: String,
    /// Partitions that it is to have; there can't be fewer than now
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a config
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// Set a config back to the broker's default
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
}

/// Runs the command.
pub fn run(args: &TopicArgs) -> ExitCode {
    connect::run(async {
        let client = args.cluster.connect().await?;
        match &args.action {
            Action::Create(create) => self::create(args, &client, create).await,
            Action::List { internal } => list(args, &client, *internal).await,
            Action::Describe { names } => topic_describe::run(&args.cluster, &client, names).await,
            Action::Reassign(reassign) => topic_reassign::run(&args.cluster, &client, reassign).await,
            Action::Elect(elect) => elect::run(&args.cluster, &client, elect).await,
            Action::Alter(alter) => self::alter(args, &client, alter).await,
            Action::Delete { names, if_exists } => delete(args, &client, names, *if_exists).await,
        }
    })
}

#[derive(Serialize)]
struct Done<'a> {
    topic: &'a str,
    done: &'static str,
}

fn say<'a>(args: &TopicArgs, done: &'static str, topics: impl Iterator<Item = &'a str>) {
    if args.cluster.json {
        output::json(&topics.map(|topic| Done { topic, done }).collect::<Vec<_>>());
    } else {
        topics.for_each(|topic| output::line(&format!("{done} {topic}")));
    }
}

async fn create(args: &TopicArgs, client: &Client, create: &Create) -> anyhow::Result<ExitCode> {
    let searchable = ("search.enabled".to_owned(), "true".to_owned());
    let topic = |name: &String| CreatableTopic {
        name: Str::from(name),
        // -1: the broker's default (KIP-464).
        num_partitions: create.partitions.unwrap_or(-1),
        replication_factor: create.replication_factor.unwrap_or(-1),
        configs: create
            .config
            .iter()
            .chain(create.search.then_some(&searchable))
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from(name),
                value: Some(Str::from(value)),
            })
            .collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: create.names.iter().map(topic).collect(),
        timeout_ms: args.cluster.timeout_ms(),
        validate_only: create.validate_only,
    };
    let answer = client.send(To::Controller, &request).await?;
    let mut refusals = Refusals::default();
    let mut created = Vec::new();
    for topic in &answer.topics {
        let is_there = topic.error_code == ErrorCode::TopicAlreadyExists.code() && create.if_not_exists;
        let message = topic.error_message.as_deref();
        if !is_there && refusals.check(topic.error_code, message, || format!("topic {}", topic.name)) {
            created.push(&*topic.name);
        }
    }
    let done = if create.validate_only { "could create" } else { "created" };
    say(args, done, created.into_iter());
    Ok(refusals.exit_code())
}

#[derive(Serialize)]
struct Listed {
    name: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

async fn list(args: &TopicArgs, client: &Client, internal: bool) -> anyhow::Result<ExitCode> {
    let answer = client.metadata(None, false).await?;
    let mut topics: Vec<Listed> = answer
        .topics
        .iter()
        .filter(|topic| internal || !topic.is_internal)
        .map(|topic| Listed {
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len()),
            internal: topic.is_internal,
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    if args.cluster.json {
        output::json(&topics);
    } else {
        let rows = topics
            .into_iter()
            .map(|topic| [topic.name, topic.partitions.to_string(), topic.replication_factor.to_string()]);
        output::table(["TOPIC", "PARTITIONS", "REPLICAS"], rows);
    }
    Ok(ExitCode::SUCCESS)
}

async fn alter(args: &TopicArgs, client: &Client, alter: &Alter) -> anyhow::Result<ExitCode> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let name = &alter.name;
    let mut refusals = Refusals::default();
    anyhow::ensure!(
        alter.partitions.is_some() || !alter.set.is_empty() || !alter.unset.is_empty(),
        "nothing to alter: give --partitions, --set or --unset"
    );
    if !alter.set.is_empty() || !alter.unset.is_empty() {
        let set = alter.set.iter().map(|(name, value)| (name, SET, Some(Str::from(value))));
        let unset = alter.unset.iter().map(|name| (name, DELETE, None));
        let config = |(name, config_operation, value): (&String, i8, Option<Str>)| AlterableConfig {
            name: Str::from(name),
            config_operation,
            value,
        };
        let resource = AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Str::from(name),
            configs: set.chain(unset).map(config).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = client.send(To::Controller, &request).await?;
        for result in &answer.responses {
            refusals.check(result.error_code, result.error_message.as_deref(), || format!("topic {name}"));
        }
    }
    if let Some(count) = alter.partitions {
        let topic = CreatePartitionsTopic { name: Str::from(name), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: args.cluster.timeout_ms(),
            validate_only: false,
        };
        let answer = client.send(To::Controller, &request).await?;
        for result in &answer.results {
            refusals.check(result.error_code, result.error_message.as_deref(), || format!("topic {name}"));
        }
    }
    if refusals.exit_code() == ExitCode::SUCCESS {
        say(args, "altered", std::iter::once(name.as_str()));
    }
    Ok(refusals.exit_code())
}

async fn delete(
    args: &TopicArgs,
    client: &Client,
    names: &[String],
    if_exists: bool,
) -> anyhow::Result<ExitCode> {
    let make = |version| {
        let by_name = |name: &String| DeleteTopicState { name: Some(Str::from(name)), ..Default::default() };
        // From version 6 on topics can be named by id as well, so names have moved.
        let (topics, topic_names) = if version >= 6 {
            (names.iter().map(by_name).collect(), Vec::new())
        } else {
            (Vec::new(), names.iter().map(Str::from).collect())
        };
        DeleteTopicsRequest { topics, topic_names, timeout_ms: args.cluster.timeout_ms() }
    };
    let answer = client.send_up_to(To::Controller, i16::MAX, make).await?;
    let mut refusals = Refusals::default();
    let mut deleted = Vec::new();
    for topic in &answer.responses {
        let name = topic.name.as_deref().unwrap_or_default();
        let is_gone = topic.error_code == ErrorCode::UnknownTopicOrPartition.code() && if_exists;
        let message = topic.error_message.as_deref();
        if !is_gone && refusals.check(topic.error_code, message, || format!("topic {name}")) {
            deleted.push(name);
        }
    }
    say(args, "deleted", deleted.into_iter());
    Ok(refusals.exit_code())
}
