//! The books of a run: which messages were acknowledged, and which of all messages came back.
//!
//! A message is known by run, producer, partition and its number within these, which counts from 0 without gaps.
//! Both sides are one bit a message, so that a run of a hundred million messages fits in memory.

use crate::message::{Stamp, Stamped};
use crate::result::{Integrity, Verification};
use std::collections::HashMap;

/// Examples that a verification names.
const EXAMPLES: usize = 10;

/// A set of numbers that begins at 0 and is mostly dense.
#[derive(Default, Clone)]
pub struct Numbers(Vec<u64>);

impl Numbers {
    /// Adds a number; false when it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        match self.0.get_mut(word) {
            Some(bits) => {
                let new = *bits & bit == 0;
                *bits |= bit;
                new
            }
            None => false,
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// The lowest number and the highest one.
    pub fn ends(&self) -> Option<(u64, u64)> {
        let (first, low) = self.0.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        let (last, high) = self.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        Some((
            first as u64 * 64 + u64::from(low.trailing_zeros()),
            last as u64 * 64 + 63 - u64::from(high.leading_zeros()),
        ))
    }

    /// Adds the numbers of another set; returns how many were in both.
    pub fn merge(&mut self, other: &Self) -> u64 {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut both = 0;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            both += u64::from((*mine & theirs).count_ones());
            *mine |= theirs;
        }
        both
    }

    /// The numbers that are here and not in the other set, in order.
    fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let rest = bits & !other.0.get(word).copied().unwrap_or(0);
            (0..64u64).filter(move |bit| rest & (1 << bit) != 0).map(move |bit| word as u64 * 64 + bit)
        })
    }
}

/// Producer and partition.
pub type Lane = (u32, i32);

/// The acknowledged messages of one run.
#[derive(Default, Clone)]
pub struct Acknowledged {
    lanes: HashMap<Lane, Numbers>,
}

impl Acknowledged {
    /// Notes one acknowledgement.
    pub fn insert(&mut self, lane: Lane, sequence: u64) {
        self.lanes.entry(lane).or_default().insert(sequence);
    }

    /// Adds another part of the books.
    pub fn merge(&mut self, other: &Self) {
        for (lane, numbers) in &other.lanes {
            self.lanes.entry(*lane).or_default().merge(numbers);
        }
    }

    /// How many messages were acknowledged.
    pub fn len(&self) -> u64 {
        self.lanes.values().map(Numbers::len).sum()
    }
}

/// Everything that came back, as one reader saw it.
#[derive(Default)]
pub struct Seen {
    lanes: HashMap<(u64, Lane), LaneSeen>,
    counts: Integrity,
    corrupt_at: Vec<String>,
}

#[derive(Default)]
struct LaneSeen {
    numbers: Numbers,
    highest: Option<u64>,
}

impl Seen {
    /// Checks one value; if it is whole, returns its stamp, and true unless it came before.
    pub fn check(&mut self, value: &[u8], partition: i32, offset: i64) -> Option<(Stamp, bool)> {
        self.counts.checked += 1;
        let stamp = match Stamp::open(value) {
            Stamped::Whole(stamp) => stamp,
            Stamped::Foreign => {
                self.counts.foreign += 1;
                return None;
            }
            Stamped::Corrupt => {
                self.corrupt(partition, offset);
                return None;
            }
        };
        let lane = self.lanes.entry((stamp.run, (stamp.producer, partition))).or_default();
        let new = lane.numbers.insert(stamp.sequence);
        if !new {
            self.counts.duplicated += 1;
        } else if lane.highest.is_some_and(|highest| stamp.sequence < highest) {
            self.counts.reordered += 1;
        }
        lane.highest = lane.highest.max(Some(stamp.sequence));
        Some((stamp, new))
    }

    /// Notes a message that is not what it was.
    pub fn corrupt(&mut self, partition: i32, offset: i64) {
        self.counts.corrupt += 1;
        if self.corrupt_at.len() < EXAMPLES {
            self.corrupt_at
                .push(format!("the message at offset {offset} of partition {partition} is corrupt"));
        }
    }

    /// Adds what another reader of the same group saw. A message that both saw is a duplicate.
    pub fn merge(&mut self, other: Self) {
        for (key, lane) in other.lanes {
            let mine = self.lanes.entry(key).or_default();
            self.counts.duplicated += mine.numbers.merge(&lane.numbers);
            mine.highest = mine.highest.max(lane.highest);
        }
        let Integrity { checked, lost, duplicated, reordered, corrupt, foreign } = other.counts;
        self.counts.checked += checked;
        self.counts.lost += lost;
        self.counts.duplicated += duplicated;
        self.counts.reordered += reordered;
        self.counts.corrupt += corrupt;
        self.counts.foreign += foreign;
        self.corrupt_at.extend(other.corrupt_at);
        self.corrupt_at.truncate(EXAMPLES);
    }

    /// What was found when nothing is known of what was sent: numbers that are left out count as lost, from 0 where
    /// the partitions were read from their beginning, else from the first one seen.
    pub fn integrity(&self, from_zero: bool) -> Integrity {
        let mut found = self.counts;
        for lane in self.lanes.values() {
            if let Some((first, last)) = lane.numbers.ends() {
                let expected = last + 1 - if from_zero { 0 } else { first };
                found.lost += expected.saturating_sub(lane.numbers.len());
            }
        }
        found
    }

