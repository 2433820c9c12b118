//! The binary `chronik`: starts a node, shows its settings, and administers any Kafka broker.

mod cluster;
mod completions;
mod config;
mod connect;
mod consume;
mod elect;
mod group;
mod group_describe;
mod group_reset;
mod log;
mod moving;
mod output;
mod plan;
mod produce;
mod search;
mod setting_flags;
mod standalone;
mod timestamp;
mod topic;
mod topic_describe;
mod topic_reassign;

use std::process::ExitCode;

use chronik_config::Mode;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

/// A Kafka-compatible streaming broker: one binary, one port.
#[derive(Parser)]
#[command(name = "chronik", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  chronik standalone                                 a broker on localhost:9092, data in ./chronik-data
  chronik standalone --ephemeral --listen 127.0.0.1:0
                                                     a broker on a free port for a test; its data go with it
  chronik topic create orders --partitions 6         on localhost:9092, or any --bootstrap-server
  echo hello | chronik produce orders
  chronik consume orders --follow
  chronik search logs 'level:error' --since 1h
  chronik group describe billing
  chronik cluster status                             what is wrong with a cluster, and what to do
  chronik config                                     every setting: its value, and where that comes from";

#[derive(Subcommand)]
enum Action {
    /// Run a broker
    #[command(after_help = standalone::STANDALONE, after_long_help = standalone::STANDALONE_LONG)]
    Standalone(SettingArgs),
    /// Run a node of a replicated cluster
    #[command(after_help = standalone::RAFT_CLUSTER, after_long_help = standalone::RAFT_CLUSTER_LONG)]
    RaftCluster(SettingArgs),
    /// Create, list, describe, alter and delete topics
    Topic(topic::TopicArgs),
    /// Show what is wrong with a cluster, move replicas between its nodes, change its voters
    Cluster(cluster::ClusterArgs),
    /// List, describe, reset and delete consumer groups
    Group(group::GroupArgs),
    /// Send the lines of standard input to a topic
    Produce(produce::ProduceArgs),
    /// Print the records of a topic
    Consume(consume::ConsumeArgs),
    /// Find records of a topic that is searched
    Search(search::SearchArgs),
    /// Look into the data directory of a node that does not run: dump, verify, digest
    Log(log::LogArgs),
    /// Show every setting: its effective value, and where that comes from
    #[command(after_help = config::EXAMPLES)]
    Config(config::ConfigArgs),
    /// Print the completions of a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
}

/// Where settings come from; the flags of the settings themselves are added from their table.
#[derive(Args)]
struct SettingArgs {
    /// Read settings from this TOML file. Precedence: flag, environment, file, default.
    #[arg(long, value_name = "FILE", env = chronik_config::CONFIG_FILE_VARIABLE)]
    config: Option<String>,
}

fn main() -> ExitCode {
    let mut matches = command().get_matches();
    let cli = match Cli::from_arg_matches_mut(&mut matches.clone()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Some((_, action_matches)) = matches.remove_subcommand() else { return ExitCode::from(2) };
    match cli.action {
        Action::Standalone(args) => standalone::run(Mode::Standalone, &args, &action_matches),
        Action::RaftCluster(args) => standalone::run(Mode::RaftCluster, &args, &action_matches),
        Action::Topic(args) => topic::run(&args),
        Action::Cluster(args) => cluster::run(&args),
        Action::Group(args) => group::run(&args),
        Action::Produce(args) => produce::run(&args),
        Action::Consume(args) => consume::run(&args),
        Action::Search(args) => search::run(&args),
        Action::Log(args) => log::run(&args),
        Action::Config(args) => config::run(&args, &action_matches),
        Action::Completions(args) => completions::run(&args),
    }
}

/// The command line, with a flag for each setting where settings count.
fn command() -> Command {
    Cli::command()
        .mut_subcommand("standalone", setting_flags::add)
        .mut_subcommand("raft-cluster", setting_flags::add)
        .mut_subcommand("config", setting_flags::add)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
