//! What is done to the cluster: which faults there are, which may come now, how each begins and ends.

use super::cluster::Cluster;
use super::network::Network;
use super::{Mode, PARTITIONS, TOPIC};
use anyhow::Result;
use std::time::Duration;

/// Longest wait for a cluster to be whole again.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Kind {
    /// `kill -9`, and a start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// Nothing comes through from one node to another.
    CutOneWay,
    /// Nothing comes through between two nodes.
    Cut,
    /// A node reaches no other node, and none reaches it; clients still do.
    Isolate,
    /// A node can send little a second.
    Slow,
    /// A node's disk is full to the last block.
    FullDisk,
    /// A node comes back with an empty disk.
    Wipe,
    /// SIGTERM, and a start after a while.
    Term,
    /// SIGTERM and start, one node after the other.
    Rolling,
    /// Partitions lose a replica, and get it again, in another order.
    Reassign,
    /// Preferred leaders are elected.
    Elect,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Pause,
        Self::CutOneWay,
        Self::Cut,
        Self::Isolate,
        Self::Slow,
        Self::FullDisk,
        Self::Wipe,
        Self::Term,
        Self::Rolling,
        Self::Reassign,
        Self::Elect,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "SIGSTOP",
            Self::CutOneWay => "cut one way",
            Self::Cut => "cut",
            Self::Isolate => "isolated",
            Self::Slow => "slow link",
            Self::FullDisk => "full disk",
            Self::Wipe => "wiped",
            Self::Term => "SIGTERM",
            Self::Rolling => "rolling restart",
            Self::Reassign => "reassign",
            Self::Elect => "elect",
        }
    }

    /// The longest time without an acknowledgement that is promised, for three voters with default settings.
    pub fn goal(self) -> Option<Duration> {
        match self {
            Self::Kill => Some(Duration::from_secs(1)),
            Self::Pause | Self::CutOneWay | Self::Cut | Self::Isolate => Some(Duration::from_millis(2500)),
            Self::Term | Self::Rolling => Some(Duration::from_millis(100)),
            Self::Slow | Self::FullDisk | Self::Wipe | Self::Reassign | Self::Elect => None,
        }
    }

    fn needs_links(self) -> bool {
        matches!(self, Self::CutOneWay | Self::Cut | Self::Isolate | Self::Slow)
    }

    /// May come while another node suffers something else.
    fn goes_along(self) -> bool {
        matches!(self, Self::Pause | Self::CutOneWay | Self::Slow | Self::Reassign | Self::Elect)
    }

    /// Milliseconds it lasts.
    fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Pause => 500..5000,
            Self::Kill | Self::Term => 200..4000,
            Self::FullDisk => 1000..4000,
            Self::Wipe => 100..1000,
            Self::CutOneWay | Self::Cut | Self::Isolate | Self::Slow | Self::Reassign => 1000..7000,
            Self::Rolling | Self::Elect => 0..500,
        }
    }
}

/// Why some kinds are left out of this run: shown at the start.
pub fn left_out(cluster: &Cluster) -> Vec<(Kind, &'static str)> {
    let reason = |kind: Kind| {
        if kind.needs_links() && cluster.network != Network::Namespaces {
            Some("needs network namespaces")
        } else if kind == Kind::FullDisk && !cluster.nodes.iter().all(super::node::Node::has_small_disk) {
            Some("needs a file system for each node")
        } else if kind == Kind::Wipe && cluster.mode == Mode::Raft && cluster.nodes.len() < 3 {
            Some("two voters cannot do without one")
        } else if kind == Kind::Reassign && cluster.nodes.len() < 3 {
            Some("needs a third node")
        } else {
            None
        }
    };
    Kind::ALL.into_iter().filter_map(|kind| Some((kind, reason(kind)?))).collect()
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub node: usize,
    /// The other end of the link, or the replica that is taken away.
    other: usize,
    /// Kilobits a second of a slow link; the first of the partitions that move.
    amount: u32,
    pub lasts: Duration,
}

impl Fault {
    /// Draws one of these kinds.
    pub fn draw(random: &mut fastrand::Rng, kinds: &[Kind], cluster: &Cluster) -> Option<Self> {
        let kind = *random.choice(kinds)?;
        let nodes = cluster.nodes.len();
        // The only voter's disk is all there is of the metadata; of its followers, only the one that asks to join may lose its own: the
        // others would serve clients as a cluster of their own until they are invited.
        let first = if kind == Kind::Wipe && cluster.mode == Mode::Followers { nodes } else { 1 };
        let node = random.usize(first..=nodes);
        let other = (node + random.usize(1..nodes) - 1) % nodes + 1;
        let amount = random.u32(500..8000);
        Some(Self { kind, node, other, amount, lasts: Duration::from_millis(random.u64(kind.lasts())) })
    }

