//! The broker's families of metrics: what each is called and what it means. `docs/metrics.md` is made of these tables.

use chronik_metrics::{Family, Section};

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family::counter(name, help, labels)
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family::gauge(name, help, labels)
}

const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family::histogram(name, help, labels)
}

macro_rules! families {
    ($section:ident, $title:literal, $about:literal; $($name:ident = $kind:ident $metric:literal $labels:expr, $help:literal;)+) => {
        $(pub(crate) static $name: Family = $kind($metric, $help, &$labels);)+
        const $section: Section = Section { title: $title, about: $about, families: &[$(&$name),+] };
    };
}

families! {
    REQUEST_SECTION, "Requests of Kafka's protocol", "";
    REQUESTS = counter "chronik_requests" ["api"], "Requests received, by API";
    REQUEST_TIME = histogram "chronik_request_duration_seconds" ["api"], "How long requests took from their arrival to their answer, by API; of fetches and joins also how long the client was willing to wait";
    SLOW_REQUESTS = counter "chronik_slow_requests" ["api"], "Requests that took longer than slow.request.ms, by API; what the client was willing to wait doesn't count";
    APPENDED_BATCHES = counter "chronik_appended_batches" [], "Record batches appended";
    APPENDED_RECORDS = counter "chronik_appended_records" [], "Records appended";
    APPENDED_BYTES = counter "chronik_appended_bytes" [], "Bytes of record batches appended";
    REFUSED_BATCHES = counter "chronik_refused_batches" [], "Record batches refused at the door";
    FETCHED_BYTES = counter "chronik_fetched_bytes" [], "Bytes of record batches given to consumers";
    FETCH_SESSIONS = gauge "chronik_fetch_sessions" [], "Fetch sessions (KIP-227)";
}

families! {
    ACK_SECTION, "Acknowledgements", "";
    ACK_WAIT = histogram "chronik_acknowledgement_wait_seconds" [], "How long produce requests with acks=all waited for their acknowledgements";
    ACK_TIMEOUTS = counter "chronik_acknowledgement_timeouts" ["cause"], "Produce requests whose acknowledgement came too late, by what was waited for";
}

families! {
    LOG_SECTION, "Log and disk", "";
    LOG_JOURNAL = counter "chronik_log_journal_written_bytes" [], "Bytes written to the journal";
    LOG_SEGMENTS = counter "chronik_log_segment_written_bytes" [], "Bytes written to segments and indexes";
    LOG_CHECKPOINT_BYTES = counter "chronik_log_checkpoint_written_bytes" [], "Bytes written to checkpoints";
    LOG_GROUPS = counter "chronik_log_groups" [], "Groups of appends written";
    LOG_FLUSHES = counter "chronik_log_flushes" [], "Flushes to disk";
    LOG_FLUSH_TIME = counter "chronik_log_flush_seconds" [], "Time spent in flushes";
    LOG_FLUSH_MAX = gauge "chronik_log_flush_max_seconds" [], "The longest flush since the start";
    LOG_QUEUED = gauge "chronik_log_queued_bytes" [], "Bytes appended and not yet written to the journal";
    LOG_MEMORY = gauge "chronik_log_memory_bytes" [], "Bytes of records held in memory";
    LOG_CHECKPOINTS = counter "chronik_log_checkpoints" [], "Checkpoints";
    STORAGE_STATE = gauge "chronik_storage_state" ["state"], "1 for the state that storage is in: writable, full or failed";
}

families! {
    PARTITION_SECTION, "Topics and partitions",
    "What is counted by partition is told by the partition's leader, so that the sum over all nodes counts each once.";
    TOPICS = gauge "chronik_topics" [], "Topics of the cluster";
    PARTITIONS = gauge "chronik_partitions" [], "Partitions of the cluster";
    LEADERS = gauge "chronik_leader_partitions" [], "Partitions that this node leads";
    REPLICAS = gauge "chronik_replica_partitions" [], "Partitions of which this node has a replica";
    OFFLINE = gauge "chronik_offline_partitions" [], "Partitions of the cluster without a leader";
    UNDER_REPLICATED = gauge "chronik_under_replicated_partitions" [], "Partitions led here with fewer replicas in sync than they have";
    UNDER_MIN_ISR = gauge "chronik_under_min_isr_partitions" [], "Partitions led here with fewer replicas in sync than min.insync.replicas";
    REASSIGNING = gauge "chronik_reassigning_partitions" [], "Partitions led here that move to other replicas";
    ISR_SHRINKS = counter "chronik_isr_shrinks" [], "Times that in-sync replicas of a partition led here became fewer";
    ISR_EXPANDS = counter "chronik_isr_expands" [], "Times that in-sync replicas of a partition led here became more";
    ISR_CHANGES = counter "chronik_isr_changes" [], "Changes of in-sync replicas that this node proposed as leader and that were decided so";
    LEADER_ELECTIONS = counter "chronik_leader_elections" [], "Times that this node became a partition's leader";
    CLUSTER_ELECTIONS = counter "chronik_cluster_leader_elections" [], "Elections of partition leaders since the cluster exists";
    UNCLEAN_ELECTIONS = counter "chronik_cluster_unclean_leader_elections" [], "Elections of leaders that were neither in sync nor eligible: records may have been lost";
}

