//! `chronik topic reassign`: a topic's replicas on other nodes.

use std::collections::BTreeSet;
use std::process::ExitCode;

use chronik_base::NodeId;
use chronik_client::Client;
use clap::Args;

use crate::connect::ConnectArgs;
use crate::moving::{self, Cluster, MoveArgs};
use crate::output;
use crate::plan::{self, Move, listed};

/// Arguments of `chronik topic reassign`.
#[derive(Args)]
pub struct ReassignArgs {
    /// The topic; without one, --watch and --cancel are about every topic
    #[arg(required_unless_present_any = ["watch", "cancel"])]
    topic: Option<String>,
    /// Where partitions are to be, the preferred leader first: PARTITION=NODE,NODE,...
    #[arg(long, value_name = "P=N,N,...", num_args = 1.., value_parser = parse_replicas, requires = "topic")]
    replicas: Vec<(i32, Vec<NodeId>)>,
    /// Put every replica onto these nodes, moving as few as that takes
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        conflicts_with = "replicas",
        requires = "topic"
    )]
    to_nodes: Vec<NodeId>,
    /// Give every partition that many replicas
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "to_nodes")]
    replication_factor: Option<u16>,
    /// Stop what is moving: partitions stay where they were
    #[arg(long, conflicts_with_all = ["replicas", "to_nodes"])]
    cancel: bool,
    /// Wait until it is done, and show how far it is
    #[arg(long)]
    watch: bool,
    /// Only show what would move
    #[arg(long, conflicts_with_all = ["cancel", "watch"])]
    dry_run: bool,
}

/// Reads `0=1,2,3`.
fn parse_replicas(text: &str) -> Result<(i32, Vec<NodeId>), String> {
    let wrong = || format!("{text:?} is not PARTITION=NODE,NODE,..., for example 0=1,2,3");
    let (partition, nodes) = text.split_once('=').ok_or_else(wrong)?;
    let partition = partition.parse().ok().filter(|partition| *partition >= 0).ok_or_else(wrong)?;
    let nodes: Vec<NodeId> =
        nodes.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let unique: BTreeSet<NodeId> = nodes.iter().copied().collect();
    if unique.len() != nodes.len() || unique.first().is_some_and(|id| *id < 0) {
        return Err(format!("{text:?} names a node twice, or a negative one"));
    }
    Ok((partition, nodes))
}

/// Moves, stops or watches.
pub async fn run(connect: &ConnectArgs, client: &Client, args: &ReassignArgs) -> anyhow::Result<ExitCode> {
    if args.cancel {
        return cancel(connect, client, args).await;
    }
    if args.replicas.is_empty() && args.to_nodes.is_empty() {
        anyhow::ensure!(args.watch, "nothing to do: give --replicas, --to-nodes, --cancel or --watch");
        return moving::watch(connect, client, of_topic(client, args.topic.as_deref()).await?).await;
    }
    let topic = args.topic.as_deref().unwrap_or_default();
    let cluster = Cluster::read(client, Some(topic)).await?;
    let moves = planned(args, cluster)?;
    let how = MoveArgs { dry_run: args.dry_run, no_wait: !args.watch };
    moving::carry_out(connect, client, &moves, &how).await
}

fn planned(args: &ReassignArgs, mut cluster: Cluster) -> anyhow::Result<Vec<Move>> {
    let known = cluster.ids();
    let named = args.to_nodes.iter().chain(args.replicas.iter().flat_map(|(_, nodes)| nodes));
    for id in named {
        anyhow::ensure!(known.contains(id), "there is no node {id}: the cluster has {}", listed(&known));
    }
    if !args.to_nodes.is_empty() {
        for node in &mut cluster.nodes {
            node.takes_replicas = args.to_nodes.contains(&node.id);
        }
        let leaving = |id: NodeId| !args.to_nodes.contains(&id);
        let factor = args.replication_factor.map(usize::from);
        return Ok(plan::evacuate(&cluster.placements, &cluster.nodes, leaving, factor)?);
    }
    let mut moves = Vec::new();
    for (partition, to) in &args.replicas {
        let found = cluster.placements.iter().find(|placement| placement.partition == *partition);
        let Some(found) = found else {
            anyhow::bail!("there is no partition {partition}: the topic has {}", cluster.placements.len());
        };
        if found.replicas != *to {
            moves.push(Move {
                topic: found.topic.clone(),
                partition: *partition,
                from: found.replicas.clone(),
                to: to.clone(),
            });
        }
    }
    Ok(moves)
}

/// What is moving of a topic, or of all.
async fn of_topic(client: &Client, topic: Option<&str>) -> anyhow::Result<Option<BTreeSet<(String, i32)>>> {
    let Some(topic) = topic else { return Ok(None) };
    let ongoing = moving::ongoing(client, None).await?;
    Ok(Some(ongoing.into_keys().filter(|(name, _)| name == topic).collect()))
}

async fn cancel(connect: &ConnectArgs, client: &Client, args: &ReassignArgs) -> anyhow::Result<ExitCode> {
    let ongoing = moving::ongoing(client, None).await?;
    let wanted = |name: &str| args.topic.as_deref().is_none_or(|topic| topic == name);
    let targets: Vec<&(String, i32)> = ongoing.keys().filter(|(name, _)| wanted(name)).collect();
    if !targets.is_empty() {
        let stop = targets.iter().map(|(name, partition)| (name.as_str(), *partition, None));
        let refusals = moving::alter(connect, client, stop).await?;
        if refusals.exit_code() != ExitCode::SUCCESS {
            return Ok(refusals.exit_code());
        }
    }
    if !connect.json {
        output::line(&format!("{} stopped", chronik_status::count(targets.len() as u64, "move", "moves")));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read() {
        assert_eq!(parse_replicas("0=1,2,3"), Ok((0, vec![1, 2, 3])));
        for bad in ["0", "=1", "x=1", "0=", "0=1,,2", "-1=1", "0=1,1", "0=-1"] {
            assert!(parse_replicas(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_by_hand_is_checked_against_the_cluster() {
        let cluster = || Cluster {
            nodes: [1, 2, 3].map(|id| plan::Node { id, rack: None, takes_replicas: true }).to_vec(),
            placements: vec![plan::Placement { topic: "t".to_owned(), partition: 0, replicas: vec![1, 2] }],
        };
        let args = |replicas: Vec<(i32, Vec<NodeId>)>, to_nodes: Vec<NodeId>| ReassignArgs {
            topic: Some("t".to_owned()),
            replicas,
            to_nodes,
            replication_factor: None,
            cancel: false,
            watch: false,
            dry_run: false,
        };
        let plan = |replicas, to_nodes| planned(&args(replicas, to_nodes), cluster());
        assert_eq!(plan(vec![(0, vec![3, 1])], vec![]).unwrap()[0].to, [3, 1]);
        assert_eq!(plan(vec![(0, vec![1, 2])], vec![]).unwrap(), []);
        assert_eq!(plan(vec![], vec![2, 3]).unwrap()[0].to, [2, 3]);
        assert_eq!(
            plan(vec![(0, vec![4])], vec![]).unwrap_err().to_string(),
            "there is no node 4: the cluster has 1,2,3"
        );
        assert_eq!(
            plan(vec![(9, vec![1])], vec![]).unwrap_err().to_string(),
            "there is no partition 9: the topic has 1"
        );
        assert!(plan(vec![], vec![3]).unwrap_err().to_string().contains("add a node"));
    }
}
