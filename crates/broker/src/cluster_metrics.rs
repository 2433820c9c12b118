//! The cluster's part of the metrics page: partitions that are not as they should be, followers and how far they are behind, connections to
//! other nodes, and the metadata's quorum.
//!
//! What is counted by partition is told by the partition's leader, so that the sum over all nodes counts each once. Lines for each follower of each partition
//! are limited to [`FOLLOWER_LINES_MAX`]; where there are more, those that are furthest behind are shown, and the rest is counted.

use std::fmt::{Display, Write};

use chronik_base::NodeId;
use chronik_meta::{Image, TopicChange};
use chronik_peer::PeerState;
use chronik_status::FollowerLag;

use crate::Broker;
use crate::cluster_status::followers;

/// Followers of partitions on the page at most.
const FOLLOWER_LINES_MAX: usize = 2_000;

/// Metrics as text, family by family.
struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can't fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        let _ = writeln!(self.0, "{name}_total {value}");
    }

    /// One line for each of `lines`; a family without lines is left out. What is counted has `_total` after its name.
    fn lines(&mut self, name: &str, kind: &str, help: &str, lines: impl IntoIterator<Item = (String, f64)>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        self.family(name, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in lines {
            let _ = writeln!(self.0, "{name}{suffix}{{{labels}}} {value}");
        }
    }
}

/// Appends the figures as Prometheus text.
pub(crate) fn render(broker: &Broker, page: &mut String) {
    let image = broker.metadata.image();
    let mut page = Page(page);
    render_partitions(broker.node_id, &image, &mut page);
    render_followers(broker, &image, &mut page);
    render_peers(broker, &mut page);
    render_quorum(broker, &mut page);
}

fn render_partitions(node: NodeId, image: &Image, page: &mut Page<'_>) {
    let (mut offline, mut under_replicated, mut under_min, mut moving) = (0u64, 0u64, 0u64, 0u64);
    for topic in image.topics() {
        let min_in_sync = image.min_in_sync(topic);
        for (_, partition) in topic.partitions.iter() {
            offline += u64::from(partition.leader < 0);
            if partition.leader != node {
                continue;
            }
            let is_missing = |id: &NodeId| !partition.isr.contains(id) && !partition.adding.contains(id);
            under_replicated += u64::from(partition.replicas.iter().any(is_missing));
            under_min += u64::from(partition.isr.len() < partition.needed_in_sync(min_in_sync));
            moving += u64::from(partition.is_reassigned());
        }
    }
    page.gauge("chronik_offline_partitions", "Partitions of the cluster without a leader", offline);
    page.gauge(
        "chronik_under_replicated_partitions",
        "Partitions led here with fewer replicas in sync than they have",
        under_replicated,
    );
    page.gauge(
        "chronik_under_min_isr_partitions",
        "Partitions led here with fewer replicas in sync than min.insync.replicas",
        under_min,
    );
    page.gauge("chronik_reassigning_partitions", "Partitions led here that move to other replicas", moving);
    let fenced = image.brokers().filter(|broker| broker.fenced).count();
    let live = image.brokers().count() - fenced;
    let brokers = [("live", live), ("fenced", fenced)];
    let lines = brokers.map(|(state, count)| (format!("state=\"{state}\""), count as f64));
    page.lines(
        "chronik_brokers",
        "gauge",
        "Registered brokers, by whether they are taken to be alive",
        lines,
    );
    let tally = image.tally();
    page.counter(
        "chronik_cluster_leader_elections",
        "Elections of partition leaders since the cluster exists",
        tally.elections,
    );
    page.counter(
        "chronik_cluster_unclean_leader_elections",
        "Elections of leaders that were neither in sync nor eligible: records may have been lost",
        tally.unclean,
    );
}

/// A follower of a partition that is led here.
struct Follower {
    labels: String,
    lag: FollowerLag,
}

