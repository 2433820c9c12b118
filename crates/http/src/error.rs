//! The one shape of an error.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request that fails is answered with, whichever route it was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What went wrong, as a word for programs: `bad_query`, `not_found`, `timed_out`, …
    pub code: String,
    /// What went wrong, for people: what was asked for, and the limit or the setting that governs it.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Where in a query it went wrong, in characters from 0, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// A refusal or a failure, on its way to become an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    /// An error with this status, code (a word in snake case, never changed once published) and message.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body =
            ErrorBody { code: code.to_owned(), message: message.into(), hint: String::new(), position: None };
        Self { status, body }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = hint.into();
        self
    }

    /// Says where in a query it went wrong, in characters from 0.
    #[must_use]
    pub fn position(mut self, position: u64) -> Self {
        self.body.position = Some(position);
        self
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it is answered with.
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
