//! What the log is told about itself. The broker fills these from its settings; names in the docs are the settings'.

/// When an append counts as flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FlushMode {
    /// After `fdatasync` (setting `flush=disk`).
    #[default]
    Disk,
    /// When the operating system has it (`flush=os`): it survives a kill of the process, not a power loss.
    Os,
}

/// Options of the whole node.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Setting `flush`.
    pub flush: FlushMode,
    /// Setting `flush.ms`: what nobody waits for is flushed after so many milliseconds.
    pub flush_ms: u64,
    /// Setting `journal.segment.bytes`: a journal file is left for the next one at this size.
    pub journal_segment_bytes: u64,
    /// Setting `journal.memory.bytes`: memory for what is in the journal and not yet in its segment. A checkpoint begins
    /// at half of it; at the whole, appends wait.
    pub journal_memory_bytes: u64,
    /// Setting `checkpoint.interval.ms`: a checkpoint is made at least so often while there is something to do.
    pub checkpoint_interval_ms: u64,
    /// Setting `log.retention.check.interval.ms`: retention is applied so often.
    pub retention_check_ms: u64,
    /// Setting `max.open.files`: segment files held open at once.
    pub max_open_files: usize,
    /// Appends of at least so many bytes go straight to their segment (setting `journal.direct.bytes`).
    pub direct_bytes: usize,
    /// Setting `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            flush: FlushMode::Disk,
            flush_ms: 1_000,
            journal_segment_bytes: 64 << 20,
            journal_memory_bytes: 32 << 20,
            checkpoint_interval_ms: 30_000,
            retention_check_ms: 300_000,
            max_open_files: 2_048,
            direct_bytes: 16 << 10,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}

/// Who sets a record's timestamp (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appends.
    LogAppendTime,
}

/// `cleanup.policy`: one or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted.
    pub delete: bool,
    /// All but the last record of each key are removed.
    pub compact: bool,
}

/// Options of one partition: its topic's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionOptions {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`, with the jitter already drawn.
    pub segment_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `retention.ms`; negative is for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative is without limit.
    pub retention_bytes: i64,
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 86_400_000,
            index_interval_bytes: 4096,
            retention_ms: 7 * 86_400_000,
            retention_bytes: -1,
            cleanup: CleanupPolicy { delete: true, compact: false },
            timestamp_type: TimestampType::CreateTime,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}
