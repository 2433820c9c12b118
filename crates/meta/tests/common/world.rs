//! A cluster in the abstract: an image, what each broker has heard of it, and which acknowledged records each replica holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chronik_base::Uuid;
use chronik_meta::{AlterPartition, Command, Image, Partition, TopicChange};

const BROKERS: i32 = 5;

/// A partition, by the number of its topic.
type Key = (u8, i32);

/// What histories came across.
#[derive(Debug, Default)]
pub struct Seen {
    pub acknowledged: u64,
    pub acknowledged_deposed: u64,
    pub from_isr: u64,
    pub from_eligible: u64,
    pub unclean: u64,
    pub moved: u64,
    pub taken_back: u64,
    pub accepted: u64,
    pub refused: u64,
    pub wiped_to_nothing: u64,
}

#[derive(Default)]
pub struct World {
    image: Image,
    applied: Vec<Command>,
    /// What each broker has heard so far.
    views: BTreeMap<i32, Image>,
    /// Proposals on their way to the metadata.
    proposals: Vec<AlterPartition>,
    /// Proposals of a leader that it has not heard the outcome of: it counts those members in.
    pending: BTreeMap<(Key, i32), Vec<i32>>,
    /// How many records were acknowledged, and how many of them each replica holds.
    acknowledged: BTreeMap<Key, u64>,
    held: BTreeMap<(Key, i32), u64>,
    /// Partitions that had an unclean election: all bets are off.
    tainted: BTreeSet<Key>,
    /// Partitions of which a last copy was wiped.
    wiped: BTreeSet<Key>,
    directories: BTreeMap<i32, u8>,
    made: u8,
    pub seen: Seen,
}

fn topic_id(number: u8) -> Uuid {
    Uuid([number; 16])
}

/// A number below `below`, taken from `random`.
fn draw(random: &mut u64, below: usize) -> usize {
    let drawn = *random % below as u64;
    *random = (*random / below as u64) ^ random.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(17);
    drawn as usize
}

impl World {
    /// One thing happens: `kind` (below 1000) says what, `random` to whom.
    pub fn step(&mut self, kind: u32, mut random: u64) {
        let r = &mut random;
        let broker = 1 + draw(r, BROKERS as usize) as i32;
        match kind {
            0..20 => self.register(broker, false),
            20..24 => self.register(broker, true),
            24..150 => self.lifecycle(broker, |id, epoch| Command::UnfenceBroker { id, epoch }),
            150..180 => self.lifecycle(broker, |id, epoch| Command::FenceBroker { id, epoch }),
            180..183 => self.lifecycle(broker, |id, epoch| Command::YieldLeaderships { id, epoch }),
            183..186 => self.lifecycle(broker, |id, epoch| Command::BeginShutdown { id, epoch }),
            186..210 => self.create(r),
            210..230 => self.configure(r),
            230..235 => self.forget(r),
            235..245 => self.elect(r),
            245..275 => self.reassign(r),
            275..420 => self.propose(broker, r),
            420..520 => self.decide(r),
            520..730 => self.acknowledge(broker, r),
            730..998 => self.hear(broker),
            _ => {
                self.run(Command::UnregisterBroker { id: broker });
            }
        }
    }

    /// Bytes give the image back, and the same commands make the same one.
    pub fn check_copies(&self) {
        let bytes = self.image.encode();
        let decoded = Image::decode(&bytes).unwrap();
        assert_eq!(decoded, self.image);
        let mut again = Image::default();
        for command in Command::decode_all(&Command::encode_all(&self.applied)).unwrap() {
            again.check(&command).unwrap();
            again.apply(&command);
        }
        assert_eq!(again, self.image);
        assert_eq!(again.encode(), bytes);
    }

    fn run(&mut self, command: Command) -> bool {
        if self.image.check(&command).is_err() {
            return false;
        }
        let before = self.image.clone();
        self.image.apply(&command);
        assert_eq!(self.image.offset(), before.offset() + 1);
        self.applied.push(command.clone());
        self.check(&before, &command);
        true
    }

    fn register(&mut self, id: i32, wiped: bool) {
        let directory = self.directories.entry(id).or_insert(id as u8);
        if wiped {
            *directory = directory.wrapping_add(BROKERS as u8).max(1);
        }
        let directory = Uuid([*directory; 16]);
        let mut incarnation = [7; 16];
        incarnation[..8].copy_from_slice(&(self.image.offset() + 1).to_le_bytes());
        if wiped {
            self.held.iter_mut().filter(|((_, of), _)| *of == id).for_each(|(_, held)| *held = 0);
            for (key, partition) in partitions(&self.image) {
                if *partition.isr == [id] {
                    self.wiped.insert(key);
                    self.seen.wiped_to_nothing += 1;
                }
            }
        }
        let (rack, endpoints, incarnation) = (None, Vec::new(), Uuid(incarnation));
        assert!(self.run(Command::RegisterBroker { id, rack, endpoints, incarnation, directory }));
        let broker = self.image.broker(id).unwrap();
        assert!(broker.fenced && !broker.in_shutdown);
        assert_eq!(broker.epoch, self.image.offset() as i64);
        self.pending.retain(|(_, of), _| *of != id);
        self.hear(id);
    }