families! {
    SERIES_SECTION, "By partition",
    "At most `metrics.partitions.max` lines of each name (0: none); `chronik_partition_left_out` counts the partitions that had no room.";
    PARTITION_START = gauge "chronik_partition_log_start_offset" ["topic", "partition"], "The first offset of a partition led here";
    PARTITION_END = gauge "chronik_partition_log_end_offset" ["topic", "partition"], "The offset after the last record of a partition led here";
    PARTITION_MARK = gauge "chronik_partition_high_watermark" ["topic", "partition"], "The offset up to which consumers read a partition led here";
    PARTITION_SIZE = gauge "chronik_partition_size_bytes" ["topic", "partition"], "Bytes of a partition led here";
    PARTITION_ISR = gauge "chronik_partition_in_sync_replicas" ["topic", "partition"], "In-sync replicas of a partition led here that has followers";
    PARTITION_LEFT_OUT = gauge "chronik_partition_left_out" [], "Partitions led here that the page had no room for";
}

families! {
    FOLLOWER_SECTION, "Followers and replication",
    "By follower, and by partition and follower; of the latter at most `metrics.partitions.max`, those that are furthest behind.";
    FOLLOWER_PARTITIONS = gauge "chronik_follower_partitions" ["follower"], "Partitions led here that a node follows";
    FOLLOWER_IN_SYNC = gauge "chronik_follower_in_sync_partitions" ["follower"], "Those in which it is in sync";
    FOLLOWER_ALL_LAG = gauge "chronik_follower_all_lag_records" ["follower"], "Records that a follower is behind, over all partitions led here";
    FOLLOWER_MAX_LAG = gauge "chronik_follower_max_lag_seconds" ["follower"], "How long a follower has not had all of a partition led here, where that is longest";
    LAG_RECORDS = gauge "chronik_follower_lag_records" ["topic", "partition", "follower"], "Records that a follower is behind";
    LAG_BYTES = gauge "chronik_follower_lag_bytes" ["topic", "partition", "follower"], "The same in bytes, estimated by the size of an average record";
    LAG_SECONDS = gauge "chronik_follower_lag_seconds" ["topic", "partition", "follower"], "How long a follower has not had everything that its leader has";
    LAG_LEFT_OUT = gauge "chronik_follower_lag_left_out" [], "Followers of partitions that the page had no room for";
    PEER_CONNECTED = gauge "chronik_peer_connected" ["node"], "Whether the connection that this node makes to another one is up";
    REPLICATION_RECEIVED = counter "chronik_replication_received_bytes" ["node", "link"], "Bytes received from another node: records that this node follows, acknowledgements of what it leads, metadata";
    REPLICATION_SENT = counter "chronik_replication_sent_bytes" ["node", "link"], "Bytes sent to another node: records that this node leads, acknowledgements of what it follows, metadata";
}

families! {
    GROUP_SECTION, "Consumer groups",
    "Told by the group's coordinator. At most `metrics.groups.max` lines of each name; the rest is counted.";
    GROUPS = gauge "chronik_groups" ["state"], "Groups, by state";
    CONSUMER_LAG = gauge "chronik_consumer_lag" ["group", "topic", "partition"], "Records between a group's committed offset and the end of the partition, where this node has the partition";
    CONSUMER_LAG_LEFT_OUT = gauge "chronik_consumer_lag_left_out" [], "Committed offsets that the page had no room for";
}

families! {
    QUORUM_SECTION, "Metadata quorum (Raft)", "";
    BROKERS = gauge "chronik_brokers" ["state"], "Registered brokers, by whether they are taken to be alive";
    METADATA_TERM = gauge "chronik_metadata_term" [], "The metadata leader's term";
    METADATA_LEADER = gauge "chronik_metadata_leader" [], "The metadata leader's node id, -1 if none is known";
    METADATA_LEADS = gauge "chronik_metadata_leads" [], "1 on the metadata leader";
    METADATA_LAST = gauge "chronik_metadata_last_index" [], "Entries in this node's metadata log";
    METADATA_COMMIT = gauge "chronik_metadata_commit_index" [], "Entries that this node knows to be decided";
    METADATA_APPLIED = gauge "chronik_metadata_applied_index" [], "Entries that are in this node's metadata";
    METADATA_OFFSET = gauge "chronik_metadata_offset" [], "The number of the last command in this node's metadata";
    METADATA_ELECTED = counter "chronik_metadata_elected" [], "Times that this node was elected metadata leader";
    VOTER_LAG = gauge "chronik_metadata_voter_lag" ["node"], "Entries that a voter lacks; on the metadata leader";
    OBSERVER_LAG = gauge "chronik_metadata_observer_lag" ["node"], "Commands that a node lacks which fetches them here";
    METADATA_COMMANDS = counter "chronik_metadata_commands" [], "Metadata changes asked for here";
    METADATA_FORWARDED = counter "chronik_metadata_forwarded" [], "Those sent on to the metadata leader";
    METADATA_NO_QUORUM = counter "chronik_metadata_no_quorum" [], "Metadata changes refused because nobody can decide";
    METADATA_TIMED_OUT = counter "chronik_metadata_timed_out" [], "Metadata changes of which nobody said in time what became of them";
    METADATA_FENCED = counter "chronik_metadata_fenced_brokers" [], "Brokers that this node, as metadata leader, took for dead";
}

/// Every family of the broker, by what it is about.
pub const METRIC_SECTIONS: &[Section] = &[
    REQUEST_SECTION,
    ACK_SECTION,
    LOG_SECTION,
    PARTITION_SECTION,
    SERIES_SECTION,
    FOLLOWER_SECTION,
    GROUP_SECTION,
    QUORUM_SECTION,
];
