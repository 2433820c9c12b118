//! One request on its way through the broker: who asks, in which version, and how it is answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use chronik_protocol::{ApiKey, Encode, Str, response_frame};

use crate::outcome::{CloseReason, Outcome, Response};
use crate::{Broker, ConnectionContext};

/// A request whose header is read.
pub(crate) struct Call<'a> {
    pub(crate) broker: &'a Arc<Broker>,
    pub(crate) connection: &'a Arc<ConnectionContext>,
    pub(crate) version: i16,
    pub(crate) client_id: Option<Str>,
    pub(crate) answerer: Answerer,
    /// When its frame was there.
    pub(crate) began: Instant,
}

/// What is needed to frame an answer; outlives the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answerer {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl Answerer {
    /// The whole frame of an answer.
    pub(crate) fn frame(self, body: &impl Encode) -> Response {
        self.frame_in_version(body, self.version)
    }

    /// The same, with the body in another version than the request's: ApiVersions answers so.
    pub(crate) fn frame_in_version(self, body: &impl Encode, version: i16) -> Response {
        let chunks = response_frame(self.key, version, self.correlation_id, body);
        Response { chunks, close: false }
    }
}

impl Call<'_> {
    /// Answers at once.
    pub(crate) fn ready(&self, body: &impl Encode) -> Outcome {
        Outcome::Ready(self.answerer.frame(body))
    }

    /// Answers with what `answer` says once everything before it on the connection is answered.
    pub(crate) fn in_turn<B: Encode>(&self, answer: impl FnOnce() -> B + Send + 'static) -> Outcome {
        let answerer = self.answerer;
        Outcome::Pending(Box::pin(async move { answerer.frame(&answer()) }))
    }

    /// Answers when `work` ends. It runs on its own, whether or not the connection gets to it.
    pub(crate) fn spawn<B: Encode + Send + 'static>(
        &self,
        work: impl Future<Output = B> + Send + 'static,
    ) -> Outcome {
        let answerer = self.answerer;
        let task = tokio::spawn(async move { answerer.frame(&work.await) });
        Outcome::Pending(Box::pin(async move {
            match task.await {
                Ok(response) => response,
                Err(error) => {
                    tracing::error!(api = answerer.key.name(), "a request ended without an answer: {error}");
                    Response { chunks: Vec::new(), close: true }
                }
            }
        }))
    }

    /// Closes the connection: the frame can't be answered in the protocol's own terms.
    pub(crate) fn close(&self, kind: &'static str, detail: String) -> Outcome {
        Outcome::Close(CloseReason { kind, detail })
    }
}
