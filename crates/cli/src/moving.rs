//! Moves of replicas carried out: handed to the cluster, watched until they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use chronik_base::{ErrorCode, NodeId};
use chronik_client::{Client, ClientError, To};
use chronik_protocol::Str;
use chronik_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_protocol::messages::describe_cluster::DescribeClusterRequest;
use chronik_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics, OngoingPartitionReassignment,
};
use chronik_status::count;
use clap::Args;
use serde::Serialize;

use crate::cluster::lag_of_moves;
use crate::connect::{ConnectArgs, Refusals};
use crate::output;
use crate::plan::{Move, Node, Placement, listed, summary};

/// How often a move that is under way is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a plan is carried out.
#[derive(Args)]
pub struct MoveArgs {
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,
}

/// What a plan is made from.
pub struct Cluster {
    /// The nodes, with those that are down.
    pub nodes: Vec<Node>,
    /// Where the replicas are, or are going.
    pub placements: Vec<Placement>,
}

/// Partitions that are moving, by topic and index.
pub type Ongoing = BTreeMap<(String, i32), OngoingPartitionReassignment>;

impl Cluster {
    /// Reads nodes and replicas: of one topic, or of all.
    pub async fn read(client: &Client, topic: Option<&str>) -> anyhow::Result<Self> {
        let request =
            DescribeClusterRequest { include_fenced_brokers: true, ..DescribeClusterRequest::default() };
        let answer = client.send(To::Any, &request).await?;
        ClientError::check(answer.error_code, answer.error_message.as_deref(), || "the cluster".to_owned())?;
        let mut nodes: Vec<Node> = answer
            .brokers
            .iter()
            .map(|broker| Node {
                id: broker.broker_id,
                rack: broker.rack.as_ref().map(ToString::to_string).filter(|rack| !rack.is_empty()),
                takes_replicas: !broker.is_fenced,
            })
            .collect();
        nodes.sort_by_key(|node| node.id);
        let names: Option<Vec<&str>> = topic.map(|name| vec![name]);
        let answer = client.metadata(names.as_deref(), false).await?;
        let moving = ongoing(client, None).await?;
        let mut placements = Vec::new();
        for topic in &answer.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            ClientError::check(topic.error_code, None, || format!("topic {name}"))?;
            for partition in &topic.partitions {
                let leaving = moving.get(&(name.to_owned(), partition.partition_index));
                let leaving = leaving.map_or(&[][..], |ongoing| &ongoing.removing_replicas);
                let stays = |id: &&NodeId| !leaving.contains(id);
                placements.push(Placement {
                    topic: name.to_owned(),
                    partition: partition.partition_index,
                    replicas: partition.replica_nodes.iter().filter(stays).copied().collect(),
                });
            }
        }
        placements.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(Self { nodes, placements })
    }

    /// The nodes' ids.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// True if the node is registered, or was given replicas.
    pub fn knows(&self, node: NodeId) -> bool {
        self.ids().contains(&node)
            || self.placements.iter().any(|placement| placement.replicas.contains(&node))
    }
}

/// What is moving now: of these partitions, or all.
pub async fn ongoing(client: &Client, of: Option<&BTreeSet<(String, i32)>>) -> Result<Ongoing, ClientError> {
    let topics = of.map(|partitions| {
        let mut topics: Vec<ListPartitionReassignmentsTopics> = Vec::new();
        for (name, partition) in partitions {
            match topics.last_mut().filter(|topic| *topic.name == **name) {
                Some(topic) => topic.partition_indexes.push(*partition),
                None => topics.push(ListPartitionReassignmentsTopics {
                    name: Str::from(name),
                    partition_indexes: vec![*partition],
                }),
            }
        }
        topics
    });
    let request = ListPartitionReassignmentsRequest { timeout_ms: 30_000, topics };
    let answer = client.send(To::Controller, &request).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || "what is moving".to_owned())?;
    let mut ongoing = Ongoing::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            ongoing.insert((topic.name.to_string(), partition.partition_index), partition);
        }
    }
    Ok(ongoing)
}

#[derive(Serialize)]
struct PlannedMove<'a> {
    topic: &'a str,
    partition: i32,
    from: &'a [NodeId],
    to: &'a [NodeId],
}

