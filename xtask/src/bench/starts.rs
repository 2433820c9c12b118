//! How soon a server takes writes: empty, and after `kill -9` with much data.

use super::Plan;
use super::generator::{Generator, first_write_at};
use super::servers::{Server, Side};
use crate::shell;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

const PARTITIONS: u32 = 1000;
/// Times 4 KiB: 5 GB.
const MESSAGES: u64 = 1_250_000;

/// Milliseconds from the start of the process to the first acknowledged write, by server, one for each round.
#[derive(Serialize, Default)]
pub struct Starts(pub BTreeMap<&'static str, Vec<f64>>);

/// Starts on an empty directory; the client makes a topic and writes to it.
pub fn empty(generator: &Generator, servers: &mut [Box<dyn Server>], plan: &Plan) -> Result<Starts> {
    shell::step("start to the first acknowledged write, empty");
    let mut starts = Starts::default();
    for round in 1..=plan.rounds {
        for server in servers.iter_mut().filter(|server| server.side() != Side::Floor) {
            let client = generator.first_write(&server.bootstrap(), "first", 1)?;
            let started = server.start_empty()?;
            starts.add(round, server.name(), first_write_at(client)?.acknowledged_epoch_ms - started);
            server.stop()?;
        }
    }
    Ok(starts)
}

/// Fills 1,000 partitions with 5 GB, kills the server, starts it again, and writes to what is there.
pub fn after_kill(generator: &Generator, servers: &mut [Box<dyn Server>], plan: &Plan) -> Result<Starts> {
    shell::step("start after kill -9 with 1,000 partitions and 5 GB");
    let messages = if plan.quick { MESSAGES / 50 } else { MESSAGES };
    let mut starts = Starts::default();
    for server in servers.iter_mut().filter(|server| server.side() != Side::Floor) {
        server.start_empty()?;
        generator.fill(server.as_ref(), "many", PARTITIONS, messages)?;
        for round in 1..=plan.rounds {
            server.kill()?;
            let client = generator.first_write(&server.bootstrap(), "many", PARTITIONS)?;
            let started = server.start_again()?;
            starts.add(round, server.name(), first_write_at(client)?.acknowledged_epoch_ms - started);
            // So that there is something to recover in the next round too.
            generator.fill_more(server.as_ref(), "many", PARTITIONS, messages / 20)?;
        }
        server.stop()?;
    }
    Ok(starts)
}

impl Starts {
    fn add(&mut self, round: u32, server: &'static str, ms: f64) {
        eprintln!("    round {round} {server:12} {ms:>9.1} ms");
        self.0.entry(server).or_default().push(ms);
    }
}