    /// How many of the run's acknowledged messages were not seen.
    pub fn missing(&self, run: u64, acknowledged: &Acknowledged) -> u64 {
        let none = Numbers::default();
        let missing = acknowledged.lanes.iter().map(|(lane, numbers)| {
            let seen = self.lanes.get(&(run, *lane)).map_or(&none, |seen| &seen.numbers);
            numbers.0.iter().enumerate().fold(0, |missing, (word, bits)| {
                missing + u64::from((bits & !seen.0.get(word).copied().unwrap_or(0)).count_ones())
            })
        });
        missing.sum()
    }

    /// Compares with what was acknowledged. In a topic of the run's own, a foreign message is a corrupt one.
    pub fn verify(&self, run: u64, acknowledged: &Acknowledged, own_topic: bool) -> Verification {
        let mut found = Verification {
            acknowledged: acknowledged.len(),
            lost: self.missing(run, acknowledged),
            corrupt: self.counts.corrupt + if own_topic { self.counts.foreign } else { 0 },
            duplicated: self.counts.duplicated,
            reordered: self.counts.reordered,
            foreign: if own_topic { 0 } else { self.counts.foreign },
            examples: self.corrupt_at.clone(),
            ..Verification::default()
        };
        found.found = found.acknowledged - found.lost;
        let none = Numbers::default();
        let mut lanes: Vec<_> = acknowledged.lanes.iter().collect();
        lanes.sort_unstable_by_key(|(lane, _)| **lane);
        for ((producer, partition), numbers) in lanes {
            let seen = self.lanes.get(&(run, (*producer, *partition))).map_or(&none, |seen| &seen.numbers);
            for sequence in numbers.without(seen) {
                if found.examples.len() >= EXAMPLES {
                    break;
                }
                found.examples.push(format!(
                    "producer {producer} sequence {sequence} of partition {partition} is lost"
                ));
            }
        }
        let seen: u64 =
            self.lanes.iter().filter(|((of, _), _)| *of == run).map(|(_, lane)| lane.numbers.len()).sum();
        found.unacknowledged = seen.saturating_sub(found.found);
        found.passed = found.lost == 0 && found.corrupt == 0;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 5;

    fn value(producer: u32, sequence: u64) -> Vec<u8> {
        let mut value = vec![b'x'; 64];
        Stamp { run: RUN, producer, sequence, due_ns: 0 }.seal(&mut value);
        value
    }

    #[test]
    fn a_lost_and_a_corrupt_record_are_found_and_named() {
        let mut acknowledged = Acknowledged::default();
        let mut seen = Seen::default();
        for sequence in 0..1000 {
            acknowledged.insert((0, 3), sequence);
            let mut value = value(0, sequence);
            match sequence {
                17 => continue,
                500 => value[50] ^= 1,
                _ => {}
            }
            seen.check(&value, 3, sequence as i64);
        }
        let found = seen.verify(RUN, &acknowledged, true);
        assert!(!found.passed);
        // The corrupt record is not there whole, so it is lost as well.
        assert_eq!((found.lost, found.corrupt, found.found), (2, 1, 998));
        assert_eq!(
            found.examples,
            [
                "the message at offset 500 of partition 3 is corrupt",
                "producer 0 sequence 17 of partition 3 is lost",
                "producer 0 sequence 500 of partition 3 is lost",
            ]
        );
    }

    #[test]
    fn an_intact_run_passes_with_what_was_never_acknowledged() {
        let mut acknowledged = Acknowledged::default();
        let mut seen = Seen::default();
        for sequence in 0..10 {
            seen.check(&value(1, sequence), 0, sequence as i64);
            if sequence != 4 {
                acknowledged.insert((1, 0), sequence);
            }
        }
        let found = seen.verify(RUN, &acknowledged, true);
        assert!(found.passed, "{found:?}");
        assert_eq!((found.acknowledged, found.found, found.unacknowledged), (9, 9, 1));
    }

    #[test]
    fn duplicates_and_reordering_are_told_apart() {
        let mut seen = Seen::default();
        for sequence in [0, 1, 3, 2, 2, 4] {
            seen.check(&value(0, sequence), 0, 0);
        }
        let found = seen.integrity(true);
        assert_eq!((found.duplicated, found.reordered, found.lost, found.checked), (1, 1, 0, 6));
    }

    #[test]
    fn gaps_count_from_zero_or_from_the_first_seen() {
        let mut seen = Seen::default();
        for sequence in [100, 101, 103] {
            seen.check(&value(0, sequence), 0, 0);
        }
        assert_eq!(seen.integrity(false).lost, 1);
        assert_eq!(seen.integrity(true).lost, 101);
    }

    #[test]
    fn members_of_a_group_are_added_up() {
        let (mut one, mut two) = (Seen::default(), Seen::default());
        for sequence in 0..5 {
            one.check(&value(0, sequence), 0, 0);
            two.check(&value(0, sequence + 4), 0, 0);
        }
        one.merge(two);
        let found = one.integrity(true);
        assert_eq!((found.duplicated, found.lost, found.checked), (1, 0, 10));
    }

    #[test]
    fn a_foreign_record_spoils_only_a_topic_of_our_own() {
        let mut seen = Seen::default();
        seen.check(b"somebody else's", 0, 0);
        assert!(!seen.verify(RUN, &Acknowledged::default(), true).passed);
        assert!(seen.verify(RUN, &Acknowledged::default(), false).passed);
    }

    #[test]
    fn sets_of_numbers_know_their_ends() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.ends(), None);
        for number in [70, 200] {
            assert!(numbers.insert(number));
            assert!(!numbers.insert(number));
        }
        assert_eq!(numbers.ends(), Some((70, 200)));
        assert_eq!(numbers.len(), 2);
    }
}
