//! What this node knows of the cluster, for people and programs: `GET /v1/cluster/status` and `GET /v1/cluster/lag`.

use std::collections::BTreeMap;

use chronik_base::NodeId;
use chronik_log::PartitionLog;
use chronik_meta::{Image, Partition as Decided, Topic};
use chronik_peer::PeerState as Link;
use chronik_quorum::{QuorumStatus, Role};
use chronik_replica::MemberState;
use chronik_status::{
    BrokerStatus, ClusterStatus, FollowerLag, FollowerTotal, LagReport, MetadataRole, MetadataStatus, Mode,
    ObserverStatus, PARTITIONS_MAX, PartitionLag, PartitionStatus, PeerState, PeerStatus, Totals,
    VoterStatus,
};

use crate::Broker;
use crate::metadata::{INTERNAL_LISTENER, KAFKA_LISTENER};
use crate::partition::Partition;

/// What one walk over the metadata finds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) totals: Totals,
    /// Partitions led and replicas held, by broker.
    pub(crate) held: BTreeMap<NodeId, (u64, u64)>,
    /// Partitions that are not as they should be, the worst first.
    pub(crate) bad: Vec<PartitionStatus>,
    pub(crate) left_out: u64,
}

/// Looks at every partition.
pub(crate) fn survey(image: &Image) -> Survey {
    let mut survey = Survey::default();
    let mut bad = Vec::new();
    for topic in image.topics() {
        survey.totals.topics += 1;
        let min_in_sync = image.min_in_sync(topic);
        for (index, partition) in topic.partitions.iter() {
            survey.count(partition);
            let state = state_of(topic, index, partition, min_in_sync);
            let totals = &mut survey.totals;
            totals.offline += u64::from(state.is_offline());
            totals.under_min_isr += u64::from(state.is_under_min_isr());
            totals.under_replicated += u64::from(state.is_under_replicated());
            totals.reassigning += u64::from(state.is_reassigning());
            if rank(&state) < HEALTHY {
                bad.push(state);
            }
        }
    }
    // The order of topics and partitions stays within each rank.
    bad.sort_by_key(rank);
    survey.left_out = bad.len().saturating_sub(PARTITIONS_MAX) as u64;
    bad.truncate(PARTITIONS_MAX);
    survey.bad = bad;
    survey
}

const HEALTHY: u8 = 4;

/// How bad a partition's state is; the worst is 0.
fn rank(state: &PartitionStatus) -> u8 {
    let faults =
        [state.is_offline(), state.is_under_min_isr(), state.is_under_replicated(), state.is_reassigning()];
    faults.iter().position(|fault| *fault).and_then(|at| u8::try_from(at).ok()).unwrap_or(HEALTHY)
}

impl Survey {
    fn count(&mut self, partition: &Decided) {
        self.totals.partitions += 1;
        let preferred = partition.replicas.first().copied();
        self.totals.not_led_by_preferred +=
            u64::from(partition.leader >= 0 && preferred != Some(partition.leader));
        for id in partition.replicas.iter() {
            let (leads, holds) = self.held.entry(*id).or_default();
            *leads += u64::from(partition.leader == *id);
            *holds += 1;
        }
    }
}

fn state_of(topic: &Topic, index: i32, partition: &Decided, min_in_sync: usize) -> PartitionStatus {
    PartitionStatus {
        topic: topic.name.to_string(),
        partition: index,
        leader: Some(partition.leader).filter(|leader| *leader >= 0),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.to_vec(),
        isr: partition.isr.to_vec(),
        eligible_leaders: partition.eligible_leaders.to_vec(),
        adding: partition.adding.to_vec(),
        removing: partition.removing.to_vec(),
        min_isr: u32::try_from(partition.needed_in_sync(min_in_sync)).unwrap_or(u32::MAX),
    }
}

