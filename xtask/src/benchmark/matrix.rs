//! What is measured: the sections of the report and their rows.

use std::fmt::Display;

/// What is started for a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// One node of each server.
    Standalone,
    /// Two `chronik raft-cluster`.
    TwoNodes,
    /// Three nodes of each server.
    ThreeNodes,
    /// `chronik standalone` with two followers.
    Followers,
}

/// In the order in which they are measured, with or without the sweeps: what is compared first comes first, so that a run that is cut
/// short has it.
pub const TURNS: [(Setup, bool); 5] = [
    (Setup::Standalone, false),
    (Setup::ThreeNodes, false),
    (Setup::TwoNodes, false),
    (Setup::Followers, false),
    (Setup::Standalone, true),
];

/// How a row is measured.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// One run of chronik-bench.
    Load,
    /// The same, while a node is killed with `kill -9`; leaders are spread over all of them.
    Killed,
    /// The same at a part of the rate that a saturation row found.
    PartOf {
        /// That row.
        saturation: &'static str,
        /// The part, in percent.
        percent: u32,
    },
    /// From the start of the process to the first acknowledged write.
    Start,
    /// Resident memory of a server that has nothing to do.
    Idle,
    /// The longest wait of a message while one node after the other is killed.
    Failover,
    /// A follower that lost its data comes back.
    CatchUp,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub title: String,
    pub setup: Setup,
    pub kind: Kind,
    /// Command and options of chronik-bench.
    pub arguments: Vec<String>,
    /// Which sides take part.
    pub sides: &'static [&'static str],
    /// True for what `--quick` measures too.
    pub quick: bool,
    /// One of many sizes of the same thing.
    pub sweep: bool,
    /// Its place on the section's x axis.
    pub x: Option<f64>,
    /// Drawn second by second.
    pub over_time: bool,
    /// Figures of the first report, if it had this row.
    pub reference: Option<Reference>,
}

/// What the first report said.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    pub messages_per_second: &'static str,
    pub latency_ms: &'static [f64],
    pub remark: &'static str,
}

/// Rows that belong together.
pub struct Section {
    pub title: &'static str,
    pub text: &'static [&'static str],
    pub x_title: Option<&'static str>,
    pub rows: Vec<Row>,
}

const BOTH: &[&str] = &["chronik", "kafka"];
const OURS: &[&str] = &["chronik"];
const WITH_FLOOR: &[&str] = &["chronik", "kafka", "floor"];
const WITH_FLUSHED_FLOOR: &[&str] = &["chronik", "kafka", "floor-flush"];

const FIRST_STANDALONE_1: Reference = Reference {
    messages_per_second: "53,227",
    latency_ms: &[1.95, 5.34, 10.49, 19.15],
    remark: "another machine",
};
const FIRST_STANDALONE_ALL: Reference = Reference {
    messages_per_second: "46,130",
    latency_ms: &[1.97, 15.51, 28.51, 87.87],
    remark: "another machine",
};
const FIRST_TWO_1: Reference = Reference {
    messages_per_second: "53,411",
    latency_ms: &[1.94, 5.32, 11.78, 25.18],
    remark: "another machine",
};
const FIRST_TWO_ALL: Reference =
    Reference { messages_per_second: "about 10", latency_ms: &[], remark: "another machine; failed" };
const FIRST_NEVER: Reference =
    Reference { messages_per_second: "never run", latency_ms: &[], remark: "another machine" };

/// Everything, in the order of the report.
pub fn sections() -> Vec<Section> {
    let mut sections = vec![closed_standalone(), closed_two(), closed_three(), closed_followers(), mixed()];
    sections.extend([consumers(), consumers_cluster(), saturation(), end_to_end()]);
    sections.extend([sizes(), compressions(), partitions(), connections(), faults(), starts()]);
    sections
}

fn row(setup: Setup, name: impl Display, title: impl Display, arguments: &str) -> Row {
    Row {
        name: name.to_string(),
        title: title.to_string(),
        setup,
        kind: Kind::Load,
        arguments: arguments.split_ascii_whitespace().map(str::to_owned).collect(),
        sides: if matches!(setup, Setup::TwoNodes | Setup::Followers) { OURS } else { BOTH },
        quick: true,
        sweep: false,
        x: None,
        over_time: false,
        reference: None,
    }
}

