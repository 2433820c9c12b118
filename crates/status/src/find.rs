//! Finds what is wrong in what a node knows, and says what to do. One function for each kind of problem; where one explains
//! another (a node that is down explains that its replicas are not in sync), only the first is told.

use std::collections::{BTreeMap, BTreeSet};

use chronik_base::NodeId;

use crate::problem::{Kind, Problem, Severity};
use crate::text::{advice, bytes, count, duration, names, nodes};
use crate::{BrokerStatus, ClusterStatus, PartitionStatus, PeerState};

/// A follower that is in sync and this far behind is told of.
const FOLLOWER_LAG_MS: u64 = 5_000;

/// A voter that is this many entries behind is told of.
const VOTER_LAG: u64 = 1_000;

/// A voter that was not heard of for this long is told of.
const VOTER_SILENT_MS: u64 = 5_000;

impl ClusterStatus {
    /// What is wrong, the worst first. Empty for a healthy cluster.
    pub fn find_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.no_quorum());
        problems.extend(self.offline());
        problems.extend(self.under_min_isr());
        problems.extend(self.not_ready.as_ref().map(|reason| Problem {
            severity: Severity::AtRisk,
            kind: Kind::NotReady,
            what: format!("node {} doesn't serve everything: {reason}", self.node_id),
            action: format!("wait if it has just started; else see the log of node {}", self.node_id),
        }));
        problems.extend(self.brokers.iter().filter_map(|broker| self.fenced(broker)));
        problems.extend(self.unreachable());
        problems.extend(self.out_of_sync());
        problems.extend(self.lagging_followers());
        problems.extend(self.lagging_voters());
        problems.extend(self.notices());
        problems.sort_by_key(|problem| problem.severity);
        problems
    }

    fn no_quorum(&self) -> Option<Problem> {
        let metadata = &self.metadata;
        if metadata.leader.is_some() && metadata.problem.is_none() {
            return None;
        }
        let needed = metadata.voters.len() / 2 + 1;
        let reason = metadata.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
        let missing: Vec<String> = metadata
            .voters
            .iter()
            .filter(|voter| voter.id != self.node_id && self.is_unreached(voter.id))
            .map(|voter| format!("node {} at {}", voter.id, voter.address))
            .collect();
        let action = if missing.is_empty() {
            "see the logs of the voters: they reach each other and don't agree on a leader".to_owned()
        } else {
            format!("start {}", missing.join(", "))
        };
        Some(Problem {
            severity: Severity::Failing,
            kind: Kind::NoQuorum,
            what: format!(
                "the metadata has no leader{reason}: {needed} of {} are needed. Topics, settings and leaders can't change; partitions whose replicas are up go on",
                count(metadata.voters.len() as u64, "voter", "voters")
            ),
            action,
        })
    }

    /// True if the answering node, or one that it was merged with, says that it doesn't reach `id`.
    fn is_unreached(&self, id: NodeId) -> bool {
        self.peers.iter().any(|peer| peer.id == Some(id) && peer.state == PeerState::Failed)
            && !self.peers.iter().any(|peer| peer.id == Some(id) && peer.state == PeerState::Connected)
    }

    /// True if the node is taken for dead, or would be if there were a quorum to say so.
    pub fn is_down(&self, id: NodeId) -> bool {
        self.broker(id).is_none_or(|broker| broker.fenced) || self.is_unreached(id)
    }

    fn offline(&self) -> Option<Problem> {
        let offline: Vec<&PartitionStatus> = self.partitions.iter().filter(|p| p.is_offline()).collect();
        if offline.is_empty() {
            return None;
        }
        let holders: BTreeSet<NodeId> =
            offline.iter().flat_map(|p| p.isr.iter().chain(&p.eligible_leaders)).copied().collect();
        let down: Vec<NodeId> = holders.iter().copied().filter(|id| self.is_down(*id)).collect();
        let action = if down.is_empty() {
            format!("see the log of {}", nodes(&Vec::from_iter(holders)))
        } else {
            format!(
                "start {}: what was acknowledged is there. If that disk is lost, `chronik topic elect TOPIC --unclean` takes another replica, without what only the lost one had",
                nodes(&down)
            )
        };
        Some(Problem {
            severity: Severity::Failing,
            kind: Kind::OfflinePartitions,
            what: format!(
                "{} no leader, so nobody can read or write: {}",
                has(self.totals.offline.max(offline.len() as u64)),
                self.list(&offline, self.totals.offline)
            ),
            action,
        })
    }

    fn under_min_isr(&self) -> Option<Problem> {
        let under: Vec<&PartitionStatus> =
            self.partitions.iter().filter(|p| p.is_under_min_isr() && !p.is_offline()).collect();
        if under.is_empty() {
            return None;
        }
        let missing: BTreeSet<NodeId> =
            under.iter().flat_map(|p| p.replicas.iter().filter(|id| !p.isr.contains(id))).copied().collect();
        let (down, behind): (Vec<NodeId>, Vec<NodeId>) = missing.iter().partition(|id| self.is_down(**id));
        let action = match (down.is_empty(), behind.is_empty()) {
            (false, _) => format!("start {}", nodes(&down)),
            (true, false) => format!("`chronik cluster lag` shows what holds up {}", nodes(&behind)),
            (true, true) => {
                "min.insync.replicas is above the number of replicas: lower it, or add replicas (`chronik topic reassign`)".to_owned()
            }
        };
        let total = self.totals.under_min_isr.saturating_sub(self.totals.offline).max(under.len() as u64);
        Some(Problem {
            severity: Severity::Failing,
            kind: Kind::UnderMinIsr,
            what: format!(
                "{} fewer replicas in sync than min.insync.replicas, so acks=all is refused: {}",
                has(total),
                self.list(&under, total)
            ),
            action,
        })
    }

    /// The partitions' names; those that the status leaves out are counted only.
    fn list(&self, partitions: &[&PartitionStatus], total: u64) -> String {
        let all: Vec<String> = partitions.iter().map(|partition| partition.name()).collect();
        names(&all, total.saturating_sub(all.len() as u64))
    }

    fn fenced(&self, broker: &BrokerStatus) -> Option<Problem> {
        if broker.shutting_down && !broker.fenced {
            return Some(Problem {
                severity: Severity::Notice,
                kind: Kind::ShuttingDown,
                what: format!("node {} at {} is ending", broker.id, broker.address),
                action: "nothing: its leaderships move first".to_owned(),
            });
        }
        if !broker.fenced {
            return None;
        }
        let peers = || self.peers.iter().filter(|peer| peer.id == Some(broker.id));
        if peers().any(|peer| peer.state == PeerState::Connected) || broker.id == self.node_id {
            return Some(Problem {
                severity: Severity::AtRisk,
                kind: Kind::FencedBroker,
                what: format!(
                    "node {} at {} is up and takes no part yet: its copy of the metadata isn't current",
                    broker.id, broker.address
                ),
                action: format!("wait if it has just started; else see the log of node {}", broker.id),
            });
        }
        let (cause, advised) = match peers().find_map(|peer| peer.problem.as_deref()) {
            Some(problem) => advice(problem),
            None => ("", None),
        };
        let mut what = format!("{} is down", named(broker.id, &broker.address, cause));
        if !cause.is_empty() {
            what.push_str(&format!(": {cause}"));
        }
        if let Some(ms) = broker.last_heartbeat_ms {
            what.push_str(&format!("; it was last heard of {} ago", duration(ms)));
        }
        if broker.replicas > 0 {
            what.push_str(&format!("; {} there", count(broker.replicas, "replica is", "replicas are")));
        }
        let first = advised.filter(|advised| !advised.starts_with("start")).unwrap_or("start it");
        let unvote = if self.metadata.voters.iter().any(|voter| voter.id == broker.id) {
            format!("`chronik cluster remove-voter {}`, then ", broker.id)
        } else {
            String::new()
        };
        Some(Problem {
            severity: Severity::AtRisk,
            kind: Kind::FencedBroker,
            what,
            action: format!(
                "{first}; if it is gone for good, {unvote}`chronik cluster drain {} --unregister`",
                broker.id
            ),
        })
    }

    /// True if the node was told to leave: it is neither a broker nor a voter, and there is a quorum that could know it.
    fn is_former(&self, id: NodeId) -> bool {
        let is_voter = self.metadata.voters.iter().any(|voter| voter.id == id);
        self.metadata.leader.is_some() && !is_voter && self.broker(id).is_none()
    }

    fn unreachable(&self) -> Vec<Problem> {
        let mut by_peer: BTreeMap<(Option<NodeId>, &str, &str), Vec<NodeId>> = BTreeMap::new();
        for peer in &self.peers {
            let explained = peer.id.is_some_and(|id| self.broker(id).is_some_and(|broker| broker.fenced));
            if peer.state != PeerState::Failed || explained {
                continue;
            }
            let problem = peer.problem.as_deref().unwrap_or("no answer");
            by_peer.entry((peer.id, &peer.address, problem)).or_default().push(peer.from);
        }
        let problem = |((id, address, problem), mut from): ((Option<NodeId>, &str, &str), Vec<NodeId>)| {
            from.sort_unstable();
            from.dedup();
            if let Some(id) = id.filter(|id| self.is_former(*id)) {
                return Problem {
                    severity: Severity::Notice,
                    kind: Kind::UnreachablePeer,
                    what: format!(
                        "node {id} at {address} takes no part any more, and is still looked for by {}",
                        nodes(&from)
                    ),
                    action: "take it out of peers where those are started".to_owned(),
                };
            }
            let (cause, advised) = advice(problem);
            let who = match id {
                Some(id) => named(id, address, cause),
                None if cause.contains(address) => "a node".to_owned(),
                None => address.to_owned(),
            };
            let where_named =
                "the address is named in peers, join, replication.followers, or that node's advertise";
            Problem {
                severity: Severity::AtRisk,
                kind: Kind::UnreachablePeer,
                what: format!("{} can't reach {who}: {cause}", nodes(&from)),
                action: format!(
                    "{} ({where_named})",
                    advised.unwrap_or("start the node there, or correct the address")
                ),
            }
        };
        by_peer.into_iter().map(problem).collect()
    }

    /// Replicas that are not in sync although their node is up.
    fn out_of_sync(&self) -> Vec<Problem> {
        let mut by_node: BTreeMap<NodeId, u64> = BTreeMap::new();
        for partition in self.partitions.iter().filter(|p| !p.is_offline()) {
            for id in &partition.replicas {
                if !partition.isr.contains(id) && !partition.adding.contains(id) && !self.is_down(*id) {
                    *by_node.entry(*id).or_default() += 1;
                }
            }
        }
        let problem = |(id, number): (NodeId, u64)| {
            let cause = self.followers.iter().filter(|f| f.id == id).find_map(|f| f.cause.as_ref());
            let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
            Problem {
                severity: Severity::AtRisk,
                kind: Kind::UnderReplicated,
                what: format!(
                    "node {id} isn't in sync on {}{cause}",
                    count(number, "partition", "partitions")
                ),
                action: "it catches up by itself; `chronik cluster lag --watch` shows how fast, and why not"
                    .to_owned(),
            }
        };
        by_node.into_iter().map(problem).collect()
    }

    fn lagging_followers(&self) -> Vec<Problem> {
        let is_late =
            |f: &&crate::FollowerTotal| f.in_sync == f.partitions && f.lag_ms_max >= FOLLOWER_LAG_MS;
        let problem = |follower: &crate::FollowerTotal| {
            Problem {
            severity: Severity::AtRisk,
            kind: Kind::LaggingFollower,
            what: format!(
                "node {} is {} behind node {} ({}, {}){}",
                follower.id,
                duration(follower.lag_ms_max),
                follower.leader,
                count(follower.lag_records, "record", "records"),
                bytes(follower.lag_bytes),
                follower.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
            ),
            action: "acks=all waits for it until replica.lag.time.max.ms: look at its disk, its processor, and the network between them".to_owned(),
        }
        };
        self.followers.iter().filter(is_late).map(problem).collect()
    }

    fn lagging_voters(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for voter in &self.metadata.voters {
            let is_explained =
                self.broker(voter.id).is_some_and(|broker| broker.fenced) || self.is_unreached(voter.id);
            if Some(voter.id) == self.metadata.leader || is_explained {
                continue;
            }
            let lag = voter.lag.unwrap_or(0);
            let silent = voter.last_contact_ms.unwrap_or(0);
            let how = if silent >= VOTER_SILENT_MS {
                format!("was last heard of {} ago", duration(silent))
            } else if lag >= VOTER_LAG {
                format!("is {} behind", count(lag, "entry", "entries"))
            } else {
                continue;
            };
            problems.push(Problem {
                severity: Severity::AtRisk,
                kind: Kind::LaggingVoter,
                what: format!("voter {} at {} {how}", voter.id, voter.address),
                action: format!("look at the disk and the log of node {}", voter.id),
            });
        }
        problems
    }

    fn notices(&self) -> Vec<Problem> {
        let mut notices = Vec::new();
        let mut notice = |number: u64, kind, what: &str, action: &str| {
            if number > 0 {
                let what = format!("{} {what}", count(number, "partition is", "partitions are"));
                notices.push(Problem { severity: Severity::Notice, kind, what, action: action.to_owned() });
            }
        };
        notice(
            self.totals.reassigning,
            Kind::Reassigning,
            "moving to other replicas",
            "`chronik topic reassign --watch` shows how far; `--cancel` stops it",
        );
        notice(
            self.totals.not_led_by_preferred,
            Kind::NotLedByPreferred,
            "led by another replica than the first",
            "auto.leader.rebalance.enable gives them back; `chronik cluster rebalance` does it now",
        );
        notices
    }
}

/// `node 3 at HOST:PORT`, without the address where the rest of the line has it.
fn named(id: NodeId, address: &str, rest: &str) -> String {
    if rest.contains(address) { nodes(&[id]) } else { format!("node {id} at {address}") }
}

fn has(partitions: u64) -> String {
    count(partitions, "partition has", "partitions have")
}
