//! How a node is started, and which settings go with that.

use crate::address::{HostPort, Peer};
use crate::error::ConfigError;
use crate::node::NodeConfig;
use crate::settings::{Settings, Source};

/// How a node is started: the command says it, no setting does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `chronik standalone`: the only voter, with or without followers; or such a follower.
    #[default]
    Standalone,
    /// `chronik raft-cluster`: one of several voters, or a node that follows them.
    RaftCluster,
}

/// Voters beyond this make every change of the metadata slower, and survive nothing that this many wouldn't.
const VOTERS_SENSIBLE_MAX: usize = 7;

/// The replicas that `auto` gives a topic at most in a raft cluster: any one node may be lost while another is being repaired.
const AUTO_REPLICAS_MAX: usize = 3;

/// What is wrong with the settings in this mode.
pub(crate) fn check(mode: Mode, settings: &Settings) -> Vec<ConfigError> {
    let config = NodeConfig::from_settings(settings);
    let mut errors = Vec::new();
    let mut error = |message: String| errors.push(ConfigError::conflict(message));
    let own_port = config.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match mode {
        Mode::Standalone => {
            if !config.peers.is_empty() {
                error(format!(
                    "peers ({}) is for `chronik raft-cluster`; the followers of a standalone node are named with replication.followers",
                    settings.source("peers")
                ));
            }
            if !config.join.is_empty() && !config.replication_followers.is_empty() {
                error(
                    "join and replication.followers are both set: a follower has no followers of its own; name all of them at the leader"
                        .to_owned(),
                );
            }
        }
        Mode::RaftCluster => {
            if !config.replication_followers.is_empty() {
                error(format!(
                    "replication.followers ({}) is for `chronik standalone`; in a raft cluster every node has replicas, as many as default.replication.factor says",
                    settings.source("replication.followers")
                ));
            }
            match (config.peers.is_empty(), config.join.is_empty()) {
                (true, true) => error(
                    "a raft cluster needs peers or join: --peers 1@HOST:PORT,2@HOST:PORT,3@HOST:PORT names its voters, this node among them; --join HOST:PORT follows the cluster of the node there, without a vote"
                        .to_owned(),
                ),
                (false, false) => error(
                    "peers and join are both set: give peers to a voter, join to a node that follows without a vote".to_owned(),
                ),
                (false, true) => check_peers_hold_node(settings, &config, own_port, &mut error),
                (true, false) => {}
            }
            if settings.source("node.id") == &Source::Default
                && !(config.peers.len() == 1 && config.peers.iter().all(|peer| peer.id == config.node_id))
            {
                error(
                    "node.id is not set: give each node of the cluster its own, for example --node-id 1"
                        .to_owned(),
                );
            }
        }
    }
    let is_this_node = |address: &&HostPort| {
        Some(address.port) == own_port && is_host_of_listen(&config.listen, &address.host)
    };
    for name in ["join", "replication.followers"] {
        let addresses = if name == "join" { &config.join } else { &config.replication_followers };
        if let Some(address) = addresses.iter().find(is_this_node) {
            errors.push(ConfigError::conflict(format!(
                "{name} names {address}, which is this node itself (listen = {}): name other nodes only",
                config.listen
            )));
        }
    }
    errors
}

fn check_peers_hold_node(
    settings: &Settings,
    config: &NodeConfig,
    own_port: Option<u16>,
    error: &mut impl FnMut(String),
) {
    let listed = || config.peers.iter().map(Peer::to_string).collect::<Vec<_>>().join(",");
    // Without an id of its own it is told to have one.
    let has_id = settings.source("node.id") != &Source::Default || config.peers.len() == 1;
    if has_id && !config.peers.iter().any(|peer| peer.id == config.node_id) {
        error(format!(
            "node.id = {} is not among peers = {}: list this node as {}@HOST:PORT; to add it to a cluster that runs, start it with --join HOST:PORT instead, then `chronik cluster add-voter`",
            config.node_id,
            listed(),
            config.node_id
        ));
    }
    if own_port == Some(0) && config.peers.len() > 1 {
        error(format!(
            "listen = {} takes any free port, so the other peers can't find this node: listen on the port that peers = {} says",
            config.listen,
            listed()
        ));
    }
}