    /// The broker's view is the image as it is now.
    fn hear(&mut self, id: i32) {
        let before = self.views.insert(id, self.image.clone()).unwrap_or_default();
        let view = &self.image;
        let epoch = |image: &Image, key: Key| find(image, key).map(|partition| partition.partition_epoch);
        self.pending.retain(|(key, of), _| *of != id || epoch(&before, *key) == epoch(view, *key));
    }

    fn lifecycle(&mut self, id: i32, command: impl Fn(i32, i64) -> Command) {
        let Some(epoch) = self.image.broker(id).map(|broker| broker.epoch) else { return };
        assert!(self.image.check(&command(id, epoch - 1)).is_err());
        assert!(self.run(command(id, epoch)));
    }

    fn create(&mut self, r: &mut u64) {
        let mut replicas = || -> Vec<i32> {
            let count = 1 + draw(r, 4);
            let mut all: Vec<i32> = (1..=BROKERS).collect();
            (0..count).map(|_| all.remove(draw(r, all.len()))).collect()
        };
        let assignments: Vec<Vec<i32>> = (0..3).map(|_| replicas()).collect();
        if self.image.topic_count() >= 3 {
            let topic = topic_id(1 + draw(r, usize::from(self.made)) as u8);
            if let Some(known) = self.image.topic_by_id(&topic)
                && known.partitions.len() < 40
            {
                let first = known.partitions.len() as i32;
                self.run(Command::CreatePartitions { topic, first, assignments });
            }
            return;
        }
        let min = 1 + draw(r, 3);
        let configs = BTreeMap::from([("min.insync.replicas".to_owned(), min.to_string())]);
        self.made = self.made.checked_add(1).unwrap();
        let (id, name) = (topic_id(self.made), format!("t{}", self.made));
        if !self.run(Command::CreateTopic { name, id, created: 0, assignments, configs }) {
            self.made -= 1;
        }
    }

    fn configure(&mut self, r: &mut u64) {
        let change = match draw(r, 30) {
            0 => ("unclean.leader.election.enable", Some("true".to_owned())),
            1 => ("unclean.leader.election.enable", None),
            2..8 => ("min.insync.replicas", None),
            _ => ("min.insync.replicas", Some((1 + draw(r, 4)).to_string())),
        };
        let changes = vec![(change.0.to_owned(), change.1)];
        match self.a_partition(r) {
            // Unclean elections taint what they touch, so they stay rare: for single topics, and switched off again at once.
            Some(((topic, _), _)) if draw(r, 3) > 0 || change.0.starts_with("unclean") => {
                let topic = topic_id(topic);
                let off = vec![("unclean.leader.election.enable".to_owned(), None)];
                self.run(Command::AlterTopicConfigs { topic, changes });
                self.run(Command::AlterTopicConfigs { topic, changes: off });
            }
            _ if change.0.starts_with("min") => {
                self.run(Command::AlterBrokerConfigs { broker: None, changes });
            }
            _ => {}
        }
    }

    fn forget(&mut self, r: &mut u64) {
        let Some(((topic, _), _)) = self.a_partition(r) else { return };
        if self.made < 200 {
            assert!(self.run(Command::DeleteTopic { id: topic_id(topic) }));
        }
    }

    fn elect(&mut self, r: &mut u64) {
        let Some(((topic, partition), _)) = self.a_partition(r) else { return };
        let unclean = draw(r, 12) == 0;
        self.run(Command::ElectLeader { topic: topic_id(topic), partition, unclean });
    }

    fn reassign(&mut self, r: &mut u64) {
        let Some(((topic, partition), known)) = self.a_partition(r) else { return };
        let was_reassigned = known.is_reassigned();
        let target = (draw(r, 5) > 0).then(|| {
            let mut all: Vec<i32> = (1..=BROKERS).collect();
            (0..1 + draw(r, 3)).map(|_| all.remove(draw(r, all.len()))).collect()
        });
        let taken_back = target.is_none();
        if self.run(Command::Reassign { topic: topic_id(topic), partition, target }) && taken_back {
            assert!(was_reassigned);
            self.seen.taken_back += 1;
        }
    }

    fn a_partition(&self, r: &mut u64) -> Option<(Key, Partition)> {
        let all = partitions(&self.image);
        (!all.is_empty()).then(|| all[draw(r, all.len())].clone())
    }

