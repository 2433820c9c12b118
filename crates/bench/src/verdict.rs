//! What the figures of a run mean: failures, which make the exit code 1, and warnings, which a reader must know.

use crate::result::{Integrity, MetricsDelta, ProcessUse, Stream, Verification};
use crate::scenario::Found;

/// A thread of the client that is busier than this could hardly have done more.
const BUSY_THREAD: f64 = 0.9;
/// A machine that idles less than this has nothing left.
const IDLE: f64 = 0.05;
/// A sender that is behind its schedule by more at the 99th percentile does not keep the rate.
const LAG_MS: f64 = 5.0;
/// From this part of its own ceiling on, the generator may be what is measured.
const NEAR_CEILING: f64 = 0.8;

/// Messages that the servers' CPU time is divided by: those of the producers, else those that were read.
pub fn messages(streams: &[Stream]) -> u64 {
    let of =
        |kind: &str| streams.iter().filter(|stream| stream.kind == kind).map(|stream| stream.messages).sum();
    match of("produce") {
        0 => of("consume"),
        produced => produced,
    }
}

/// CPU time of all servers for each message, in microseconds.
pub fn cpu_per_message(servers: &[ProcessUse], metrics: &[MetricsDelta], messages: u64) -> Option<f64> {
    let seconds: f64 = if servers.is_empty() {
        let known: Vec<f64> = metrics.iter().filter_map(|delta| delta.cpu_seconds).collect();
        (!known.is_empty()).then(|| known.iter().sum())?
    } else {
        servers.iter().map(|server| server.cpu_seconds).sum()
    };
    (messages > 0).then(|| seconds * 1e6 / messages as f64)
}

