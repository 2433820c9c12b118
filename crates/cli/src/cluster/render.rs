//! The screens of `chronik cluster status` and `chronik cluster lag`.

use std::collections::BTreeMap;
use std::fmt::Write;

use chronik_base::NodeId;
use chronik_status::{
    BrokerStatus, ClusterStatus, FollowerTotal, LagReport, MetadataRole, Mode, PartitionLag, Problem,
    Severity, bytes, count, duration,
};

use super::view::{NodeView, View};
use crate::output::table_text;
use crate::plan::listed;

/// One screen: what is wrong and what to do, then what is there.
pub fn status(view: &View) -> String {
    let status = &view.status;
    let mut text = String::new();
    let mode = match status.mode {
        Mode::Standalone if status.brokers.len() > 1 => "standalone, with followers",
        Mode::Standalone => "standalone",
        Mode::RaftCluster => "raft cluster",
    };
    let _ =
        writeln!(text, "cluster {} ({mode})", status.cluster_id.as_deref().unwrap_or("without an id yet"));
    let _ = writeln!(text, "{}", metadata(status));
    let _ = writeln!(text, "{}", totals(status));
    text.push('\n');
    text.push_str(&problems(&status.problems));
    text.push('\n');
    text.push_str(&nodes(view));
    let behind: Vec<&FollowerTotal> = status
        .followers
        .iter()
        .filter(|follower| follower.lag_records > 0 || follower.in_sync < follower.partitions)
        // That one is down is told above.
        .filter(|follower| !status.is_down(follower.id))
        .collect();
    if !behind.is_empty() {
        text.push('\n');
        text.push_str(&followers(&behind, &BTreeMap::new()));
    }
    text
}

fn metadata(status: &ClusterStatus) -> String {
    let metadata = &status.metadata;
    let voters: Vec<NodeId> = metadata.voters.iter().map(|voter| voter.id).collect();
    let led = match metadata.leader {
        Some(leader) => format!("led by node {leader} in term {}", metadata.term),
        None => format!("without a leader since term {}", metadata.term),
    };
    let observers: Vec<NodeId> = metadata.observers.iter().map(|observer| observer.id).collect();
    let observers = if observers.is_empty() {
        String::new()
    } else {
        format!("; {} follow without a vote", listed(&observers))
    };
    let voters =
        if voters.is_empty() { "no voters known".to_owned() } else { format!("voters {}", listed(&voters)) };
    format!(
        "metadata {led}; {voters}{observers}; {}",
        count(metadata.commit_offset, "entry committed", "entries committed")
    )
}