impl Broker {
    /// What this node knows of its cluster.
    pub fn cluster_status(&self) -> ClusterStatus {
        let image = self.metadata.image();
        let quorum = self.metadata.quorum().status();
        let survey = survey(&image);
        let status = ClusterStatus {
            node_id: self.node_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: match self.dynamic().settings.mode() {
                chronik_config::Mode::Standalone => Mode::Standalone,
                chronik_config::Mode::RaftCluster => Mode::RaftCluster,
            },
            cluster_id: Some(image.cluster_id()).filter(|id| !id.is_zero()).map(|id| id.to_string()),
            // The node's clock begins with the node.
            uptime_ms: self.clock.monotonic_ms(),
            not_ready: self.not_ready(),
            metadata: metadata(&quorum, &image),
            brokers: brokers(&quorum, &image, &survey),
            peers: self.peer_status(),
            totals: survey.totals,
            partitions: survey.bad,
            partitions_left_out: survey.left_out,
            followers: self.lag_report(None, false, 0).followers,
            problems: Vec::new(),
        };
        status.with_problems()
    }

    fn peer_status(&self) -> Vec<PeerStatus> {
        let peers = self.peers.status().into_iter().map(|peer| PeerStatus {
            from: self.node_id,
            id: Some(peer.node),
            address: peer.address,
            state: match (peer.state, &peer.problem) {
                (Link::Connected, _) => PeerState::Connected,
                (_, Some(_)) => PeerState::Failed,
                _ => PeerState::Connecting,
            },
            problem: peer.problem,
            since_ms: millis(peer.state_for),
        });
        let mut all: Vec<PeerStatus> = peers.collect();
        for (address, (problem, since_ms)) in self.follower_problems() {
            if !all.iter().any(|peer| peer.address == address) {
                all.push(PeerStatus {
                    from: self.node_id,
                    id: None,
                    address,
                    state: PeerState::Failed,
                    problem: Some(problem),
                    since_ms: self.clock.monotonic_ms().saturating_sub(since_ms),
                });
            }
        }
        all
    }

    /// How far the followers of the partitions that this node leads are behind: of one topic, or of all. Listed are partitions that have a follower
    /// behind or out of sync (with `all`, every one that has followers), `limit` of them at the most.
    pub fn lag_report(&self, topic: Option<&str>, all: bool, limit: usize) -> LagReport {
        let now_ms = self.clock.monotonic_ms();
        let mut report = LagReport { node_id: self.node_id, ..LagReport::default() };
        let mut totals: BTreeMap<NodeId, FollowerTotal> = BTreeMap::new();
        let mut listed = Vec::new();
        for found in self.topics.all() {
            if topic.is_some_and(|wanted| *found.name != *wanted) {
                continue;
            }
            for partition in found.partitions().filter(|partition| partition.is_leader()) {
                report.leads += 1;
                let followers = followers(partition, now_ms);
                for follower in &followers {
                    add(totals.entry(follower.id).or_default(), follower, self.node_id);
                }
                let is_behind =
                    followers.iter().any(|follower| follower.lag_records > 0 || !follower.in_sync);
                if !followers.is_empty() && (all || is_behind) {
                    listed.push(PartitionLag {
                        topic: partition.topic.to_string(),
                        partition: partition.index,
                        leader: self.node_id,
                        leader_epoch: partition.leader_epoch(),
                        high_watermark: partition.high_watermark(),
                        end_offset: partition.log.log_end_offset(),
                        followers,
                    });
                }
            }
        }
        let worst = |lag: &PartitionLag| {
            let most = lag.followers.iter().map(|follower| (follower.lag_ms, follower.lag_records)).max();
            std::cmp::Reverse(most.unwrap_or_default())
        };
        listed.sort_by(|a, b| {
            worst(a).cmp(&worst(b)).then_with(|| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)))
        });
        report.partitions_left_out = listed.len().saturating_sub(limit) as u64;
        listed.truncate(limit);
        report.partitions = listed;
        report.followers = totals.into_values().collect();
        report
    }
}

