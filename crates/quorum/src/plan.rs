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

fn some_partitions(
    image: &Image,
    each: impl Fn(&Topic, i32, &Partition) -> Option<Command>,
) -> Vec<Command> {
    image
        .topics()
        .flat_map(|topic| topic.partitions.iter().map(move |(index, partition)| (topic, index, partition)))
        .filter_map(|(topic, index, partition)| each(topic, index, partition))
        .take(BATCH)
        .collect()
}
