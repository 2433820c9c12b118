//! Which brokers hold a new topic's partitions.

use chronik_base::NodeId;

/// A broker that may hold partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its identifier.
    pub id: NodeId,
    /// Its rack or zone.
    pub rack: Option<String>,
}

/// There are fewer brokers that may hold partitions than replicas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Unable to replicate the partition {replicas} time(s): The target replication factor of {replicas} cannot be reached because only {brokers} broker(s) are registered and not fenced."
)]
pub struct TooFewBrokers {
    /// Replicas asked for.
    pub replicas: usize,
    /// Brokers there are.
    pub brokers: usize,
}

/// Chooses `replicas` brokers for each of `partitions` partitions, the preferred leader first. Leaders and followers spread evenly; the replicas of
/// a partition are in different racks as long as there are racks. `first_partition` is the index of the first one, so
/// that partitions added later go on where the earlier ones ended; `seed` moves the beginning, so that the first partitions of many topics do not all
/// meet on one broker. The same arguments give the same answer.
pub fn place(
    candidates: &[Candidate],
    partitions: usize,
    replicas: usize,
    first_partition: usize,
    seed: u64,
) -> Result<Vec<Vec<NodeId>>, TooFewBrokers> {
    let ring = by_turns(candidates);
    if replicas > ring.len() || ring.is_empty() {
        return Err(TooFewBrokers { replicas, brokers: ring.len() });
    }
    let brokers = ring.len();
    let start = usize::try_from(seed % brokers as u64).unwrap_or(0);
    let assignment = (first_partition..first_partition.saturating_add(partitions)).map(|partition| {
        let leader = (start + partition) % brokers;
        // Each time round the ring the followers stand at another distance, so that a broker's load, when it fails, falls on all others.
        let shift = (seed as usize % brokers + partition / brokers) % brokers.saturating_sub(1).max(1);
        let others = (0..brokers - 1).map(|step| (leader + 1 + (shift + step) % (brokers - 1)) % brokers);
        choose(&ring, leader, others, replicas)
    });
    Ok(assignment.collect())
}

/// The brokers ordered so that neighbours are in different racks, as far as the racks' sizes allow.
fn by_turns(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|a, b| (&a.rack, a.id).cmp(&(&b.rack, b.id)));
    sorted.dedup_by_key(|candidate| candidate.id);
    let mut racks: Vec<Vec<Candidate>> = Vec::new();
    for candidate in sorted {
        match racks.last_mut() {
            Some(rack) if rack.first().is_some_and(|first| first.rack == candidate.rack) => {
                rack.push(candidate)
            }
            _ => racks.push(vec![candidate]),
        }
    }
    let longest = racks.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| racks.iter().filter_map(move |rack| rack.get(turn).cloned())).collect()
}

/// `replicas` brokers, `leader` first, then those of `others` that are in racks not yet used, then the rest in their order.
fn choose(
    ring: &[Candidate],
    leader: usize,
    others: impl Iterator<Item = usize>,
    replicas: usize,
) -> Vec<NodeId> {
    let mut chosen: Vec<&Candidate> = ring.get(leader).into_iter().collect();
    let mut rest: Vec<&Candidate> = others.filter_map(|at| ring.get(at)).collect();
    while chosen.len() < replicas && !rest.is_empty() {
        let used = |candidate: &Candidate| {
            candidate.rack.is_some() && chosen.iter().filter(|other| other.rack == candidate.rack).count() > 0
        };
        let at = rest.iter().position(|candidate| !used(candidate)).unwrap_or(0);
        chosen.push(rest.remove(at));
    }
    chosen.into_iter().take(replicas).map(|candidate| candidate.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn candidates(racks: &[Option<u8>]) -> Vec<Candidate> {
        (1..)
            .zip(racks)
            .map(|(id, rack)| Candidate { id, rack: rack.map(|rack| format!("r{rack}")) })
            .collect()
    }

    #[test]
    fn one_node_holds_everything() {
        assert_eq!(place(&candidates(&[None]), 3, 1, 0, 9).unwrap(), vec![vec![1]; 3]);
        let error = place(&candidates(&[None]), 1, 3, 0, 0).unwrap_err();
        assert_eq!(error, TooFewBrokers { replicas: 3, brokers: 1 });
        assert!(place(&[], 1, 0, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn spread_over_brokers_and_racks(
            racks in prop::collection::vec(prop::option::of(0u8..3), 1..9),
            partitions in 1usize..60,
            replicas in 1usize..4,
            first in 0usize..20,
            seed in any::<u64>(),
        ) {
            let brokers = candidates(&racks);
            prop_assume!(replicas <= brokers.len());
            let assignment = place(&brokers, partitions, replicas, first, seed).unwrap();
            prop_assert_eq!(assignment.len(), partitions);
            let mut leaders: BTreeMap<NodeId, usize> = brokers.iter().map(|b| (b.id, 0)).collect();
            for list in &assignment {
                prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), replicas);
                *leaders.get_mut(&list[0]).unwrap() += 1;
                if racks.iter().all(Option::is_some) {
                    let used: BTreeSet<_> = list.iter().map(|id| racks[*id as usize - 1]).collect();
                    let there = racks.iter().collect::<BTreeSet<_>>().len();
                    prop_assert_eq!(used.len(), replicas.min(there));
                }
            }
            let (min, max) = (leaders.values().min().unwrap(), leaders.values().max().unwrap());
            prop_assert!(max - min <= 1, "leaders {:?}", leaders);
        }
    }
}