fn totals(status: &ClusterStatus) -> String {
    let totals = &status.totals;
    let mut text = format!(
        "{}, {}",
        count(totals.topics, "topic", "topics"),
        count(totals.partitions, "partition", "partitions")
    );
    let parts = [
        (totals.offline, "offline"),
        (totals.under_min_isr, "under min.insync.replicas"),
        (totals.under_replicated, "under-replicated"),
        (totals.reassigning, "moving"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    text.push_str(&if parts.is_empty() {
        ", all in sync".to_owned()
    } else {
        format!(": {}", parts.join(", "))
    });
    text
}

fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    let mut text = String::new();
    for problem in problems {
        let mark = match problem.severity {
            Severity::Failing => "FAILING",
            Severity::AtRisk => "AT RISK",
            Severity::Notice => "NOTICE ",
        };
        let _ = writeln!(text, "{mark}  {}\n         -> {}", problem.what, problem.action);
    }
    text
}

fn nodes(view: &View) -> String {
    let status = &view.status;
    let mut ids: Vec<NodeId> = status.brokers.iter().map(|broker| broker.id).collect();
    ids.extend(status.metadata.voters.iter().map(|voter| voter.id));
    // One that answers nobody, and is neither a broker nor a voter, has left.
    ids.extend(view.nodes.iter().filter(|node| node.silent.is_none()).map(|node| node.id));
    ids.sort_unstable();
    ids.dedup();
    let row = |id: NodeId| {
        let broker = status.broker(id);
        let node = view.nodes.iter().find(|node| node.id == id);
        let address = broker.map(|broker| broker.address.clone()).filter(|address| !address.is_empty());
        let number =
            |of: fn(&BrokerStatus) -> u64| broker.map(|broker| of(broker).to_string()).unwrap_or_default();
        [
            id.to_string(),
            address.or_else(|| node.map(|node| node.address.clone())).unwrap_or_default(),
            broker.and_then(|broker| broker.rack.clone()).unwrap_or_default(),
            state(broker, node, status.is_down(id)),
            role(status, id, node),
            number(|broker| broker.leaders),
            number(|broker| broker.replicas),
            node.and_then(|node| node.uptime_ms).map(duration).unwrap_or_default(),
            node.and_then(|node| node.version.clone()).unwrap_or_default(),
        ]
    };
    table_text(
        ["NODE", "ADDRESS", "RACK", "STATE", "METADATA", "LEADS", "REPLICAS", "UP FOR", "VERSION"],
        ids.into_iter().map(row),
    )
}

fn state(broker: Option<&BrokerStatus>, node: Option<&NodeView>, is_down: bool) -> String {
    let is_silent = node.is_none_or(|node| node.silent.is_some());
    match (broker, is_silent) {
        (None, _) => "not registered",
        (Some(_), true) if is_down => "down",
        (Some(broker), false) if broker.fenced => "joining",
        (Some(broker), _) if broker.shutting_down => "ending",
        (Some(_), true) => "no answer",
        (Some(_), false) => "up",
    }
    .to_owned()
}

fn role(status: &ClusterStatus, id: NodeId, node: Option<&NodeView>) -> String {
    if status.metadata.leader == Some(id) {
        return "leader".to_owned();
    }
    let Some(voter) = status.metadata.voters.iter().find(|voter| voter.id == id) else {
        return "observer".to_owned();
    };
    match (node.and_then(|node| node.role), voter.lag) {
        (Some(MetadataRole::Candidate), _) => "voter, asks for votes".to_owned(),
        (_, Some(lag)) if lag > 0 => format!("voter, {} behind", count(lag, "entry", "entries")),
        _ => "voter".to_owned(),
    }
}

/// How fast a follower of a leader catches up: (leader, follower) to records and bytes a second.
pub type Speeds = BTreeMap<(NodeId, NodeId), (u64, u64)>;

fn followers(totals: &[&FollowerTotal], speeds: &Speeds) -> String {
    let row = |follower: &&FollowerTotal| {
        let is_even = follower.lag_records == 0;
        let behind = if is_even {
            "nothing".to_owned()
        } else {
            format!(
                "{}, {}, {}",
                count(follower.lag_records, "record", "records"),
                bytes(follower.lag_bytes),
                duration(follower.lag_ms_max)
            )
        };
        [
            follower.id.to_string(),
            follower.leader.to_string(),
            format!("{} of {}", follower.in_sync, follower.partitions),
            behind,
            catching_up(follower, speeds),
            follower.last_ack_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", duration(ms))),
            follower.cause.clone().unwrap_or_default(),
        ]
    };
    table_text(
        ["FOLLOWER", "LEADER", "IN SYNC", "BEHIND", "CATCHING UP", "LAST ACK", "CAUSE"],
        totals.iter().map(row),
    )
}

fn catching_up(follower: &FollowerTotal, speeds: &Speeds) -> String {
    match speeds.get(&(follower.leader, follower.id)) {
        Some((records, bytes_a_second)) if *records > 0 && follower.lag_records > 0 => {
            let left = follower.lag_records / records;
            format!("{}/s, {} left", bytes(*bytes_a_second), duration(left.saturating_mul(1000)))
        }
        _ => String::new(),
    }
}

/// What differs between two reports, `elapsed_ms` apart, as speeds.
pub fn speeds(before: &LagReport, now: &LagReport, elapsed_ms: u64) -> Speeds {
    let mut speeds = Speeds::new();
    for follower in &now.followers {
        let was = before.followers.iter().find(|was| was.id == follower.id && was.leader == follower.leader);
        if let Some(was) = was.filter(|_| elapsed_ms > 0) {
            let per_second = |was: u64, is: u64| was.saturating_sub(is).saturating_mul(1000) / elapsed_ms;
            let speed = (
                per_second(was.lag_records, follower.lag_records),
                per_second(was.lag_bytes, follower.lag_bytes),
            );
            speeds.insert((follower.leader, follower.id), speed);
        }
    }
    speeds
}

/// Every follower, then the partitions that are furthest behind.
pub fn lag(report: &LagReport, silent: &[NodeView], speeds: &Speeds) -> String {
    let mut text = String::new();
    let totals: Vec<&FollowerTotal> = report.followers.iter().collect();
    if totals.is_empty() {
        text.push_str("no partition has a follower\n");
    } else {
        text.push_str(&followers(&totals, speeds));
    }
    for node in silent {
        let reason = node.silent.as_deref().unwrap_or_default();
        let _ = writeln!(text, "not asked: node {} at {}: {reason}", node.id, node.address);
    }
    if !report.partitions.is_empty() {
        text.push('\n');
        text.push_str(&partitions(&report.partitions));
    }
    if report.partitions_left_out > 0 {
        let more = count(report.partitions_left_out, "more partition", "more partitions");
        let _ = writeln!(text, "{more}: --limit shows them");
    }
    text
}

fn partitions(partitions: &[PartitionLag]) -> String {
    let rows = partitions.iter().flat_map(|partition| {
        partition.followers.iter().map(move |follower| {
            [
                format!("{}-{}", partition.topic, partition.partition),
                follower.id.to_string(),
                partition.leader.to_string(),
                if follower.in_sync { "yes" } else { "no" }.to_owned(),
                partition.end_offset.to_string(),
                follower.acked_offset.map(|offset| offset.to_string()).unwrap_or_default(),
                follower.lag_records.to_string(),
                bytes(follower.lag_bytes),
                duration(follower.lag_ms),
                follower.cause.clone().unwrap_or_default(),
            ]
        })
    });
    table_text(
        ["PARTITION", "FOLLOWER", "LEADER", "IN SYNC", "END", "ACKED", "RECORDS", "BYTES", "TIME", "CAUSE"],
        rows,
    )
}
