//! What the log tells its owner, from its own threads.

use std::sync::Arc;

use crate::error::StorageState;
use crate::partition::PartitionLog;

/// A partition, and the offset after the last record that the news is about.
pub type Progress = (Arc<PartitionLog>, i64);

/// Hears what became of appends. Called from the log's threads: an implementation answers quickly and never waits.
///
/// Each call names a partition at most once. [`PartitionLog::owner`] finds the listener's own state of a partition.
pub trait LogListener: Send + Sync + 'static {
    /// Everything below these offsets is written: it survives a kill of the process.
    fn on_written(&self, progress: &[Progress]);

    /// Everything below these offsets is flushed: it survives a power loss. With `flush=os` this follows
    /// [`LogListener::on_written`] at once.
    fn on_flushed(&self, progress: &[Progress]);

    /// What was appended at these offsets and above is not acknowledged and never will be. Where the disk was full, it is
    /// no longer in the log (the log end went back to the offset given here); after a failed write or flush it may or
    /// may not be there when the node starts again.
    fn on_failed(&self, from: &[Progress], error: &str);

    /// [`LogManager::pressure`](crate::LogManager::pressure) is false again.
    fn on_pressure_relieved(&self) {}

    /// The storage takes writes again, or takes none any more.
    fn on_state(&self, _state: &StorageState) {}
}
