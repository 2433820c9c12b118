//! The tool against a real broker: what a stall looks like, what counts, what is found, what is left alone.

#![allow(clippy::unwrap_used, reason = "that is how these tests fail")]

#[path = "end_to_end/broker.rs"]
mod broker;
#[path = "../src/message/stamp.rs"]
#[allow(dead_code, reason = "the tool uses what this test does not")]
mod stamp;

use broker::{Broker, bench, json};
use serde_json::Value;
use stamp::Stamp;
use std::time::{Duration, Instant};

fn latency<'a>(result: &'a Value, name: &str) -> &'a Value {
    &stream(result, name)["latency"]
}

fn stream<'a>(result: &'a Value, name: &str) -> &'a Value {
    let streams = result["streams"].as_array().unwrap();
    streams
        .iter()
        .find(|stream| stream["name"] == name)
        .unwrap_or_else(|| panic!("no stream {name} in {result}"))
}

/// Every sample is counted, none dropped: the histogram holds as many as were acknowledged.
fn assert_every_answer_is_a_sample(stream: &Value) {
    assert_eq!(stream["latency"]["count"], stream["counts"]["acknowledged"], "{stream}");
    assert_eq!(stream["messages"], stream["counts"]["acknowledged"], "{stream}");
}

/// A broker that is stopped for a second shows as about that second; the same second in the warm-up does not show at all.
#[test]
fn a_stopped_broker_shows_in_the_open_loop() {
    let broker = Broker::start();
    let args = [
        "produce",
        "--rate",
        "500",
        "--acks",
        "all",
        "--warmup",
        "4s",
        "--duration",
        "6s",
        "--partitions",
        "1",
    ];
    let run = broker.bench(&args);
    // The first stall is in the warm-up, at least 2 s before its end; the second one is at least 1 s after it.
    broker.wait_for_records(200);
    let first = broker.stall(Duration::from_secs(1));
    broker.wait_for_records(2_700);
    let second = broker.stall(Duration::from_secs(1));
    let (code, result) = json(run);
    assert_eq!(code, 0, "{result}");
    let stream = stream(&result, "produce");
    assert_every_answer_is_a_sample(stream);
    // 500 a second for 6 s, whatever happened: what is due is due. One more or less by how the clock falls.
    let messages = stream["messages"].as_u64().unwrap();
    assert!((2_999..=3_001).contains(&messages), "{messages} messages");
    let value = |name: &str| Duration::from_secs_f64(stream["latency"][name].as_f64().unwrap() / 1000.0);
    for quantile in ["p999_ms", "max_ms"] {
        let found = value(quantile);
        assert!(found >= second.mul_f64(0.9), "{quantile} {found:?} for a stall of {second:?}");
        // What came on top is the time to work off what had waited, on a machine that may be busy.
        assert!(found < second + Duration::from_secs(2), "{quantile} {found:?} for a stall of {second:?}");
    }
    // A sixth of the messages were due while nothing was answered, so the median knows nothing of it.
    assert!(value("p50_ms") < second / 2, "median {:?}", value("p50_ms"));
    // The warm-up is in the series, and its stall with it, but not in the counts.
    let series = stream["series"].as_array().unwrap();
    let warmup: Vec<_> = series.iter().filter(|second| second["second"].as_i64().unwrap() < 0).collect();
    let longest = warmup.iter().map(|second| second["max_ms"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(longest >= first.as_secs_f64() * 900.0, "{longest} ms in the warm-up for a stall of {first:?}");
    let whole = stream["whole_run"]["acknowledged"].as_u64().unwrap();
    assert!((4_999..=5_001).contains(&whole), "{whole} messages in the whole run");
}

/// A stall that lies in the warm-up does not show in the figures.
#[test]
fn the_warm_up_does_not_count() {
    let broker = Broker::start();
    let args = ["produce", "--rate", "500", "--warmup", "5s", "--duration", "1s", "--partitions", "1"];
    let run = broker.bench(&args);
    broker.wait_for_records(100);
    let stall = broker.stall(Duration::from_secs(2));
    let (code, result) = json(run);
    assert_eq!(code, 0, "{result}");
    let stream = stream(&result, "produce");
    assert_every_answer_is_a_sample(stream);
    let messages = stream["messages"].as_u64().unwrap();
    assert!((499..=501).contains(&messages), "{messages} messages");
    let longest = stream["latency"]["max_ms"].as_f64().unwrap();
    assert!(longest < stall.as_secs_f64() * 900.0, "{longest} ms, and {stall:?} in the warm-up");
}

/// Closed loop, queue and consumers count alike, and each is verified.
#[test]
fn every_load_counts_every_answer_once() {
    let broker = Broker::start();
    let short = ["--warmup", "500ms", "--duration", "1s", "--verify"];
    let loads: [&[&str]; 4] = [
        &["produce", "--acks", "1", "--clients", "3"],
        &[
            "produce",
            "--acks",
            "all",
            "--queue",
            "2000",
            "--linger",
            "5ms",
            "--compression",
            "zstd",
            "--payload",
            "ratio:3",
        ],
        &[
            "produce",
            "--acks",
            "all",
            "--idempotent",
            "--keys",
            "zipf:500",
            "--message-size",
            "uniform:64..2KiB",
        ],
        &["e2e", "--rate", "300", "--consumers", "2", "--acks", "all"],
    ];
    for load in loads {
        let (code, result) = json(broker.bench(&[load, &short].concat()));
        assert_eq!(code, 0, "{load:?}: {result}");
        for stream in result["streams"].as_array().unwrap() {
            assert_every_answer_is_a_sample(stream);
            assert!(stream["messages"].as_u64().unwrap() > 0, "{load:?}: {result}");
        }
        let verified = &result["verification"];
        assert_eq!(verified["passed"], true, "{load:?}: {verified}");
        assert_eq!(verified["acknowledged"], stream(&result, "produce")["whole_run"]["acknowledged"]);
        assert_eq!(result["schema"], "chronik-bench/1");
    }
    assert_eq!(broker.topics(), Vec::<String>::new(), "each run removes its topic");
    let mixed = ["mixed", "--share", "1=70", "--share", "-1=30", "--consumers", "2", "--groups", "2"];
    let (code, result) = json(broker.bench(&[&mixed[..], &short].concat()));
    assert_eq!(code, 0, "{result}");
    let sent: u64 =
        ["acks=1", "acks=all"].iter().map(|name| stream(&result, name)["messages"].as_u64().unwrap()).sum();
    for group in ["consume-1", "consume-2"] {
        assert_every_answer_is_a_sample(stream(&result, group));
        assert_eq!(stream(&result, group)["messages"].as_u64(), Some(sent), "{group}");
        assert!(latency(&result, group)["p50_ms"].as_f64().unwrap() > 0.0);
    }
}

/// What is acknowledged and then gone is found, and the exit code says so.
#[test]
fn a_lost_record_is_found() {
    let broker = Broker::start();
    let args = [
        "produce",
        "--topic",
        "victim",
        "--rate",
        "500",
        "--warmup",
        "0s",
        "--duration",
        "4s",
        "--partitions",
        "2",
        "--verify",
    ];
    let run = broker.bench(&args);
    broker.wait_for_records(500);
    let removed = broker.delete_records("victim", 2);
    let (code, result) = json(run);
    assert_eq!(code, 1, "{result}");
    let verified = &result["verification"];
    assert_eq!(verified["passed"], false);
    assert_eq!(verified["lost"].as_u64(), Some(removed), "{verified}");
    assert!(result["failures"][0].as_str().unwrap().contains("can't be read back"), "{result}");
    assert!(verified["examples"][0].as_str().unwrap().contains("is lost"), "{verified}");
    assert_eq!(broker.topics(), Vec::<String>::new(), "the topic is removed all the same");
}

/// Records that are corrupt, left out, doubled or somebody else's are told apart.
#[test]
fn consumers_find_what_is_wrong_with_what_they_read() {
    let broker = Broker::start();
    broker.create("damaged", 1);
    let mut values = Vec::new();
    for sequence in 0..100u64 {
        let mut value = vec![b'v'; 100];
        Stamp { run: 7, producer: 0, sequence, due_ns: 1 }.seal(&mut value);
        match sequence {
            10 => continue,
            20 => value[60] ^= 0x40,
            30 => values.push(value.clone()),
            _ => {}
        }
        values.push(value);
    }
    values.push(b"from somebody else".to_vec());
    broker.produce("damaged", &values);
    let messages = values.len().to_string();
    let args = ["consume", "--topic", "damaged", "--use-existing", "--messages", &messages];
    let (code, result) = json(broker.bench(&args));
    assert_eq!(code, 1, "{result}");
    let found = &stream(&result, "consume")["integrity"];
    for (name, count) in [
        ("checked", values.len() as u64),
        ("lost", 2),
        ("corrupt", 1),
        ("duplicated", 1),
        ("foreign", 1),
        ("reordered", 0),
    ] {
        assert_eq!(found[name].as_u64(), Some(count), "{name} of {found}");
    }
    assert_eq!(broker.topics(), ["damaged"], "a topic that was there stays");
}

/// A topic of others is neither written nor removed; one that is lent is written and stays.
#[test]
fn topics_of_others_are_left_alone() {
    let broker = Broker::start();
    broker.create("theirs", 1);
    broker.produce("theirs", &[b"precious".to_vec()]);
    let load = ["produce", "--topic", "theirs", "--warmup", "0s", "--duration", "200ms", "--rate", "100"];
    let (code, said) = broker.bench(&load).finish();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("theirs is there already") && said.contains("--use-existing"), "{said}");
    assert_eq!(broker.end_offset("theirs"), 1);

    let lent = [&load[..], &["--use-existing", "--verify"]].concat();
    let (code, result) = json(broker.bench(&lent));
    assert_eq!(code, 0, "{result}");
    assert_eq!(broker.end_offset("theirs"), 21);
    assert_eq!(broker.topics(), ["theirs"]);
}

/// Ctrl-C: what there is is printed, and the topic is removed.
#[test]
fn an_interrupted_run_prints_what_it_has_and_removes_its_topic() {
    let broker = Broker::start();
    let run = broker.bench(&["produce", "--rate", "500", "--warmup", "0s", "--duration", "300s", "--verify"]);
    broker.wait_for_records(300);
    let started = Instant::now();
    run.signal("INT");
    let (code, result) = json(run);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!((code, &result["interrupted"]), (0, &Value::Bool(true)), "{result}");
    assert!(stream(&result, "produce")["messages"].as_u64().unwrap() >= 100, "{result}");
    assert_every_answer_is_a_sample(stream(&result, "produce"));
    assert_eq!(broker.topics(), Vec::<String>::new());
}

/// What can't be is refused with exit code 2, a sentence that says why, and nothing on standard output.
#[test]
fn bad_use_is_refused_with_its_reason() {
    let broker = Broker::start();
    for (args, reason) in [
        (&["produce", "--topic", "absent", "--use-existing"][..], "there is no topic absent"),
        (&["produce", "--message-size", "20", "--verify"], "at least 36 bytes"),
        (&["produce", "--message-size", "2MiB"], "max.message.bytes"),
        (&["produce", "--acks", "0", "--verify"], "acks=0 promises nothing"),
        (&["produce", "--idempotent"], "--acks all"),
        (&["produce", "--transactional"], "--acks all"),
        (&["produce", "--rate", "5", "--queue"], "cannot be used with"),
        (&["produce", "--rate=-1"], "--rate -1"),
        (&["produce", "--duration", "0s"], "must last"),
        (&["produce", "--duration", "soon"], "30s, 500ms"),
        (&["produce", "--clients", "200"], "--concurrency 128 is less than --clients 200"),
        (&["produce", "--replication-factor", "3"], "--replication-factor"),
        (&["produce", "--topic-config", "no.such=1"], "--topic-config"),
        (&["produce", "--payload", "file:/no/such/file"], "/no/such/file"),
        (&["produce", "-X", "no.such.setting=1"], "no.such.setting"),
        (&["produce", "--server-pids", "4294967294"], "4294967294"),
        (&["consume", "--from", "tail"], "--rate"),
        (&["consume", "--rate", "5"], "--from tail"),
        (&["mixed", "--share", "1=50", "--share", "1=50"], "once"),
        (&["saturate", "--factor", "1"], "--factor"),
    ] {
        let (code, said) = broker.bench(args).finish();
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(reason), "{args:?}: \"{reason}\" is missing in: {said}");
        assert!(said.lines().all(|line| !line.starts_with('{')), "{args:?} printed a result: {said}");
    }
    let (code, said) = bench(&["produce", "--bootstrap-server", "127.0.0.1:1", "--no-disk-probe"]).finish();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("refused"), "{said}");
    assert_eq!(broker.topics(), Vec::<String>::new(), "a refused run leaves no topic");
}

/// The knee of a broker that is throttled by nothing is found, and its steps make a curve.
#[test]
fn saturation_tries_rates_until_the_limit() {
    let broker = Broker::start();
    let args = [
        "saturate",
        "--start-rate",
        "200",
        "--highest-rate",
        "400",
        "--p99-limit",
        "60s",
        "--warmup",
        "100ms",
        "--duration",
        "500ms",
        "--verify",
    ];
    let (code, result) = json(broker.bench(&args));
    assert_eq!(code, 0, "{result}");
    let steps = result["saturation"]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["target_rate"], 200.0);
    assert_eq!(result["verification"]["passed"], true);
    // With a limit of a microsecond nothing is within.
    let args = [
        "saturate",
        "--start-rate",
        "200",
        "--p99-limit",
        "1us",
        "--warmup",
        "0s",
        "--duration",
        "200ms",
        "--refine",
        "1",
    ];
    let (_, result) = json(broker.bench(&args));
    assert!(result["saturation"].get("knee_messages_per_second").is_none(), "{result}");
    assert_eq!(result["saturation"]["steps"].as_array().unwrap().len(), 2);
}
