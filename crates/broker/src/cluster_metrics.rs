//! The cluster's part of the metrics page: partitions that are not as they should be, followers and how far they are behind, connections to
//! other nodes, and the metadata's quorum.
//!
//! What is counted by partition is told by the partition's leader, so that the sum over all nodes counts each once. Lines for each partition, and for each
//! follower of one, are limited (`metrics.partitions.max`); where there are more followers, those that are furthest behind are shown, and the rest is counted.

use std::sync::Arc;

use chronik_base::NodeId;
use chronik_meta::{Image, TopicChange};
use chronik_metrics::{Family, Page};
use chronik_peer::PeerState;
use chronik_status::FollowerLag;

use crate::Broker;
use crate::cluster_status::followers;
use crate::metric_families as families;
use crate::partition::Partition;

/// Appends the figures to the page.
pub(crate) fn write(broker: &Broker, page: &mut Page) {
    let image = broker.metadata.image();
    write_partitions(broker.node_id, &image, page);
    let most = broker.dynamic().config.metrics_partitions_max;
    let mut topics = broker.topics.all();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let led: Vec<&Arc<Partition>> = topics
        .iter()
        .flat_map(|topic| topic.partitions())
        .filter(|partition| partition.is_leader())
        .collect();
    write_series(&led, &image, most, page);
    write_followers(broker, &led, most, page);
    write_peers(broker, page);
    write_quorum(broker, page);
}

fn write_partitions(node: NodeId, image: &Image, page: &mut Page) {
    let (mut offline, mut under_replicated, mut under_min, mut moving) = (0u64, 0u64, 0u64, 0u64);
    let (mut leads, mut holds) = (0u64, 0u64);
    for topic in image.topics() {
        let min_in_sync = image.min_in_sync(topic);
        for (_, partition) in topic.partitions.iter() {
            offline += u64::from(partition.leader < 0);
            holds += u64::from(partition.replicas.contains(&node));
            if partition.leader != node {
                continue;
            }
            leads += 1;
            let is_missing = |id: &NodeId| !partition.isr.contains(id) && !partition.adding.contains(id);
            under_replicated += u64::from(partition.replicas.iter().any(is_missing));
            under_min += u64::from(partition.isr.len() < partition.needed_in_sync(min_in_sync));
            moving += u64::from(partition.is_reassigned());
        }
    }
    page.value(&families::TOPICS, image.topic_count());
    page.value(&families::PARTITIONS, image.partition_count());
    page.value(&families::LEADERS, leads);
    page.value(&families::REPLICAS, holds);
    page.value(&families::OFFLINE, offline);
    page.value(&families::UNDER_REPLICATED, under_replicated);
    page.value(&families::UNDER_MIN_ISR, under_min);
    page.value(&families::REASSIGNING, moving);
    let fenced = image.brokers().filter(|broker| broker.fenced).count();
    let live = image.brokers().count() - fenced;
    page.lines(
        &families::BROKERS,
        [("live", live), ("fenced", fenced)].map(|(state, n)| ([state], n as f64)),
    );
    let tally = image.tally();
    page.value(&families::CLUSTER_ELECTIONS, tally.elections);
    page.value(&families::UNCLEAN_ELECTIONS, tally.unclean);
}

/// What is told of each partition that is led here.
fn write_series(led: &[&Arc<Partition>], image: &Image, most: usize, page: &mut Page) {
    let shown = || led.iter().take(most).map(|partition| (partition, partition.index.to_string()));
    let mut each = |family: &Family, value: &dyn Fn(&Partition) -> Option<f64>| {
        page.lines(
            family,
            shown().filter_map(|(partition, index)| {
                Some(([partition.topic.to_string(), index], value(partition)?))
            }),
        );
    };
    each(&families::PARTITION_START, &|partition| Some(partition.log.log_start_offset() as f64));
    each(&families::PARTITION_END, &|partition| Some(partition.log.log_end_offset() as f64));
    each(&families::PARTITION_MARK, &|partition| Some(partition.high_watermark() as f64));
    each(&families::PARTITION_SIZE, &|partition| Some(partition.log.size() as f64));
    each(&families::PARTITION_ISR, &|partition| {
        let state = image.partition(&partition.topic, partition.index)?;
        (state.replicas.len() > 1).then_some(state.isr.len() as f64)
    });
    page.value(&families::PARTITION_LEFT_OUT, led.len().saturating_sub(most));
}

