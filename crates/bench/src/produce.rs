//! `produce`: one load.

use crate::args::{Acks, ProduceArgs};
use crate::producers::Pace;
use crate::scenario;
use crate::session::{self, Session};
use anyhow::{Result, bail};

/// Runs the load; false when something was lost, corrupt or failed.
pub fn run(args: &ProduceArgs) -> Result<bool> {
    let timing = &args.timing;
    session::check(&args.content, &args.sending, &[args.acks], args.rate, timing.verify)?;
    session::check_duration(timing.duration.0)?;
    let pace = match (args.rate, args.queue) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, Some(_)) => Pace::Queue,
        (None, None) if args.transactional => Pace::Transactions(args.transaction_size as usize),
        (None, None) => Pace::Closed(args.sending.concurrency as usize),
    };
    if args.transactional && args.acks != Acks::All {
        bail!("--transactional needs acks=all (KIP-98): add --acks all");
    }
    let mut session = Session::begin("produce", args, &args.target, &args.output, timing.warmup.0)?;
    session.require(timing.verify, args.transactional, &args.content)?;
    let mut load = session.load(&args.content, &args.sending, args.acks, pace, 0, timing.verify)?;
    if let Some(queue) = args.queue {
        load.config.set("queue.buffering.max.messages", queue.to_string());
    }
    let mut scenario = session.scenario("produce", timing.warmup.0, timing.duration.0);
    scenario.loads.push(("produce".to_owned(), args.acks, load));
    let found = scenario::run(&scenario, &session.topic)?;
    session.result().interrupted = found.interrupted;
    session.finish(found, timing.verify, args.sending.idempotent || args.transactional)
}
