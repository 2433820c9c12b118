//! Random histories of a cluster: brokers that come, die, stop and are wiped, leaders that propose in-sync sets on what they know so far,
//! reassignments, elections, settings. After each command the image must hold together; and no record that was acknowledged may be missing on
//! a leader that was elected cleanly, whatever nodes had not heard yet.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use common::world::World;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_by_a_clean_election(
        steps in prop::collection::vec((0u32..1000, any::<u64>()), 0..600)
    ) {
        let mut world = World::default();
        for (kind, random) in steps {
            world.step(kind, random);
        }
        world.check_copies();
    }
}

/// The histories would prove little if commands were refused, nobody acknowledged, or nobody was elected from where it matters.
#[test]
fn histories_reach_what_they_are_about() {
    let mut world = World::default();
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    for _ in 0..60_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        world.step((random >> 32) as u32 % 1000, random);
    }
    println!("{:?}", world.seen);
    let seen = &world.seen;
    for (what, count) in [
        ("acknowledged", seen.acknowledged),
        ("elected from the ISR", seen.from_isr),
        ("elected from the eligible", seen.from_eligible),
        ("unclean", seen.unclean),
        ("moved", seen.moved),
        ("moves taken back", seen.taken_back),
        ("proposals accepted", seen.accepted),
        ("proposals refused", seen.refused),
        ("wiped to nothing", seen.wiped_to_nothing),
        ("acknowledged by one who was deposed", seen.acknowledged_deposed),
    ] {
        assert!(count > 10, "{what}: {count}");
    }
}
