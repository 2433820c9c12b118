//! Why a part of an admin request is not done: a code, and words for whoever reads the error.

use chronik_base::ErrorCode;
use chronik_meta::{Command, MetaError};
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
    /// Commits the commands that were not refused while they were planned; each plan has its outcome, in order.
    pub(crate) async fn commit_planned(
        &self,
        planned: Vec<Result<Command, Refusal>>,
    ) -> Vec<Result<(), Refusal>> {
        let commands = planned.iter().filter_map(|plan| plan.as_ref().ok()).cloned().collect();
        let mut results = self.metadata.commit(commands).await.into_iter();
        let settled = planned.into_iter().map(|plan| {
            plan.and_then(|_| match results.next() {
                Some(Err(error)) => Err(error.into()),
                _ => Ok(()),
            })
        });
        settled.collect()
    }
}
