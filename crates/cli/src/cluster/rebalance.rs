//! `chronik cluster rebalance`: replicas and leaders spread evenly.

use std::process::ExitCode;

use clap::Args;

use crate::connect::ConnectArgs;
use crate::moving::{self, Cluster, MoveArgs};
use crate::{elect, plan};

/// Arguments of `chronik cluster rebalance`.
#[derive(Args)]
pub struct RebalanceArgs {
    /// Move no replica, only give partitions back to their preferred leaders
    #[arg(long)]
    leaders_only: bool,
    #[command(flatten)]
    moves: MoveArgs,
}

/// Moves replicas until they are spread evenly, then lets preferred leaders lead.
pub async fn run(connect: &ConnectArgs, args: &RebalanceArgs) -> anyhow::Result<ExitCode> {
    let client = connect.connect().await?;
    if !args.leaders_only {
        let cluster = Cluster::read(&client, None).await?;
        let moves = plan::rebalance(&cluster.placements, &cluster.nodes);
        let code = moving::carry_out(connect, &client, &moves, &args.moves).await?;
        if code != ExitCode::SUCCESS || args.moves.dry_run {
            return Ok(code);
        }
    }
    elect::preferred(connect, &client, None).await
}
