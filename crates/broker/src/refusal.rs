//! Why a part of an admin request is not done: a code, and words for whoever reads the error.

use std::time::Duration;

use chronik_base::ErrorCode;
use chronik_meta::{Command, MetaError, Results};
use chronik_protocol::Str;

use crate::Broker;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The message as answers carry it.
    pub(crate) fn text(&self) -> Option<Str> {
        Some(Str::from(self.message.as_str()))
    }

    /// There is no topic of that name.
    pub(crate) fn unknown_topic() -> Self {
        Self::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    }
}

impl From<MetaError> for Refusal {
    fn from(error: MetaError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The code and the message of an outcome, as answers carry them.
pub(crate) fn outcome_of<T>(result: &Result<T, Refusal>) -> (i16, Option<Str>) {
    match result {
        Ok(_) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.text()),
    }
}

impl Broker {
    /// Commits commands and waits for `timeout_ms` at the longest, where that is above 0. What is not decided by then is answered as timed out, and may
    /// still be carried out. The quorum has a limit of its own as well.
    pub(crate) async fn commit_within(&self, commands: Vec<Command>, timeout_ms: i32) -> Results {
        if commands.is_empty() {
            return Vec::new();
        }
        let count = commands.len();
        let waited_ms = u64::try_from(timeout_ms).unwrap_or(0);
        let limit = if waited_ms > 0 { Duration::from_millis(waited_ms) } else { Duration::MAX };
        match tokio::time::timeout(limit, self.metadata.commit(commands)).await {
            Ok(results) => results,
            Err(_) => vec![Err(MetaError::TimedOut { waited_ms }); count],
        }
    }

    /// Commits the commands that were not refused while they were planned; each plan has its outcome, in order.
    pub(crate) async fn commit_planned(
        &self,
        planned: Vec<Result<Command, Refusal>>,
        timeout_ms: i32,
    ) -> Vec<Result<(), Refusal>> {
        let commands = planned.iter().filter_map(|plan| plan.as_ref().ok()).cloned().collect();
        let mut results = self.commit_within(commands, timeout_ms).await.into_iter();
        let settled = planned.into_iter().map(|plan| {
            plan.and_then(|_| match results.next() {
                Some(result) => result.map(|_| ()).map_err(Refusal::from),
                None => Err(MetaError::Closed.into()),
            })
        });
        settled.collect()
    }
}

/// The wait of requests that say none: as long as the quorum takes.
pub(crate) const NO_TIMEOUT: i32 = 0;