fn write_followers(broker: &Broker, led: &[&Arc<Partition>], most: usize, page: &mut Page) {
    let report = broker.lag_report(None, false, 0);
    let of_all = |value: fn(&chronik_status::FollowerTotal) -> f64| {
        report.followers.iter().map(move |total| ([total.id.to_string()], value(total)))
    };
    page.lines(&families::FOLLOWER_PARTITIONS, of_all(|total| total.partitions as f64));
    page.lines(&families::FOLLOWER_IN_SYNC, of_all(|total| total.in_sync as f64));
    page.lines(&families::FOLLOWER_ALL_LAG, of_all(|total| total.lag_records as f64));
    page.lines(&families::FOLLOWER_MAX_LAG, of_all(|total| total.lag_ms_max as f64 / 1000.0));
    let now_ms = broker.clock.monotonic_ms();
    let mut all: Vec<(&Partition, FollowerLag)> = Vec::new();
    for partition in led {
        all.extend(followers(partition, now_ms).into_iter().map(|lag| (&***partition, lag)));
    }
    let left_out = all.len().saturating_sub(most);
    if left_out > 0 {
        all.sort_by_key(|(_, lag)| std::cmp::Reverse((lag.lag_ms, lag.lag_records)));
        all.truncate(most);
    }
    let of_each = |value: fn(&FollowerLag) -> f64| {
        all.iter().map(move |(partition, lag)| {
            let labels = [partition.topic.to_string(), partition.index.to_string(), lag.id.to_string()];
            (labels, value(lag))
        })
    };
    page.lines(&families::LAG_RECORDS, of_each(|lag| lag.lag_records as f64));
    page.lines(&families::LAG_BYTES, of_each(|lag| lag.lag_bytes as f64));
    page.lines(&families::LAG_SECONDS, of_each(|lag| lag.lag_ms as f64 / 1000.0));
    page.value(&families::LAG_LEFT_OUT, left_out);
}

fn write_peers(broker: &Broker, page: &mut Page) {
    let peers = broker.peers.status();
    let connected = peers.iter().map(|peer| {
        let is_up = peer.state == PeerState::Connected;
        ([peer.node.to_string()], f64::from(u8::from(is_up)))
    });
    page.lines(&families::PEER_CONNECTED, connected);
    let mut received = Vec::new();
    let mut sent = Vec::new();
    for peer in &peers {
        let mut add = |link: &str, bytes_received: u64, bytes_sent: u64| {
            let labels = [peer.node.to_string(), link.to_owned()];
            received.push((labels.clone(), bytes_received as f64));
            sent.push((labels, bytes_sent as f64));
        };
        // Over the connection that it makes, a node follows; over the one that the other makes, it leads.
        add("following", peer.received_bytes, peer.sent_bytes);
        if let Some(inbound) = &peer.inbound {
            add("leading", inbound.received_bytes, inbound.sent_bytes);
        }
    }
    page.lines(&families::REPLICATION_RECEIVED, received);
    page.lines(&families::REPLICATION_SENT, sent);
}

fn write_quorum(broker: &Broker, page: &mut Page) {
    let quorum = broker.metadata.quorum();
    let (status, counters) = (quorum.status(), quorum.counters());
    let (last, committed, applied) = match &status.raft {
        Some(raft) => (raft.last_log, raft.committed, raft.applied),
        None => (status.offset, status.offset, status.offset),
    };
    page.value(&families::METADATA_TERM, status.term);
    page.value(&families::METADATA_LEADER, status.leader.unwrap_or(-1));
    page.value(&families::METADATA_LEADS, u8::from(status.leader == Some(status.node)));
    page.value(&families::METADATA_LAST, last);
    page.value(&families::METADATA_COMMIT, committed);
    page.value(&families::METADATA_APPLIED, applied);
    page.value(&families::METADATA_OFFSET, status.offset);
    page.value(&families::METADATA_ELECTED, status.raft.as_ref().map_or(0, |raft| raft.elected));
    let voters = status.voters.iter().filter_map(|voter| Some((voter.node, voter.lag?)));
    page.lines(&families::VOTER_LAG, voters.map(|(node, lag)| ([node.to_string()], lag as f64)));
    let observers = status.observers.iter();
    page.lines(&families::OBSERVER_LAG, observers.map(|seen| ([seen.node.to_string()], seen.lag as f64)));
    page.value(&families::METADATA_COMMANDS, counters.submitted);
    page.value(&families::METADATA_FORWARDED, counters.forwarded);
    page.value(&families::METADATA_NO_QUORUM, counters.no_quorum);
    page.value(&families::METADATA_TIMED_OUT, counters.timed_out);
    page.value(&families::METADATA_FENCED, counters.fenced);
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
            let mut page = Page::new();
            write_partitions(node, &image, &mut page);
            page.finish()
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
