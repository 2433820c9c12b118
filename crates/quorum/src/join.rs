//! How an empty node becomes a broker of a running cluster: it asks ([`JoinRequest`]), or a voter asks it ([`Invitation`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik_base::{NodeId, Uuid};
use chronik_meta::{Endpoint, Image};

use crate::inner::address_of;
use crate::message::{self, Caller};
use crate::wire::{Reader, WireError, Writer};

/// A node that asks to become a broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The cluster that the node's data belong to; [`Uuid::ZERO`] if it has none.
    pub cluster_id: Uuid,
    /// The id of its data directory: the same one gets the same node id again.
    pub directory: Uuid,
    /// Made new at each start of the process.
    pub incarnation: Uuid,
    /// The node id that it wants, if it was given one.
    pub wanted: Option<NodeId>,
    /// Its rack or zone.
    pub rack: Option<String>,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
}

/// What a node that joined is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The node's id in it from now on.
    pub node_id: NodeId,
    /// Who leads the metadata, if that is known.
    pub leader: Option<NodeId>,
    /// The voters with their addresses.
    pub voters: Vec<(NodeId, String)>,
}

/// A voter asks an empty node to follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The voter.
    pub leader: NodeId,
    /// Where the voter is reached.
    pub leader_address: String,
    /// The invited node's id in the cluster.
    pub node_id: NodeId,
}

/// What an invited node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InviteAnswer {
    /// It comes.
    Joining,
    /// It follows already.
    Member,
    /// It doesn't, and why not, with what to do.
    Refused(String),
}

impl JoinRequest {
    /// The payload of a [`kind::JOIN`](crate::kind::JOIN).
    pub fn encode(&self) -> Bytes {
        message::request(Caller { cluster_id: self.cluster_id, generation: 0 }, |out| {
            out.uuid(&self.directory);
            out.uuid(&self.incarnation);
            out.optional_node(self.wanted);
            out.optional_text(self.rack.as_deref());
            out.list(self.endpoints.iter(), |out, endpoint| {
                out.text(&endpoint.listener);
                out.text(&endpoint.host);
                out.u16(endpoint.port);
            });
        })
    }

    pub(crate) fn get(caller: Caller, mut input: Reader) -> Result<Self, WireError> {
        let request = Self {
            cluster_id: caller.cluster_id,
            directory: input.uuid("a directory id")?,
            incarnation: input.uuid("an incarnation")?,
            wanted: input.optional_node("a node id")?,
            rack: input.optional_text("a rack")?,
            endpoints: input.list("endpoints", |input| {
                Ok(Endpoint {
                    listener: input.text("a listener's name")?,
                    host: input.text("a host")?,
                    port: input.u16("a port")?,
                })
            })?,
        };
        input.finish()?;
        Ok(request)
    }
}

impl Joined {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.uuid(&self.cluster_id);
        out.node(self.node_id);
        out.optional_node(self.leader);
        out.addresses(&self.voters);
        out.finish()
    }

    /// Reads the answer to a [`kind::JOIN`](crate::kind::JOIN).
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(payload: Bytes) -> Result<Self, WireError> {
        message::read(payload, |input| {
            Ok(Self {
                cluster_id: input.uuid("a cluster id")?,
                node_id: input.node("a node id")?,
                leader: input.optional_node("a leader")?,
                voters: input.addresses("voters")?,
            })
        })
    }
}

impl Invitation {
    /// The payload of a [`kind::INVITE`](crate::kind::INVITE).
    pub fn encode(&self) -> Bytes {
        message::request(Caller { cluster_id: self.cluster_id, generation: 0 }, |out| {
            out.node(self.leader);
            out.text(&self.leader_address);
            out.node(self.node_id);
        })
    }

    pub(crate) fn get(caller: Caller, mut input: Reader) -> Result<Self, WireError> {
        let invitation = Self {
            cluster_id: caller.cluster_id,
            leader: input.node("a leader")?,
            leader_address: input.text("an address")?,
            node_id: input.node("a node id")?,
        };
        input.finish()?;
        Ok(invitation)
    }
}

