//! The loads and what is to be reached with each.

use super::servers::{Server, Side};

/// One load.
pub struct Load {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    /// Arguments of chronik-bench that make the load.
    pub arguments: &'static [&'static str],
    /// True where Chronik flushes before it answers, so that the flushing floor is its measure.
    pub flushed: bool,
    /// Another warm-up than the ordinary one, in seconds.
    pub warmup_seconds: Option<u64>,
    pub targets: Targets,
}

#[derive(PartialEq, Eq)]
pub enum Kind {
    Produce,
    /// Several kinds of acknowledgement at once.
    Mixed,
    Consume {
        cold: bool,
    },
}

/// What to reach, as ratios of the medians; None where nothing is asked.
#[derive(Default)]
pub struct Targets {
    /// Messages a second, at least this many times Kafka's.
    pub kafka_rate: Option<f64>,
    /// 99th percentile, at most this part of Kafka's.
    pub kafka_p99: Option<f64>,
    /// Messages a second, at least this part of the floor's.
    pub floor_rate: Option<f64>,
    /// Broker CPU for a message, at most this part of Kafka's.
    pub kafka_cpu: Option<f64>,
    /// Broker CPU for a message, at most this many times the floor's.
    pub floor_cpu: Option<f64>,
    /// Peak resident memory, at most this part of Kafka's.
    pub kafka_rss: Option<f64>,
}

/// A sixth of Kafka's memory, under every load.
const RSS: Option<f64> = Some(1.0 / 6.0);

const SMALL: Targets = Targets {
    kafka_rate: Some(6.0),
    kafka_p99: Some(0.2),
    floor_rate: Some(0.7),
    kafka_cpu: Some(0.2),
    floor_cpu: Some(2.0),
    kafka_rss: RSS,
};

const SMALL_FLUSHED: Targets = Targets { kafka_rate: Some(4.0), kafka_p99: Some(1.0 / 3.0), ..SMALL };

const HANDLES: Targets = Targets { kafka_rate: Some(2.0), kafka_p99: None, floor_rate: Some(0.6), ..SMALL };

const LINGER: Targets = Targets {
    kafka_rate: Some(1.0),
    kafka_p99: Some(1.0),
    floor_rate: Some(0.95),
    kafka_cpu: None,
    floor_cpu: None,
    kafka_rss: RSS,
};

const BULK: Targets = Targets {
    kafka_rate: Some(1.0),
    kafka_p99: None,
    floor_rate: Some(0.85),
    kafka_cpu: Some(1.0),
    floor_cpu: Some(2.0),
    kafka_rss: RSS,
};

const CONSUME: Targets = Targets {
    kafka_rate: Some(1.0),
    kafka_p99: None,
    floor_rate: None,
    kafka_cpu: Some(1.0),
    floor_cpu: None,
    kafka_rss: RSS,
};

/// 256-byte messages, 128 in flight, six partitions and one handle unless the arguments say otherwise.
pub const LOADS: &[Load] = &[
    Load {
        name: "small-1",
        title: "closed loop, linger 0, acks=1",
        kind: Kind::Produce,
        arguments: &["--acks", "1"],
        flushed: false,
        warmup_seconds: None,
        targets: SMALL,
    },
    Load {
        name: "small-all",
        title: "closed loop, linger 0, acks=all flushed",
        kind: Kind::Produce,
        arguments: &["--acks", "all"],
        flushed: true,
        warmup_seconds: None,
        targets: SMALL_FLUSHED,
    },
    Load {
        name: "handles16-1",
        title: "closed loop, linger 0, 16 handles, acks=1",
        kind: Kind::Produce,
        arguments: &["--acks", "1", "--clients", "16"],
        flushed: false,
        warmup_seconds: None,
        targets: HANDLES,
    },
    Load {
        name: "handles16-all",
        title: "closed loop, linger 0, 16 handles, acks=all flushed",
        kind: Kind::Produce,
        arguments: &["--acks", "all", "--clients", "16"],
        flushed: true,
        warmup_seconds: None,
        targets: HANDLES,
    },
    Load {
        name: "linger1-1",
        title: "closed loop, linger 1 ms, acks=1",
        kind: Kind::Produce,
        arguments: &["--acks", "1", "--linger", "1ms"],
        flushed: false,
        warmup_seconds: None,
        targets: LINGER,
    },
    Load {
        name: "linger1-all",
        title: "closed loop, linger 1 ms, acks=all flushed",
        kind: Kind::Produce,
        arguments: &["--acks", "all", "--linger", "1ms"],
        flushed: true,
        warmup_seconds: None,
        targets: LINGER,
    },
    Load {
        name: "bulk-1",
        title: "open loop, linger 5 ms, acks=1",
        kind: Kind::Produce,
        arguments: &["--acks", "1", "--linger", "5ms", "--queue"],
        flushed: false,
        warmup_seconds: None,
        targets: BULK,
    },
    Load {
        name: "bulk-all",
        title: "open loop, linger 5 ms, acks=all flushed",
        kind: Kind::Produce,
        arguments: &["--acks", "all", "--linger", "5ms", "--queue"],
        flushed: true,
        warmup_seconds: None,
        targets: BULK,
    },
    Load {
        name: "consume-warm",
        title: "consume 4 million messages, warm",
        kind: Kind::Consume { cold: false },
        arguments: &[],
        flushed: false,
        warmup_seconds: None,
        targets: CONSUME,
    },
    Load {
        name: "consume-cold",
        title: "consume 4 million messages, cold",
        kind: Kind::Consume { cold: true },
        arguments: &[],
        flushed: false,
        warmup_seconds: None,
        targets: CONSUME,
    },
    Load {
        name: "many",
        title: "1,000 partitions, 200 handles, linger 0, acks=all, after 30 s",
        kind: Kind::Produce,
        arguments: MANY,
        flushed: true,
        warmup_seconds: Some(30),
        targets: Targets {
            kafka_rate: Some(1.0),
            kafka_p99: None,
            floor_rate: Some(0.8),
            kafka_cpu: None,
            floor_cpu: None,
            kafka_rss: RSS,
        },
    },
    Load {
        name: "many-first",
        title: "1,000 partitions, 200 handles, linger 0, acks=all, from the first second",
        kind: Kind::Produce,
        arguments: MANY,
        flushed: true,
        warmup_seconds: Some(0),
        targets: Targets {
            kafka_rate: Some(20.0),
            kafka_p99: None,
            floor_rate: Some(0.8),
            kafka_cpu: None,
            floor_cpu: None,
            kafka_rss: RSS,
        },
    },
];

const MANY: &[&str] = &["--acks", "all", "--partitions", "1000", "--clients", "200", "--concurrency", "1000"];

impl Load {
    /// The floor cannot be read from, and only the floor of the load's own kind is its measure.
    pub fn runs_on(&self, server: &dyn Server) -> bool {
        match server.side() {
            Side::Chronik | Side::Kafka => true,
            Side::Floor => self.kind == Kind::Produce && server.flushes() == self.flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), LOADS.len());
    }
}
