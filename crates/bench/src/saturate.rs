//! `saturate`: latency over load. The rate rises until p99 passes the limit; the knee is then looked for between the
//! last rate that kept it and the first that did not.

use crate::args::SaturateArgs;
use crate::interrupt;
use crate::ledger::Acknowledged;
use crate::producers::Pace;
use crate::result::{Saturation, SaturationStep, Stream};
use crate::scenario::{self, Found};
use crate::session::{self, Session};
use anyhow::{Result, bail};

/// A rate counts as reached if so much of it was acknowledged in the measured time.
const REACHED: f64 = 0.98;

/// The next rate to try, from what was found so far.
struct Search {
    lowest: f64,
    highest: f64,
    factor: f64,
    refine: u32,
    good: Option<f64>,
    bad: Option<f64>,
}

impl Search {
    fn new(args: &SaturateArgs) -> Self {
        Self {
            lowest: args.start_rate,
            highest: args.highest_rate,
            factor: args.factor,
            refine: args.refine,
            good: None,
            bad: None,
        }
    }

    fn next(&mut self) -> Option<f64> {
        match (self.good, self.bad) {
            (None, None) => Some(self.lowest),
            (Some(good), None) => (good < self.highest).then(|| (good * self.factor).min(self.highest)),
            // Even the first rate is too much: down once more, to have a point of the curve.
            (good, Some(bad)) => {
                self.refine = self.refine.checked_sub(1)?;
                Some((good.unwrap_or(0.0) + bad) / 2.0)
            }
        }
    }

    fn found(&mut self, rate: f64, within: bool) {
        if within {
            self.good = Some(self.good.map_or(rate, |good| good.max(rate)));
        } else {
            self.bad = Some(self.bad.map_or(rate, |bad| bad.min(rate)));
        }
    }
}

/// Runs the steps; false when something was lost, corrupt or failed.
pub fn run(args: &SaturateArgs) -> Result<bool> {
    session::check(&args.content, &args.sending, &[args.acks], Some(args.start_rate), args.verify)?;
    session::check_duration(args.duration.0)?;
    if !(args.factor > 1.0 && args.factor <= 100.0) {
        bail!("--factor {}: a number above 1 (up to 100) is wanted", args.factor);
    }
    if args.highest_rate < args.start_rate {
        bail!("--highest-rate {} is below --start-rate {}", args.highest_rate, args.start_rate);
    }
    let mut session = Session::begin("saturate", args, &args.target, &args.output, args.warmup.0)?;
    session.require(args.verify, false, &args.content)?;
    let limit_ms = args.p99_limit.0.as_secs_f64() * 1000.0;
    let mut saturation = Saturation { p99_limit_ms: limit_ms, ..Saturation::default() };
    let mut search = Search::new(args);
    let mut best: Option<(f64, Found)> = None;
    let mut last = Found::default();
    let mut acknowledged = Acknowledged::default();
    let (mut first_producer, mut interrupted) = (0, false);
    let mut failures = Vec::new();
    while let Some(rate) = search.next().filter(|_| !interrupt::requested()) {
        let pace = Pace::Rate(rate);
        let load =
            session.load(&args.content, &args.sending, args.acks, pace, first_producer, args.verify)?;
        // Each step has producers of its own, so that what it left unanswered burdens no other.
        first_producer += args.sending.clients;
        let mut scenario = session.scenario(&format!("{rate:.0}/s"), args.warmup.0, args.duration.0);
        scenario.loads.push(("produce".to_owned(), args.acks, load));
        let mut found = scenario::run(&scenario, &session.topic)?;
        acknowledged.merge(&std::mem::take(&mut found.acknowledged));
        interrupted |= found.interrupted;
        if found.interrupted {
            break;
        }
        let Some(stream) = found.streams.first() else { bail!("a step found nothing") };
        let step = step(rate, stream, limit_ms, found.server_cpu_us_per_message);
        let within = step.within;
        crate::print::step(&step);
        search.found(rate, within);
        saturation.steps.push(step);
        // Beyond saturation messages time out; that says where the knee is, and is no fault. Below, it is one.
        failures.extend(if within { std::mem::take(&mut found.failures) } else { Vec::new() });
        if within && best.as_ref().is_none_or(|(before, _)| rate > *before) {
            best = Some((rate, found));
        } else {
            last = found;
        }
    }
    saturation.knee_messages_per_second = best.as_ref().map(|(rate, _)| *rate);
    let mut found = match best {
        Some((_, found)) => found,
        None => Found { streams: Vec::new(), ..last },
    };
    if saturation.knee_messages_per_second.is_none() {
        found.warnings.push(format!(
            "no rate kept p99 within {}; the lowest that was tried is {:.0} messages a second",
            args.p99_limit,
            saturation.steps.iter().map(|step| step.target_rate).fold(f64::MAX, f64::min)
        ));
    } else if search.bad.is_none() && !interrupted {
        found.warnings.push(format!(
            "every rate up to {:.0} kept the limit: this is where the tool stopped (--highest-rate), not the knee",
            args.highest_rate
        ));
    }
    found.failures = failures;
    found.interrupted = interrupted;
    found.acknowledged = acknowledged;
    session.result().saturation = Some(saturation);
    session.finish(found, args.verify, args.sending.idempotent)
}