/// Shows the moves, hands them to the cluster, and waits until they are done, as the arguments say.
pub async fn carry_out(
    connect: &ConnectArgs,
    client: &Client,
    moves: &[Move],
    args: &MoveArgs,
) -> anyhow::Result<ExitCode> {
    if connect.json {
        let shown = moves.iter().map(|one| PlannedMove {
            topic: &one.topic,
            partition: one.partition,
            from: &one.from,
            to: &one.to,
        });
        output::json(&shown.collect::<Vec<_>>());
    } else if moves.is_empty() {
        output::line("nothing to move");
    } else {
        output::line(&summary(moves));
    }
    if moves.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        if !connect.json {
            let rows = moves
                .iter()
                .map(|one| [format!("{}-{}", one.topic, one.partition), listed(&one.from), listed(&one.to)]);
            output::table(["PARTITION", "FROM", "TO"], rows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let targets = moves.iter().map(|one| (one.topic.as_str(), one.partition, Some(&one.to[..])));
    let refusals = alter(connect, client, targets).await?;
    if refusals.exit_code() != ExitCode::SUCCESS {
        return Ok(refusals.exit_code());
    }
    if args.no_wait {
        if !connect.json {
            output::line("under way; `chronik topic reassign --watch` shows how far");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let moving = moves.iter().map(|one| (one.topic.clone(), one.partition)).collect();
    watch(connect, client, Some(moving)).await
}

/// Tells the cluster where partitions are to be; `None` stops a move. Refusals are printed.
pub async fn alter<'a>(
    connect: &ConnectArgs,
    client: &Client,
    targets: impl Iterator<Item = (&'a str, i32, Option<&'a [NodeId]>)>,
) -> anyhow::Result<Refusals> {
    let mut topics: Vec<ReassignableTopic> = Vec::new();
    for (name, partition, replicas) in targets {
        let partition =
            ReassignablePartition { partition_index: partition, replicas: replicas.map(<[_]>::to_vec) };
        match topics.last_mut().filter(|topic| *topic.name == *name) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(ReassignableTopic { name: Str::from(name), partitions: vec![partition] }),
        }
    }
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: connect.timeout_ms(),
        allow_replication_factor_change: true,
        topics,
    };
    let answer = client.send(To::Controller, &request).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || "reassignment".to_owned())?;
    let mut refusals = Refusals::default();
    for topic in &answer.responses {
        for partition in &topic.partitions {
            // One that ended by itself in the meantime needs no stopping.
            if partition.error_code != ErrorCode::NoReassignmentInProgress.code() {
                let what = || format!("{}-{}", topic.name, partition.partition_index);
                refusals.check(partition.error_code, partition.error_message.as_deref(), what);
            }
        }
    }
    Ok(refusals)
}

/// How far moves are.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Partitions that are done.
    pub done: usize,
    /// Partitions in all.
    pub of: usize,
    /// Bytes that still have to be copied, where the nodes say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_left: Option<u64>,
}

impl Progress {
    /// For people.
    pub fn text(&self) -> String {
        let left = self.bytes_left.filter(|bytes| *bytes > 0);
        let left =
            left.map(|bytes| format!(", {} to copy", chronik_status::bytes(bytes))).unwrap_or_default();
        format!("{} of {} moved{left}", self.done, count(self.of as u64, "partition", "partitions"))
    }
}

/// Waits until these partitions (or all that are moving now) have moved, and shows how far they are.
pub async fn watch(
    connect: &ConnectArgs,
    client: &Client,
    partitions: Option<BTreeSet<(String, i32)>>,
) -> anyhow::Result<ExitCode> {
    let partitions = match partitions {
        Some(partitions) => partitions,
        None => ongoing(client, None).await?.into_keys().collect(),
    };
    if partitions.is_empty() {
        if !connect.json {
            output::line("nothing is moving");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = None;
    loop {
        let left = ongoing(client, Some(&partitions)).await?;
        let bytes_left = if left.is_empty() { None } else { lag_of_moves(connect, &left).await };
        let progress = Progress {
            done: partitions.len() - left.len().min(partitions.len()),
            of: partitions.len(),
            bytes_left,
        };
        if shown.as_ref() != Some(&progress) {
            if connect.json {
                output::line(&serde_json::to_string(&progress)?);
            } else {
                output::line(&progress.text());
            }
        }
        if left.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        shown = Some(progress);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
