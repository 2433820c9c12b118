//! Answers to other nodes' calls.

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::NodeId;

use crate::inner::{Inner, Matter, Store, lock};
use crate::join::{self, Invitation, InviteAnswer, JoinRequest, Joined};
use crate::message::{self, Caller, Fetch, Heartbeat, Membership, Probed, Role, Submit, kind};
use crate::options::Restart;
use crate::wire::{Reader, WireError};

impl Inner {
    /// Answers a call of the kinds 16 to 31.
    ///
    /// # Errors
    /// In words for the other node's operator.
    pub(crate) async fn answer(
        self: Arc<Self>,
        from: NodeId,
        what: u8,
        payload: Bytes,
    ) -> Result<Bytes, String> {
        let (caller, mut input) = message::open(payload).map_err(bad)?;
        match what {
            kind::JOIN => {
                let request = JoinRequest::get(caller, input).map_err(bad)?;
                return self.join(request).await.map(|joined| joined.encode());
            }
            kind::INVITE => {
                let invitation = Invitation::get(caller, input).map_err(bad)?;
                return Ok(self.on_invite(invitation).encode());
            }
            kind::PROBE => {
                input.finish().map_err(bad)?;
                self.hear_generation(from, caller);
                return Ok(self.probed().encode());
            }
            _ => {}
        }
        if let Err(problem) = self.check_caller(from, caller) {
            return match what {
                // An observer of another cluster is told which one this is, so that it can say what is wrong.
                kind::FETCH_METADATA => Ok(self.foreign().encode()),
                _ => Err(problem),
            };
        }
        match what {
            kind::SUBMIT => {
                let submit = whole(input, Submit::get)?;
                Ok(self.on_submit(from, submit).await.encode())
            }
            kind::HEARTBEAT => {
                let heartbeat = whole(input, Heartbeat::get)?;
                Ok(self.on_heartbeat(from, heartbeat).encode())
            }
            kind::FETCH_METADATA => {
                let fetch = whole(input, Fetch::get)?;
                Ok(self.on_fetch(from, fetch).await.encode())
            }
            kind::ANNOUNCE => {
                let voter = input.node("a node").map_err(bad)?;
                input.finish().map_err(bad)?;
                self.hear_generation(voter, caller);
                Ok(Bytes::new())
            }
            kind::MEMBERSHIP => {
                let change = whole(input, Membership::get)?;
                Ok(self.on_membership(change).await.encode())
            }
            kind::VOTE => {
                let voters = whole(input, |input| input.addresses("voters"))?;
                if self.role() != Role::Raft {
                    tracing::info!("this node is to vote from now on: it starts anew as a voter");
                    (self.on_restart)(Restart::Vote { voters });
                }
                Ok(Bytes::new())
            }
            kind::DISMISS => {
                let sources = whole(input, |input| input.list("voters", |input| input.node("a voter")))?;
                if self.role() == Role::Raft {
                    tracing::info!("this node votes no more: it starts anew as an observer");
                    (self.on_restart)(Restart::Observe { sources });
                }
                Ok(Bytes::new())
            }
            other => Err(format!(
                "a call of kind {other} is not known here: run the same version of Chronik on all nodes"
            )),
        }
    }

    /// Refuses nodes of another cluster; hears of a later voter; tells those who know only an earlier one.
    fn check_caller(self: &Arc<Self>, from: NodeId, caller: Caller) -> Result<(), String> {
        let own = self.cluster();
        if !own.is_zero() && !caller.cluster_id.is_zero() && own != caller.cluster_id {
            let problem = format!(
                "node {from} belongs to cluster {}, node {} to cluster {own}: they don't work together; check the addresses, or start one with an empty \
                 --data-dir",
                caller.cluster_id,
                self.me()
            );
            self.note_problem(from, Matter::Calls, Some(problem.clone()));
            return Err(problem);
        }
        self.note_problem(from, Matter::Calls, None);
        self.hear_generation(from, caller);
        Ok(())
    }