fn step(rate: f64, stream: &Stream, limit_ms: f64, cpu: Option<f64>) -> SaturationStep {
    let latency = stream.latency.clone().unwrap_or_default();
    let failed = stream.counts.failed + stream.counts.unsent;
    let reached = stream.messages_per_second >= rate * REACHED;
    SaturationStep {
        target_rate: rate,
        messages_per_second: stream.messages_per_second,
        within: latency.count > 0 && latency.p99_ms <= limit_ms && reached && failed == 0,
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        p999_ms: latency.p999_ms,
        max_ms: latency.max_ms,
        failed,
        histogram: latency.histogram,
        server_cpu_us_per_message: cpu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The knee that is found where everything up to `limit` is fine, and how many rates were tried.
    fn find(limit: f64, refine: u32) -> (Option<f64>, usize) {
        let mut search =
            Search { lowest: 1000.0, highest: 1_000_000.0, factor: 2.0, refine, good: None, bad: None };
        let mut tried = 0;
        while let Some(rate) = search.next() {
            tried += 1;
            assert!(tried < 100);
            search.found(rate, rate <= limit);
        }
        (search.good, tried)
    }

    #[test]
    fn the_knee_is_approached_from_both_sides() {
        let (knee, tried) = find(50_000.0, 4);
        assert!((48_000.0..=50_000.0).contains(&knee.unwrap()), "{knee:?}");
        // 1, 2, 4 … 64 thousand, and four in between.
        assert_eq!(tried, 7 + 4);
        assert_eq!(find(50_000.0, 0), (Some(32_000.0), 7));
    }

    #[test]
    fn the_search_ends_where_nothing_or_everything_is_within() {
        assert_eq!(find(0.0, 4), (None, 5));
        assert_eq!(find(f64::MAX, 4).0, Some(1_000_000.0));
    }

    #[test]
    fn a_step_is_within_only_if_rate_latency_and_answers_are_right() {
        let good = Stream {
            messages_per_second: 995.0,
            latency: Some(crate::result::Latency { count: 10, p99_ms: 9.0, ..Default::default() }),
            ..Stream::default()
        };
        assert!(step(1000.0, &good, 10.0, None).within);
        assert!(!step(1000.0, &good, 8.0, None).within, "too slow");
        assert!(!step(2000.0, &good, 10.0, None).within, "rate not reached");
        let mut failed = good.clone();
        failed.counts.unsent = 1;
        assert!(!step(1000.0, &failed, 10.0, None).within, "not all sent");
    }
}
