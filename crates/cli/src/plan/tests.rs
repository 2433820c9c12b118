//! Plans of known clusters, and what holds for the plans of any.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn node(id: NodeId) -> Node {
    Node { id, rack: None, takes_replicas: true }
}

fn racked(id: NodeId, rack: &str) -> Node {
    Node { id, rack: Some(rack.to_owned()), takes_replicas: true }
}

fn placement(partition: i32, replicas: &[NodeId]) -> Placement {
    Placement { topic: "t".to_owned(), partition, replicas: replicas.to_vec() }
}

fn apply(placements: &[Placement], moves: &[Move]) -> Vec<Placement> {
    let mut after = placements.to_vec();
    for one in moves {
        let found = after.iter_mut().find(|p| p.topic == one.topic && p.partition == one.partition).unwrap();
        assert_eq!(found.replicas, one.from);
        assert_ne!(one.from, one.to);
        found.replicas.clone_from(&one.to);
    }
    after
}

fn loads(placements: &[Placement]) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    for id in placements.iter().flat_map(|placement| &placement.replicas) {
        *loads.entry(*id).or_default() += 1;
    }
    loads
}

/// Moves everything onto `nodes`.
fn onto(placements: &[Placement], nodes: &[Node], factor: Option<usize>) -> Result<Vec<Move>, PlanError> {
    evacuate(placements, nodes, |id| nodes.iter().all(|node| node.id != id), factor)
}

