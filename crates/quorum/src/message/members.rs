//! Who a node is, and who votes.

use bytes::Bytes;
use chronik_base::{NodeId, Uuid};

use super::View;
use crate::wire::{Reader, WireError, Writer};

/// How a node takes part in the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The only voter.
    Voter,
    /// A node of a Raft quorum, or one that is to become one.
    Raft,
    /// A node that follows the voters.
    Observer,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Uuid,
    pub(crate) role: Role,
    pub(crate) cluster_id: Uuid,
    /// True if it has metadata: of a run of its own, or of a quorum.
    pub(crate) has_metadata: bool,
    /// True if the node's Raft log has a beginning. A node of a quorum that has none waits to be added.
    pub(crate) initialized: bool,
    pub(crate) view: View,
}

impl Probed {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.node(self.node);
        out.uuid(&self.incarnation);
        out.u8(match self.role {
            Role::Voter => 0,
            Role::Raft => 1,
            Role::Observer => 2,
        });
        out.uuid(&self.cluster_id);
        out.flag(self.has_metadata);
        out.flag(self.initialized);
        self.view.put(&mut out);
        out.finish()
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            node: input.node("a node")?,
            incarnation: input.uuid("an incarnation")?,
            role: match input.u8("a role")? {
                0 => Role::Voter,
                1 => Role::Raft,
                2 => Role::Observer,
                _ => return Err(WireError::Malformed("a role")),
            },
            cluster_id: input.uuid("a cluster id")?,
            has_metadata: input.flag("a flag")?,
            initialized: input.flag("a flag")?,
            view: View::get(input)?,
        })
    }
}

/// A change of who votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Let this node vote, reached at this address.
    Add(NodeId, String),
    /// Let it vote no more.
    Remove(NodeId),
    /// An empty node asks the quorum that it is, or is to become, part of.
    TakeIn(NodeId),
}

/// What the leader says to [`Membership`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MembershipAnswer {
    Done,
    NotLeader(Option<NodeId>),
    Refused(String),
}

impl Membership {
    pub(crate) fn put(&self, out: &mut Writer) {
        match self {
            Membership::Add(node, address) => {
                out.u8(0);
                out.node(*node);
                out.text(address);
            }
            Membership::Remove(node) => {
                out.u8(1);
                out.node(*node);
            }
            Membership::TakeIn(node) => {
                out.u8(2);
                out.node(*node);
            }
        }
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(match input.u8("a change of voters")? {
            0 => Membership::Add(input.node("a node")?, input.text("an address")?),
            1 => Membership::Remove(input.node("a node")?),
            2 => Membership::TakeIn(input.node("a node")?),
            _ => return Err(WireError::Malformed("a change of voters")),
        })
    }
}

impl MembershipAnswer {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        match self {
            MembershipAnswer::Done => out.u8(0),
            MembershipAnswer::NotLeader(leader) => {
                out.u8(1);
                out.optional_node(*leader);
            }
            MembershipAnswer::Refused(problem) => {
                out.u8(2);
                out.text(problem);
            }
        }
        out.finish()
    }

    pub(crate) fn get(input: &mut Reader) -> Result<Self, WireError> {
        Ok(match input.u8("an answer")? {
            0 => MembershipAnswer::Done,
            1 => MembershipAnswer::NotLeader(input.optional_node("a leader")?),
            2 => MembershipAnswer::Refused(input.text("a problem")?),
            _ => return Err(WireError::Malformed("an answer")),
        })
    }
}
