//! What the metadata leader proposes by itself: leaderships back to preferred replicas, and, standalone with followers, every partition on
//! every broker. Functions of the image alone.

use chronik_base::NodeId;
use chronik_meta::{Command, Image, Partition, Topic};

/// Partitions that are changed with one submission: what waits behind it is not held up for long.
pub(crate) const BATCH: usize = 200;

/// The next leaderships to give back, [`BATCH`] at most.
pub(crate) fn preferred_leaders(image: &Image) -> Vec<Command> {
    let each = |topic: &Topic, index: i32, partition: &Partition| {
        prefers_another(image, partition).then_some(Command::ElectLeader {
            topic: topic.id,
            partition: index,
            unclean: false,
        })
    };
    some_partitions(image, each)
}

/// Whether a partition's preferred replica could lead, and another one does.
pub(crate) fn prefers_another(image: &Image, partition: &Partition) -> bool {
    // While replicas are being moved, the first one may be about to go.
    partition.replicas.first().is_some_and(|preferred| {
        partition.leader != -1
            && partition.leader != *preferred
            && !partition.is_reassigned()
            && partition.isr.contains(preferred)
            && image.broker(*preferred).is_some_and(|broker| broker.may_lead())
    })
}

/// The next partitions to extend to brokers that don't hold them, [`BATCH`] at most. A broker counts once it was alive, so one that never
/// comes has no partition waiting for it.
pub(crate) fn missing_replicas(image: &Image) -> Vec<Command> {
    let brokers: Vec<NodeId> =
        image.brokers().filter(|broker| broker.may_lead()).map(|broker| broker.id).collect();
    let each = |topic: &Topic, index: i32, partition: &Partition| {
        let mut target: Vec<NodeId> = partition.target().collect();
        let held = target.len();
        target.extend(brokers.iter().filter(|id| !partition.replicas.contains(id)));
        (target.len() > held).then_some(Command::Reassign {
            topic: topic.id,
            partition: index,
            target: Some(target),
        })
    };
    some_partitions(image, each)
}

fn some_partitions(image: &Image, each: impl Fn(&Topic, i32, &Partition) -> Option<Command>) -> Vec<Command> {
    image
        .topics()
        .flat_map(|topic| topic.partitions.iter().map(move |(index, partition)| (topic, index, partition)))
        .filter_map(|(topic, index, partition)| each(topic, index, partition))
        .take(BATCH)
        .collect()
}

#[cfg(test)]
mod tests {
    use chronik_base::Uuid;
    use chronik_meta::AlterPartition;

    use super::*;

    const TOPIC: Uuid = Uuid([3; 16]);

    fn apply(image: &mut Image, command: Command) {
        image.check(&command).unwrap();
        image.apply(&command);
    }

    fn epoch(image: &Image, node: NodeId) -> i64 {
        image.broker(node).unwrap().epoch
    }

    fn brokers(nodes: &[NodeId]) -> Image {
        let mut image = Image::default();
        for node in nodes {
            let id = Uuid::from_random([*node as u8; 16]);
            let (rack, endpoints) = (None, Vec::new());
            apply(
                &mut image,
                Command::RegisterBroker { id: *node, rack, endpoints, incarnation: id, directory: id },
            );
            let epoch = epoch(&image, *node);
            apply(&mut image, Command::UnfenceBroker { id: *node, epoch });
        }
        image
    }

    fn with_topic(nodes: &[NodeId], assignments: Vec<Vec<NodeId>>) -> Image {
        let mut image = brokers(nodes);
        let (name, configs) = ("t".to_owned(), Default::default());
        apply(&mut image, Command::CreateTopic { name, id: TOPIC, created: 0, assignments, configs });
        image
    }

    #[test]
    fn a_leadership_goes_back_once_its_replica_is_in_sync() {
        let mut image = with_topic(&[1, 2], vec![vec![1, 2], vec![2, 1]]);
        assert_eq!(preferred_leaders(&image), []);
        let first = epoch(&image, 1);
        apply(&mut image, Command::FenceBroker { id: 1, epoch: first });
        assert_eq!(preferred_leaders(&image), [], "it is fenced");
        apply(&mut image, Command::UnfenceBroker { id: 1, epoch: first });
        assert_eq!(preferred_leaders(&image), [], "it is not in sync");
        let partition = image.partition("t", 0).unwrap().clone();
        let alter = AlterPartition {
            topic: TOPIC,
            partition: 0,
            leader: 2,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: vec![(1, first), (2, epoch(&image, 2))],
        };
        apply(&mut image, Command::AlterPartition(alter));
        let elect = Command::ElectLeader { topic: TOPIC, partition: 0, unclean: false };
        assert_eq!(preferred_leaders(&image), std::slice::from_ref(&elect));
        apply(&mut image, elect);
        assert_eq!(preferred_leaders(&image), []);
    }

    #[test]
    fn every_partition_gets_every_live_broker_once() {
        let mut image = with_topic(&[1, 2, 3], vec![vec![1], vec![3, 1, 2]]);
        let third = epoch(&image, 3);
        apply(&mut image, Command::FenceBroker { id: 3, epoch: third });
        let reassign = |target: &[NodeId]| Command::Reassign {
            topic: TOPIC,
            partition: 0,
            target: Some(target.to_vec()),
        };
        assert_eq!(missing_replicas(&image), [reassign(&[1, 2])]);
        apply(&mut image, reassign(&[1, 2]));
        assert_eq!(missing_replicas(&image), [], "while they are being added they are not asked for again");
        apply(&mut image, Command::UnfenceBroker { id: 3, epoch: third });
        assert_eq!(missing_replicas(&image), [reassign(&[1, 2, 3])]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let image = with_topic(&[1, 2], vec![vec![1]; BATCH + 1]);
        assert_eq!(missing_replicas(&image).len(), BATCH);
    }
}
