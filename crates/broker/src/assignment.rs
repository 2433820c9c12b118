//! Which brokers hold new partitions: as the client says, or as the broker chooses.

use chronik_base::{ErrorCode, NodeId};
use chronik_meta::{Assignments, Image, TooFewBrokers, place};

use crate::random;
use crate::refusal::Refusal;

/// The most partitions that one request may make of one topic. The node's own limit is lower as a rule; this one keeps a
/// number of two thousand million from being counted out.
const MAX_PARTITIONS: usize = 1_000_000;

/// `count` partitions from index `first` on, with `replicas` replicas each.
pub(crate) fn automatic(
    image: &Image,
    first: usize,
    count: usize,
    replicas: usize,
) -> Result<Assignments, Refusal> {
    if count > MAX_PARTITIONS {
        let message =
            format!("{count} partitions are over {MAX_PARTITIONS}, the most that one request may make");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let refused = |error: TooFewBrokers| Refusal::new(ErrorCode::InvalidReplicationFactor, error.to_string());
    let there = image.candidates();
    // Brokers that are down hold replicas, too, where there are too few others; they catch up when they are back.
    let down: Vec<NodeId> =
        image.brokers().map(|broker| broker.id).filter(|id| !there.iter().any(|up| up.id == *id)).collect();
    if replicas > there.len() + down.len() || there.is_empty() {
        return Err(refused(TooFewBrokers { replicas, brokers: there.len() + down.len() }));
    }
    let missing = replicas.saturating_sub(there.len());
    let mut assignments = place(&there, count, replicas - missing, first, random::u64()).map_err(refused)?;
    for (index, replicas) in assignments.iter_mut().enumerate() {
        replicas.extend(down.iter().cycle().skip(index % down.len().max(1)).take(missing));
    }
    Ok(assignments)
}

/// Checks what a client assigns: every list as long as `replicas` (or, without it, as the first), of registered brokers, each
/// once. The messages are Kafka's.
pub(crate) fn check_manual(
    image: &Image,
    assignments: &[Vec<NodeId>],
    replicas: Option<usize>,
) -> Result<(), Refusal> {
    let bad = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    let expected = replicas.or_else(|| assignments.first().map(Vec::len)).unwrap_or(0);
    for list in assignments {
        if list.is_empty() {
            return bad("The manual partition assignment includes an empty replica list.".to_owned());
        }
        for (at, id) in list.iter().enumerate() {
            if list.iter().take(at).any(|earlier| earlier == id) {
                return bad(format!(
                    "The manual partition assignment includes the broker {id} more than once."
                ));
            }
            if image.broker(*id).is_none() {
                return bad(format!(
                    "The manual partition assignment includes broker {id}, but no such broker is registered."
                ));
            }
        }
        if list.len() != expected {
            return bad(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with previous partitions, which have {expected} replica(s).",
                list.len()
            ));
        }
    }
    Ok(())
}

/// Whether the node may hold `more` partitions. The limit is `max.partitions.per.node`.
pub(crate) fn check_room(image: &Image, promised: usize, more: usize, limit: usize) -> Result<(), Refusal> {
    let total = image.partition_count().saturating_add(promised).saturating_add(more);
    if total <= limit {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::PolicyViolation,
        format!(
            "{total} partitions would be over max.partitions.per.node, which is {limit}: raise it, or delete topics"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_base::Uuid;
    use chronik_meta::Command;

    fn image() -> Image {
        let mut image = Image::default();
        for id in 1..3 {
            let incarnation = Uuid([id as u8; 16]);
            let (endpoints, directory) = (Vec::new(), incarnation);
            let register = Command::RegisterBroker { id, rack: None, endpoints, incarnation, directory };
            image.apply(&register);
            image.apply(&Command::UnfenceBroker { id, epoch: i64::from(id) * 2 - 1 });
        }
        image
    }

    #[test]
    fn manual_assignments_are_held_to_kafkas_rules() {
        let message =
            |assignments: &[Vec<i32>]| check_manual(&image(), assignments, None).unwrap_err().message;
        assert!(check_manual(&image(), &[vec![1, 2], vec![2, 1]], None).is_ok());
        assert!(message(&[vec![]]).contains("empty replica list"));
        assert!(message(&[vec![1, 1]]).contains("the broker 1 more than once"));
        assert!(message(&[vec![7]]).contains("broker 7, but no such"));
        assert!(message(&[vec![1], vec![1, 2]]).contains("with 2 replica(s)"));
        assert!(check_manual(&image(), &[vec![1]], Some(2)).is_err());
    }

    #[test]
    fn limits_are_named() {
        let refusal = automatic(&image(), 0, 1, 3).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidReplicationFactor);
        assert!(refusal.message.contains("only 2 broker(s) are registered"));
        assert!(check_room(&image(), 3, 4, 7).is_ok());
        assert!(
            check_room(&image(), 3, 4, 6)
                .unwrap_err()
                .message
                .contains("max.partitions.per.node, which is 6")
        );
        assert!(automatic(&image(), 0, usize::MAX, 1).is_err());
    }
}