/// Counted in another way than the plans do.
fn racks_of(replicas: &[NodeId], nodes: &[Node]) -> usize {
    let name = |id: &NodeId| {
        let rack = nodes.iter().find(|node| node.id == *id).and_then(|node| node.rack.clone());
        rack.unwrap_or_else(|| format!("node {id}"))
    };
    replicas.iter().map(name).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_drained_node_gives_its_replicas_to_the_rest() {
    let before = [placement(0, &[1, 2]), placement(1, &[2, 3]), placement(2, &[3, 1]), placement(3, &[2, 4])];
    let moves = onto(&before, &[node(2), node(3), node(4)], None).unwrap();
    // 1 led partition 0: who has the records takes the lead, and the newcomer comes behind.
    assert_eq!(moves.len(), 2);
    assert_eq!((moves[0].partition, &moves[0].to[..]), (0, &[2, 4][..]));
    assert_eq!((moves[1].partition, &moves[1].to[..]), (2, &[3, 4][..]));
    assert_eq!(summary(&moves), "2 partitions to change, 2 replicas to copy, onto node 4");
}

#[test]
fn replicas_on_another_node_that_is_down_stay() {
    let down = Node { takes_replicas: false, ..node(2) };
    let leaving = Node { takes_replicas: false, ..node(1) };
    let before = [placement(0, &[1, 2]), placement(1, &[2, 3])];
    let moves = evacuate(&before, &[leaving, down, node(3)], |id| id == 1, None).unwrap();
    assert_eq!((moves.len(), &moves[0].to[..]), (1, &[2, 3][..]));
}

#[test]
fn too_few_nodes_are_an_error_that_says_what_to_do() {
    let error = onto(&[placement(7, &[1, 2, 3])], &[node(2), node(3)], None).unwrap_err().to_string();
    assert_eq!(
        error,
        "t-7 is to have 3 replicas, and 2 nodes are there for them (2,3): add a node, or give it fewer replicas with \
         `chronik topic reassign t --to-nodes 2,3 --replication-factor 2`"
    );
    let fewer = onto(&[placement(7, &[1, 2, 3])], &[node(2), node(3)], Some(2)).unwrap();
    assert_eq!(fewer[0].to, [2, 3]);
}

#[test]
fn more_replicas_go_to_other_racks_first() {
    let nodes = [racked(1, "a"), racked(2, "a"), racked(3, "b"), racked(4, "c")];
    let moves = onto(&[placement(0, &[1])], &nodes, Some(3)).unwrap();
    assert_eq!(moves[0].to, [1, 3, 4]);
}

#[test]
fn an_empty_node_gets_its_share_and_no_more_moves_than_that() {
    let before: Vec<Placement> = (0..9).map(|p| placement(p, &[1 + p % 3, 1 + (p + 1) % 3])).collect();
    let moves = rebalance(&before, &[node(1), node(2), node(3), node(4)]);
    assert_eq!(moves.iter().map(Move::copies).sum::<usize>(), 4);
    assert_eq!(loads(&apply(&before, &moves)), BTreeMap::from([(1, 5), (2, 5), (3, 4), (4, 4)]));
}

#[test]
fn what_is_even_stays() {
    let before: Vec<Placement> =
        (0..6).map(|p| placement(p, &[1 + p % 3, 1 + (p + 1) % 3, 1 + (p + 2) % 3])).collect();
    assert_eq!(rebalance(&before, &[node(1), node(2), node(3)]), []);
    assert_eq!(onto(&before, &[node(1), node(2), node(3)], None), Ok(vec![]));
}

#[test]
fn leaders_spread_without_copies() {
    let before: Vec<Placement> = (0..6).map(|p| placement(p, &[1, 2, 3])).collect();
    let moves = rebalance(&before, &[node(1), node(2), node(3)]);
    assert_eq!(moves.iter().map(Move::copies).sum::<usize>(), 0);
    let mut leads = BTreeMap::new();
    for placement in apply(&before, &moves) {
        *leads.entry(placement.replicas[0]).or_insert(0) += 1;
    }
    assert_eq!(leads, BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
}

#[test]
fn a_partition_in_one_rack_moves_into_two() {
    let nodes = [racked(1, "a"), racked(2, "a"), racked(3, "b")];
    let moves = rebalance(&[placement(0, &[1, 2])], &nodes);
    assert_eq!(moves[0].to, [1, 3]);
}

/// Some nodes, in racks or not, and partitions on them.
fn cluster() -> impl Strategy<Value = (Vec<Node>, Vec<Placement>)> {
    (2..7usize, 0..4usize).prop_flat_map(|(count, racks)| {
        let nodes: Vec<Node> = (0..count)
            .map(|at| Node {
                id: at as NodeId + 1,
                rack: (racks > 0).then(|| format!("r{}", at % racks)),
                takes_replicas: true,
            })
            .collect();
        let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        let replicas =
            (Just(ids).prop_shuffle(), 1..=count.min(4)).prop_map(|(ids, number)| ids[..number].to_vec());
        prop::collection::vec(replicas, 0..40).prop_map(move |all| {
            let placements =
                all.iter().enumerate().map(|(at, replicas)| placement(at as i32, replicas)).collect();
            (nodes.clone(), placements)
        })
    })
}

fn check_sound(before: &[Placement], after: &[Placement], allowed: &BTreeSet<NodeId>) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.replicas.len(), after.replicas.len(), "{before:?} {after:?}");
        let unique: BTreeSet<NodeId> = after.replicas.iter().copied().collect();
        assert_eq!(unique.len(), after.replicas.len(), "{after:?}");
        assert!(unique.is_subset(allowed), "{after:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drain_moves_what_it_must_and_evens_that_out((nodes, before) in cluster(), away in 1..7i32) {
        let rest: Vec<Node> = nodes.iter().filter(|node| node.id != away).cloned().collect();
        let allowed: BTreeSet<NodeId> = rest.iter().map(|node| node.id).collect();
        let planned = onto(&before, &rest, None);
        if before.iter().any(|placement| placement.replicas.len() > rest.len()) {
            prop_assert!(planned.is_err());
            return Ok(());
        }
        let moves = planned.unwrap();
        let after = apply(&before, &moves);
        check_sound(&before, &after, &allowed);
        let leaving = before.iter().filter(|placement| placement.replicas.contains(&away)).count();
        prop_assert_eq!(moves.len(), leaving);
        for one in &moves {
            prop_assert_eq!(one.copies(), 1);
            let kept: Vec<NodeId> = one.from.iter().copied().filter(|id| *id != away).collect();
            // Never fewer racks than the rest of the replicas is in.
            prop_assert!(racks_of(&one.to, &rest) >= racks_of(&kept, &rest));
            // A lead that must pass goes to one who has the records, if there is one.
            prop_assert!(kept.is_empty() || kept.contains(&one.to[0]));
        }
        if rest.iter().all(|node| node.rack.is_none()) {
            let loads = loads(&after);
            let load = |id: NodeId| loads.get(&id).copied().unwrap_or(0);
            for one in &moves {
                let new = *one.to.iter().find(|id| !one.from.contains(id)).unwrap();
                for other in rest.iter().filter(|other| !one.to.contains(&other.id)) {
                    prop_assert!(load(other.id) + 2 > load(new), "{one:?} would be better off on {}: {loads:?}", other.id);
                }
            }
        }
    }

    #[test]
    fn a_rebalanced_cluster_is_even_with_the_fewest_copies((nodes, before) in cluster(), extra in 0..3i32) {
        let mut nodes = nodes;
        for id in 0..extra {
            nodes.push(Node { id: 100 + id, rack: nodes[0].rack.clone(), takes_replicas: true });
        }
        let allowed: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        let moves = rebalance(&before, &nodes);
        let after = apply(&before, &moves);
        check_sound(&before, &after, &allowed);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(racks_of(&after.replicas, &nodes) >= racks_of(&before.replicas, &nodes));
        }
        let loads_after = loads(&after);
        let load = |id: NodeId| loads_after.get(&id).copied().unwrap_or(0);
        let racks: BTreeSet<&str> = nodes.iter().filter_map(|node| node.rack.as_deref()).collect();
        if racks.is_empty() {
            let total: usize = loads_after.values().sum();
            let (low, high) = (total / nodes.len(), total.div_ceil(nodes.len()));
            prop_assert!(nodes.iter().all(|node| (low..=high).contains(&load(node.id))), "{loads_after:?}");
            let loads_before = loads(&before);
            let was = |id: NodeId| loads_before.get(&id).copied().unwrap_or(0);
            let over: usize = nodes.iter().map(|node| was(node.id).saturating_sub(high)).sum();
            let under: usize = nodes.iter().map(|node| low.saturating_sub(was(node.id))).sum();
            prop_assert_eq!(moves.iter().map(Move::copies).sum::<usize>(), over.max(under));
        } else {
            for placement in &after {
                prop_assert_eq!(racks_of(&placement.replicas, &nodes), placement.replicas.len().min(racks.len()));
            }
        }
        let leads = |id: NodeId| after.iter().filter(|placement| placement.replicas.first() == Some(&id)).count();
        for placement in &after {
            let leader = placement.replicas[0];
            for other in &placement.replicas[1..] {
                prop_assert!(leads(*other) + 2 > leads(leader), "{placement:?} should be led by {other}");
            }
        }
        // A second time there is nothing left to do.
        prop_assert_eq!(rebalance(&after, &nodes), []);
    }

    #[test]
    fn any_number_of_replicas_can_be_asked_for((nodes, before) in cluster(), factor in 1..7usize) {
        let planned = onto(&before, &nodes, Some(factor));
        if factor > nodes.len() {
            prop_assert!(before.is_empty() || planned.is_err());
            return Ok(());
        }
        for placement in apply(&before, &planned.unwrap()) {
            let unique: BTreeSet<NodeId> = placement.replicas.iter().copied().collect();
            prop_assert_eq!((unique.len(), placement.replicas.len()), (factor, factor));
        }
    }
}