    /// One of the partitions that `leader` thinks it leads.
    fn led_by(&self, leader: i32, r: &mut u64) -> Option<(Key, Partition)> {
        let mut led = partitions(self.views.get(&leader)?);
        led.retain(|(_, partition)| partition.leader == leader);
        (!led.is_empty()).then(|| led.swap_remove(draw(r, led.len())))
    }

    /// Whether `follower` follows the leader of that epoch, as far as it has heard.
    fn follows(&self, follower: i32, key: Key, leader_epoch: i32) -> bool {
        let known = self.views.get(&follower).and_then(|view| find(view, key));
        known.is_some_and(|known| known.leader_epoch == leader_epoch && known.replicas.contains(&follower))
    }

    /// A leader proposes an ISR on what it knows. New members have caught up before.
    fn propose(&mut self, leader: i32, r: &mut u64) {
        let Some((key, known)) = self.led_by(leader, r) else { return };
        if self.pending.contains_key(&(key, leader)) {
            return;
        }
        let mut isr = Vec::new();
        for id in known.replicas.iter().copied() {
            let joins = self.follows(id, key, known.leader_epoch) && draw(r, 4) > 0;
            let stays = known.isr.contains(&id) && draw(r, 4) > 0;
            if id != leader && !joins && !stays {
                continue;
            }
            // A new member says its epoch itself; that of an old one is in the leader's image.
            let says = if joins && !known.isr.contains(&id) { id } else { leader };
            let epoch = self.views[&says].broker(id).map_or(-1, |broker| broker.epoch);
            isr.push((id, epoch));
            if joins {
                let held = self.held_by(key, leader);
                self.held.insert((key, id), held);
            }
        }
        self.pending.insert((key, leader), isr.iter().map(|(id, _)| *id).collect());
        let (leader_epoch, partition_epoch) = (known.leader_epoch, known.partition_epoch);
        let (topic, partition) = (topic_id(key.0), key.1);
        self.proposals.push(AlterPartition { topic, partition, leader, leader_epoch, partition_epoch, isr });
    }

    /// A proposal arrives.
    fn decide(&mut self, r: &mut u64) {
        if self.proposals.is_empty() {
            return;
        }
        let proposal = self.proposals.swap_remove(draw(r, self.proposals.len()));
        let (key, leader) = ((proposal.topic.0[0], proposal.partition), proposal.leader);
        if self.run(Command::AlterPartition(proposal)) {
            self.seen.accepted += 1;
        } else {
            self.seen.refused += 1;
            self.pending.remove(&(key, leader));
        }
    }

    /// A leader, as far as it knows, has a record acknowledged by everybody it must count: the ISR it knows and the one it proposed.
    fn acknowledge(&mut self, leader: i32, r: &mut u64) {
        let Some((key, known)) = self.led_by(leader, r) else { return };
        let view = &self.views[&leader];
        let needed = known.needed_in_sync(view.min_in_sync(view.topic_by_id(&topic_id(key.0)).unwrap()));
        if known.isr.len() < needed {
            return;
        }
        let proposed = self.pending.get(&(key, leader)).into_iter().flatten();
        let counted: BTreeSet<i32> = known.isr.iter().chain(proposed).copied().collect();
        if !counted.iter().all(|id| self.follows(*id, key, known.leader_epoch)) {
            return;
        }
        let deposed = find(&self.image, key).is_none_or(|now| now.leader_epoch != known.leader_epoch);
        if self.tainted.contains(&key) {
            return;
        }
        let so_far = self.acknowledged.entry(key).or_default();
        let held = self.held.get(&(key, leader)).copied().unwrap_or(0);
        assert_eq!(held, *so_far, "{leader} acknowledges for {key:?} and lacks records: {known:?}");
        *so_far += 1;
        let now = *so_far;
        self.held.extend(counted.into_iter().map(|id| ((key, id), now)));
        self.seen.acknowledged += 1;
        self.seen.acknowledged_deposed += u64::from(deposed);
    }

    fn held_by(&self, key: Key, id: i32) -> u64 {
        self.held.get(&(key, id)).copied().unwrap_or(0)
    }

