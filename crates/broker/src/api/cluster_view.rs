//! What several APIs tell of the cluster: which brokers clients may ask, which replicas are away, and who leads.

use std::collections::BTreeSet;

use chronik_base::NodeId;
use chronik_meta::{Broker as RegisteredBroker, Image, Partition, Topic};

use crate::{Broker, ConnectionContext};

/// Whether clients can be sent to a broker: it is registered and not fenced.
pub(crate) fn is_alive(image: &Image, id: NodeId) -> bool {
    image.broker(id).is_some_and(|broker| !broker.fenced)
}

/// Replicas on brokers that clients can't be sent to.
pub(crate) fn offline_replicas(image: &Image, partition: &Partition) -> Vec<NodeId> {
    partition.replicas.iter().copied().filter(|id| !is_alive(image, *id)).collect()
}

/// The broker that clients take for the controller. Every node forwards what only the metadata leader can do, so any will do: that leader where
/// it is known and alive, else this node, else whoever is; -1 if nobody is.
pub(crate) fn controller_id(broker: &Broker, image: &Image) -> NodeId {
    [broker.metadata.controller(), broker.node_id]
        .into_iter()
        .chain(image.brokers().map(|other| other.id))
        .find(|id| is_alive(image, *id))
        .unwrap_or(-1)
}

/// A broker, with the address that clients of one connection are to use.
pub(crate) struct Address {
    pub(crate) id: NodeId,
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) rack: Option<String>,
    pub(crate) fenced: bool,
}

impl Address {
    pub(crate) fn new(broker: &Broker, other: &RegisteredBroker, connection: &ConnectionContext) -> Self {
        let (host, port) = broker.address_of(other, connection);
        let (rack, fenced) = (other.rack.clone(), other.fenced);
        Self { id: other.id, host, port: i32::from(port), rack, fenced }
    }
}

/// Whom a client is sent to when it asked the wrong node (KIP-951): the leaders that an answer names, and where they are.
#[derive(Default)]
pub(crate) struct LeaderHints {
    named: BTreeSet<NodeId>,
}

impl LeaderHints {
    /// Leader and leader epoch of a partition, if it has a leader that can be asked; its address is among those given in the end.
    pub(crate) fn leader(
        &mut self,
        image: &Image,
        topic: Option<&Topic>,
        index: i32,
    ) -> Option<(NodeId, i32)> {
        let partition = topic?.partitions.get(index)?;
        if !is_alive(image, partition.leader) {
            return None;
        }
        self.named.insert(partition.leader);
        Some((partition.leader, partition.leader_epoch))
    }

    /// Where the named leaders are.
    pub(crate) fn addresses(
        self,
        broker: &Broker,
        image: &Image,
        connection: &ConnectionContext,
    ) -> Vec<Address> {
        let known = self.named.iter().filter_map(|id| image.broker(*id));
        known.map(|other| Address::new(broker, other, connection)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chronik_base::Uuid;
    use chronik_meta::Command;

    /// Brokers 1 to `brokers`, of which those in `fenced` are fenced, and the topic "t" with one partition on all of them.
    pub(crate) fn image(brokers: i32, fenced: &[NodeId]) -> Image {
        let mut image = Image::default();
        for id in 1..=brokers {
            let (incarnation, directory) = (Uuid([id as u8; 16]), Uuid([0x40 + id as u8; 16]));
            let rack = Some(format!("rack-{id}"));
            image.apply(&Command::RegisterBroker { id, rack, endpoints: Vec::new(), incarnation, directory });
            let epoch = image.broker(id).unwrap().epoch;
            image.apply(&Command::UnfenceBroker { id, epoch });
        }
        image.apply(&Command::CreateTopic {
            name: "t".to_owned(),
            id: Uuid([9; 16]),
            created: 0,
            assignments: vec![(1..=brokers).collect()],
            configs: Default::default(),
        });
        for id in fenced {
            let epoch = image.broker(*id).unwrap().epoch;
            image.apply(&Command::FenceBroker { id: *id, epoch });
        }
        image
    }

    #[test]
    fn replicas_of_fenced_and_unknown_brokers_are_offline() {
        let image = image(3, &[1]);
        let partition = image.partition("t", 0).unwrap();
        assert_eq!((partition.leader, offline_replicas(&image, partition)), (2, vec![1]));
        assert!(!is_alive(&image, 1) && is_alive(&image, 2) && !is_alive(&image, 7));
    }

    #[test]
    fn leaders_are_named_where_there_are_any() {
        let led = image(2, &[1]);
        let mut hints = LeaderHints::default();
        assert_eq!(hints.leader(&led, led.topic("t").map(|topic| &**topic), 0), Some((2, 1)));
        assert_eq!(hints.leader(&led, led.topic("t").map(|topic| &**topic), 5), None);
        assert_eq!(hints.leader(&led, None, 0), None);
        assert_eq!(hints.named.into_iter().collect::<Vec<_>>(), [2]);
        let dead = image(2, &[1, 2]);
        assert_eq!(LeaderHints::default().leader(&dead, dead.topic("t").map(|topic| &**topic), 0), None);
    }
}
