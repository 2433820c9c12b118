//! Chains of faults around one partition's leadership that chance alone would rarely put together: each makes two nodes believe that they lead, or lets what
//! belongs to an earlier epoch arrive in a later one.

use chronik_base::NodeId;
use chronik_meta::Command;

use crate::event::{Event, Origin, Tp};
use crate::plan::Fault;
use crate::world::{World, topic_id};

impl World {
    /// The leader of a partition and two other members of its ISR, in the order in which they would be elected.
    fn cast(&self, tp: Tp) -> Option<(NodeId, NodeId, NodeId)> {
        let partition = self.decided(tp).filter(|partition| !partition.is_reassigned())?;
        let mut others = partition.isr.iter().copied().filter(|id| *id != partition.leader);
        Some((partition.leader, others.next()?, others.next()?)).filter(|(leader, ..)| *leader > 0)
    }

    fn later(&mut self, ms: u64, fault: Fault) {
        self.schedule.at(self.now + ms * 1000, Event::Fault(fault));
    }

    /// Has the first replica of `order` lead.
    pub(crate) fn lead(&mut self, tp: Tp, order: Vec<NodeId>) {
        let (topic, partition) = (topic_id(tp.topic), tp.index);
        let target = Some(order);
        let commands = vec![
            Command::Reassign { topic, partition, target },
            Command::ElectLeader { topic, partition, unclean: false },
        ];
        self.submit(Origin::Nobody, commands);
    }

    /// The old leader goes on sending to a follower that already follows the new one, from which it hears little; the new one counts on it, and
    /// loses its power.
    pub(crate) fn coup(&mut self, tp: Tp) {
        let Some((old, new, follower)) = self.cast(tp) else { return };
        let ms = self.rng.between(2_500, 4_000);
        for mute in [false, true] {
            self.later(0, Fault::CutQuorum { node: old, mute, ms });
        }
        let slow = self.rng.between(1_200, 1_700);
        self.later(slow, Fault::SlowLink { from: new, to: follower, ms: 1_200 });
        let at = self.rng.between(1_600, 2_400);
        let down_ms = self.rng.between(100, 900);
        self.later(at, Fault::PowerLoss { nodes: vec![new], down_ms });
    }

    /// What a follower acknowledged to a leader arrives when that one leads again, after both have truncated in between.
    pub(crate) fn relay(&mut self, tp: Tp) {
        let Some((leader, other, follower)) = self.cast(tp) else { return };
        let away = self.rng.between(100, 300);
        self.later(0, Fault::SlowLink { from: leader, to: other, ms: away });
        self.later(0, Fault::SlowLink { from: follower, to: leader, ms: away + 5 });
        self.later(away, Fault::Lead { tp, order: vec![other, leader, follower] });
        let reset = away + self.rng.between(5, 60);
        self.later(reset, Fault::Reset { from: leader, to: follower });
        let back = away + self.rng.between(50, 250);
        self.later(back, Fault::Lead { tp, order: vec![leader, follower, other] });
        self.later(back, Fault::SlowLink { from: leader, to: follower, ms: 900 });
        let at = back + self.rng.between(100, 900);
        let down_ms = self.rng.between(100, 900);
        self.later(at, Fault::PowerLoss { nodes: vec![leader], down_ms });
    }

    /// A follower that still follows the leader of two epochs ago hears of the epoch in between, whose leader does not know that it is over.
    pub(crate) fn straggler(&mut self, tp: Tp) {
        let Some((leader, other, follower)) = self.cast(tp) else { return };
        let by_ms = self.rng.between(1_900, 2_600);
        self.later(0, Fault::LateMetadata { node: follower, by_ms, ms: 4_500 });
        self.later(10, Fault::Lead { tp, order: vec![other, leader, follower] });
        let cut = self.rng.between(60, 200);
        for mute in [false, true] {
            self.later(cut, Fault::CutQuorum { node: other, mute, ms: 4_500 });
        }
        self.later(cut + 1_700, Fault::Reset { from: follower, to: leader });
        let at = by_ms + self.rng.between(50, 900);
        let down_ms = self.rng.between(100, 900);
        self.later(at, Fault::PowerLoss { nodes: vec![leader], down_ms });
    }
}