/// True if `listen` certainly is at `host`. Names are not looked up.
fn is_host_of_listen(listen: &str, host: &str) -> bool {
    let Some((own, _)) = listen.rsplit_once(':') else { return false };
    let own = own.trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let is_here = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
    own == host || (is_here(host) && (is_here(&own) || matches!(own.as_str(), "" | "0.0.0.0" | "::")))
}

impl Settings {
    /// How the node is started.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// What is allowed and probably not meant, one line each: to be logged at the start.
    pub fn warnings(&self) -> Vec<String> {
        let config = NodeConfig::from_settings(self);
        let mut warnings = Vec::new();
        let voters = config.peers.len();
        if voters > 2 && voters.is_multiple_of(2) {
            warnings.push(format!(
                "{voters} peers survive the loss of {} of them, as {} would: an odd number is better",
                (voters - 1) / 2,
                voters - 1
            ));
        }
        if voters > VOTERS_SENSIBLE_MAX {
            warnings.push(format!(
                "{voters} peers all vote on every change of the metadata; with 3 or 5, and --join for the other nodes, it is faster"
            ));
        }
        let own = config.peers.iter().find(|peer| peer.id == config.node_id);
        if let (Some(own), Some((_, port))) = (own, config.listen.rsplit_once(':'))
            && port != own.address.port.to_string()
        {
            warnings.push(format!(
                "this node listens on port {port}, and peers says that it is at {own}: right only if that port is forwarded"
            ));
        }
        warnings
    }

    /// The replicas of a topic that is created without a number: `default.replication.factor`, where `nodes` are
    /// registered.
    pub fn default_replication_factor(&self, nodes: usize) -> usize {
        self.replication_factor("default.replication.factor", nodes)
    }

    /// The replicas of the topic of committed offsets when it is created: `offsets.topic.replication.factor`, where
    /// `nodes` are registered.
    pub fn offsets_replication_factor(&self, nodes: usize) -> usize {
        self.replication_factor("offsets.topic.replication.factor", nodes)
    }

