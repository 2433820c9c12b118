//! `chronik topic elect`: leaders elected by hand.

use std::process::ExitCode;

use chronik_base::ErrorCode;
use chronik_client::{Client, ClientError, To};
use chronik_protocol::Str;
use chronik_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use chronik_status::count;
use clap::Args;
use serde::Serialize;

use crate::connect::{ConnectArgs, Refusals};
use crate::output;

/// ElectLeaders names its two elections by these numbers (KIP-460).
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Arguments of `chronik topic elect`.
#[derive(Args)]
pub struct ElectArgs {
    /// Topics; all, if none is named
    #[arg(required_if_eq("unclean", "true"))]
    names: Vec<String>,
    /// Make a replica leader that isn't in sync, where there is no leader: records that only others have are lost
    #[arg(long)]
    unclean: bool,
}

#[derive(Serialize)]
struct Elected {
    elected: u64,
    not_needed: u64,
}

/// Elects leaders.
pub async fn run(connect: &ConnectArgs, client: &Client, args: &ElectArgs) -> anyhow::Result<ExitCode> {
    let names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    if args.unclean {
        return elect(connect, client, UNCLEAN, Some(&names)).await;
    }
    preferred(connect, client, (!names.is_empty()).then_some(&names[..])).await
}

/// Gives partitions of these topics (or all) back to their preferred leaders.
pub async fn preferred(
    connect: &ConnectArgs,
    client: &Client,
    topics: Option<&[&str]>,
) -> anyhow::Result<ExitCode> {
    elect(connect, client, PREFERRED, topics).await
}

async fn elect(
    connect: &ConnectArgs,
    client: &Client,
    election_type: i8,
    topics: Option<&[&str]>,
) -> anyhow::Result<ExitCode> {
    let topic_partitions = match topics {
        None => None,
        Some(names) => {
            let answer = client.metadata(Some(names), false).await?;
            let mut partitions = Vec::new();
            for topic in &answer.topics {
                let name = topic.name.as_deref().unwrap_or_default();
                ClientError::check(topic.error_code, None, || format!("topic {name}"))?;
                partitions.push(TopicPartitions {
                    topic: Str::from(name),
                    partitions: topic.partitions.iter().map(|partition| partition.partition_index).collect(),
                });
            }
            Some(partitions)
        }
    };
    let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: connect.timeout_ms() };
    let answer = client.send(To::Controller, &request).await?;
    ClientError::check(answer.error_code, None, || "election".to_owned())?;
    let mut refusals = Refusals::default();
    let done = judge(&answer, &mut refusals);
    if connect.json {
        output::json(&done);
    } else {
        output::line(&format!("{} another leader", count(done.elected, "partition has", "partitions have")));
    }
    Ok(refusals.exit_code())
}

fn judge(answer: &ElectLeadersResponse, refusals: &mut Refusals) -> Elected {
    let mut done = Elected { elected: 0, not_needed: 0 };
    for topic in &answer.replica_election_results {
        for partition in &topic.partition_result {
            let what = || format!("{}-{}", topic.topic, partition.partition_id);
            if partition.error_code == ErrorCode::ElectionNotNeeded.code() {
                done.not_needed += 1;
            } else if refusals.check(partition.error_code, partition.error_message.as_deref(), what) {
                done.elected += 1;
            }
        }
    }
    done
}