impl InviteAnswer {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        match self {
            InviteAnswer::Joining => out.u8(0),
            InviteAnswer::Member => out.u8(1),
            InviteAnswer::Refused(problem) => {
                out.u8(2);
                out.text(problem);
            }
        }
        out.finish()
    }

    /// Reads the answer to a [`kind::INVITE`](crate::kind::INVITE).
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(payload: Bytes) -> Result<Self, WireError> {
        message::read(payload, |input| {
            Ok(match input.u8("an answer")? {
                0 => InviteAnswer::Joining,
                1 => InviteAnswer::Member,
                2 => InviteAnswer::Refused(input.text("a problem")?),
                _ => return Err(WireError::Malformed("an answer")),
            })
        })
    }
}

/// Whether a node with this metadata follows an invitation. `follows` says that it is an observer already.
pub fn decide_invitation(
    own: &Image,
    node_id: NodeId,
    follows: bool,
    invitation: &Invitation,
) -> InviteAnswer {
    if own.cluster_id() == invitation.cluster_id {
        return if follows {
            InviteAnswer::Member
        } else {
            InviteAnswer::Refused(format!(
                "this node decides in cluster {} itself: two nodes were started with the same data; one of them must go",
                invitation.cluster_id
            ))
        };
    }
    let what = if follows {
        "follows another cluster"
    } else if own.brokers().any(|broker| broker.id != node_id) {
        "is the voter of a cluster with other brokers"
    } else if own.topic_count() > 0 {
        "has topics of its own"
    } else {
        return InviteAnswer::Joining;
    };
    InviteAnswer::Refused(format!(
        "this node {what} (cluster {}, {} topics) and won't give them up to follow node {} at {} (cluster {}): start it with an empty \
         --data-dir to make it a follower",
        own.cluster_id(),
        own.topic_count(),
        invitation.leader,
        invitation.leader_address,
        invitation.cluster_id
    ))
}

/// The broker that was at the address of a node that asks to join: only one process can be there, so that one came back with another disk.
///
/// # Errors
/// It is not known to be gone yet.
fn predecessor(
    image: &Image,
    voters: &[(NodeId, String)],
    request: &JoinRequest,
) -> Result<Option<NodeId>, String> {
    let address = address_of(&request.endpoints);
    let before = image.brokers().find(|broker| address_of(&broker.endpoints) == address);
    match before.filter(|broker| !address.is_empty() && voters.iter().all(|(id, _)| *id != broker.id)) {
        Some(broker) if !broker.fenced => {
            Err(format!("node {} at {address} is still taken for alive: ask again in a moment", broker.id))
        }
        before => Ok(before.map(|broker| broker.id)),
    }
}

/// The id of a node that asks to join: the one that its directory has, else the one that it wants, else that of the broker whose place it takes,
/// else the next free one. `promised` are those that were given out and are not in the image yet; a voter's place is not taken without its id.
///
/// # Errors
/// The reason why not, for the node's operator.
pub(crate) fn assign_id(
    image: &Image,
    promised: &BTreeMap<Uuid, NodeId>,
    voters: &[(NodeId, String)],
    request: &JoinRequest,
) -> Result<NodeId, String> {
    if !request.cluster_id.is_zero() && request.cluster_id != image.cluster_id() {
        return Err(format!(
            "the node that asks to join has data of cluster {}, this is cluster {}: start it with an empty --data-dir",
            request.cluster_id,
            image.cluster_id()
        ));
    }
    let known = image.brokers().find(|broker| broker.directory == request.directory).map(|broker| broker.id);
    if let Some(id) = known.or_else(|| promised.get(&request.directory).copied()) {
        return match request.wanted {
            Some(wanted) if wanted != id => Err(format!(
                "this data directory belongs to node {id}, it was started as node {wanted}: use --node-id {id}, or another --data-dir"
            )),
            _ => Ok(id),
        };
    }
    let is_promised = |id: NodeId| promised.values().any(|other| *other == id);
    match request.wanted {
        Some(id) if id < 0 => Err(format!("node id {id}: it must be 0 at least")),
        // A broker's disk was replaced: its operator says who it is. Whether the other one still lives is asked when it registers.
        Some(id) if !is_promised(id) => Ok(id),
        Some(id) => Err(format!("node id {id} was just given to another node: use another --node-id")),
        None => {
            let before = predecessor(image, voters, request)?.filter(|id| !is_promised(*id));
            if let Some(id) = before {
                return Ok(id);
            }
            let highest = image.brokers().map(|broker| broker.id).chain(promised.values().copied()).max();
            highest
                .map_or(Some(1), |id| id.checked_add(1))
                .ok_or_else(|| "all node ids are taken: give it one with --node-id".to_owned())
        }
    }
}
