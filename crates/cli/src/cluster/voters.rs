//! `chronik cluster add-voter` and `remove-voter`: who votes on the metadata.

use std::process::ExitCode;

use chronik_base::{NodeId, Uuid};
use chronik_client::{Client, ClientError, To};
use chronik_config::Peer;
use chronik_protocol::Str;
use chronik_protocol::messages::add_raft_voter::{AddRaftVoterRequest, Listener};
use chronik_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, PartitionData, PartitionDataResponse, ReplicaState, TopicData,
};
use chronik_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use serde::Serialize;

use crate::connect::ConnectArgs;
use crate::output;
use crate::plan::listed;

/// The name by which DescribeQuorum knows the metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The listener that nodes reach each other by.
const INTERNAL_LISTENER: &str = "INTERNAL";

#[derive(Serialize)]
struct Changed {
    node: NodeId,
    done: &'static str,
    voters: Vec<NodeId>,
}

/// Gives a node a vote.
pub async fn add(connect: &ConnectArgs, voter: &Peer) -> anyhow::Result<ExitCode> {
    let client = connect.connect().await?;
    let before = quorum(&client).await?;
    let has_vote = ids(&before.current_voters).contains(&voter.id);
    anyhow::ensure!(
        !has_vote,
        "node {} has a vote already; voters are {}",
        voter.id,
        listed(&ids(&before.current_voters))
    );
    let listener = Listener {
        name: Str::from(INTERNAL_LISTENER),
        host: Str::from(&voter.address.host),
        port: voter.address.port,
    };
    let request = AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: connect.timeout_ms(),
        voter_id: voter.id,
        voter_directory_id: directory(&before.observers, voter.id),
        listeners: vec![listener],
        ack_when_committed: true,
    };
    let answer = client.send(To::Controller, &request).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || format!("voter {voter}"))?;
    report(connect, &client, voter.id, "votes").await
}

/// Takes a node's vote.
pub async fn remove(connect: &ConnectArgs, id: NodeId) -> anyhow::Result<ExitCode> {
    let client = connect.connect().await?;
    let before = quorum(&client).await?;
    let voters = ids(&before.current_voters);
    anyhow::ensure!(voters.contains(&id), "node {id} has no vote; voters are {}", listed(&voters));
    anyhow::ensure!(
        voters.len() > 1,
        "node {id} is the only voter: give another node a vote first (`chronik cluster add-voter ID@HOST:PORT`)"
    );
    let request = RemoveRaftVoterRequest {
        cluster_id: None,
        voter_id: id,
        voter_directory_id: directory(&before.current_voters, id),
    };
    let answer = client.send(To::Controller, &request).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || format!("voter {id}"))?;
    report(connect, &client, id, "votes no more").await
}

fn ids(replicas: &[ReplicaState]) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = replicas.iter().map(|replica| replica.replica_id).collect();
    ids.sort_unstable();
    ids
}

/// The id of the node's data directory, as far as it is known: zero stands for whichever it has.
fn directory(replicas: &[ReplicaState], id: NodeId) -> Uuid {
    replicas
        .iter()
        .find(|replica| replica.replica_id == id)
        .map_or(Uuid::ZERO, |replica| replica.replica_directory_id)
}

/// The quorum as it is.
async fn quorum(client: &Client) -> anyhow::Result<PartitionDataResponse> {
    let topic = TopicData {
        topic_name: Str::from_static(METADATA_TOPIC),
        partitions: vec![PartitionData { partition_index: 0 }],
    };
    let answer = client.send(To::Controller, &DescribeQuorumRequest { topics: vec![topic] }).await?;
    ClientError::check(answer.error_code, answer.error_message.as_deref(), || {
        "the metadata's quorum".to_owned()
    })?;
    let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let Some(partition) = partition else { anyhow::bail!("the answer names no quorum of {METADATA_TOPIC}") };
    ClientError::check(partition.error_code, partition.error_message.as_deref(), || {
        "the metadata's quorum".to_owned()
    })?;
    Ok(partition)
}

async fn report(
    connect: &ConnectArgs,
    client: &Client,
    node: NodeId,
    done: &'static str,
) -> anyhow::Result<ExitCode> {
    let voters = ids(&quorum(client).await?.current_voters);
    if connect.json {
        output::json(&Changed { node, done, voters });
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("node {node} {done}; voters are {}", listed(&voters)));
    if voters.len().is_multiple_of(2) {
        output::line(&format!(
            "{} voters survive the loss of {}, no more than {} would: an odd number is better",
            voters.len(),
            (voters.len() - 1) / 2,
            voters.len() - 1
        ));
    }
    Ok(ExitCode::SUCCESS)
}
