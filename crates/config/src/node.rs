//! The table of the node's own settings, and the struct they fill. The defaults of topic settings (`log.*` and others)
//! are settings of the node too; they come from the table of topic settings.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::address::{HostPort, Peer};
use crate::setting::{Change, Group, Kind, Setting, Unit};
use crate::settings::Settings;
use crate::topic;
use crate::value::{Flush, FromValue, HttpWrites, ReplicaSelector};

macro_rules! node_settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $name:literal, $kind:expr, $unit:ident, $default:expr, $change:ident, $group:ident;)*) => {
        /// Every setting of the node as a plain field, so that nothing looks a setting up by name where speed matters.
        /// Settings that are defaults of topic settings are in [`TopicConfig`](crate::TopicConfig) instead.
        #[derive(Clone, Debug, PartialEq)]
        pub struct NodeConfig {
            $($(#[doc = $doc])+ #[doc = concat!("\n\nSetting `", $name, "`.")] pub $field: $ty,)*
        }

        static NODE_SETTINGS: &[Setting] = &[
            $(Setting {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                default: $default,
                change: Change::$change,
                group: Group::$group,
                doc: concat!($($doc),+),
                topic_setting: None,
            }),*
        ];

        impl NodeConfig {
            /// The fields as `settings` has them.
            pub fn from_settings(settings: &Settings) -> Self {
                Self {
                    $($field: <$ty as FromValue>::from_value(settings.get($name)).unwrap_or_default(),)*
                }
            }
        }

        #[cfg(test)]
        fn fits(settings: &Settings) -> Vec<(&'static str, bool)> {
            vec![$(($name, <$ty as FromValue>::from_value(settings.get($name)).is_some())),*]
        }
    };
}

node_settings! {
    /// This node's identifier in the cluster. It is written into the data directory at the first start; a later start
    /// with another one is refused.
    node_id: i32 = "node.id", Kind::int_from(0), None, Some("1"), AtStart, Node;
    /// Where to listen, as HOST:PORT; port 0 takes a free one. Kafka clients and HTTP share it.
    listen: String = "listen", Kind::Text, None, Some("127.0.0.1:9092"), AtStart, Node;
    /// The address that clients are told to connect to, as HOST:PORT. Without it they are told the address by which
    /// their connection reached the node; needed behind address translation (containers, proxies, port forwarding).
    advertise: Option<String> = "advertise", Kind::Text, None, None, AtStart, Node;
    /// The directory that holds everything the node keeps.
    data_dir: String = "data.dir", Kind::Text, None, Some("./chronik-data"), AtStart, Node;
    /// The rack or zone this node is in. Replicas spread over racks, and consumers in the same rack read here (KIP-392). Also
    /// written `--rack`.
    broker_rack: Option<String> = "broker.rack", Kind::Text, None, None, AtStart, Node;
    /// Threads that serve connections; 0 takes one for each processor.
    worker_threads: usize = "worker.threads", Kind::Int { min: 0, max: 1024 }, None, Some("0"), AtStart, Node;
    /// What is logged to standard error: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,chronik_log=debug`.
    log_level: String = "log.level", Kind::Text, None, Some("info"), AtStart, Node;
    /// Keep the data in a temporary directory that goes when the node ends, and print one line of JSON with the address
    /// once it serves. For test suites.
    ephemeral: bool = "ephemeral", Kind::Bool, None, Some("false"), AtStart, Node;
    /// End when standard input closes, so that the node ends with the process that started it.
    until_stdin_closes: bool = "until.stdin.closes", Kind::Bool, None, Some("false"), AtStart, Node;

    /// The voters of the cluster, each as ID@HOST:PORT, this node among them: the same on each of 2, 3 or 5 nodes. Once the cluster exists,
    /// `chronik cluster add-voter` and `remove-voter` change its voters. For `chronik raft-cluster`.
    peers: Vec<Peer> = "peers", Kind::List(&[]), None, Some(""), AtStart, Cluster;
    /// Nodes of a cluster that runs, as HOST:PORT: this node follows it, without a vote. Any of its nodes will do; several are tried
    /// in turn. For a further node of a raft cluster, or a follower of a standalone node.
    join: Vec<HostPort> = "join", Kind::List(&[]), None, Some(""), AtStart, Cluster;
    /// Empty nodes, as HOST:PORT, that are to follow this one: each gets a replica of every topic. For `chronik standalone`.
    replication_followers: Vec<HostPort> = "replication.followers", Kind::List(&[]), None, Some(""), AtStart, Cluster;
    /// A broker that the metadata leader hears nothing from for this long is taken for dead: its partitions get other leaders. One that
    /// ends or refuses connections is noticed at once.
    broker_session_timeout_ms: u64 = "broker.session.timeout.ms", Kind::Long { min: 100, max: 600_000 }, Millis, Some("1500"), AtStart, Cluster;
    /// How often a broker tells the metadata leader that it lives.
    broker_heartbeat_interval_ms: u64 = "broker.heartbeat.interval.ms", Kind::Long { min: 10, max: 60_000 }, Millis, Some("200"), AtStart, Cluster;
    /// A voter that hears nothing from the metadata leader for this long asks for votes; each waits up to half as long again, drawn
    /// at random, so that they do not all ask at once.
    quorum_election_timeout_ms: u64 = "quorum.election.timeout.ms", Kind::Long { min: 50, max: 60_000 }, Millis, Some("500"), AtStart, Cluster;
    /// How often the metadata leader tells the other voters that it leads.
    quorum_heartbeat_interval_ms: u64 = "quorum.heartbeat.interval.ms", Kind::Long { min: 10, max: 10_000 }, Millis, Some("100"), AtStart, Cluster;
    /// A node that is told to end hands its leaderships over first, so that no request fails.
    controlled_shutdown_enable: bool = "controlled.shutdown.enable", Kind::Bool, None, Some("true"), AtStart, Cluster;
    /// How long that may take at most; then it ends all the same.
    controlled_shutdown_timeout_ms: u64 = "controlled.shutdown.timeout.ms", Kind::Long { min: 0, max: 600_000 }, Millis, Some("10s"), AtStart, Cluster;
    /// Give partitions back to their preferred leader (the first of their replicas) some time after it came back. Without it,
    /// `chronik cluster rebalance` does.
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable", Kind::Bool, None, Some("true"), Running, Cluster;
    /// How often the metadata leader looks for partitions to give back.
    leader_imbalance_check_interval_seconds: u64 = "leader.imbalance.check.interval.seconds", Kind::Long { min: 1, max: 86_400 }, Seconds, Some("300"), AtStart, Cluster;

    /// How long `acks=all` waits for the in-sync replicas at most, whatever the request asks for.
    replication_timeout_ms: u64 = "replication.timeout.ms", Kind::Long { min: 1, max: 3_600_000 }, Millis, Some("30s"), AtStart, Replication;
    /// A follower that hasn't had everything its leader has for this long is taken out of the in-sync replicas. One that can't be
    /// reached goes at once.
    replica_lag_time_max_ms: u64 = "replica.lag.time.max.ms", Kind::Long { min: 100, max: 3_600_000 }, Millis, Some("30s"), AtStart, Replication;
    /// Bytes a second that a node sends at most to followers that catch up; 0 is without limit. Those that are in sync are never held back.
    replication_throttle_bytes_per_sec: u64 = "replication.throttle.bytes.per.sec", Kind::long_from(0), Bytes, Some("0"), Running, Replication;
    /// Kafka's name for the same limit, which its tools set while they reassign partitions; the smaller one of the two holds.
    leader_replication_throttled_rate: u64 = "leader.replication.throttled.rate", Kind::long_from(0), Bytes, Some("9223372036854775807"), Running, Replication;
    /// Taken since Kafka's tools set it along with `leader.replication.throttled.rate`, which is the one that limits: a leader sends no faster than its own limit.
    follower_replication_throttled_rate: u64 = "follower.replication.throttled.rate", Kind::long_from(0), Bytes, Some("9223372036854775807"), Running, Replication;
    /// Taken for Kafka's tools; a node has one data directory, so nothing moves between directories.
    replica_alter_log_dirs_io_max_bytes_per_second: u64 = "replica.alter.log.dirs.io.max.bytes.per.second", Kind::long_from(0), Bytes, Some("9223372036854775807"), Running, Replication;
    /// Which replica a consumer reads from: `rack` sends one that names its rack (`client.rack`) to an in-sync replica in the
    /// same rack (`broker.rack`), `leader` sends all to the leader. Kafka's names of the two are read, too.
    replica_selector_class: ReplicaSelector = "replica.selector.class", Kind::Choice(ReplicaSelector::WORDS), None, Some("rack"), AtStart, Replication;

    /// When `acks=all` is answered: `disk` after a flush to disk, which survives a power loss; `os` when the operating
    /// system has the records, as Kafka does it, which survives a kill of the process only.
    flush: Flush = "flush", Kind::Choice(Flush::WORDS), None, Some("disk"), AtStart, Durability;
    /// Records that nobody waits for (`acks=1` and `acks=0`) are flushed to disk this long after they came, at the latest.
    flush_ms: u64 = "flush.ms", Kind::Long { min: 1, max: 3_600_000 }, Millis, Some("1s"), AtStart, Durability;
    /// Memory for records that are in the journal and not yet in their segments; it also serves reads at the tail.
    /// Half of it begins a checkpoint; when it is full, appends wait.
    journal_memory_bytes: u64 = "journal.memory.bytes", Kind::Long { min: 1 << 20, max: 1 << 40 }, Bytes, Some("32MiB"), AtStart, Durability;
    /// A journal file is left for the next one at this size.
    journal_segment_bytes: u64 = "journal.segment.bytes", Kind::Long { min: 1 << 20, max: 1 << 40 }, Bytes, Some("64MiB"), AtStart, Durability;
    /// An append of at least this size goes straight to its segment instead of through the journal, so that bulk loads are
    /// not written twice.
    journal_direct_bytes: usize = "journal.direct.bytes", Kind::int_from(1), Bytes, Some("16KiB"), AtStart, Durability;
    /// A checkpoint moves the journal's records into their segments at least this often while there are any; what came
    /// after the last one is read again at a start after a kill.
    checkpoint_interval_ms: u64 = "checkpoint.interval.ms", Kind::Long { min: 100, max: 86_400_000 }, Millis, Some("30s"), AtStart, Durability;

    /// The largest request in bytes; a larger one closes its connection.
    socket_request_max_bytes: usize = "socket.request.max.bytes", Kind::int_from(1024), Bytes, Some("100MiB"), AtStart, Limits;
    /// Connections at once; further ones are closed at once.
    max_connections: usize = "max.connections", Kind::int_from(1), None, Some("100000"), AtStart, Limits;
    /// Connections at once from one address; further ones are closed at once.
    max_connections_per_ip: usize = "max.connections.per.ip", Kind::int_from(1), None, Some("2147483647"), AtStart, Limits;
    /// A connection on which nothing happened for this long is closed.
    connections_max_idle_ms: u64 = "connections.max.idle.ms", Kind::long_from(1_000), Millis, Some("10min"), AtStart, Limits;
    /// Bytes of requests that are read and not yet answered, over all connections; at the limit the node reads no further
    /// ones until some are answered.
    queued_max_request_bytes: usize = "queued.max.request.bytes", Kind::Long { min: 1 << 20, max: 1 << 40 }, Bytes, Some("128MiB"), AtStart, Limits;
    /// The same for one connection. A single request may be larger.
    connection_queued_max_bytes: usize = "connection.queued.max.bytes", Kind::int_from(1024), Bytes, Some("16MiB"), AtStart, Limits;
    /// Files of the log held open at once; the least recently used are closed.
    max_open_files: usize = "max.open.files", Kind::int_from(16), None, Some("2048"), AtStart, Limits;
    /// Partitions that this node holds at most; creating further ones is refused.
    max_partitions_per_node: usize = "max.partitions.per.node", Kind::int_from(1), None, Some("100000"), Running, Limits;
    /// How large one batch of records may become when it is decompressed for checking; a larger one is refused.
    max_decompressed_bytes: usize = "max.decompressed.bytes", Kind::int_from(1024), Bytes, Some("64MiB"), AtStart, Limits;

    /// Partitions of a topic that is created without a number.
    num_partitions: i32 = "num.partitions", Kind::int_from(1), None, Some("1"), Running, Topics;
    /// Replicas of a topic that is created without a number. -1 takes as many as there are nodes for: in a raft cluster up to 3, in a
    /// standalone node with followers one on each.
    default_replication_factor: i16 = "default.replication.factor", Kind::Int { min: -1, max: 32_767 }, None, Some("-1"), Running, Topics;
    /// Create a topic that a client asks for and that does not exist.
    auto_create_topics_enable: bool = "auto.create.topics.enable", Kind::Bool, None, Some("true"), Running, Topics;
    /// Allow topics to be deleted.
    delete_topic_enable: bool = "delete.topic.enable", Kind::Bool, None, Some("true"), Running, Topics;
    /// What is known of an idempotent producer is forgotten this long after its last batch.
    producer_id_expiration_ms: i64 = "producer.id.expiration.ms", Kind::long_from(1), Millis, Some("1d"), AtStart, Topics;

    /// Partitions of the topic of committed offsets when it is created.
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions", Kind::int_from(1), None, Some("50"), AtStart, Groups;
    /// Replicas of the topic of committed offsets when it is created. -1 is as for default.replication.factor.
    offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor", Kind::Int { min: -1, max: 32_767 }, None, Some("-1"), AtStart, Groups;
    /// Segment size of the topic of committed offsets when it is created.
    offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes", Kind::int_from(1024), Bytes, Some("100MiB"), AtStart, Groups;
    /// Committed offsets go this long after their group became empty (or, outside of a group's subscription, after the commit).
    offsets_retention_minutes: i32 = "offsets.retention.minutes", Kind::int_from(1), Minutes, Some("7d"), AtStart, Groups;
    /// How often the node looks for committed offsets to let go.
    offsets_retention_check_interval_ms: u64 = "offsets.retention.check.interval.ms", Kind::long_from(1), Millis, Some("10min"), AtStart, Groups;
    /// The longest metadata text that may be committed with an offset.
    offset_metadata_max_bytes: usize = "offset.metadata.max.bytes", Kind::int_from(0), Bytes, Some("4096"), AtStart, Groups;
    /// The shortest session timeout a member may ask for.
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms", Kind::int_from(1), Millis, Some("6s"), AtStart, Groups;
    /// The longest session timeout a member may ask for.
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms", Kind::int_from(1), Millis, Some("30min"), AtStart, Groups;
    /// How long a new group waits for more members before its first rebalance. Kafka's 3 s make the first message late.
    group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms", Kind::int_from(0), Millis, Some("50ms"), AtStart, Groups;
    /// Members of one group at most.
    group_max_size: i32 = "group.max.size", Kind::int_from(1), None, Some("2147483647"), AtStart, Groups;

    /// The most bytes one fetch is answered with, whatever the client asks for; the first batch comes whole all the same.
    fetch_max_bytes: i32 = "fetch.max.bytes", Kind::int_from(1024), Bytes, Some("55MiB"), AtStart, Fetching;
    /// Fetch sessions remembered at once (KIP-227); without a session a client names all its partitions each time.
    max_incremental_fetch_session_cache_slots: usize = "max.incremental.fetch.session.cache.slots", Kind::int_from(0), None, Some("1000"), AtStart, Fetching;

    /// How often the node looks for segments that are past their retention.
    log_retention_check_interval_ms: u64 = "log.retention.check.interval.ms", Kind::long_from(1), Millis, Some("5min"), AtStart, Cleaning;
    /// Compact topics that have `cleanup.policy=compact`. Without it they grow.
    log_cleaner_enable: bool = "log.cleaner.enable", Kind::Bool, None, Some("true"), AtStart, Cleaning;
    /// How long the cleaner waits when there was nothing to clean.
    log_cleaner_backoff_ms: u64 = "log.cleaner.backoff.ms", Kind::long_from(0), Millis, Some("15s"), AtStart, Cleaning;
    /// Memory for the cleaner's table of keys.
    log_cleaner_dedupe_buffer_size: usize = "log.cleaner.dedupe.buffer.size", Kind::Long { min: 1 << 20, max: 1 << 40 }, Bytes, Some("32MiB"), AtStart, Cleaning;
    /// Bytes a second that the cleaner reads and writes at most.
    log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second", Kind::Double { min: 1024.0, max: f64::MAX }, Bytes, Some("67108864"), AtStart, Cleaning;

    /// Whether HTTP requests may change state: `local` where the listener is loopback, `on` wherever it is, `off` never.
    http_writes: HttpWrites = "http.writes", Kind::Choice(HttpWrites::WORDS), None, Some("local"), AtStart, Http;
    /// Names that HTTP requests may be for, besides addresses, `localhost`, the name of the machine and the names in `listen`, `advertise` and
    /// `peers`; `*` allows every name. It keeps pages of other sites from reaching the node by a name of theirs (DNS rebinding).
    http_hosts: Vec<String> = "http.hosts", Kind::List(&[]), None, Some(""), AtStart, Http;
    /// Other sites whose pages may ask and read the answers (CORS), such as `https://console.example.com`; `*` allows all.
    http_cors_origins: Vec<String> = "http.cors.origins", Kind::List(&[]), None, Some(""), AtStart, Http;
    /// How long an HTTP request may take, the arrival of its body included, until the head of its answer is there. Some have a limit of their own.
    http_request_timeout_ms: u64 = "http.request.timeout.ms", Kind::Long { min: 10, max: 3_600_000 }, Millis, Some("30s"), AtStart, Http;
    /// The largest body of an HTTP request. Some have a limit of their own.
    http_request_max_bytes: usize = "http.request.max.bytes", Kind::int_from(1024), Bytes, Some("64KiB"), AtStart, Http;
    /// HTTP connections at once; further ones are answered with 503 and closed.
    http_max_connections: usize = "http.max.connections", Kind::int_from(1), None, Some("1000"), AtStart, Http;

    /// Metrics by partition, or by partition and follower, on the page at most, of each name; where there are more, those that are furthest behind.
    /// 0 leaves them out; their sums stay.
    metrics_partitions_max: usize = "metrics.partitions.max", Kind::int_from(0), None, Some("2000"), Running, Observability;
    /// The same for metrics by consumer group and partition.
    metrics_groups_max: usize = "metrics.groups.max", Kind::int_from(0), None, Some("2000"), Running, Observability;
    /// A request that takes longer is logged, with where the time went; 0 logs none. How long a fetch or a member of a group is willing to wait
    /// does not count.
    slow_request_ms: u64 = "slow.request.ms", Kind::long_from(0), Millis, Some("1s"), AtStart, Observability;
    /// Where traces and metrics are sent by OTLP over HTTP, such as `http://127.0.0.1:4318`. Without it nothing is. The binary must be
    /// built with the feature `otlp`.
    otlp_endpoint: Option<String> = "otlp.endpoint", Kind::Text, None, None, AtStart, Observability;
    /// Of how many produce requests one is traced.
    otlp_trace_every: u64 = "otlp.trace.every", Kind::long_from(1), None, Some("100"), AtStart, Observability;
    /// How often metrics are sent.
    otlp_metrics_interval_ms: u64 = "otlp.metrics.interval.ms", Kind::long_from(100), Millis, Some("15s"), AtStart, Observability;

    /// Keep indexes of topics that have `search.enabled=true`, and answer searches. Without it no thread, memory or disk is used for search.
    search_enabled: bool = "search.enabled", Kind::Bool, None, Some("true"), AtStart, Search;
    /// Memory for search: half of it for writing indexes, a quarter for the aggregations of one query. Index files are mapped, and
    /// take what the operating system has to spare beside.
    search_memory: usize = "search.memory", Kind::Long { min: 32 << 20, max: 1 << 40 }, Bytes, Some("128MiB"), AtStart, Search;
    /// A query that takes longer is cut off: its answer has what was found until then, and says so.
    search_timeout_ms: u64 = "search.timeout.ms", Kind::long_from(1), Millis, Some("5s"), AtStart, Search;
}

/// Every setting of the node, defaults of topic settings included, in the order of the documentation.
pub fn settings() -> &'static [Setting] {
    static ALL: OnceLock<Vec<Setting>> = OnceLock::new();
    ALL.get_or_init(|| NODE_SETTINGS.iter().cloned().chain(topic::node_defaults()).collect())
}

/// The setting's place in [`settings`].
pub(crate) fn index_of(name: &str) -> Option<usize> {
    static INDEX: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    INDEX
        .get_or_init(|| settings().iter().enumerate().map(|(i, setting)| (setting.name, i)).collect())
        .get(name)
        .copied()
}

/// The setting of that name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    settings().get(index_of(name)?)
}

impl Default for NodeConfig {
    /// Every setting at its default.
    fn default() -> Self {
        Self::from_settings(&Settings::defaults())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_default_fits_its_field() {
        for (name, fits) in fits(&Settings::defaults()) {
            assert!(fits, "{name}");
        }
    }

    #[test]
    fn names_are_unique_in_every_form() {
        let mut seen = HashSet::new();
        for setting in settings() {
            assert!(seen.insert(setting.name.to_owned()), "{}", setting.name);
            assert!(seen.insert(setting.flag()) || !setting.name.contains('.'), "{}", setting.name);
            assert!(seen.insert(setting.variable()), "{}", setting.name);
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }
}
