//! The state that a plan works on: who has how much, and what a move would do.

use std::collections::{BTreeSet, HashMap};

use chronik_base::NodeId;

use super::{Node, Placement};

/// Partitions with their replicas, and the load of each node that may have some.
pub struct Board<'a> {
    nodes: &'a [Node],
    /// The rack of each node that is in one.
    racks: HashMap<NodeId, &'a str>,
    /// The replicas of each partition.
    pub replicas: Vec<Vec<NodeId>>,
    /// For each node: the partitions that it has.
    holds: HashMap<NodeId, BTreeSet<usize>>,
    /// Preferred leaderships of each node.
    leads: HashMap<NodeId, usize>,
}

impl<'a> Board<'a> {
    /// The state as it is, with every node of which the rack is known.
    pub fn new(placements: &[Placement], nodes: &'a [Node]) -> Self {
        let mut board = Self {
            nodes,
            racks: nodes.iter().filter_map(|node| Some((node.id, node.rack.as_deref()?))).collect(),
            replicas: placements.iter().map(|placement| placement.replicas.clone()).collect(),
            holds: HashMap::new(),
            leads: HashMap::new(),
        };
        for (at, placement) in placements.iter().enumerate() {
            for id in &placement.replicas {
                board.holds.entry(*id).or_default().insert(at);
            }
            if let Some(first) = placement.replicas.first() {
                *board.leads.entry(*first).or_default() += 1;
            }
        }
        board
    }

    /// The nodes that replicas may be put on.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<'a> {
        self.nodes.iter().filter(|node| node.takes_replicas).map(|node| node.id)
    }

    /// Replicas on a node.
    pub fn load(&self, node: NodeId) -> usize {
        self.holds.get(&node).map_or(0, BTreeSet::len)
    }

    /// Partitions whose preferred leader a node is.
    pub fn leads(&self, node: NodeId) -> usize {
        self.leads.get(&node).copied().unwrap_or(0)
    }

    /// The partitions on a node, from the one at `start` on.
    pub fn held_by(&self, node: NodeId, start: usize) -> impl Iterator<Item = usize> {
        self.holds.get(&node).into_iter().flat_map(move |held| held.range(start..)).copied()
    }

    /// A partition's replicas.
    pub fn of(&self, partition: usize) -> &[NodeId] {
        self.replicas.get(partition).map_or(&[], Vec::as_slice)
    }

    /// In how many racks a partition would be without `from` and with `to`. A node without a rack counts as a rack of its own.
    pub fn racks_after(&self, partition: usize, from: Option<NodeId>, to: Option<NodeId>) -> usize {
        let stays = self.of(partition).iter().copied().filter(|id| Some(*id) != from);
        let mut racks: Vec<(Option<&str>, NodeId)> = stays
            .chain(to)
            .map(|id| match self.racks.get(&id) {
                Some(rack) => (Some(*rack), 0),
                None => (None, id),
            })
            .collect();
        racks.sort_unstable();
        racks.dedup();
        racks.len()
    }

    /// True if the replica on `from` may go to `to`: there is none yet, and the partition is in no fewer racks afterwards.
    pub fn may_move(&self, partition: usize, from: NodeId, to: NodeId) -> bool {
        !self.of(partition).contains(&to)
            && self.racks_after(partition, Some(from), Some(to)) >= self.racks_after(partition, None, None)
    }

    /// Replaces a replica, in its place.
    pub fn replace(&mut self, partition: usize, from: NodeId, to: NodeId) {
        let was_first = self.of(partition).first() == Some(&from);
        for id in self.replicas.get_mut(partition).into_iter().flatten() {
            if *id == from {
                *id = to;
            }
        }
        if let Some(held) = self.holds.get_mut(&from) {
            held.remove(&partition);
        }
        self.holds.entry(to).or_default().insert(partition);
        if was_first {
            self.pass_lead(from, to);
        }
    }

    /// Adds a replica behind the others.
    pub fn add(&mut self, partition: usize, to: NodeId) {
        if let Some(replicas) = self.replicas.get_mut(partition) {
            replicas.push(to);
            if replicas.len() == 1 {
                *self.leads.entry(to).or_default() += 1;
            }
            self.holds.entry(to).or_default().insert(partition);
        }
    }

    /// Takes a replica away.
    pub fn remove(&mut self, partition: usize, from: NodeId) {
        let was_first = self.of(partition).first() == Some(&from);
        if let Some(replicas) = self.replicas.get_mut(partition) {
            replicas.retain(|id| *id != from);
        }
        if let Some(held) = self.holds.get_mut(&from) {
            held.remove(&partition);
        }
        if was_first {
            match self.of(partition).first().copied() {
                Some(next) => self.pass_lead(from, next),
                None => self.drop_lead(from),
            }
        }
    }

    /// Makes one of its replicas a partition's preferred leader.
    pub fn prefer(&mut self, partition: usize, leader: NodeId) {
        let Some(replicas) = self.replicas.get_mut(partition) else { return };
        let (Some(at), Some(old)) = (replicas.iter().position(|id| *id == leader), replicas.first().copied())
        else {
            return;
        };
        if at > 0 {
            replicas.swap(0, at);
            self.pass_lead(old, leader);
        }
    }

    fn pass_lead(&mut self, from: NodeId, to: NodeId) {
        self.drop_lead(from);
        *self.leads.entry(to).or_default() += 1;
    }

    fn drop_lead(&mut self, from: NodeId) {
        if let Some(leads) = self.leads.get_mut(&from) {
            *leads = leads.saturating_sub(1);
        }
    }

    /// A way to even out: from a node with much to a node with little, over steps each of which `step` finds a thing for
    /// that can go from one to the other. The shortest there is, as (thing, from, to).
    pub fn path<T: Copy>(
        &self,
        start: NodeId,
        is_goal: impl Fn(NodeId) -> bool,
        mut step: impl FnMut(NodeId, NodeId) -> Option<T>,
    ) -> Option<Vec<(T, NodeId, NodeId)>> {
        let mut came_by: HashMap<NodeId, (T, NodeId)> = HashMap::new();
        let mut frontier = vec![start];
        while !frontier.is_empty() {
            let mut next = Vec::new();
            for from in frontier {
                for to in self.nodes() {
                    if to == start || came_by.contains_key(&to) {
                        continue;
                    }
                    let Some(thing) = step(from, to) else { continue };
                    came_by.insert(to, (thing, from));
                    if is_goal(to) {
                        return Some(trace(&came_by, start, to));
                    }
                    next.push(to);
                }
            }
            frontier = next;
        }
        None
    }
}

fn trace<T: Copy>(
    came_by: &HashMap<NodeId, (T, NodeId)>,
    start: NodeId,
    goal: NodeId,
) -> Vec<(T, NodeId, NodeId)> {
    let mut path = Vec::new();
    let mut to = goal;
    while to != start {
        let Some((thing, from)) = came_by.get(&to) else { break };
        path.push((*thing, *from, to));
        to = *from;
    }
    path
}