    /// Draws one that may come beside this one.
    pub fn draw_beside(&self, random: &mut fastrand::Rng, kinds: &[Kind], cluster: &Cluster) -> Option<Self> {
        let kinds: Vec<Kind> =
            kinds.iter().copied().filter(|kind| kind.goes_along() && *kind != self.kind).collect();
        // A node without a disk counts as one that is gone: what else is there has to stay whole.
        if matches!(self.kind, Kind::Wipe | Kind::Rolling) {
            return None;
        }
        Self::draw(random, &kinds, cluster).filter(|fault| fault.node != self.node)
    }

    pub fn describe(&self) -> String {
        let (name, node, other) = (self.kind.name(), self.node, self.other);
        match self.kind {
            Kind::CutOneWay => format!("{name} {node}→{other}"),
            Kind::Cut => format!("{name} {node}↔{other}"),
            Kind::Slow => format!("{name} of {node}, {} kbit/s", self.amount),
            Kind::Rolling | Kind::Elect => name.to_owned(),
            Kind::Reassign => format!("{name} {:?} off {other}", self.moving()),
            _ => format!("{name} {node}"),
        }
    }

    pub fn begin(&self, cluster: &mut Cluster) -> Result<()> {
        let network = cluster.network;
        match self.kind {
            Kind::Kill => cluster.node(self.node)?.kill(),
            Kind::Pause => cluster.node(self.node)?.signal("STOP"),
            Kind::CutOneWay => network.cut(self.node, self.other),
            Kind::Cut => network.cut(self.node, self.other).and(network.cut(self.other, self.node)),
            Kind::Isolate => self.links(cluster).try_for_each(|(from, to)| network.cut(from, to)),
            Kind::Slow => network.slow(self.node, self.amount, 2000),
            Kind::FullDisk => cluster.node(self.node)?.fill_disk(),
            Kind::Wipe => {
                let node = cluster.node(self.node)?;
                node.kill()?;
                node.wipe()
            }
            Kind::Term => cluster.node(self.node)?.stop(),
            Kind::Rolling => {
                for number in 1..=cluster.nodes.len() {
                    let node = cluster.node(number)?;
                    node.stop()?;
                    node.spawn()?;
                    node.wait_ready()?;
                    cluster.wait_in_sync(WHOLE_WITHIN)?;
                }
                Ok(())
            }
            Kind::Reassign => self.reassign(cluster, false),
            Kind::Elect => cluster.command(&["topic", "elect", TOPIC]).map(drop),
        }
    }

    pub fn end(&self, cluster: &mut Cluster) -> Result<()> {
        let network = cluster.network;
        match self.kind {
            Kind::Kill | Kind::Wipe | Kind::Term => cluster.node(self.node)?.spawn(),
            Kind::Pause => cluster.node(self.node)?.signal("CONT"),
            Kind::CutOneWay => network.join(self.node, self.other),
            Kind::Cut => network.join(self.node, self.other).and(network.join(self.other, self.node)),
            Kind::Isolate => self.links(cluster).try_for_each(|(from, to)| network.join(from, to)),
            Kind::Slow => network.full_speed(self.node),
            Kind::FullDisk => {
                let node = cluster.node(self.node)?;
                node.free_disk()?;
                // It may end over a full disk; then it has to come back.
                if node.ended().is_some() { node.spawn() } else { Ok(()) }
            }
            Kind::Reassign => self.reassign(cluster, true),
            Kind::Rolling | Kind::Elect => Ok(()),
        }
    }

    fn links(&self, cluster: &Cluster) -> impl Iterator<Item = (usize, usize)> + use<> {
        let node = self.node;
        let others = (1..=cluster.nodes.len()).filter(move |other| *other != node);
        others.flat_map(move |other| [(node, other), (other, node)])
    }

    fn moving(&self) -> Vec<usize> {
        (0..4).map(|at| (self.amount as usize + at * 5) % PARTITIONS).collect()
    }

    /// Takes a replica from some partitions, or gives it back as the first one.
    fn reassign(&self, cluster: &Cluster, back: bool) -> Result<()> {
        let mut replicas: Vec<usize> = (1..=cluster.nodes.len()).filter(|node| *node != self.other).collect();
        if back {
            replicas.insert(0, self.other);
        }
        let replicas = replicas.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let targets: Vec<String> =
            self.moving().iter().map(|partition| format!("{partition}={replicas}")).collect();
        let mut words = vec!["topic", "reassign", TOPIC, "--timeout", "20", "--replicas"];
        words.extend(targets.iter().map(String::as_str));
        cluster.command(&words).map(drop)
    }
}