    /// In a raft cluster every voter counts, also one that was not started yet: else the topics that come first would stay
    /// with fewer replicas than the rest.
    fn replication_factor(&self, name: &str, nodes: usize) -> usize {
        if let Some(crate::Value::Int(number @ 1..)) = self.get(name) {
            return usize::try_from(*number).unwrap_or(1);
        }
        match self.mode() {
            Mode::Standalone => nodes.max(1),
            Mode::RaftCluster => {
                let voters = NodeConfig::from_settings(self).peers.len();
                nodes.max(voters).clamp(1, AUTO_REPLICAS_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sources;

    fn load(mode: Mode, pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let flags = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::load(&Sources { mode: Some(mode), flags, ..Sources::default() })
            .map_err(|errors| errors.to_string())
    }

    fn refused(mode: Mode, pairs: &[(&str, &str)], what: &str) {
        let error = load(mode, pairs).unwrap_err();
        assert!(error.contains(what) && !error.contains('\n'), "{pairs:?}: {error}");
    }

    const THREE: &str = "1@127.0.0.1:9092,2@127.0.0.1:9093,3@127.0.0.1:9094";

    #[test]
    fn three_nodes_on_neighbouring_ports() {
        for (id, listen) in [("1", "127.0.0.1:9092"), ("2", "127.0.0.1:9093"), ("3", "0.0.0.0:9094")] {
            let settings =
                load(Mode::RaftCluster, &[("node-id", id), ("listen", listen), ("peers", THREE)]).unwrap();
            assert_eq!(settings.mode(), Mode::RaftCluster);
            assert_eq!(settings.warnings(), Vec::<String>::new());
            let config = NodeConfig::from_settings(&settings);
            assert_eq!(config.peers.len(), 3);
            assert_eq!(config.peers[1].to_string(), "2@127.0.0.1:9093");
        }
    }

    #[test]
    fn peers_are_checked() {
        let bad =
            |peers: &str, what: &str| refused(Mode::RaftCluster, &[("node-id", "1"), ("peers", peers)], what);
        bad("1@a:1,1@b:1", "1@a:1 and 1@b:1 have the same id");
        bad("1@a:1,2@A:1", "1@a:1 and 2@a:1 have the same address");
        bad("1@a:1,b:1", "\"b:1\" is not ID@HOST:PORT: the id is missing");
        bad("2@a:1,3@b:1", "node.id = 1 is not among peers = 2@a:1,3@b:1");
        refused(
            Mode::RaftCluster,
            &[("node-id", "1"), ("listen", "127.0.0.1:0"), ("peers", THREE)],
            "any free port",
        );
        refused(Mode::RaftCluster, &[("peers", THREE)], "node.id is not set");
        refused(Mode::RaftCluster, &[("node-id", "4")], "needs peers or join");
        refused(Mode::RaftCluster, &[("join", "a:1")], "node.id is not set");
        refused(Mode::RaftCluster, &[("node-id", "1"), ("peers", THREE), ("join", "a:1")], "both set");
        refused(Mode::Standalone, &[("peers", THREE)], "is for `chronik raft-cluster`");
        // One voter alone may keep the id that every node begins with.
        assert!(load(Mode::RaftCluster, &[("peers", "1@localhost:9092"), ("listen", "127.0.0.1:0")]).is_ok());
    }

    #[test]
    fn followers_are_for_standalone() {
        let set = ("replication-followers", "b:9092,c:9092");
        let settings = load(Mode::Standalone, &[set]).unwrap();
        assert_eq!(NodeConfig::from_settings(&settings).replication_followers[1].to_string(), "c:9092");
        refused(Mode::RaftCluster, &[("node-id", "4"), ("join", "a:1"), set], "is for `chronik standalone`");
        refused(Mode::Standalone, &[("join", "a:1"), set], "a follower has no followers");
        refused(Mode::Standalone, &[("replication-followers", "b:1,B:1")], "b:1 is named twice");
        refused(Mode::Standalone, &[("replication-followers", "localhost:9092")], "this node itself");
        refused(Mode::Standalone, &[("listen", "[::]:7"), ("join", "[::1]:7")], "this node itself");
        assert!(load(Mode::Standalone, &[("listen", "127.0.0.1:9093"), ("join", "localhost:9092")]).is_ok());
    }

    #[test]
    fn what_is_probably_not_meant_is_warned_of() {
        let warnings = |peers: &str| {
            load(Mode::RaftCluster, &[("node-id", "1"), ("listen", "0.0.0.0:1"), ("peers", peers)])
                .unwrap()
                .warnings()
        };
        assert_eq!(warnings("1@a:1,2@a:2"), Vec::<String>::new());
        assert_eq!(
            warnings("1@a:1,2@a:2,3@a:3,4@a:4"),
            ["4 peers survive the loss of 1 of them, as 3 would: an odd number is better"]
        );
        assert!(warnings("1@a:2,2@a:3")[0].contains("listens on port 1, and peers says that it is at 1@a:2"));
    }

    #[test]
    fn auto_replicas_follow_the_mode() {
        let alone = Settings::defaults();
        assert_eq!([0, 1, 3, 5].map(|nodes| alone.default_replication_factor(nodes)), [1, 1, 3, 5]);
        let three = load(Mode::RaftCluster, &[("node-id", "1"), ("peers", THREE)]).unwrap();
        assert_eq!([1, 3, 5].map(|nodes| three.offsets_replication_factor(nodes)), [3, 3, 3]);
        let two = load(Mode::RaftCluster, &[("node-id", "1"), ("listen", "a:1"), ("peers", "1@a:1,2@b:1")])
            .unwrap();
        assert_eq!([1, 2, 3].map(|nodes| two.default_replication_factor(nodes)), [2, 2, 3]);
        let said = Settings::from_pairs(&[("default.replication.factor", "2")]).unwrap();
        assert_eq!(said.default_replication_factor(5), 2);
        assert_eq!(said.offsets_replication_factor(5), 5);
        assert!(Settings::from_pairs(&[("default.replication.factor", "0")]).is_err());
    }
}
