//! An ordered map whose copies share what they have in common: a snapshot costs one reference count, a change of a
//! shared map copies only the path to it. So readers keep their snapshot while the writer goes on, and one change of a map of a million entries costs
//! a few hundred copied entries.
//!
//! It is a B+ tree: values in the leaves, each inner node knows the first key of each child.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// Entries of a node at most.
const FULL: usize = 64;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct OrderedMap<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<(K, Arc<Node<K, V>>)>),
}

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> OrderedMap<K, V> {
    /// A map without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries in the map.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(own, _)| own.borrow().cmp(key)).ok()?;
                    return entries.get(at).map(|(_, value)| value);
                }
                Node::Inner(children) => node = &children.get(child_of(children, key))?.1,
            }
        }
    }

    /// True if there is an entry at `key`.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key).is_some()
    }

    /// Puts `value` at `key` and gives back what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, split) = insert(&mut self.root, key, value);
        if let Some((right_key, right)) = split {
            let left = Arc::clone(&self.root);
            if let Some(left_key) = first_key(&left) {
                self.root = Arc::new(Node::Inner(vec![(left_key, left), (right_key, right)]));
            }
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes the entry at `key` and gives back its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if !self.contains_key(key) {
            return None;
        }
        let old = remove(&mut self.root, key);
        self.len -= usize::from(old.is_some());
        while let Node::Inner(children) = &*self.root {
            match children.as_slice() {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [(_, only)] => self.root = Arc::clone(only),
                _ => break,
            }
        }
        old
    }

    /// Every entry, in the order of the keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter() };
        iter.descend_first(&self.root);
        iter
    }

    /// The entries from the first key on that is not below `from`.
    pub fn iter_from<Q>(&self, from: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut iter = Iter { stack: Vec::new(), leaf: [].iter() };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(key, _)| key.borrow() < from);
                    iter.leaf = entries.get(at..).unwrap_or(&[]).iter();
                    return iter;
                }
                Node::Inner(children) => {
                    let at = child_of(children, from);
                    iter.stack.push(children.get(at + 1..).unwrap_or(&[]).iter());
                    match children.get(at) {
                        Some((_, child)) => node = child,
                        None => return iter,
                    }
                }
            }
        }
    }

    /// Calls `each` with every key at which this map and `other` differ, in order, with the value here and the value there. `same` says whether two
    /// values count as one. Nodes that both share are skipped, so this costs what changed between two copies, not their size.
    pub fn difference(
        &self,
        other: &Self,
        same: impl Fn(&V, &V) -> bool,
        mut each: impl FnMut(&K, Option<&V>, Option<&V>),
    ) {
        let (mut left, mut right) = (vec![Step::Node(&self.root)], vec![Step::Node(&other.root)]);
        loop {
            match (left.last().copied(), right.last().copied()) {
                (None, None) => return,
                (Some(Step::Node(a)), Some(Step::Node(b))) if Arc::ptr_eq(a, b) => {
                    left.pop();
                    right.pop();
                }
                (Some(Step::Node(a)), Some(Step::Node(b))) => {
                    // The one that is higher, or begins earlier, may hold what the other one is shared with; else both differ.
                    let order = (height(b), lowest(a)).cmp(&(height(a), lowest(b)));
                    if order.is_le() {
                        expand(&mut left, a);
                    }
                    if order.is_ge() {
                        expand(&mut right, b);
                    }
                }
                (Some(Step::Node(a)), Some(Step::Entry(key, value))) => {
                    if lowest(a).is_some_and(|lowest| lowest > key) {
                        right.pop();
                        each(key, None, Some(value));
                    } else {
                        expand(&mut left, a);
                    }
                }
                (Some(Step::Entry(key, value)), Some(Step::Node(b))) => {
                    if lowest(b).is_some_and(|lowest| lowest > key) {
                        left.pop();
                        each(key, Some(value), None);
                    } else {
                        expand(&mut right, b);
                    }
                }
                (Some(Step::Entry(a, old)), Some(Step::Entry(b, new))) => {
                    let order = a.cmp(b);
                    if order.is_le() {
                        left.pop();
                    }
                    if order.is_ge() {
                        right.pop();
                    }
                    match order {
                        Ordering::Less => each(a, Some(old), None),
                        Ordering::Greater => each(b, None, Some(new)),
                        Ordering::Equal if !same(old, new) => each(a, Some(old), Some(new)),
                        Ordering::Equal => {}
                    }
                }
                (Some(Step::Node(a)), None) => expand(&mut left, a),
                (None, Some(Step::Node(b))) => expand(&mut right, b),
                (Some(Step::Entry(key, value)), None) => {
                    left.pop();
                    each(key, Some(value), None);
                }
                (None, Some(Step::Entry(key, value))) => {
                    right.pop();
                    each(key, None, Some(value));
                }
            }
        }
    }
}

