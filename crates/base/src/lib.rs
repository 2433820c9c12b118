//! What every other crate shares: identifiers, Kafka's error codes, and the seam for time.
//!
//! Nothing here does I/O and nothing here knows the wire format or the disk.

mod chunk;
mod clock;
mod error_code;
mod ids;
mod transport;

pub use chunk::{Chunk, FileRange};
pub use clock::{Clock, ManualClock, Timestamp};
pub use error_code::ErrorCode;
pub use ids::{NodeId, TopicId, TopicPartition, Uuid, UuidParseError};
pub use transport::{BoxFuture, CallError, Transport};
