//! `e2e` and `mixed`: producers and groups of consumers at once.

use crate::args::{Acks, E2eArgs, MixedArgs, Readers};
use crate::producers::Pace;
use crate::readers::ReadSpec;
use crate::scenario::{self, Scenario};
use crate::session::{self, Session};
use anyhow::{Result, bail};

/// Measures from when a message should have been sent to its receipt.
pub fn e2e(args: &E2eArgs) -> Result<bool> {
    let timing = &args.timing;
    session::check(&args.content, &args.sending, &[args.acks], Some(args.rate), true)?;
    session::check_duration(timing.duration.0)?;
    let session = Session::begin("e2e", args, &args.target, &args.output, timing.warmup.0)?;
    session.require(true, false, &args.content)?;
    let load = session.load(&args.content, &args.sending, args.acks, Pace::Rate(args.rate), 0, true)?;
    let mut scenario = session.scenario("e2e", timing.warmup.0, timing.duration.0);
    scenario.loads.push(("produce".to_owned(), args.acks, load));
    read_along(&mut scenario, &session, &args.readers, "e2e");
    let found = scenario::run(&scenario, &session.topic)?;
    session.finish(found, timing.verify, args.sending.idempotent)
}

/// Adds groups that read the tail.
pub fn read_along(scenario: &mut Scenario, session: &Session, readers: &Readers, name: &str) {
    for group in 1..=readers.groups {
        let name = if readers.groups == 1 { name.to_owned() } else { format!("{name}-{group}") };
        let spec = ReadSpec {
            members: readers.consumers as usize,
            group: !readers.no_group,
            tail: true,
            config: session.reader_config(),
            run: session.run,
            old: false,
        };
        scenario.groups.push((name, spec));
    }
}

/// Runs shares of acknowledgements and consumers at once.
pub fn mixed(args: &MixedArgs) -> Result<bool> {
    let timing = &args.timing;
    let acks: Vec<Acks> = args.shares.iter().map(|share| share.acks).collect();
    let checked = timing.verify || !args.no_consumers;
    session::check(&args.content, &args.sending, &acks, args.rate, checked)?;
    session::check_duration(timing.duration.0)?;
    if args
        .shares
        .iter()
        .enumerate()
        .any(|(at, share)| acks.iter().take(at).any(|earlier| *earlier == share.acks))
    {
        bail!("--share: each kind of acknowledgement can stand once");
    }
    let parts: u64 = args.shares.iter().map(|share| u64::from(share.part)).sum();
    let session = Session::begin("mixed", args, &args.target, &args.output, timing.warmup.0)?;
    session.require(checked, false, &args.content)?;
    let mut scenario = session.scenario("mixed", timing.warmup.0, timing.duration.0);
    let mut first_producer = 0;
    for share in &args.shares {
        let part = f64::from(share.part) / parts.max(1) as f64;
        let clients = ((f64::from(args.sending.clients) * part).round() as u32).max(1);
        let pace = match args.rate {
            Some(rate) => Pace::Rate(rate * part),
            None => {
                let concurrency = (f64::from(args.sending.concurrency) * part).round() as usize;
                Pace::Closed(concurrency.max(clients as usize))
            }
        };
        let sending = crate::args::Sending { clients, ..args.sending.clone() };
        let load = session.load(&args.content, &sending, share.acks, pace, first_producer, checked)?;
        first_producer += clients;
        scenario.loads.push((format!("acks={}", share.acks.name()), share.acks, load));
    }
    if !args.no_consumers {
        read_along(&mut scenario, &session, &args.readers, "consume");
    }
    let found = scenario::run(&scenario, &session.topic)?;
    session.finish(found, timing.verify, args.sending.idempotent)
}
