//! Replicas and leaders spread evenly.

use std::collections::HashMap;

use chronik_base::NodeId;

use super::board::Board;
use super::{Move, Node, Placement, moves};

/// Spreads replicas over `nodes` so that no two differ by more than one where racks and what is there allow it, with as few copies
/// as that takes; then spreads the preferred leaders, which takes no copy. Replicas on other nodes (those that are down)
/// stay where they are.
pub fn rebalance(placements: &[Placement], nodes: &[Node]) -> Vec<Move> {
    let mut board = Board::new(placements, nodes);
    spread_over_racks(&mut board);
    let mut seen = HashMap::new();
    while let Some((at, from, to)) = next_move(&board, &mut seen) {
        board.replace(at, from, to);
    }
    spread_leaders(&mut board);
    moves(placements, board.replicas)
}

/// Moves replicas of partitions that could be in more racks than they are.
fn spread_over_racks(board: &mut Board<'_>) {
    for at in 0..board.replicas.len() {
        while let Some((from, to)) = better_rack(board, at) {
            board.replace(at, from, to);
        }
    }
}

/// A replica that shares its rack, and the node with the fewest replicas in a rack that the partition isn't in.
fn better_rack(board: &Board<'_>, at: usize) -> Option<(NodeId, NodeId)> {
    let now = board.racks_after(at, None, None);
    let replicas = board.of(at);
    if now == replicas.len() {
        return None;
    }
    let spare = |id: &&NodeId| {
        board.nodes().any(|node| node == **id) && board.racks_after(at, Some(**id), None) == now
    };
    // The last one rather than the preferred leader.
    let from = replicas.iter().rev().find(spare).copied()?;
    let adds = |id: &NodeId| !replicas.contains(id) && board.racks_after(at, Some(from), Some(*id)) > now;
    let to = board.nodes().filter(adds).min_by_key(|id| (board.load(*id), *id))?;
    Some((from, to))
}

/// A replica of the fullest node that can go to the emptiest, or of the next ones, as long as they differ by two or more.
fn next_move(
    board: &Board<'_>,
    seen: &mut HashMap<(NodeId, NodeId), usize>,
) -> Option<(usize, NodeId, NodeId)> {
    let mut by_load: Vec<NodeId> = board.nodes().collect();
    by_load.sort_by_key(|id| (board.load(*id), *id));
    for from in by_load.iter().rev() {
        for to in &by_load {
            if board.load(*to) + 2 > board.load(*from) {
                break;
            }
            let start = seen.get(&(*from, *to)).copied().unwrap_or(0);
            // A follower rather than the preferred leader: so its leadership stays.
            let mut first = None;
            for at in board.held_by(*from, start).chain(board.held_by(*from, 0)) {
                if !board.may_move(at, *from, *to) {
                    continue;
                }
                if board.of(at).first() != Some(from) {
                    seen.insert((*from, *to), at);
                    return Some((at, *from, *to));
                }
                first.get_or_insert(at);
            }
            if let Some(at) = first {
                return Some((at, *from, *to));
            }
        }
    }
    None
}

/// Evens out the preferred leaders by changing the order of replicas.
fn spread_leaders(board: &mut Board<'_>) {
    // One look at each partition does nearly all of it, also with very many; paths do the rest.
    let takes: Vec<NodeId> = board.nodes().collect();
    for at in 0..board.replicas.len() {
        let Some(leader) = board.of(at).first().copied() else { continue };
        let better =
            board.of(at).iter().copied().filter(|id| takes.contains(id)).min_by_key(|id| board.leads(*id));
        if let Some(better) = better.filter(|id| board.leads(*id) + 2 <= board.leads(leader)) {
            board.prefer(at, better);
        }
    }
    // Each path takes one leadership from a node that has too many.
    for _ in 0..board.replicas.len() {
        let mut by_leads: Vec<NodeId> = board.nodes().collect();
        by_leads.sort_by_key(|id| usize::MAX - board.leads(*id));
        let found = by_leads.iter().find_map(|start| {
            let goal = board.leads(*start).checked_sub(2)?;
            board.path(
                *start,
                |to| board.leads(to) <= goal,
                |from, to| {
                    let mut held = board.held_by(from, 0);
                    held.find(|at| board.of(*at).first() == Some(&from) && board.of(*at).contains(&to))
                },
            )
        });
        let Some(path) = found else { return };
        for (at, _, to) in path {
            board.prefer(at, to);
        }
    }
}
