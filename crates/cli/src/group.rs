//! `chronik group`: lists, describes, resets and deletes consumer groups of any Kafka cluster.

use std::process::ExitCode;

use chronik_client::{Client, To};
use chronik_protocol::Str;
use chronik_protocol::messages::delete_groups::DeleteGroupsRequest;
use chronik_protocol::messages::list_groups::ListGroupsRequest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::connect::{self, ConnectArgs, Refusals};
use crate::group_describe;
use crate::group_reset::{self, Reset};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  chronik group list --state Stable
  chronik group describe billing
  chronik group reset-offsets billing --topic orders --to-earliest             (shows what it would do)
  chronik group reset-offsets billing --topic orders:0,1 --shift-by -100 --execute
  chronik group delete billing";

/// Arguments of `chronik group`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct GroupArgs {
    #[command(flatten)]
    pub(crate) cluster: ConnectArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List groups
    List {
        /// Only groups in this state: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
    },
    /// Show a group's members, committed offsets and lag
    Describe {
        /// Groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Move the committed offsets of a group without members
    ResetOffsets(Reset),
    /// Delete groups without members, with their offsets
    Delete {
        /// Groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

/// Runs the command.
pub fn run(args: &GroupArgs) -> ExitCode {
    connect::run(async {
        let client = args.cluster.connect().await?;
        match &args.action {
            Action::List { state } => list(args, &client, state).await,
            Action::Describe { groups } => group_describe::run(args.cluster.json, &client, groups).await,
            Action::ResetOffsets(reset) => group_reset::run(args.cluster.json, &client, reset).await,
            Action::Delete { groups } => delete(args, &client, groups).await,
        }
    })
}

#[derive(Serialize)]
struct Listed {
    group: String,
    state: String,
    r#type: String,
    protocol: String,
}

async fn list(args: &GroupArgs, client: &Client, states: &[String]) -> anyhow::Result<ExitCode> {
    let request =
        ListGroupsRequest { states_filter: states.iter().map(Str::from).collect(), ..Default::default() };
    // A group is listed by its coordinator, so every broker is asked.
    let brokers = client.metadata(Some(&[]), false).await?.brokers;
    let mut refusals = Refusals::default();
    let mut groups = Vec::new();
    for broker in brokers {
        let answer = client.send(To::Broker(broker.node_id), &request).await?;
        if refusals.check(answer.error_code, None, || format!("broker {}", broker.node_id)) {
            groups.extend(answer.groups.into_iter().map(|group| Listed {
                group: group.group_id.to_string(),
                state: group.group_state.to_string(),
                r#type: group.group_type.to_string(),
                protocol: group.protocol_type.to_string(),
            }));
        }
    }
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    if args.cluster.json {
        output::json(&groups);
    } else {
        let rows = groups.into_iter().map(|group| [group.group, group.state, group.r#type, group.protocol]);
        output::table(["GROUP", "STATE", "TYPE", "PROTOCOL"], rows);
    }
    Ok(refusals.exit_code())
}

async fn delete(args: &GroupArgs, client: &Client, groups: &[String]) -> anyhow::Result<ExitCode> {
    let mut refusals = Refusals::default();
    let mut deleted = Vec::new();
    for group in groups {
        let request = DeleteGroupsRequest { groups_names: vec![Str::from(group)] };
        let answer = client.send(To::Group(group), &request).await?;
        for result in &answer.results {
            if refusals.check(result.error_code, result.error_message.as_deref(), || format!("group {group}"))
            {
                deleted.push(group);
            }
        }
    }
    if args.cluster.json {
        output::json(&deleted);
    } else {
        deleted.iter().for_each(|group| output::line(&format!("deleted {group}")));
    }
    Ok(refusals.exit_code())
}
