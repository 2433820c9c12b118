//! `chronik cluster`: what a cluster is up to, and changes of its nodes.

mod drain;
mod lag;
mod promote;
mod rebalance;
mod render;
mod status;
#[cfg(test)]
mod tests;
mod view;
mod voters;

pub use lag::of_moves as lag_of_moves;

use std::process::ExitCode;

use chronik_config::Peer;
use clap::{Args, Subcommand};

use crate::connect::{self, ConnectArgs};

const EXAMPLES: &str = "\
Examples:
  chronik cluster status                      what is wrong, and what to do
  chronik cluster lag --watch                 how far followers are behind, and how fast they catch up
  chronik cluster add-voter 4@10.0.0.4:9092   node 4, which runs with --join, gets a vote
  chronik cluster remove-voter 1
  chronik cluster drain 1 --unregister        move everything off node 1 and forget it
  chronik cluster rebalance --dry-run         what it would take to spread replicas and leaders evenly
  chronik cluster promote --bootstrap-server hostB:9092
                                              the only voter is gone for good: go on at hostB";

/// Arguments of `chronik cluster`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ClusterArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show on one screen what is wrong with the cluster, and what to do
    Status,
    /// Show how far followers are behind
    Lag(lag::LagArgs),
    /// Give a node that follows a vote on the metadata
    AddVoter {
        /// The node
        #[arg(value_name = "ID@HOST:PORT", value_parser = Peer::parse)]
        voter: Peer,
    },
    /// Take a node's vote on the metadata
    RemoveVoter {
        /// The node
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
        id: i32,
    },
    /// Move every replica off a node
    Drain(drain::DrainArgs),
    /// Spread replicas and leaders evenly over the nodes
    Rebalance(rebalance::RebalanceArgs),
    /// Go on without voters that are gone for good, from the copy of the node that is asked
    Promote(promote::PromoteArgs),
}

/// Runs the command.
pub fn run(args: &ClusterArgs) -> ExitCode {
    let connect = &args.connect;
    connect::run(async {
        match &args.action {
            Action::Status => status::run(connect).await,
            Action::Lag(args) => lag::run(connect, args).await,
            Action::AddVoter { voter } => voters::add(connect, voter).await,
            Action::RemoveVoter { id } => voters::remove(connect, *id).await,
            Action::Drain(args) => drain::run(connect, args).await,
            Action::Rebalance(args) => rebalance::run(connect, args).await,
            Action::Promote(args) => promote::run(connect, args).await,
        }
    })
}
