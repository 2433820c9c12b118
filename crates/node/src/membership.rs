//! Who this node is in its cluster: from the settings and from what the data directory says, and what changes of it mean.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chronik_base::{Clock, NodeId, Uuid};
use chronik_broker::{INTERNAL_LISTENER, KAFKA_LISTENER};
use chronik_config::{Mode as StartMode, NodeConfig, Settings, Source};
use chronik_meta::{Endpoint, Identity, IdentityError, Role};
use chronik_quorum::{Joined, Mode, Restart};

use crate::start_error::StartError;

/// Where the nodes that were known last are kept, for a node that has to find its cluster before it has the metadata.
const PEERS_FILE: &str = "peers.txt";

/// Who the node is, and which nodes it begins with.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) identity: Identity,
    pub(crate) mode: Mode,
    /// Addresses of other nodes that are known before the metadata are.
    pub(crate) peers: Vec<(NodeId, String)>,
    /// The node has to ask for a place in the cluster of this node first.
    pub(crate) join: Option<String>,
    /// The file has to be written.
    is_new: bool,
}

impl Place {
    /// What settings and data directory say.
    pub(crate) fn find(
        settings: &Settings,
        config: &NodeConfig,
        data_dir: &Path,
        clock: &dyn Clock,
    ) -> Result<Self, StartError> {
        let unusable = |error: IdentityError| StartError::Unusable(error.to_string());
        let is_id_given = *settings.source("node.id") != Source::Default;
        let found = if is_id_given {
            Identity::read(data_dir, config.node_id).map_err(unusable)?
        } else {
            Identity::find(data_dir).map_err(unusable)?
        };
        let mut is_new = found.is_none();
        let mut identity = found.unwrap_or_else(|| Identity {
            node_id: config.node_id,
            cluster_id: None,
            created: clock.wall_ms(),
            directory: random_uuid(),
            role: Role::Standalone,
        });
        if identity.directory.is_zero() {
            identity.directory = random_uuid();
            is_new = true;
        }
        let listed: Vec<(NodeId, String)> =
            config.peers.iter().map(|peer| (peer.id, peer.address.to_string())).collect();
        let saved = read_peers(data_dir)?;
        let join = config.join.first().map(ToString::to_string);
        let belongs = identity.cluster_id.is_some();
        let observer = |saved: &[(NodeId, String)]| Mode::Observer {
            sources: saved.iter().map(|(id, _)| *id).filter(|id| *id != identity.node_id).collect(),
        };
        let (mode, role, join, peers) = match (settings.mode(), identity.role) {
            (StartMode::RaftCluster, Role::Voter) if listed.is_empty() => {
                (Mode::Raft { voters: saved.clone() }, Role::Voter, None, saved)
            }
            (StartMode::RaftCluster, _) if !listed.is_empty() => {
                (Mode::Raft { voters: listed.clone() }, Role::Voter, None, listed)
            }
            (_, Role::Observer) if belongs => (observer(&saved), Role::Observer, None, saved),
            (StartMode::RaftCluster, _) => (observer(&saved), Role::Observer, join, saved),
            (StartMode::Standalone, _) if join.is_some() => (observer(&saved), Role::Observer, join, saved),
            (StartMode::Standalone, _) => (Mode::Single, Role::Standalone, None, Vec::new()),
        };
        is_new |= role != identity.role;
        identity.role = role;
        Ok(Self { identity, mode, peers, join, is_new })
    }

    /// True if the node belongs to a cluster of several for good. One that is alone so far, and holds nothing, may still be invited.
    pub(crate) fn is_bound(&self) -> bool {
        self.identity.role != Role::Standalone
    }

    /// Takes the place that the cluster gave.
    pub(crate) fn joined(&mut self, joined: Joined) {
        self.identity.node_id = joined.node_id;
        self.identity.cluster_id = Some(joined.cluster_id);
        self.identity.role = Role::Observer;
        let sources = joined.voters.iter().map(|(id, _)| *id).collect();
        self.mode = Mode::Observer { sources };
        self.peers = joined.voters;
        self.join = None;
        self.is_new = true;
    }

    /// Writes down who the node is, if that is news.
    pub(crate) fn save(&mut self, data_dir: &Path, durable: bool) -> Result<(), StartError> {
        if std::mem::take(&mut self.is_new) {
            let saved = self.identity.write(data_dir, durable);
            saved.map_err(|error| StartError::NotWritable(error.to_string()))?;
            write_peers(data_dir, &self.peers)?;
        }
        Ok(())
    }
}

/// Who the node is, on disk. Only one change is written at a time, and none after the node was told to become another.
pub(crate) struct IdentityFile {
    /// `None` once it is another node's.
    identity: Mutex<Option<Identity>>,
    data_dir: PathBuf,
    durable: bool,
}

impl IdentityFile {
    pub(crate) fn new(identity: Identity, data_dir: PathBuf, durable: bool) -> Self {
        Self { identity: Mutex::new(Some(identity)), data_dir, durable }
    }