fn render_followers(broker: &Broker, image: &Image, page: &mut Page<'_>) {
    let report = broker.lag_report(None, false, 0);
    let of_all = |value: fn(&chronik_status::FollowerTotal) -> f64| {
        report.followers.iter().map(move |total| (format!("follower=\"{}\"", total.id), value(total)))
    };
    let partitions = of_all(|total| total.partitions as f64);
    page.lines("chronik_follower_partitions", "gauge", "Partitions led here that a node follows", partitions);
    let in_sync = of_all(|total| total.in_sync as f64);
    page.lines("chronik_follower_in_sync_partitions", "gauge", "Those in which it is in sync", in_sync);
    let records = of_all(|total| total.lag_records as f64);
    page.lines(
        "chronik_follower_all_lag_records",
        "gauge",
        "Records that a follower is behind, over all partitions led here",
        records,
    );
    let seconds = of_all(|total| total.lag_ms_max as f64 / 1000.0);
    page.lines(
        "chronik_follower_max_lag_seconds",
        "gauge",
        "How long a follower has not had all of a partition led here, where that is longest",
        seconds,
    );
    let (shown, left_out, in_sync) = shown(broker, image);
    page.lines(
        "chronik_partition_in_sync_replicas",
        "gauge",
        "In-sync replicas of a partition led here that has followers",
        in_sync,
    );
    let of_each = |value: fn(&FollowerLag) -> f64| {
        shown.iter().map(move |follower| (follower.labels.clone(), value(&follower.lag)))
    };
    let records = of_each(|lag| lag.lag_records as f64);
    page.lines("chronik_follower_lag_records", "gauge", "Records that a follower is behind", records);
    let bytes = of_each(|lag| lag.lag_bytes as f64);
    page.lines(
        "chronik_follower_lag_bytes",
        "gauge",
        "The same in bytes, estimated by the size of an average record",
        bytes,
    );
    let seconds = of_each(|lag| lag.lag_ms as f64 / 1000.0);
    page.lines(
        "chronik_follower_lag_seconds",
        "gauge",
        "How long a follower has not had everything that its leader has",
        seconds,
    );
    page.gauge(
        "chronik_follower_lag_left_out",
        "Followers of partitions that the page had no room for",
        left_out,
    );
}

/// The followers that the page has room for, how many more there are, and the number of in-sync replicas of the partitions shown.
fn shown(broker: &Broker, image: &Image) -> (Vec<Follower>, usize, Vec<(String, f64)>) {
    let now_ms = broker.clock.monotonic_ms();
    let mut topics = broker.topics.all();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Vec::new();
    let mut in_sync = Vec::new();
    for partition in topics.iter().flat_map(|topic| topic.partitions()) {
        let followers = followers(partition, now_ms);
        if followers.is_empty() {
            continue;
        }
        // Names of topics have no character that would have to be escaped.
        let labels = format!("topic=\"{}\",partition=\"{}\"", partition.topic, partition.index);
        if in_sync.len() < FOLLOWER_LINES_MAX {
            let state = image.partition(&partition.topic, partition.index);
            in_sync.push((labels.clone(), state.map_or(0, |state| state.isr.len()) as f64));
        }
        for lag in followers {
            all.push(Follower { labels: format!("{labels},follower=\"{}\"", lag.id), lag });
        }
    }
    let left_out = all.len().saturating_sub(FOLLOWER_LINES_MAX);
    if left_out > 0 {
        all.sort_by_key(|follower| std::cmp::Reverse((follower.lag.lag_ms, follower.lag.lag_records)));
        all.truncate(FOLLOWER_LINES_MAX);
    }
    (all, left_out, in_sync)
}

fn render_peers(broker: &Broker, page: &mut Page<'_>) {
    let peers = broker.peers.status();
    let connected = peers.iter().map(|peer| {
        let is_up = peer.state == PeerState::Connected;
        (format!("node=\"{}\"", peer.node), if is_up { 1.0 } else { 0.0 })
    });
    page.lines(
        "chronik_peer_connected",
        "gauge",
        "Whether the connection that this node makes to another one is up",
        connected,
    );
    let mut received = Vec::new();
    let mut sent = Vec::new();
    for peer in &peers {
        let mut add = |link: &str, bytes_received: u64, bytes_sent: u64| {
            let labels = format!("node=\"{}\",link=\"{link}\"", peer.node);
            received.push((labels.clone(), bytes_received as f64));
            sent.push((labels, bytes_sent as f64));
        };
        // Over the connection that it makes, a node follows; over the one that the other makes, it leads.
        add("following", peer.received_bytes, peer.sent_bytes);
        if let Some(inbound) = &peer.inbound {
            add("leading", inbound.received_bytes, inbound.sent_bytes);
        }
    }
    page.lines(
        "chronik_replication_received_bytes",
        "counter",
        "Bytes received from another node: records that this node follows, acknowledgements of what it leads, metadata",
        received,
    );
    page.lines(
        "chronik_replication_sent_bytes",
        "counter",
        "Bytes sent to another node: records that this node leads, acknowledgements of what it follows, metadata",
        sent,
    );
}

