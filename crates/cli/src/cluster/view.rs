//! The cluster as all of its nodes see it: each is asked, and what they say is put together.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_base::NodeId;
use chronik_client::{HttpError, get_json};
use chronik_status::{ClusterStatus, Kind, MetadataRole, Problem, Severity};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// What the nodes say, put together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// What the node says that knows best (the metadata leader, else the one with the newest metadata), with the peers and
    /// followers of all and what is wrong seen from everywhere.
    #[serde(flatten)]
    pub status: ClusterStatus,
    /// Every node, asked or not.
    pub nodes: Vec<NodeView>,
}

/// A node and what it said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Where it was asked.
    pub address: String,
    /// Why it didn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// Its software's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long it has been running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Its part in the metadata's quorum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<MetadataRole>,
}

/// A node's answer, or why there is none.
pub type Answer<T> = Result<T, String>;

/// Asks one of `servers`, then every node that it names.
///
/// # Errors
/// Why none of `servers` answers.
pub async fn gather(servers: &[String], limit: Duration) -> anyhow::Result<View> {
    let (first, others) = first_answer(servers, limit).await?;
    let mut answers = ask_all(&others, "/v1/cluster/status", limit).await;
    answers.insert(first.node_id, (own_address(&first, servers), Ok(first)));
    Ok(merge(answers))
}

/// Asks one of `servers` who is there, then every node for `path`.
///
/// # Errors
/// Why none of `servers` answers.
pub async fn ask_everyone<T: DeserializeOwned + Send + 'static>(
    servers: &[String],
    path: &str,
    limit: Duration,
) -> anyhow::Result<BTreeMap<NodeId, (String, Answer<T>)>> {
    let (first, mut nodes) = first_answer(servers, limit).await?;
    nodes.insert(first.node_id, own_address(&first, servers));
    Ok(ask_all(&nodes, path, limit).await)
}

/// The status of the first server that has one, and the other nodes that it knows.
async fn first_answer(
    servers: &[String],
    limit: Duration,
) -> anyhow::Result<(ClusterStatus, BTreeMap<NodeId, String>)> {
    let mut failed: Vec<String> = Vec::new();
    for server in servers {
        match get_json::<ClusterStatus>(server, "/v1/cluster/status", limit).await {
            Ok(status) => {
                let others = addresses(&status);
                return Ok((status, others));
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    anyhow::bail!("no node answers: {}", failed.join("; "))
}

/// Where the answering node can be asked again: at the address that it registered, or else where it answered.
fn own_address(status: &ClusterStatus, servers: &[String]) -> String {
    let registered = status.broker(status.node_id).map(|broker| broker.address.clone());
    registered.filter(|address| !address.is_empty()).or_else(|| servers.first().cloned()).unwrap_or_default()
}

/// Where the other nodes are, as far as this one knows: what clients are told, before what nodes use among themselves.
fn addresses(status: &ClusterStatus) -> BTreeMap<NodeId, String> {
    let brokers = status.brokers.iter().map(|broker| (broker.id, &broker.address));
    let internal = status.brokers.iter().map(|broker| (broker.id, &broker.internal_address));
    let voters = status.metadata.voters.iter().map(|voter| (voter.id, &voter.address));
    let peers = status.peers.iter().filter_map(|peer| Some((peer.id?, &peer.address)));
    let mut addresses = BTreeMap::new();
    for (id, address) in brokers.chain(internal).chain(voters).chain(peers) {
        if id != status.node_id && !address.is_empty() {
            addresses.entry(id).or_insert_with(|| address.clone());
        }
    }
    addresses
}

/// Asks all at once.
async fn ask_all<T: DeserializeOwned + Send + 'static>(
    nodes: &BTreeMap<NodeId, String>,
    path: &str,
    limit: Duration,
) -> BTreeMap<NodeId, (String, Answer<T>)> {
    let mut asking = JoinSet::new();
    for (id, address) in nodes {
        let (id, address, path) = (*id, address.clone(), path.to_owned());
        asking.spawn(async move {
            let answer = get_json(&address, &path, limit).await.map_err(|error: HttpError| match error {
                HttpError::Unreachable { source, .. } => source.to_string(),
                other => other.to_string(),
            });
            (id, (address, answer))
        });
    }
    let mut answers = BTreeMap::new();
    while let Some(answered) = asking.join_next().await {
        if let Ok((id, answer)) = answered {
            answers.insert(id, answer);
        }
    }
    answers
}

/// Puts the answers together.
pub fn merge(answers: BTreeMap<NodeId, (String, Answer<ClusterStatus>)>) -> View {
    let mut nodes = Vec::new();
    let mut statuses: Vec<ClusterStatus> = Vec::new();
    for (id, (address, answer)) in answers {
        let mut node = NodeView { id, address, ..NodeView::default() };
        match answer {
            Ok(status) if status.node_id != id => {
                node.silent = Some(format!("answers as node {}", status.node_id))
            }
            Ok(status) => {
                node.version = Some(status.version.clone());
                node.uptime_ms = Some(status.uptime_ms);
                node.role = Some(status.metadata.role);
                statuses.push(status);
            }
            Err(reason) => node.silent = Some(reason),
        }
        nodes.push(node);
    }
    let knows = |status: &ClusterStatus| {
        let leads =
            status.metadata.role == MetadataRole::Leader && status.metadata.leader == Some(status.node_id);
        (leads, status.metadata.term, status.metadata.applied_offset)
    };
    let mut best = statuses.iter().max_by_key(|status| knows(status)).cloned().unwrap_or_default();
    best.peers = statuses.iter().flat_map(|status| status.peers.clone()).collect();
    best.followers = statuses.iter().flat_map(|status| status.followers.clone()).collect();
    best.problems = best.find_problems();
    let others = statuses.iter().filter(|status| status.node_id != best.node_id);
    best.problems.extend(others.flat_map(of_the_node_alone));
    let unasked: Vec<Problem> = nodes.iter().filter_map(|node| unasked(node, &best)).collect();
    best.problems.extend(unasked);
    best.problems.sort_by_key(|problem| problem.severity);
    View { status: best, nodes }
}

/// What only the node itself can say of itself.
fn of_the_node_alone(status: &ClusterStatus) -> Vec<Problem> {
    let mut problems = status.find_problems();
    problems.retain(|problem| problem.kind == Kind::NotReady);
    problems
}

/// A node that takes part and doesn't answer here.
fn unasked(node: &NodeView, status: &ClusterStatus) -> Option<Problem> {
    let reason = node.silent.as_ref()?;
    let is_told_already = status.broker(node.id).is_none_or(|broker| broker.fenced)
        || status.peers.iter().any(|peer| peer.id == Some(node.id) && peer.problem.is_some());
    (!is_told_already).then(|| Problem {
        severity: Severity::Notice,
        kind: Kind::UnreachablePeer,
        what: format!(
            "node {} at {} takes part and can't be asked from here: {reason}",
            node.id, node.address
        ),
        action: "if clients can't reach it either, it needs another `advertise`, or its port let through"
            .to_owned(),
    })
}