/// A closed loop with each kind of answer, linger 0 and 1 ms.
fn closed(setup: Setup, prefix: &str, acks: &[(&str, Option<Reference>)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (acks, reference) in acks {
        for linger in [0, 1] {
            let arguments = format!("produce --acks {acks} --linger {linger}ms --verify");
            let name = format!("{prefix}-acks-{acks}-linger-{linger}");
            let made = row(setup, name, format!("acks={acks}, linger {linger} ms"), &arguments);
            rows.push(Row { reference: *reference, ..made });
        }
    }
    rows
}

fn closed_standalone() -> Section {
    let acks = [("1", Some(FIRST_STANDALONE_1)), ("all", Some(FIRST_STANDALONE_ALL))];
    let mut rows = closed(Setup::Standalone, "standalone", &acks);
    for row in &mut rows {
        row.sides = if row.name.contains("acks-all") { WITH_FLUSHED_FLOOR } else { WITH_FLOOR };
    }
    Section {
        title: "Standalone, closed loop",
        text: &[
            "128 messages of 256 bytes wait for their answer at any time; six partitions, one client. `acks=-1` is `acks=all`. The floor is the least that a \
             server can do for a produce: frame, checksum, append, (flush,) answer.",
        ],
        x_title: None,
        rows,
    }
}

fn closed_two() -> Section {
    Section {
        title: "Two nodes, closed loop",
        text: &[
            "The same with replication factor 2. Apache Kafka is not in it: the scripts that start it here start one node or three.",
        ],
        x_title: None,
        rows: closed(Setup::TwoNodes, "two", &[("1", Some(FIRST_TWO_1)), ("all", Some(FIRST_TWO_ALL))]),
    }
}

fn closed_three() -> Section {
    Section {
        title: "Three nodes, closed loop",
        text: &["The same with replication factor 3 and `min.insync.replicas=2` on both."],
        x_title: None,
        rows: closed(Setup::ThreeNodes, "three", &[("1", Some(FIRST_NEVER)), ("all", Some(FIRST_NEVER))]),
    }
}

fn closed_followers() -> Section {
    Section {
        title: "Standalone with two followers, closed loop",
        text: &["The same with replication factor 3, where one node alone decides on the metadata."],
        x_title: None,
        rows: closed(Setup::Followers, "followers", &[("all", Some(FIRST_NEVER))]),
    }
}

fn mixed() -> Section {
    let arguments = "mixed --share 1=50 --share all=50 --no-consumers --linger 1ms --verify";
    let mixed = |setup, name, title| Row {
        reference: Some(FIRST_NEVER),
        ..row(setup, format!("mixed-{name}"), title, arguments)
    };
    Section {
        title: "Mixed acks=1 and acks=all",
        text: &[
            "Half of 128 messages wait for `acks=1`, half for `acks=all`, at the same time on the same topic, linger 1 ms.",
        ],
        x_title: None,
        rows: vec![
            mixed(Setup::Standalone, "standalone", "standalone"),
            mixed(Setup::ThreeNodes, "three", "three nodes"),
        ],
    }
}

fn many(consumers: u32) -> String {
    format!("{consumers} consumer{}", if consumers == 1 { "" } else { "s" })
}

fn consumers() -> Section {
    let mut rows = Vec::new();
    for count in [1, 3, 8] {
        let arguments = format!("consume --partitions 8 --consumers {count} --cache both");
        let name = format!("consume-{count}");
        let made = row(Setup::Standalone, name, format!("{}, from the start", many(count)), &arguments);
        rows.push(Row { quick: count != 3, ..made });
    }
    for count in [1, 3, 8] {
        let arguments =
            format!("mixed --share 1=100 --partitions 8 --consumers {count} --linger 1ms --verify");
        let name = format!("consume-while-producing-{count}");
        let made = row(Setup::Standalone, name, format!("{}, while producing", many(count)), &arguments);
        rows.push(Row { quick: count == 3, ..made });
    }
    Section {
        title: "Consumers, standalone",
        text: &[
            "One group over eight partitions, from the earliest message: once with the machine's page cache dropped before (cold), once warm. \
             While producing: consumers at the tail of a closed loop of `acks=1`; the rate of each is reported apart.",
        ],
        x_title: None,
        rows,
    }
}

fn consumers_cluster() -> Section {
    let reading = "consume --partitions 8 --consumers 3 --cache warm";
    let killed = "mixed --share all=100 --rate 2000 --partitions 8 --consumers 3 \
                  -X retry.backoff.max.ms=100 -X topic.metadata.refresh.fast.interval.ms=50";
    Section {
        title: "Consumers, three nodes",
        text: &[
            "Replication factor 3. In the second row one of the nodes is killed with `kill -9` in the middle of a steady load of 2,000 messages a \
             second with `acks=all` and three consumers; what the client library makes of it is part of it.",
        ],
        x_title: None,
        rows: vec![
            row(Setup::ThreeNodes, "consume-three", "3 consumers, from the start", reading),
            Row {
                kind: Kind::Killed,
                over_time: true,
                ..row(Setup::ThreeNodes, "consume-leader-killed", "a leader is killed", killed)
            },
        ],
    }
}

/// The rows that the end-to-end rows take their rates from.
const SATURATION_STANDALONE: &str = "saturation-standalone";
const SATURATION_THREE: &str = "saturation-three";

fn saturation() -> Section {
    let arguments = "saturate --acks all --linger 1ms --p99-limit 10ms --clients 2 --start-rate 500";
    let search = |setup, name: &str, title| Row { ..row(setup, name, title, arguments) };
    Section {
        title: "Saturation",
        text: &[
            "The rate rises until p99, counted from when each message was due, passes 10 ms; `acks=all`, linger 1 ms. The figures are those at the knee: \
             the highest rate that kept the limit.",
        ],
        x_title: None,
        rows: vec![
            search(Setup::Standalone, SATURATION_STANDALONE, "standalone"),
            search(Setup::ThreeNodes, SATURATION_THREE, "three nodes"),
        ],
    }
}

fn end_to_end() -> Section {
    let mut rows = Vec::new();
    let places = [
        (Setup::Standalone, "standalone", SATURATION_STANDALONE),
        (Setup::ThreeNodes, "three", SATURATION_THREE),
    ];
    for (setup, name, saturation) in places {
        for percent in [10, 50, 80] {
            let title = if name == "three" { "three nodes" } else { name };
            let arguments = "e2e --acks all --linger 1ms --clients 2 --verify";
            let made =
                row(setup, format!("e2e-{name}-{percent}"), format!("{title}, {percent} %"), arguments);
            rows.push(Row { kind: Kind::PartOf { saturation, percent }, quick: percent == 50, ..made });
        }
    }
    Section {
        title: "End-to-end latency",
        text: &[
            "From when a message was due to its receipt by a consumer at the tail, `acks=all`, at a part of each server's own knee of the section \
             before: the rates differ from server to server.",
        ],
        x_title: None,
        rows,
    }
}

fn sizes() -> Section {
    let sizes = [("64", 64.0), ("256", 256.0), ("1KiB", 1024.0), ("16KiB", 16_384.0), ("1MiB", 1_048_576.0)];
    let rows = sizes.map(|(size, bytes)| {
        // What is around a message of 1 MiB does not fit into the default limits of either side.
        let limits = match size {
            "1MiB" => "--topic-config max.message.bytes=4194304 -X message.max.bytes=4194304",
            _ => "",
        };
        let arguments = format!("produce --acks all --linger 1ms --message-size {size} --verify {limits}");
        let made = row(Setup::Standalone, format!("size-{size}"), format!("{size} a message"), &arguments);
        Row { quick: matches!(size, "256" | "16KiB"), sweep: true, x: Some(bytes), ..made }
    });
    Section {
        title: "Message sizes",
        text: &["Standalone, closed loop of 128, `acks=all`, linger 1 ms."],
        x_title: Some("bytes a message"),
        rows: rows.into(),
    }
}

fn compressions() -> Section {
    let rows = ["none", "gzip", "snappy", "lz4", "zstd"].map(|codec| {
        let arguments = format!(
            "produce --acks all --linger 1ms --queue --message-size 1KiB --payload ratio:4 --compression {codec} --verify"
        );
        let made = row(Setup::Standalone, format!("compression-{codec}"), codec, &arguments);
        Row { quick: matches!(codec, "none" | "lz4"), sweep: true, ..made }
    });
    Section {
        title: "Compression",
        text: &[
            "Standalone, 1 KiB messages that compress by 4, as fast as the client's queue takes them, `acks=all`, linger 1 ms. Latency counts from the \
             hand-over to a queue that is always full, so it says how long that queue is.",
        ],
        x_title: None,
        rows: rows.into(),
    }
}

fn partitions() -> Section {
    let rows = [1, 6, 100, 1_000, 10_000].map(|count| {
        let arguments = format!("produce --acks all --linger 1ms --partitions {count} --verify");
        let name = format!("partitions-{count}");
        let made = row(
            Setup::Standalone,
            name,
            format!("{count} partition{}", if count == 1 { "" } else { "s" }),
            &arguments,
        );
        Row { quick: matches!(count, 6 | 100), sweep: true, x: Some(f64::from(count)), ..made }
    });
    Section {
        title: "Partitions",
        text: &["Standalone, closed loop of 128, `acks=all`, linger 1 ms, spread over so many partitions."],
        x_title: Some("partitions"),
        rows: rows.into(),
    }
}

fn connections() -> Section {
    let rows = [1, 100, 1_000].map(|count| {
        let waiting = count.max(128);
        let arguments = format!("produce --acks all --clients {count} --concurrency {waiting} --verify");
        let name = format!("connections-{count}");
        let made = row(
            Setup::Standalone,
            name,
            format!("{count} client{}", if count == 1 { "" } else { "s" }),
            &arguments,
        );
        Row { quick: count != 1_000, sweep: true, x: Some(f64::from(count)), ..made }
    });
    Section {
        title: "Connections",
        text: &[
            "Standalone, closed loop, `acks=all`, linger 0: so many clients with connections of their own, 128 messages under way or as many as there \
             are clients.",
        ],
        x_title: Some("clients"),
        rows: rows.into(),
    }
}

fn faults() -> Section {
    let fault = |kind, name: &str, title| Row { kind, ..row(Setup::ThreeNodes, name, title, "") };
    Section {
        title: "Failover and recovery",
        text: &[
            "Failover: 2,000 messages a second with `acks=all` over 100 partitions; one node after the other is killed with `kill -9`. The gap is the \
             longest that any message waited from when it was due, the client's search for the new leader included.",
            "Recovery: a node is killed, leaves the in-sync replicas, loses its directory, and starts again. How long it lags is counted from the first byte in \
             its log, and from the start of its process, to its being in sync in every partition.",
        ],
        x_title: None,
        rows: vec![
            fault(Kind::Failover, "failover", "a leader is killed"),
            fault(Kind::CatchUp, "catch-up", "an empty follower comes back"),
        ],
    }
}

fn starts() -> Section {
    let of = |setup, kind, name: &str, title| Row { kind, ..row(setup, name, title, "") };
    Section {
        title: "Start and idle memory",
        text: &[
            "Start: from the start of the process (of the first of three) on an empty directory to the acknowledgement of a first write, by a client that \
             waits for the port. Kafka's directories are formatted before that time begins. Idle: resident memory of all nodes two seconds after they serve, before any load.",
        ],
        x_title: None,
        rows: vec![
            of(Setup::Standalone, Kind::Start, "start-standalone", "standalone"),
            of(Setup::ThreeNodes, Kind::Start, "start-three", "three nodes"),
            of(Setup::Standalone, Kind::Idle, "idle-standalone", "standalone"),
            of(Setup::ThreeNodes, Kind::Idle, "idle-three", "three nodes"),
        ],
    }
}

impl Row {
    /// Replicas of each partition of its topics.
    pub fn replication_factor(&self) -> u32 {
        match self.setup {
            Setup::Standalone => 1,
            Setup::TwoNodes => 2,
            Setup::ThreeNodes | Setup::Followers => 3,
        }
    }

    /// Names and titles of what a measure of this kind says; empty for runs of chronik-bench.
    pub fn figures(&self) -> &'static [(&'static str, &'static str)] {
        match self.kind {
            Kind::Load | Kind::Killed | Kind::PartOf { .. } => &[],
            Kind::Start => &[("start_ms", "first write after, ms")],
            Kind::Idle => &[("resident_mib", "resident memory, MiB")],
            Kind::Failover => &[("gap_ms", "gap, ms"), ("failed", "failed messages")],
            Kind::CatchUp => &[
                ("megabytes_per_second", "MB/s"),
                ("lag_seconds", "lag, s from the first byte"),
                ("seconds_from_start", "s from the start of the process"),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_has_a_name_of_its_own_that_files_can_carry() {
        let mut names = BTreeSet::new();
        for row in sections().into_iter().flat_map(|section| section.rows) {
            assert!(row.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", row.name);
            assert!(names.insert(row.name.clone()), "{} is there twice", row.name);
            assert_eq!(row.arguments.is_empty(), !row.figures().is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn parts_of_saturation_name_rows_that_search_for_it() {
        let rows: Vec<Row> = sections().into_iter().flat_map(|section| section.rows).collect();
        for row in &rows {
            if let Kind::PartOf { saturation, .. } = row.kind {
                let found = rows.iter().find(|known| known.name == saturation).unwrap();
                assert_eq!((found.setup, found.arguments[0].as_str()), (row.setup, "saturate"));
            }
        }
    }

    #[test]
    fn every_row_has_its_turn() {
        for row in sections().into_iter().flat_map(|section| section.rows) {
            assert_eq!(
                TURNS.iter().filter(|turn| **turn == (row.setup, row.sweep)).count(),
                1,
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn a_quick_run_has_something_of_every_section() {
        for section in sections() {
            assert!(section.rows.iter().any(|row| row.quick), "{}", section.title);
        }
    }
}
