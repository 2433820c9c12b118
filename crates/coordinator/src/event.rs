//! What goes into a coordinator and what comes out of it.

use std::sync::Arc;

use chronik_base::{ErrorCode, Timestamp};

use crate::records::Record;
use crate::request::Request;
use crate::response::Response;

/// The time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; sessions and rebalances are timed by it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; it goes into records and decides when offsets expire.
    pub wall_ms: Timestamp,
}

/// A caller's name for a request: it comes back in exactly one [`Action::Reply`]. Never use one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A coordinator's name for a write. Tokens rise by one from write to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteToken(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client's request arrived.
    Request {
        /// The name under which it will be answered.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// The records of an [`Action::Persist`] are safely in the log, or will never be.
    Persisted {
        /// Which write.
        token: WriteToken,
        /// The log's error, if it failed; clients are told what Kafka makes of it.
        result: Result<(), ErrorCode>,
    },
    /// A topic is gone: nobody needs its offsets any more.
    TopicDeleted {
        /// The topic's name.
        topic: Arc<str>,
    },
    /// The time of [`GroupCoordinator::next_deadline`](crate::GroupCoordinator::next_deadline) has come.
    Tick,
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer a request.
    Reply {
        /// The name the request came with.
        request: RequestId,
        /// The answer.
        response: Response,
    },
    /// Append records to the coordinator's partition, as one batch if they fit, after those of all earlier tokens;
    /// report [`Event::Persisted`] when they are as safe as `acks=all` makes them.
    Persist {
        /// The name of this write.
        token: WriteToken,
        /// The records, never empty.
        records: Vec<Record>,
    },
}
