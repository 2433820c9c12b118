//! What pages of other sites may do: nothing, except those that `http.cors.origins` names.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::hosts::host_of;

/// How long a browser may remember what it was allowed, in seconds.
const REMEMBERED_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// Pages of other sites that may ask, and read the answers.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<String>,
}

/// What becomes of a request.
pub(crate) enum Verdict {
    /// It is served. With an origin, its page may read the answer.
    Serve(Option<HeaderValue>),
    /// It is answered already.
    Answer(Response),
}

impl Origins {
    /// These origins, such as `https://console.example.com`; `*` stands for all.
    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self {
            named: origins
                .into_iter()
                .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
                .collect(),
        }
    }

    /// Looks at who wrote the page that sends the request, if a page does.
    pub(crate) fn judge(&self, request: &Request) -> Verdict {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Verdict::Serve(None) };
        let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let is_preflight = request.method() == Method::OPTIONS && asked.is_some();
        if self.allows(origin) {
            return if is_preflight {
                Verdict::Answer(preflight(origin.clone()))
            } else {
                Verdict::Serve(Some(origin.clone()))
            };
        }
        // Without the header that allows it, the browser keeps the answer from the page; what is only read needs no more.
        let only_reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if only_reads || is_own(request, origin) {
            return Verdict::Serve(None);
        }
        let message =
            format!("a page of {} may not ask for this", String::from_utf8_lossy(origin.as_bytes()));
        let refusal = ApiError::new(StatusCode::FORBIDDEN, "origin_refused", message)
            .hint("start the node with that origin in http.cors.origins");
        Verdict::Answer(refusal.into_response())
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        self.named.iter().any(|named| *named == "*" || *named == origin)
    }
}

/// Lets the page of `origin` read an answer.
pub(crate) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Whether the page came from this node.
fn is_own(request: &Request, origin: &HeaderValue) -> bool {
    let host = host_of(request.uri(), request.headers()).ok().flatten();
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((host, origin), (Some(host), Some((_, origin))) if host.eq_ignore_ascii_case(origin))
}

fn preflight(origin: HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECONDS);
    allow(headers, origin);
    response
}
