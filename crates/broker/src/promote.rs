//! `POST /v1/cluster/promote`: a follower goes on as the only voter when the one that there was is gone for good.

use std::time::Duration;

use chronik_base::NodeId;
use chronik_meta::{Command, Image, MetaError};
use chronik_quorum::Role;
use chronik_status::{PromoteAnswer, PromoteRequest, Refusal};

use crate::Broker;

/// How long the node may take to let itself in once it is the voter.
const READY_WAIT: Duration = Duration::from_secs(10);

/// How partitions stand once the earlier voters are taken for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outlook {
    leads: u64,
    led_unclean: u64,
    offline: u64,
}

impl Outlook {
    /// How they stand in `after` for `node`; `before` tells which elections were before that.
    fn of(before: &Image, after: &Image, node: NodeId) -> Self {
        let partitions = || after.topics().flat_map(|topic| topic.partitions.iter());
        let count = |leader: NodeId| partitions().filter(|(_, p)| p.leader == leader).count() as u64;
        let led_unclean = after.tally().unclean.saturating_sub(before.tally().unclean);
        Self { leads: count(node), led_unclean, offline: count(-1) }
    }
}

impl Broker {
    /// Makes this node the only voter, or says what would become of the partitions.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub async fn promote(&self, request: PromoteRequest) -> Result<PromoteAnswer, Refusal> {
        let former = self.former_voters()?;
        let before = self.metadata.image();
        let outlook = if request.voters_are_gone {
            self.take_over(&former, request.unclean).await?;
            Outlook::of(&before, &self.metadata.image(), self.node_id)
        } else {
            foresee(&before, self.node_id, &former, request.unclean)
        };
        Ok(PromoteAnswer {
            node_id: self.node_id,
            done: request.voters_are_gone,
            former_voters: former,
            leads: outlook.leads,
            led_unclean: outlook.led_unclean,
            offline: outlook.offline,
        })
    }

    /// The voters that this node would go on without.
    fn former_voters(&self) -> Result<Vec<NodeId>, Refusal> {
        let refuse = |error: String, see: &str| Err(Refusal { error, see: see.to_owned() });
        let status = self.metadata.quorum().status();
        match status.role {
            Role::Observer => {}
            Role::Voter => {
                return refuse("this node is the voter already".to_owned(), "GET /v1/cluster/status");
            }
            Role::Raft => {
                return refuse(
                    "this node is a voter of a Raft quorum, which elects its leader by itself".to_owned(),
                    "start the other voters: a majority of them decides again",
                );
            }
        }
        if status.voters.len() > 1 {
            let voters: Vec<NodeId> = status.voters.iter().map(|voter| voter.node).collect();
            return refuse(
                format!(
                    "the voters are {voters:?}: they elect a leader by themselves as long as a majority of them lives"
                ),
                "start them again",
            );
        }
        let former: Vec<NodeId> = match status.voters.first() {
            Some(voter) => vec![voter.node],
            None => status.leader.into_iter().collect(),
        };
        match former.iter().find(|id| self.peers.is_connected(**id)) {
            Some(id) => refuse(
                format!("voter {id} answers: it isn't gone"),
                "stop it first; it must not run on beside this node",
            ),
            None => Ok(former),
        }
    }

    async fn take_over(&self, former: &[NodeId], unclean: bool) -> Result<(), Refusal> {
        let refuse = |error: String| Refusal { error, see: "the log of this node".to_owned() };
        let quorum = self.metadata.quorum();
        quorum.promote().await.map_err(refuse)?;
        quorum
            .wait_ready(READY_WAIT)
            .await
            .map_err(|why| refuse(format!("this node is the voter now, and does not serve yet: {why}")))?;
        let fences = fences(&self.metadata.image(), former);
        self.carry_out(fences).await.map_err(|error| refuse(error.to_string()))?;
        if unclean {
            let elections = unclean_elections(&self.metadata.image(), self.node_id);
            self.carry_out(elections).await.map_err(|error| refuse(error.to_string()))?;
        }
        Ok(())
    }

    /// Commits commands. That one is not needed any more is no error.
    async fn carry_out(&self, commands: Vec<Command>) -> Result<(), MetaError> {
        if commands.is_empty() {
            return Ok(());
        }
        let undecided = |error: &MetaError| {
            matches!(
                error,
                MetaError::NoQuorum
                    | MetaError::TimedOut { .. }
                    | MetaError::NotLeader { .. }
                    | MetaError::Storage(_)
                    | MetaError::Closed
            )
        };
        let results = self.metadata.commit(commands).await;
        results.into_iter().filter_map(Result::err).find(undecided).map_or(Ok(()), Err)
    }
}

/// The commands that take these brokers for dead.
fn fences(image: &Image, brokers: &[NodeId]) -> Vec<Command> {
    let known = brokers.iter().filter_map(|id| image.broker(*id)).filter(|broker| !broker.fenced);
    known.map(|broker| Command::FenceBroker { id: broker.id, epoch: broker.epoch }).collect()
}

/// The elections by which `node` leads what has no leader and what it has a replica of.
fn unclean_elections(image: &Image, node: NodeId) -> Vec<Command> {
    let mut elections = Vec::new();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter() {
            if partition.leader < 0 && partition.replicas.contains(&node) {
                elections.push(Command::ElectLeader { topic: topic.id, partition: index, unclean: true });
            }
        }
    }
    elections
}

/// What a promotion of `node` would do.
fn foresee(image: &Image, node: NodeId, former: &[NodeId], unclean: bool) -> Outlook {
    let mut next = image.clone();
    let apply = |next: &mut Image, commands: Vec<Command>| {
        for command in commands {
            if next.check(&command).is_ok() {
                next.apply(&command);
            }
        }
    };
    if let Some(own) = image.broker(node).filter(|own| own.fenced) {
        apply(&mut next, vec![Command::UnfenceBroker { id: node, epoch: own.epoch }]);
    }
    let fences = fences(&next, former);
    apply(&mut next, fences);
    if unclean {
        let elections = unclean_elections(&next, node);
        apply(&mut next, elections);
    }
    Outlook::of(image, &next, node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster_view::tests::image;
    use chronik_base::Uuid;

    #[test]
    fn it_is_told_beforehand_what_is_led_and_what_is_lost() {
        let mut image = image(2, &[]);
        // One that only the voter has, and one of which this node's replica is behind.
        for (name, id, replicas) in [("only", 1, vec![1]), ("behind", 2, vec![1, 2])] {
            image.apply(&Command::CreateTopic {
                name: name.to_owned(),
                id: Uuid([id; 16]),
                created: 0,
                assignments: vec![replicas],
                configs: Default::default(),
            });
        }
        image.apply(&Command::AlterPartition(chronik_meta::AlterPartition {
            topic: Uuid([2; 16]),
            partition: 0,
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            isr: vec![(1, image.broker(1).unwrap().epoch)],
        }));
        assert_eq!(foresee(&image, 2, &[1], false), Outlook { leads: 1, led_unclean: 0, offline: 2 });
        assert_eq!(foresee(&image, 2, &[1], true), Outlook { leads: 2, led_unclean: 1, offline: 1 });
        assert_eq!(image.partition("t", 0).unwrap().leader, 1, "nothing changed");
    }
}
