//! When to stand for election, and whom a vote would be given to. Decisions only: time is handed in, and the library runs the election.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::options::Timing;
use crate::types::LogId;

/// What a voter knows of leaders and elections.
#[derive(Debug)]
pub(crate) struct Election {
    timing: Timing,
    /// When a leader was last heard of.
    heard: Option<Instant>,
    /// When a vote was last given to another node.
    voted: Option<Instant>,
    /// When another node was last told that it would get this one's vote.
    promised: Option<Instant>,
    /// Since when this node asks the others whether they would vote for it.
    asking: Option<Instant>,
    /// When to stand for election, if nothing happens until then.
    deadline: Instant,
    random: u64,
}

impl Election {
    pub(crate) fn new(timing: Timing, now: Instant) -> Self {
        let random = RandomState::new().hash_one(now) | 1;
        let mut election =
            Self { timing, heard: None, voted: None, promised: None, asking: None, deadline: now, random };
        election.postpone(now);
        election
    }

    /// The leader spoke.
    pub(crate) fn on_leader_heard(&mut self, now: Instant) {
        self.heard = self.heard.max(Some(now));
        self.postpone(now);
    }

    /// A vote was given to another node: it gets time to win and to say so.
    pub(crate) fn on_vote_given(&mut self, now: Instant) {
        self.voted = Some(now);
        self.postpone(now);
    }

    /// This node asks the others, or stands for election: if that leads to nothing, it comes again, sooner than after a word of a leader.
    pub(crate) fn on_attempt(&mut self, now: Instant) {
        let spread = self.timing.election_max - self.timing.election_min;
        self.deadline = now + self.timing.election_min / 2 + self.random_below(spread);
    }

    /// This node begins to ask the others whether they would vote for it.
    pub(crate) fn on_asking(&mut self, now: Instant) {
        self.asking = Some(now);
        self.on_attempt(now);
    }

    /// The others were asked. True if this node may stand for election: not when it heard of a leader or of another candidate in the meantime.
    pub(crate) fn on_asked(&mut self) -> bool {
        let Some(began) = self.asking.take() else { return false };
        [self.heard, self.voted, self.promised].into_iter().flatten().all(|at| at < began)
    }

    /// The connection to the leader broke or was refused: no need to wait longer than its lease lasts.
    pub(crate) fn on_leader_lost(&mut self, now: Instant) {
        let end = self.heard.map_or(now, |heard| heard + self.timing.lease());
        let spread = (self.timing.election_max - self.timing.election_min) / 4;
        let soon = end.max(now) + self.random_below(spread);
        self.deadline = self.deadline.min(soon);
    }

    /// True if it is time to ask the others for their votes.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// How long ago a leader was heard of.
    pub(crate) fn heard_ago(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_duration_since(heard))
    }

    /// Another node asks whether it would get this one's vote; its log ends with `theirs`, this one's with `mine`. If both ask at the same time,
    /// with the same log, the one with the higher id (`is_higher`: the other) goes first, or they would depose each other. A promise keeps this
    /// node from standing for so short a time only that nobody who asks in vain can keep it from doing so for good.
    pub(crate) fn on_asked_by(
        &mut self,
        now: Instant,
        mine: Option<LogId>,
        theirs: Option<LogId>,
        is_higher: bool,
    ) -> bool {
        let quiet = |since: Option<Instant>| {
            since.is_none_or(|since| now.saturating_duration_since(since) > self.timing.lease())
        };
        let goes_first = self.asking.is_none() || theirs > mine || is_higher;
        let promised = quiet(self.heard) && quiet(self.voted) && theirs >= mine && goes_first;
        if promised {
            self.promised = Some(now);
            let spread = (self.timing.election_max - self.timing.election_min) / 4;
            self.deadline = self.deadline.max(now + self.timing.election_min / 4 + self.random_below(spread));
        }
        promised
    }

    fn postpone(&mut self, now: Instant) {
        let spread = self.timing.election_max - self.timing.election_min;
        self.deadline = now + self.timing.election_min + self.random_below(spread);
    }

    /// xorshift64: good enough to keep voters apart.
    fn random_below(&mut self, limit: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random % micros)
    }
}

/// How many voters agree, in the set of voters where it is tightest: while voters change there are two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Majority {
    pub(crate) agreeing: usize,
    pub(crate) voters: usize,
    pub(crate) needed: usize,
}

impl Majority {
    /// Counts the voters for which `agrees` holds.
    pub(crate) fn count(sets: &[BTreeSet<u64>], agrees: impl Fn(u64) -> bool) -> Self {
        let counted = sets.iter().map(|set| Self {
            agreeing: set.iter().filter(|voter| agrees(**voter)).count(),
            voters: set.len(),
            needed: set.len() / 2 + 1,
        });
        let tightest = counted.min_by_key(|majority| majority.agreeing as i64 - majority.needed as i64);
        tightest.unwrap_or(Self { agreeing: 0, voters: 0, needed: 1 })
    }

    /// True if enough agree.
    pub(crate) fn is_reached(self) -> bool {
        self.agreeing >= self.needed
    }
}

