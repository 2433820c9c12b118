//! What every request passes on its way in, and every answer on its way out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::{Caller, Writes};
use crate::cors::{self, Origins, Verdict};
use crate::error::ApiError;
use crate::hosts::Hosts;
use crate::operation::Operation;

/// The longest path with its query, in bytes: 16 KiB.
pub const URL_BYTES_MAX: usize = 16 << 10;

/// What holds for all routes of a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether requests may change state (`http.writes`).
    pub writes: Writes,
    /// Names that requests may be for (`http.hosts`, and those that the node is known by).
    pub hosts: Hosts,
    /// Other sites whose pages may ask (`http.cors.origins`).
    pub origins: Origins,
    /// How long an operation may take that has no limit of its own (`http.request.timeout.ms`).
    pub time_limit: Duration,
    /// The largest body of an operation that has no limit of its own, in bytes (`http.request.max.bytes`).
    pub body_bytes_max: usize,
}

impl Default for Options {
    /// As the settings are by default.
    fn default() -> Self {
        Self {
            writes: Writes::default(),
            hosts: Hosts::default(),
            origins: Origins::default(),
            time_limit: Duration::from_secs(30),
            body_bytes_max: 64 << 10,
        }
    }
}

/// Checks what holds for every request, whichever operation it is for.
pub(crate) async fn enter(State(options): State<Arc<Options>>, request: Request, next: Next) -> Response {
    let (mut response, origin) = match admit(&options, &request) {
        Err(refusal) => (refusal.into_response(), None),
        Ok(Verdict::Answer(response)) => (response, None),
        Ok(Verdict::Serve(origin)) => (unpanicking(next.run(request)).await, origin),
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        cors::allow(headers, origin);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn admit(options: &Options, request: &Request) -> Result<Verdict, ApiError> {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > URL_BYTES_MAX {
        let message = format!("the path and its query have {length} bytes; {URL_BYTES_MAX} is the limit");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, "url_too_long", message)
            .hint("send what is long in the body of a POST, where there is one"));
    }
    options.hosts.check(request)?;
    Ok(options.origins.judge(request))
}

/// A handler that panics answers its own request with 500, and hurts no other.
async fn unpanicking(work: impl Future<Output = Response>) -> Response {
    let mut work = pin!(work);
    let caught = std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
        Err(_) => Poll::Ready(None),
    });
    caught.await.unwrap_or_else(|| failed().into_response())
}

/// What a failure of the node's own is answered with.
pub(crate) fn failed() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the node failed to answer")
        .hint("the node's log says where")
}

/// What holds for one operation.
pub(crate) struct Rule {
    pub(crate) operation: Operation,
    pub(crate) options: Arc<Options>,
}

impl Rule {
    /// The largest body, in bytes.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.operation.body_bytes_max.unwrap_or(self.options.body_bytes_max)
    }
}

/// Checks what holds for the operation, and gives it its time.
pub(crate) async fn serve(State(rule): State<Arc<Rule>>, request: Request, next: Next) -> Response {
    let operation = &rule.operation;
    if let Err(refusal) = rule.options.writes.check(operation, request.extensions().get::<Caller>()) {
        return refusal.into_response();
    }
    let limit = rule.body_bytes_max();
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > limit as u64) {
        let message = format!("the body has {} bytes; {limit} is the limit here", length.unwrap_or(0));
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
            .hint("send less at once")
            .into_response();
    }
    // What says nothing of its length is counted as it comes: see `DefaultBodyLimit`.
    let time_limit = operation.time_limit.unwrap_or(rule.options.time_limit);
    match tokio::time::timeout(time_limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!(
                "{} {} took more than {} s",
                operation.method,
                operation.path,
                time_limit.as_secs_f64()
            );
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", message)
                .hint("ask for less, or send the body faster")
                .into_response()
        }
    }
}