    /// Writes down which cluster the node belongs to, if that is news.
    pub(crate) fn remember_cluster(&self, id: Uuid) -> Result<(), StartError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *identity {
            Some(identity) if identity.cluster_id != Some(id) => {
                identity.cluster_id = Some(id);
                write(identity, &self.data_dir, self.durable)
            }
            _ => Ok(()),
        }
    }

    /// Writes down what the node is to be from its next start on. `cluster_id` is what it belongs to now, zero if it does not know.
    pub(crate) fn become_other(&self, restart: &Restart, cluster_id: Uuid) -> Result<(), StartError> {
        let mut kept = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut identity) = kept.take() else { return Ok(()) };
        if !cluster_id.is_zero() {
            identity.cluster_id = Some(cluster_id);
        }
        let peers = match restart {
            Restart::Follow(invitation) => {
                identity.node_id = invitation.node_id;
                identity.cluster_id = Some(invitation.cluster_id);
                identity.role = Role::Observer;
                vec![(invitation.leader, invitation.leader_address.clone())]
            }
            Restart::Vote { voters } => {
                identity.role = Role::Voter;
                voters.clone()
            }
            Restart::Observe { sources } => {
                identity.role = Role::Observer;
                let known = read_peers(&self.data_dir)?;
                known.into_iter().filter(|(id, _)| sources.contains(id)).collect()
            }
        };
        write_peers(&self.data_dir, &peers)?;
        write(&identity, &self.data_dir, self.durable)
    }
}

fn write(identity: &Identity, data_dir: &Path, durable: bool) -> Result<(), StartError> {
    identity.write(data_dir, durable).map_err(|error| StartError::NotWritable(error.to_string()))
}

/// Writes down where the other nodes are.
pub(crate) fn write_peers(data_dir: &Path, peers: &[(NodeId, String)]) -> Result<(), StartError> {
    let path = data_dir.join(PEERS_FILE);
    let lines: String = peers.iter().map(|(id, address)| format!("{id}@{address}\n")).collect();
    let beside = data_dir.join(format!("{PEERS_FILE}.new"));
    fs::write(&beside, lines)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|error| StartError::NotWritable(format!("{}: {error}", path.display())))
}

fn read_peers(data_dir: &Path) -> Result<Vec<(NodeId, String)>, StartError> {
    let path: PathBuf = data_dir.join(PEERS_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StartError::Unusable(format!("can't read {}: {error}", path.display()))),
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (id, address) = line.split_once('@')?;
            Some((id.trim().parse().ok()?, address.trim().to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            StartError::Unusable(format!("{}: a line is not ID@HOST:PORT; restore the file", path.display()))
        })
}

/// Where clients and nodes reach this node. `towards` is an address of another node, where one is known.
pub(crate) fn endpoints(
    config: &NodeConfig,
    node: NodeId,
    listen: SocketAddr,
    advertised: Option<&(String, u16)>,
    towards: Option<&str>,
) -> Vec<Endpoint> {
    let own = config.peers.iter().find(|peer| peer.id == node);
    let internal = match own {
        Some(peer) => (peer.address.host.clone(), peer.address.port),
        None => (reachable(listen, towards), listen.port()),
    };
    let kafka = advertised.cloned().unwrap_or_else(|| internal.clone());
    [(KAFKA_LISTENER, kafka), (INTERNAL_LISTENER, internal)]
        .map(|(listener, (host, port))| Endpoint { listener: listener.to_owned(), host, port })
        .into()
}

/// The host by which others reach a listener. One that takes every address is reached by that of the interface that leads to
/// `towards`; where nothing is known of others, this machine's own loopback has to do.
pub(crate) fn reachable(listen: SocketAddr, towards: Option<&str>) -> String {
    if !listen.ip().is_unspecified() {
        return listen.ip().to_string();
    }
    let found = towards.and_then(|towards| {
        let target = towards.to_socket_addrs().ok()?.next()?;
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        // Nothing is sent: it only asks the routing table.
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    found.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string())
}

/// A random identifier, from the operating system.
pub(crate) fn random_uuid() -> Uuid {
    chronik_broker::random_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_kept_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_peers(dir.path()).unwrap(), []);
        let peers = vec![(1, "127.0.0.1:9092".to_owned()), (2, "[::1]:9093".to_owned())];
        write_peers(dir.path(), &peers).unwrap();
        assert_eq!(read_peers(dir.path()).unwrap(), peers);
        fs::write(dir.path().join(PEERS_FILE), "nonsense\n").unwrap();
        assert!(read_peers(dir.path()).unwrap_err().to_string().contains("ID@HOST:PORT"));
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_the_way_to_the_others() {
        let any: SocketAddr = ([0, 0, 0, 0], 9092).into();
        assert_eq!(reachable(any, Some("127.0.0.1:9093")), "127.0.0.1");
        assert_eq!(reachable(([127, 0, 0, 2], 9092).into(), None), "127.0.0.2");
    }
}