    /// What this node says of itself.
    pub(crate) fn probed(&self) -> Probed {
        let initialized = match &self.store {
            Store::Raft(raft) => raft.is_initialized(),
            Store::Local(_) => true,
        };
        Probed {
            node: self.me(),
            incarnation: self.registration.incarnation,
            role: self.role(),
            cluster_id: self.cluster(),
            has_metadata: !self.image().cluster_id().is_zero(),
            initialized,
            view: self.view(),
        }
    }

    fn on_invite(&self, invitation: Invitation) -> InviteAnswer {
        if let Store::Raft(_) = &self.store {
            return InviteAnswer::Refused(format!(
                "this node is a voter of a Raft quorum (cluster {}): start it with `standalone` and an empty --data-dir to make it a follower",
                self.cluster()
            ));
        }
        let follows = self.role() == Role::Observer;
        let answer = join::decide_invitation(&self.image(), self.me(), follows, &invitation);
        match &answer {
            InviteAnswer::Joining => {
                tracing::info!(
                    "node {} at {} asks this node to follow it as node {} of cluster {}: this node is empty, so it does",
                    invitation.leader,
                    invitation.leader_address,
                    invitation.node_id,
                    invitation.cluster_id
                );
                (self.on_restart)(Restart::Follow(invitation));
            }
            InviteAnswer::Refused(problem) => {
                self.note_problem(invitation.leader, Matter::Invitation, Some(problem.clone()));
            }
            InviteAnswer::Member => {}
        }
        answer
    }

    /// Gives a node its id and makes it known, fenced; forwarded to the leader.
    ///
    /// # Errors
    /// Why not, in words for the operator of the node that asks.
    pub(crate) async fn join(self: &Arc<Self>, request: JoinRequest) -> Result<Joined, String> {
        let image = self.image();
        if image.cluster_id().is_zero() {
            return Err("this node has no cluster yet: ask again when its quorum has formed".to_owned());
        }
        if !self.is_leader() {
            let leader = self.leader().filter(|leader| *leader != self.me());
            let leader = leader.ok_or("nobody leads the metadata now: ask again in a moment")?;
            let answer = self.call(leader, kind::JOIN, request.encode(), self.timing.request).await;
            let payload = answer.map_err(|error| error.to_string())?;
            return Joined::decode(payload).map_err(bad);
        }
        let node_id = self.promise(&image, &request)?;
        let known = image.broker(node_id).is_some_and(|broker| broker.directory == request.directory);
        if !known {
            let registered = self
                .commit(vec![chronik_meta::Command::RegisterBroker {
                    id: node_id,
                    rack: request.rack,
                    endpoints: request.endpoints,
                    incarnation: request.incarnation,
                    directory: request.directory,
                }])
                .await;
            lock(&self.promised).remove(&request.directory);
            if let Some(Err(error)) = registered.into_iter().next() {
                return Err(error.to_string());
            }
        }
        let view = self.view();
        Ok(Joined { cluster_id: image.cluster_id(), node_id, leader: view.leader, voters: view.voters })
    }

    fn promise(&self, image: &chronik_meta::Image, request: &JoinRequest) -> Result<NodeId, String> {
        let voters = self.view().voters;
        let mut promised = lock(&self.promised);
        let node_id = join::assign_id(image, &promised, &voters, request)?;
        if let Some(other) = image.broker(node_id)
            && other.directory != request.directory
            && (!other.fenced || node_id == self.me())
        {
            return Err(format!(
                "node id {node_id} is in use by a live broker at {}: use another --node-id",
                crate::inner::address_of(&other.endpoints)
            ));
        }
        promised.insert(request.directory, node_id);
        Ok(node_id)
    }
}

fn whole<T>(mut input: Reader, get: impl FnOnce(&mut Reader) -> Result<T, WireError>) -> Result<T, String> {
    let value = get(&mut input).map_err(bad)?;
    input.finish().map_err(bad)?;
    Ok(value)
}

fn bad(error: WireError) -> String {
    format!("a call about metadata can't be read: {error}")
}