fn render_quorum(broker: &Broker, page: &mut Page<'_>) {
    let quorum = broker.metadata.quorum();
    let (status, counters) = (quorum.status(), quorum.counters());
    let (last, committed, applied) = match &status.raft {
        Some(raft) => (raft.last_log, raft.committed, raft.applied),
        None => (status.offset, status.offset, status.offset),
    };
    page.gauge("chronik_metadata_term", "The metadata leader's term", status.term);
    let leader = status.leader.unwrap_or(-1);
    page.gauge("chronik_metadata_leader", "The metadata leader's node id, -1 if none is known", leader);
    let leads = u8::from(status.leader == Some(status.node));
    page.gauge("chronik_metadata_leads", "1 on the metadata leader", leads);
    page.gauge("chronik_metadata_last_index", "Entries in this node's metadata log", last);
    page.gauge("chronik_metadata_commit_index", "Entries that this node knows to be decided", committed);
    page.gauge("chronik_metadata_applied_index", "Entries that are in this node's metadata", applied);
    page.gauge(
        "chronik_metadata_offset",
        "The number of the last command in this node's metadata",
        status.offset,
    );
    if let Some(raft) = &status.raft {
        page.counter(
            "chronik_metadata_elected",
            "Times that this node was elected metadata leader",
            raft.elected,
        );
    }
    let voters = status.voters.iter().filter_map(|voter| Some((voter.node, voter.lag?)));
    let lines = voters.map(|(node, lag)| (format!("node=\"{node}\""), lag as f64));
    page.lines(
        "chronik_metadata_voter_lag",
        "gauge",
        "Entries that a voter lacks; on the metadata leader",
        lines,
    );
    let observers = status.observers.iter();
    let lines = observers.map(|seen| (format!("node=\"{}\"", seen.node), seen.lag as f64));
    page.lines(
        "chronik_metadata_observer_lag",
        "gauge",
        "Commands that a node lacks which fetches them here",
        lines,
    );
    page.counter("chronik_metadata_commands", "Metadata changes asked for here", counters.submitted);
    page.counter("chronik_metadata_forwarded", "Those sent on to the metadata leader", counters.forwarded);
    page.counter(
        "chronik_metadata_no_quorum",
        "Metadata changes refused because nobody can decide",
        counters.no_quorum,
    );
    page.counter(
        "chronik_metadata_timed_out",
        "Metadata changes of which nobody said in time what became of them",
        counters.timed_out,
    );
    page.counter(
        "chronik_metadata_fenced_brokers",
        "Brokers that this node, as metadata leader, took for dead",
        counters.fenced,
    );
}

impl Broker {
    /// Counts members that left or joined the in-sync replicas of partitions that this node leads.
    pub(crate) fn count_isr_changes(&self, change: &TopicChange) {
        let (shrinks, expands) = isr_changes(self.node_id, change);
        self.metrics.isr_shrinks.inc_by(shrinks);
        self.metrics.isr_expands.inc_by(expands);
    }
}

/// In how many partitions that `node` leads the in-sync replicas became fewer, and more.
fn isr_changes(node: NodeId, change: &TopicChange) -> (u64, u64) {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return (0, 0) };
    let (mut shrinks, mut expands) = (0, 0);
    for index in &change.partitions {
        let (Some(before), Some(after)) = (before.partitions.get(*index), after.partitions.get(*index))
        else {
            continue;
        };
        if after.leader == node {
            shrinks += u64::from(before.isr.iter().any(|id| !after.isr.contains(id)));
            expands += u64::from(after.isr.iter().any(|id| !before.isr.contains(id)));
        }
    }
    (shrinks, expands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster_view::tests::image;

    #[test]
    fn partitions_are_counted_by_their_leader() {
        let image = image(3, &[3]);
        let text = |node| {
            let mut text = String::new();
            render_partitions(node, &image, &mut Page(&mut text));
            text
        };
        assert!(text(1).contains("\nchronik_under_replicated_partitions 1\n"), "{}", text(1));
        assert!(text(2).contains("\nchronik_under_replicated_partitions 0\n"));
        for node in [1, 2] {
            assert!(text(node).contains("\nchronik_offline_partitions 0\n"));
            assert!(text(node).contains("\nchronik_brokers{state=\"fenced\"} 1\n"));
            assert!(text(node).contains("# TYPE chronik_cluster_leader_elections counter\n"));
        }
    }

    #[test]
    fn changes_of_in_sync_replicas_are_counted_where_they_are_led() {
        let (before, after) = (image(3, &[]), image(3, &[3]));
        let changes = Image::changed_partitions(&before, &after);
        assert_eq!(changes.iter().map(|change| isr_changes(1, change)).collect::<Vec<_>>(), [(1, 0)]);
        assert_eq!(changes.iter().map(|change| isr_changes(2, change)).collect::<Vec<_>>(), [(0, 0)]);
        let back = Image::changed_partitions(&after, &before);
        assert_eq!(back.iter().map(|change| isr_changes(1, change)).collect::<Vec<_>>(), [(0, 1)]);
    }
}