/// The latest time that a majority of each set had answered what was sent at or after it; `me` always has.
pub(crate) fn majority_answered(
    sets: &[BTreeSet<u64>],
    me: u64,
    answered: &BTreeMap<u64, Instant>,
    now: Instant,
) -> Option<Instant> {
    let in_set = |set: &BTreeSet<u64>| {
        let mut times: Vec<Option<Instant>> = set
            .iter()
            .map(|voter| if *voter == me { Some(now) } else { answered.get(voter).copied() })
            .collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(set.len() / 2).copied().flatten()
    };
    sets.iter().map(in_set).min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(voters: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        voters.into_iter().collect()
    }

    fn log_id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(openraft::CommittedLeaderId::new(term, 1), index))
    }

    #[test]
    fn a_voter_waits_between_the_two_timeouts_and_counts_from_the_last_word_of_the_leader() {
        let start = Instant::now();
        let timing = Timing::default();
        for _ in 0..100 {
            let mut election = Election::new(timing.clone(), start);
            let later = start + Duration::from_secs(1);
            election.on_leader_heard(later);
            assert!(!election.is_due(later + timing.election_min - Duration::from_micros(1)));
            assert!(election.is_due(later + timing.election_max));
        }
    }

    #[test]
    fn no_vote_within_the_lease_nor_for_a_shorter_log() {
        let start = Instant::now();
        let mut election = Election::new(Timing::default(), start);
        assert!(election.on_asked_by(start, None, None, false));
        election.on_leader_heard(start);
        assert!(!election.on_asked_by(start + Duration::from_millis(400), None, None, true));
        let after = start + Duration::from_millis(401);
        assert!(election.on_asked_by(after, log_id(1, 5), log_id(2, 3), false));
        assert!(!election.on_asked_by(after, log_id(2, 3), log_id(1, 5), true));
        assert!(!election.on_asked_by(after, log_id(1, 5), None, true));
        election.on_vote_given(after);
        assert!(!election.on_asked_by(after + Duration::from_millis(400), None, None, true));
    }

    #[test]
    fn of_two_that_ask_at_once_one_stands() {
        let start = Instant::now();
        let (mut low, mut high) =
            (Election::new(Timing::default(), start), Election::new(Timing::default(), start));
        low.on_asking(start);
        high.on_asking(start);
        let then = start + Duration::from_millis(1);
        assert!(low.on_asked_by(then, log_id(1, 5), log_id(1, 5), true));
        assert!(!high.on_asked_by(then, log_id(1, 5), log_id(1, 5), false));
        assert!(!low.on_asked());
        assert!(high.on_asked());
        // The longer log goes before the higher id.
        high.on_asking(then);
        assert!(high.on_asked_by(then, log_id(1, 5), log_id(1, 6), false));
        assert!(!high.on_asked());
    }

    #[test]
    fn who_asks_in_vain_keeps_nobody_from_standing() {
        let start = Instant::now();
        let mut election = Election::new(Timing::default(), start);
        let due = (0..20).find(|n| {
            let now = start + Duration::from_millis(200 * n);
            let due = election.is_due(now);
            election.on_asked_by(now, None, None, true);
            due
        });
        assert!(due.is_some_and(|n| n <= 4), "{due:?}");
    }

    #[test]
    fn a_lost_leader_shortens_the_wait_to_its_lease() {
        let start = Instant::now();
        for _ in 0..100 {
            let mut election = Election::new(Timing::default(), start);
            election.on_leader_heard(start);
            election.on_leader_lost(start + Duration::from_millis(50));
            assert!(!election.is_due(start + Duration::from_millis(399)));
            assert!(election.is_due(start + Duration::from_millis(450)));
        }
    }

    #[test]
    fn both_sets_of_voters_must_agree() {
        let sets = [set([1, 2, 3]), set([3, 4, 5])];
        let first = Majority::count(&sets, |voter| voter <= 3);
        assert_eq!(first, Majority { agreeing: 1, voters: 3, needed: 2 });
        assert!(!first.is_reached());
        assert!(Majority::count(&sets, |voter| voter == 3 || voter == 1 || voter == 5).is_reached());
        assert!(!Majority::count(&[], |_| true).is_reached());
    }

    #[test]
    fn a_majority_has_answered_when_its_slowest_member_has() {
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap_or(now);
        let answered = BTreeMap::from([(2, ago(300)), (3, ago(100)), (4, ago(5))]);
        assert_eq!(majority_answered(&[set([1])], 1, &answered, now), Some(now));
        assert_eq!(majority_answered(&[set([1, 2, 3])], 1, &answered, now), Some(ago(100)));
        assert_eq!(majority_answered(&[set([1, 2, 3, 4, 5])], 1, &answered, now), Some(ago(100)));
        assert_eq!(majority_answered(&[set([1, 5])], 1, &answered, now), None);
        assert_eq!(majority_answered(&[set([1, 3]), set([1, 2])], 1, &answered, now), Some(ago(300)));
    }
}