/// What lies in front of one side of a [`OrderedMap::difference`].
enum Step<'a, K, V> {
    Node(&'a Arc<Node<K, V>>),
    Entry(&'a K, &'a V),
}

impl<K, V> Clone for Step<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Step<'_, K, V> {}

/// Puts what is in `node`, which is the last of `steps`, in its place.
fn expand<'a, K, V>(steps: &mut Vec<Step<'a, K, V>>, node: &'a Node<K, V>) {
    steps.pop();
    match node {
        Node::Leaf(entries) => steps.extend(entries.iter().rev().map(|(key, value)| Step::Entry(key, value))),
        Node::Inner(children) => steps.extend(children.iter().rev().map(|(_, child)| Step::Node(child))),
    }
}

/// Levels below a node.
fn height<K, V>(node: &Node<K, V>) -> usize {
    match node {
        Node::Leaf(_) => 0,
        Node::Inner(children) => children.first().map_or(0, |(_, child)| 1 + height(child)),
    }
}

/// A key that no key in the node is below.
fn lowest<K, V>(node: &Node<K, V>) -> Option<&K> {
    match node {
        Node::Leaf(entries) => entries.first().map(|(key, _)| key),
        Node::Inner(children) => children.first().map(|(key, _)| key),
    }
}

/// The place of the child that `key` belongs to.
fn child_of<K, V, Q>(children: &[(K, Arc<Node<K, V>>)], key: &Q) -> usize
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    children.partition_point(|(first, _)| first.borrow() <= key).saturating_sub(1)
}

fn first_key<K: Clone, V>(node: &Node<K, V>) -> Option<K> {
    match node {
        Node::Leaf(entries) => entries.first().map(|(key, _)| key.clone()),
        Node::Inner(children) => children.first().map(|(key, _)| key.clone()),
    }
}

type Split<K, V> = Option<(K, Arc<Node<K, V>>)>;

/// The place to split a node at. Keys that come in order fill their nodes, because a node that grew at its end is split there.
fn split_at(len: usize, grew_at: usize) -> usize {
    if grew_at + 1 == len { len - 1 } else { len / 2 }
}