fn metadata(quorum: &QuorumStatus, image: &Image) -> MetadataStatus {
    let directory = |id: NodeId| {
        let directory = image.broker(id).map(|broker| broker.directory);
        directory.filter(|directory| !directory.is_zero()).map(|directory| directory.to_string())
    };
    let (own_end, committed, applied) = match &quorum.raft {
        Some(raft) => (raft.last_log, raft.committed, raft.applied),
        None => (quorum.offset, quorum.offset, quorum.offset),
    };
    let leads = quorum.leader == Some(quorum.node);
    let voters = quorum.voters.iter().map(|voter| {
        let is_own = voter.node == quorum.node;
        let lag = if is_own { Some(0).filter(|_| leads) } else { voter.lag };
        VoterStatus {
            id: voter.node,
            address: voter.address.clone(),
            directory: directory(voter.node),
            end_offset: if is_own { Some(own_end) } else { lag.map(|lag| own_end.saturating_sub(lag)) },
            lag,
            last_contact_ms: if is_own { Some(0).filter(|_| leads) } else { voter.acknowledged_ms },
        }
    });
    let observers = quorum.observers.iter().map(|observer| ObserverStatus {
        id: observer.node,
        directory: directory(observer.node),
        end_offset: own_end.saturating_sub(observer.lag),
        lag: observer.lag,
        last_contact_ms: Some(observer.fetched_ms),
    });
    let votes = quorum.voters.iter().any(|voter| voter.node == quorum.node);
    MetadataStatus {
        leader: quorum.leader,
        term: quorum.term,
        role: match quorum.role {
            _ if leads => MetadataRole::Leader,
            Role::Raft if votes && quorum.leader.is_none() => MetadataRole::Candidate,
            Role::Raft if votes => MetadataRole::Follower,
            _ => MetadataRole::Observer,
        },
        problem: quorum.leader.is_none().then(|| without_leader(quorum)),
        commit_offset: committed,
        applied_offset: applied,
        voters: voters.collect(),
        observers: observers.collect(),
    }
}

/// Why nothing can be decided, as far as this node sees.
fn without_leader(quorum: &QuorumStatus) -> String {
    let since = quorum.leaderless_ms.map(chronik_status::duration);
    let since =
        since.map_or_else(|| "no leader is known".to_owned(), |since| format!("no leader for {since}"));
    match quorum.problems.first() {
        Some(problem) => format!("{since}; {problem}"),
        None => since,
    }
}

fn brokers(quorum: &QuorumStatus, image: &Image, survey: &Survey) -> Vec<BrokerStatus> {
    let brokers = image.brokers().map(|broker| {
        let address = |listener: &str| {
            let endpoint = broker.endpoint(listener).or(broker.endpoints.first());
            endpoint.map_or_else(String::new, |endpoint| {
                let colon = endpoint.host.contains(':');
                let host = if colon { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
                format!("{host}:{}", endpoint.port)
            })
        };
        let session = quorum.sessions.iter().find(|session| session.node == broker.id);
        let (leaders, replicas) = survey.held.get(&broker.id).copied().unwrap_or_default();
        BrokerStatus {
            id: broker.id,
            address: address(KAFKA_LISTENER),
            internal_address: address(INTERNAL_LISTENER),
            rack: broker.rack.clone(),
            epoch: broker.epoch,
            fenced: broker.fenced,
            shutting_down: broker.in_shutdown,
            last_heartbeat_ms: session.and_then(|session| session.heard_ms_ago),
            leaders,
            replicas,
        }
    });
    brokers.collect()
}

/// The followers of a partition that this node leads, by id; none where it does not.
pub(crate) fn followers(partition: &Partition, now_ms: u64) -> Vec<FollowerLag> {
    let lag = partition.lag(now_ms);
    if lag.is_empty() {
        return Vec::new();
    }
    let record_bytes = record_bytes(&partition.log);
    let mut followers: Vec<FollowerLag> = lag
        .into_iter()
        .map(|lag| {
            let records = u64::try_from(lag.records).unwrap_or(0);
            FollowerLag {
                id: lag.node,
                in_sync: lag.in_isr,
                acked_offset: (lag.state != MemberState::NeverSubscribed).then_some(lag.flushed_end),
                lag_records: records,
                lag_bytes: (records as f64 * record_bytes) as u64,
                lag_ms: lag.behind_ms,
                last_ack_ms: lag.acked_ago_ms,
                cause: cause(lag.state, records, lag.in_isr).map(str::to_owned),
            }
        })
        .collect();
    followers.sort_by_key(|follower| follower.id);
    followers
}

/// What a record takes on average; what a lag in records is in bytes is estimated by it.
fn record_bytes(log: &PartitionLog) -> f64 {
    let records = log.log_end_offset().saturating_sub(log.log_start_offset()).max(1);
    log.size() as f64 / records as f64
}

/// Why a follower is behind, as far as its leader sees.
fn cause(state: MemberState, records: u64, in_sync: bool) -> Option<&'static str> {
    match state {
        MemberState::NeverSubscribed => Some("not subscribed"),
        MemberState::Disconnected => Some("disconnected"),
        MemberState::Refused => Some("connection refused"),
        MemberState::Unable => Some("its disk takes no writes"),
        MemberState::CatchingUp if !in_sync => Some("catching up"),
        MemberState::CatchingUp | MemberState::CaughtUp if !in_sync && records == 0 => {
            Some("waits to be taken into the in-sync replicas")
        }
        MemberState::CatchingUp | MemberState::CaughtUp => None,
    }
}

