//! `chronik cluster drain`: every replica off a node, so that it can be switched off.

use std::process::ExitCode;

use chronik_base::NodeId;
use chronik_client::{Client, ClientError, To};
use chronik_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use clap::Args;

use crate::connect::ConnectArgs;
use crate::moving::{self, Cluster, MoveArgs};
use crate::output;
use crate::plan::{self, listed};

/// Arguments of `chronik cluster drain`.
#[derive(Args)]
pub struct DrainArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    node: NodeId,
    /// Forget the node afterwards: for one that is gone for good. It must have no vote any more (`remove-voter`)
    #[arg(long, conflicts_with = "no_wait")]
    unregister: bool,
    #[command(flatten)]
    moves: MoveArgs,
}

/// Moves everything off the node.
pub async fn run(connect: &ConnectArgs, args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let client = connect.connect().await?;
    let mut cluster = Cluster::read(&client, None).await?;
    let node = args.node;
    anyhow::ensure!(
        cluster.knows(node),
        "there is no node {node}: the cluster has {}",
        listed(&cluster.ids())
    );
    for leaving in cluster.nodes.iter_mut().filter(|other| other.id == node) {
        leaving.takes_replicas = false;
    }
    // Replicas on other nodes that are down stay: those may come back.
    let moves = plan::evacuate(&cluster.placements, &cluster.nodes, |id| id == node, None)?;
    let code = moving::carry_out(connect, &client, &moves, &args.moves).await?;
    if args.unregister && !args.moves.dry_run && code == ExitCode::SUCCESS {
        unregister(&client, node).await?;
        if !connect.json {
            output::line(&format!("node {node} is forgotten"));
        }
    }
    Ok(code)
}

async fn unregister(client: &Client, node: NodeId) -> anyhow::Result<()> {
    let answer = client.send(To::Controller, &UnregisterBrokerRequest { broker_id: node }).await?;
    Ok(ClientError::check(answer.error_code, answer.error_message.as_deref(), || format!("node {node}"))?)
}