fn insert<K: Ord + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    key: K,
    value: V,
) -> (Option<V>, Split<K, V>) {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => match entries.binary_search_by(|(own, _)| own.cmp(&key)) {
            Ok(at) => (entries.get_mut(at).map(|(_, own)| std::mem::replace(own, value)), None),
            Err(at) => {
                entries.insert(at, (key, value));
                if entries.len() <= FULL {
                    return (None, None);
                }
                let right = entries.split_off(split_at(entries.len(), at));
                let first = right.first().map(|(key, _)| key.clone());
                (None, first.map(|first| (first, Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Inner(children) => {
            let at = child_of(children, &key);
            let Some((first, child)) = children.get_mut(at) else { return (None, None) };
            if key < *first {
                *first = key.clone();
            }
            let (old, split) = insert(child, key, value);
            let Some(split) = split else { return (old, None) };
            children.insert(at + 1, split);
            if children.len() <= FULL {
                return (old, None);
            }
            let right = children.split_off(split_at(children.len(), at + 1));
            let first = right.first().map(|(key, _)| key.clone());
            (old, first.map(|first| (first, Arc::new(Node::Inner(right)))))
        }
    }
}

fn remove<K, V, Q>(node: &mut Arc<Node<K, V>>, key: &Q) -> Option<V>
where
    K: Ord + Clone + Borrow<Q>,
    V: Clone,
    Q: Ord + ?Sized,
{
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = entries.binary_search_by(|(own, _)| own.borrow().cmp(key)).ok()?;
            Some(entries.remove(at).1)
        }
        Node::Inner(children) => {
            let at = child_of(children, key);
            let old = remove(&mut children.get_mut(at)?.1, key);
            let emptied = children.get(at).is_some_and(|(_, child)| match &**child {
                Node::Leaf(entries) => entries.is_empty(),
                Node::Inner(children) => children.is_empty(),
            });
            if emptied {
                children.remove(at);
            }
            old
        }
    }
}

type Children<'a, K, V> = std::slice::Iter<'a, (K, Arc<Node<K, V>>)>;

/// Entries in the order of their keys.
#[derive(Clone, Debug)]
pub struct Iter<'a, K, V> {
    stack: Vec<Children<'a, K, V>>,
    leaf: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend_first(&mut self, mut node: &'a Node<K, V>) {
        loop {
            match node {
                Node::Leaf(entries) => {
                    self.leaf = entries.iter();
                    return;
                }
                Node::Inner(children) => {
                    let mut rest = children.iter();
                    let first = rest.next();
                    self.stack.push(rest);
                    match first {
                        Some((_, child)) => node = child,
                        None => return,
                    }
                }
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            match self.stack.last_mut()?.next() {
                Some((_, child)) => self.descend_first(child),
                None => {
                    self.stack.pop();
                }
            }
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for OrderedMap<K, V>
where
    K: Ord + Clone,
    V: Clone,
{
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (Arc::ptr_eq(&self.root, &other.root) || self.iter().eq(other.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn does_what_a_btreemap_does(steps in prop::collection::vec((0u16..600, any::<bool>()), 0..3000), from in 0u16..600) {
            let mut map = OrderedMap::new();
            let mut model = BTreeMap::new();
            let mut snapshots = Vec::new();
            for (i, (key, put)) in steps.into_iter().enumerate() {
                if put {
                    prop_assert_eq!(map.insert(key, i), model.insert(key, i));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.len(), model.len());
                if i % 500 == 0 {
                    snapshots.push((map.clone(), model.clone()));
                }
            }
            snapshots.push((map, model));
            for (map, model) in &snapshots {
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert!(map.iter_from(&from).eq(model.range(from..)));
                prop_assert_eq!(map.get(&from), model.get(&from));
            }
            for pair in [(0, snapshots.len() - 1), (snapshots.len() - 1, 0), (0, snapshots.len() / 2)] {
                let (a, b) = (&snapshots[pair.0], &snapshots[pair.1]);
                let mut found = Vec::new();
                a.0.difference(&b.0, |a, b| a == b, |key, a, b| found.push((*key, a.copied(), b.copied())));
                let keys: BTreeSet<u16> = a.1.keys().chain(b.1.keys()).copied().collect();
                let differs = keys.into_iter().map(|key| (key, a.1.get(&key).copied(), b.1.get(&key).copied()));
                prop_assert_eq!(found, differs.filter(|(_, a, b)| a != b).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_change_copies_a_path_only() {
        let mut map = OrderedMap::new();
        for key in 0..100_000 {
            map.insert(key, Arc::new(key));
        }
        let snapshot = map.clone();
        map.insert(50_000, Arc::new(0));
        let shared = map.iter().filter(|(_, value)| Arc::strong_count(value) == 1).count();
        assert!(shared > 99_900, "{shared} entries of the snapshot are not copied");
        assert_eq!(**snapshot.get(&50_000).unwrap(), 50_000);
        map.insert(100_000, Arc::new(0));
        map.remove(&7);
        let (compared, found) = (Cell::new(0), Cell::new(0));
        let same = |a: &Arc<i32>, b: &Arc<i32>| {
            compared.set(compared.get() + 1);
            Arc::ptr_eq(a, b)
        };
        snapshot.difference(&map, same, |_, _, _| found.set(found.get() + 1));
        assert_eq!(found.get(), 3);
        assert!(compared.get() < 4 * FULL, "{} entries compared", compared.get());
    }
}