/// Failures of what a group received.
pub fn of_integrity(name: &str, found: &Integrity) -> Vec<String> {
    [(found.lost, "lost"), (found.corrupt, "corrupt")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{name}: {} {what}", of_messages(count)))
        .collect()
}

/// Failures of what was read back.
pub fn of_verification(found: &Verification) -> Vec<String> {
    let mut failures = Vec::new();
    if found.lost > 0 {
        failures.push(format!(
            "{} of {} acknowledged messages can't be read back whole",
            found.lost, found.acknowledged
        ));
    }
    if found.corrupt > 0 {
        failures.push(format!("{} corrupt when read back", of_messages(found.corrupt)));
    }
    failures
}

/// Failed and unsent messages of the loads.
pub fn judge_loads(found: &mut Found) {
    for stream in found.streams.iter().filter(|stream| stream.kind == "produce") {
        if stream.whole_run.failed > 0 {
            let reasons: Vec<String> = stream
                .errors
                .iter()
                .map(|(reason, count)| format!("{count} × {reason}{}", hint(reason)))
                .collect();
            found.failures.push(format!(
                "{}: {} failed: {}",
                stream.name,
                of_messages(stream.whole_run.failed),
                reasons.join("; ")
            ));
        }
        if stream.whole_run.acknowledged == 0 {
            found.failures.push(format!("{}: no message was acknowledged", stream.name));
        }
        if stream.counts.unsent > 0 {
            found.warnings.push(format!(
                "{}: {} due and never sent, because the queue stayed full: the broker does not take {:.0} messages a second",
                stream.name,
                were(stream.counts.unsent),
                stream.target_rate.unwrap_or_default()
            ));
        }
        if stream.acks == "0" {
            found.warnings.push(format!(
                "{}: acks=0 asks for no answer; \"acknowledged\" means handed to the socket, and so do latencies",
                stream.name
            ));
        }
    }
}

/// Was the client the bottleneck?
pub fn judge_client(found: &mut Found, idle: Option<f64>, measured: bool) {
    if !measured {
        found.warnings.push("the run ended in its warm-up: nothing was measured".to_owned());
        return;
    }
    let client = &found.client;
    if let Some(share) = client.busiest_thread.filter(|share| *share >= BUSY_THREAD) {
        found.warnings.push(format!(
            "THE CLIENT WAS THE BOTTLENECK: one of its threads used {:.0} % of a core; try more --clients",
            share * 100.0
        ));
    }
    if let Some(idle) = idle.filter(|idle| *idle < IDLE) {
        found.warnings.push(format!(
            "this machine was busy all the time ({:.0} % idle), {:.2} cores with this tool: more could not show",
            idle * 100.0,
            client.cores_busy
        ));
    }
    for stream in &found.streams {
        if let Some(lag) = stream.sender_lag_p99_ms.filter(|lag| *lag > LAG_MS) {
            found.warnings.push(format!(
                "{}: the client did not keep its own schedule: one message in a hundred was sent {lag:.1} ms late or \
                 more although the queue took it (counted in its latency)",
                stream.name
            ));
        }
    }
}

/// A warning when the result is near what the tool itself can do.
pub fn near_ceiling(streams: &[Stream], ceiling: Option<f64>) -> Option<String> {
    let rate: f64 = streams
        .iter()
        .filter(|stream| stream.kind == "produce")
        .map(|stream| stream.messages_per_second)
        .sum();
    let ceiling = ceiling.filter(|ceiling| rate > ceiling * NEAR_CEILING)?;
    Some(format!(
        "{rate:.0} messages a second are {:.0} % of what this tool reaches itself ({ceiling:.0}): the client may be the bottleneck",
        rate / ceiling * 100.0
    ))
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("MessageSizeTooLarge") {
        " (the broker's or topic's max.message.bytes is smaller: --topic-config max.message.bytes=…)"
    } else if reason.contains("NotEnoughReplicas") {
        " (fewer replicas in sync than the topic's min.insync.replicas)"
    } else if reason.contains("MessageTimedOut") {
        " (the broker did not answer in time)"
    } else {
        ""
    }
}

fn of_messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

fn were(count: u64) -> String {
    if count == 1 { "1 message was".to_owned() } else { format!("{count} messages were") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_client_a_full_machine_and_a_late_sender_are_named() {
        let mut found = Found::default();
        found.client.busiest_thread = Some(0.97);
        found.streams.push(Stream {
            name: "x".to_owned(),
            sender_lag_p99_ms: Some(7.0),
            ..Stream::default()
        });
        judge_client(&mut found, Some(0.01), true);
        let all = found.warnings.join("\n");
        assert_eq!(found.warnings.len(), 3, "{all}");
        assert!(all.contains("THE CLIENT WAS THE BOTTLENECK") && all.contains("7.0 ms late"), "{all}");
        let mut idle = Found::default();
        judge_client(&mut idle, Some(0.5), true);
        assert!(idle.warnings.is_empty());
    }

    #[test]
    fn what_failed_is_named_with_its_reason() {
        let mut found = Found::default();
        let mut stream =
            Stream { name: "produce".to_owned(), kind: "produce".to_owned(), ..Stream::default() };
        stream.whole_run.failed = 2;
        stream.errors.insert("MessageSizeTooLarge (Broker: Message size too large)".to_owned(), 2);
        found.streams.push(stream);
        judge_loads(&mut found);
        assert!(
            found.failures[0].contains("2 messages failed: 2 × MessageSizeTooLarge"),
            "{:?}",
            found.failures
        );
        assert!(found.failures[0].contains("max.message.bytes"));
        assert!(found.failures[1].contains("no message was acknowledged"));
    }

    #[test]
    fn cpu_is_divided_by_what_was_produced_else_by_what_was_read() {
        let stream = |kind: &str, messages| Stream { kind: kind.to_owned(), messages, ..Stream::default() };
        assert_eq!(messages(&[stream("produce", 5), stream("e2e", 9)]), 5);
        assert_eq!(messages(&[stream("consume", 9)]), 9);
        let server = ProcessUse { cpu_seconds: 2.0, ..ProcessUse::default() };
        assert_eq!(cpu_per_message(&[server], &[], 1_000_000), Some(2.0));
        assert_eq!(cpu_per_message(&[], &[], 5), None);
        let metrics = MetricsDelta { cpu_seconds: Some(1.0), ..MetricsDelta::default() };
        assert_eq!(cpu_per_message(&[], &[metrics], 1_000_000), Some(1.0));
    }

    #[test]
    fn a_result_near_the_generators_ceiling_is_marked() {
        let stream = Stream { kind: "produce".to_owned(), messages_per_second: 90.0, ..Stream::default() };
        assert!(near_ceiling(std::slice::from_ref(&stream), Some(100.0)).is_some());
        assert!(near_ceiling(std::slice::from_ref(&stream), Some(1000.0)).is_none());
        assert!(near_ceiling(&[stream], None).is_none());
    }
}
