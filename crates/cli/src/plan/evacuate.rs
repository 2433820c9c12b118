//! Replicas off some nodes, or onto some nodes only.

use std::collections::BTreeSet;

use chronik_base::NodeId;

use super::board::Board;
use super::{Move, Node, Placement, PlanError, listed, moves};

/// Moves every replica that is on a `leaving` node to a node that takes replicas: in a rack that the partition isn't in yet if
/// there is one, and there to the node with the fewest replicas. Other replicas stay. With `replication_factor`, partitions
/// get that many replicas; else they keep their number.
///
/// # Errors
/// [`PlanError::TooFewNodes`].
pub fn evacuate(
    placements: &[Placement],
    nodes: &[Node],
    leaving: impl Fn(NodeId) -> bool,
    replication_factor: Option<usize>,
) -> Result<Vec<Move>, PlanError> {
    let mut board = Board::new(placements, nodes);
    // (partition, node): replicas that the plan has put somewhere, so it may as well put them somewhere else.
    let mut placed: BTreeSet<(usize, NodeId)> = BTreeSet::new();
    for (at, placement) in placements.iter().enumerate() {
        let wanted = replication_factor.unwrap_or(placement.replicas.len());
        let staying = placement.replicas.iter().copied().filter(|id| !leaving(*id));
        let possible: BTreeSet<NodeId> = staying.chain(board.nodes()).collect();
        if wanted > possible.len() {
            return Err(PlanError::TooFewNodes {
                topic: placement.topic.clone(),
                partition: placement.partition,
                replicas: wanted,
                nodes: possible.len(),
                available: possible.into_iter().collect(),
            });
        }
        let leader_leaves = placement.replicas.first().is_none_or(|first| leaving(*first));
        shrink(&mut board, at, wanted, &leaving);
        let going: Vec<NodeId> = board.of(at).iter().copied().filter(|id| leaving(*id)).collect();
        for from in going {
            if let Some(to) = best(&board, at, Some(from)) {
                board.replace(at, from, to);
                placed.insert((at, to));
            }
        }
        while board.of(at).len() < wanted {
            let Some(to) = best(&board, at, None) else { break };
            board.add(at, to);
            placed.insert((at, to));
        }
        // Whoever takes over the lead should be someone who has the records already, and leads little.
        let stays = |id: &NodeId| placement.replicas.contains(id);
        let first = board.of(at).first().copied();
        let leads_beside = |id: NodeId| board.leads(id) - usize::from(Some(id) == first);
        if leader_leaves
            && let Some(leader) =
                board.of(at).iter().copied().min_by_key(|id| (!stays(id), leads_beside(*id)))
        {
            board.prefer(at, leader);
        }
    }
    even_out(&mut board, &mut placed);
    Ok(moves(placements, board.replicas))
}

/// Takes replicas away until there are `wanted`: first those that would have to move anyway, then the last.
fn shrink(board: &mut Board<'_>, at: usize, wanted: usize, leaving: &impl Fn(NodeId) -> bool) {
    while board.of(at).len() > wanted {
        let replicas = board.of(at);
        let goes = replicas.iter().rev().find(|id| leaving(**id)).or(replicas.last()).copied();
        match goes {
            Some(id) => board.remove(at, id),
            None => break,
        }
    }
}

/// The best node for a further replica of a partition, or for the one that leaves `from`.
fn best(board: &Board<'_>, at: usize, from: Option<NodeId>) -> Option<NodeId> {
    let key = |id: &NodeId| (usize::MAX - board.racks_after(at, from, Some(*id)), board.load(*id), *id);
    board.nodes().filter(|id| !board.of(at).contains(id)).min_by_key(key)
}

/// Evens out the load among the replicas that the plan moves anyway: no further one moves for it.
fn even_out(board: &mut Board<'_>, placed: &mut BTreeSet<(usize, NodeId)>) {
    // Each path brings two loads nearer to each other; where steps get into each other's way, the bound ends it.
    for _ in 0..placed.len() {
        let mut by_load: Vec<NodeId> = board.nodes().collect();
        by_load.sort_by_key(|id| usize::MAX - board.load(*id));
        let found = by_load.iter().find_map(|start| {
            let goal_load = board.load(*start).checked_sub(2)?;
            board.path(
                *start,
                |to| board.load(to) <= goal_load,
                |from, to| {
                    board
                        .held_by(from, 0)
                        .find(|at| placed.contains(&(*at, from)) && board.may_move(*at, from, to))
                },
            )
        });
        let Some(path) = found else { return };
        for (at, from, to) in path {
            // A step before may have moved the same partition; then the rest of the path is looked for anew.
            if !board.may_move(at, from, to) {
                break;
            }
            board.replace(at, from, to);
            placed.remove(&(at, from));
            placed.insert((at, to));
        }
    }
}

/// What a plan says in one line: for how many partitions, and onto which nodes.
pub fn summary(moves: &[Move]) -> String {
    let copies: usize = moves.iter().map(Move::copies).sum();
    let targets: BTreeSet<NodeId> =
        moves.iter().flat_map(|one| one.to.iter().filter(|id| !one.from.contains(id))).copied().collect();
    format!(
        "{} to change, {} to copy, onto {}",
        chronik_status::count(moves.len() as u64, "partition", "partitions"),
        chronik_status::count(copies as u64, "replica", "replicas"),
        match Vec::from_iter(targets).as_slice() {
            [] => "no node".to_owned(),
            [one] => format!("node {one}"),
            more => format!("nodes {}", listed(more)),
        }
    )
}
