//! The log of a node: a journal that one flush makes durable for every partition, and the segments behind it.
//!
//! A small append is copied once, into the group that the next journal write carries; a checkpoint later moves it into
//! its segment, in order, at the position that it was given when it was appended. A large append goes straight to its
//! segment, and the journal gets a marker of it. `docs/storage-format.md` describes every byte on disk.

mod checkpoint;
mod cleaner;
mod core;
pub mod disk;
mod error;
mod files;
mod index;
mod journal;
mod keeper;
mod layout;
mod listener;
mod manager;
pub mod offline;
mod options;
mod overlay;
mod partition;
mod recovery;
mod segment;
mod shares;
pub mod simulated;
mod space;
mod sync;

pub use cleaner::CleanerOptions;
pub use error::{AppendError, LogError, OffsetOutOfRange, ReadError, StorageState};
pub use layout::{DATA_FORMAT_VERSION, DataDir, LayoutError};
pub use listener::{LogListener, Progress};
pub use manager::{LogManager, LogStats, PartitionKey, RecoverySummary};
pub use options::{CleanupPolicy, FlushMode, LogOptions, PartitionOptions, TimestampType};
pub use partition::producers::{ProducerInfo, SequenceError};
pub use partition::{Appended, PartitionLog, ReadPlan, TimestampAndOffset};