fn add(total: &mut FollowerTotal, follower: &FollowerLag, leader: NodeId) {
    total.leader = leader;
    total.id = follower.id;
    total.partitions += 1;
    total.in_sync += u64::from(follower.in_sync);
    total.lag_records = total.lag_records.saturating_add(follower.lag_records);
    total.lag_bytes = total.lag_bytes.saturating_add(follower.lag_bytes);
    // The cause is that of the partition that is behind for longest.
    if total.cause.is_none() || follower.lag_ms > total.lag_ms_max && follower.cause.is_some() {
        total.cause.clone_from(&follower.cause);
    }
    total.lag_ms_max = total.lag_ms_max.max(follower.lag_ms);
    total.last_ack_ms = match (total.last_ack_ms, follower.last_ack_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster_view::tests::image;
    use chronik_base::Uuid;
    use chronik_meta::Command;

    #[test]
    fn what_is_wrong_is_counted_and_listed_worst_first() {
        let mut image = image(3, &[]);
        let create = |name: &str, id, replicas: Vec<i32>, min: &str| Command::CreateTopic {
            name: name.to_owned(),
            id: Uuid([id; 16]),
            created: 0,
            assignments: vec![replicas],
            configs: [("min.insync.replicas".to_owned(), min.to_owned())].into(),
        };
        image.apply(&create("a-low", 1, vec![1, 3], "2"));
        image.apply(&create("b-gone", 2, vec![3], "1"));
        image.apply(&create("c-fine", 3, vec![2, 1], "2"));
        let epoch = image.broker(3).unwrap().epoch;
        image.apply(&Command::FenceBroker { id: 3, epoch });
        let survey = survey(&image);
        let listed: Vec<String> = survey.bad.iter().map(PartitionStatus::name).collect();
        assert_eq!(listed, ["b-gone-0", "a-low-0", "t-0"]);
        let totals = survey.totals;
        assert_eq!((totals.topics, totals.partitions, totals.offline), (4, 4, 1));
        assert_eq!((totals.under_min_isr, totals.under_replicated), (1, 2));
        assert_eq!((totals.not_led_by_preferred, totals.reassigning), (0, 0));
        assert_eq!(survey.held.get(&1), Some(&(2, 3)));
        assert_eq!(survey.held.get(&3), Some(&(0, 3)));
    }

    #[test]
    fn a_follower_is_summed_over_its_partitions() {
        let lag = |records, ms, in_sync, cause: Option<&str>| FollowerLag {
            id: 2,
            in_sync,
            lag_records: records,
            lag_bytes: records * 100,
            lag_ms: ms,
            last_ack_ms: Some(ms + 1),
            cause: cause.map(str::to_owned),
            ..FollowerLag::default()
        };
        let mut total = FollowerTotal::default();
        add(&mut total, &lag(5, 40, true, None), 1);
        add(&mut total, &lag(7, 90, false, Some("catching up")), 1);
        add(&mut total, &lag(0, 0, true, None), 1);
        assert_eq!((total.leader, total.id, total.partitions, total.in_sync), (1, 2, 3, 2));
        assert_eq!((total.lag_records, total.lag_bytes, total.lag_ms_max), (12, 1200, 90));
        assert_eq!((total.last_ack_ms, total.cause.as_deref()), (Some(1), Some("catching up")));
    }
}