    /// What must hold after each command.
    fn check(&mut self, before: &Image, command: &Command) {
        let after = self.image.clone();
        self.check_changes(before, &after);
        for (key, partition) in partitions(&after) {
            check_partition(&after, key, &partition);
            if partition.isr.is_empty() {
                assert!(self.wiped.contains(&key), "{key:?} lost its ISR by {command:?}");
            }
            let Some(old) = find(before, key) else { continue };
            let changed = *old != partition;
            let proposed = matches!(command, Command::AlterPartition(p) if (p.topic, p.partition) == (topic_id(key.0), key.1));
            assert_eq!(partition.partition_epoch, old.partition_epoch + i32::from(changed || proposed));
            let led_anew = old.leader != partition.leader;
            assert_eq!(partition.leader_epoch, old.leader_epoch + i32::from(led_anew), "{key:?} {command:?}");
            self.seen.moved += u64::from(old.is_reassigned() && !partition.is_reassigned());
            if !led_anew || partition.leader == -1 {
                continue;
            }
            if old.isr.contains(&partition.leader) {
                self.seen.from_isr += 1;
            } else if old.eligible_leaders.contains(&partition.leader) {
                self.seen.from_eligible += 1;
            } else if let Command::AlterPartition(_) = command {
                // A reassignment ended, and its old leader is not part of it.
                assert!(partition.isr.contains(&partition.leader));
            } else {
                assert!(after.tally().unclean > before.tally().unclean, "{key:?} by {command:?}: {old:?}");
                assert_eq!(*partition.isr, [partition.leader]);
                self.tainted.insert(key);
                self.seen.unclean += 1;
            }
            if !self.tainted.contains(&key) {
                let (holds, all) =
                    (self.held_by(key, partition.leader), self.acknowledged.get(&key).copied().unwrap_or(0));
                assert_eq!(holds, all, "{key:?} by {command:?}: {old:?} -> {partition:?}");
            }
        }
        if let Command::DeleteTopic { id } = command {
            self.pending.retain(|((topic, _), _), _| topic_id(*topic) != *id);
        }
    }

    /// The shared pieces tell the same difference as looking at everything.
    fn check_changes(&self, before: &Image, after: &Image) {
        let changes = Image::changed_partitions(before, after);
        for TopicChange { id, before: old, after: new, .. } in &changes {
            assert_eq!(old.as_ref(), before.topic_by_id(id));
            assert_eq!(new.as_ref(), after.topic_by_id(id));
            assert!(new.is_none() || old.is_none() || old != new);
        }
        let told: BTreeSet<(Uuid, i32)> = changes
            .iter()
            .flat_map(|change| change.partitions.iter().map(|partition| (change.id, *partition)))
            .collect();
        let differs = partitions(after).into_iter().filter(|(key, new)| find(before, *key) != Some(new));
        assert_eq!(told, differs.map(|(key, _)| (topic_id(key.0), key.1)).collect());
        let gone = before.topics().filter(|topic| after.topic_by_id(&topic.id).is_none()).count();
        assert_eq!(changes.iter().filter(|change| change.after.is_none()).count(), gone);
    }
}

fn partitions(image: &Image) -> Vec<(Key, Partition)> {
    let of = |topic: &Arc<chronik_meta::Topic>| {
        let number = topic.id.0[0];
        topic.partitions.iter().map(move |(index, p)| ((number, index), p.clone())).collect::<Vec<_>>()
    };
    image.topics().flat_map(of).collect()
}

fn find(image: &Image, key: Key) -> Option<&Partition> {
    image.topic_by_id(&topic_id(key.0))?.partitions.get(key.1)
}

fn check_partition(image: &Image, key: Key, partition: &Partition) {
    let Partition { leader, replicas, isr, eligible_leaders, adding, removing, .. } = partition;
    let what = format!("{key:?}: {partition:?}");
    let inside = |list: &[i32]| {
        let mut rest = list.iter();
        let mut next = rest.next();
        replicas.iter().for_each(|id| {
            if next == Some(id) {
                next = rest.next();
            }
        });
        next.is_none()
    };
    assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replicas.len(), "{what}");
    // Each list names replicas, each once, in their order.
    assert!(inside(isr) && inside(eligible_leaders) && inside(adding) && inside(removing), "{what}");
    assert!(!isr.iter().any(|id| eligible_leaders.contains(id)), "{what}");
    assert!(!adding.iter().any(|id| removing.contains(id)), "{what}");
    assert!(replicas.iter().all(|id| image.broker(*id).is_some()), "{what}");
    let fenced = |id: &i32| image.broker(*id).unwrap().fenced;
    if *leader == -1 {
        let electable = isr.iter().chain(eligible_leaders).any(|id| image.broker(*id).unwrap().may_lead());
        assert!(!electable, "{what} has no leader, and could");
    } else {
        assert!(isr.contains(leader) && !isr.iter().any(fenced), "{what}");
    }
    let topic = image.topic_by_id(&topic_id(key.0)).unwrap();
    if isr.len() >= partition.needed_in_sync(image.min_in_sync(topic)) {
        assert!(eligible_leaders.is_empty(), "{what}");
    }
    if partition.is_reassigned() && *leader != -1 {
        let target: Vec<i32> = partition.target().collect();
        let done = target.iter().all(|id| isr.contains(id));
        let may_lead = |id: &i32| target.contains(id) && image.broker(*id).unwrap().may_lead();
        assert!(!done || !(target.contains(leader) || target.iter().any(may_lead)), "{what} is moved");
    }
}
