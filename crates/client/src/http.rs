//! JSON over HTTP: what a node tells beside Kafka's protocol, on the same port. One connection for each request.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest answer that is read: 256 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why a request over HTTP got no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody can be reached there.
    #[error("{address}: {source}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address} didn't answer in {timeout:?}")]
    TimedOut {
        /// Who.
        address: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// What is there doesn't speak HTTP, as Kafka's own brokers don't.
    #[error("{address} doesn't answer HTTP ({reason}): is it a node of Chronik?")]
    NotHttp {
        /// Who.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The path isn't there.
    #[error("{address} has no {path}: is it a node of Chronik, and of this version?")]
    NotFound {
        /// Who.
        address: String,
        /// The path.
        path: String,
    },
    /// The node said no.
    #[error("{address} refuses: {message}")]
    Refused {
        /// Who.
        address: String,
        /// The status of the answer.
        status: u16,
        /// Its body, or what its `message` and `hint` say.
        message: String,
    },
    /// The answer isn't the JSON that was expected.
    #[error("the answer of {address} to {path} can't be read: {reason}")]
    Unreadable {
        /// Who.
        address: String,
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks the node at `address` (HOST:PORT) for `path`, which may have a query, and reads the answer.
///
/// # Errors
/// Why there is none within `limit`.
pub async fn get_json<T: DeserializeOwned>(
    address: &str,
    path: &str,
    limit: Duration,
) -> Result<T, HttpError> {
    exchange(address, Method::GET, path, Bytes::new(), limit).await
}

/// Sends `body` to `path` of the node at `address`, and reads the answer.
///
/// # Errors
/// Why there is none within `limit`; [`HttpError::Refused`] if the node doesn't do it.
pub async fn post_json<T: DeserializeOwned>(
    address: &str,
    path: &str,
    body: &impl Serialize,
    limit: Duration,
) -> Result<T, HttpError> {
    let body = serde_json::to_vec(body).map_err(|error| unreadable(address, path, error.to_string()))?;
    exchange(address, Method::POST, path, body.into(), limit).await
}

fn unreadable(address: &str, path: &str, reason: String) -> HttpError {
    HttpError::Unreadable { address: address.to_owned(), path: path.to_owned(), reason }
}

async fn exchange<T: DeserializeOwned>(
    address: &str,
    method: Method,
    path: &str,
    body: Bytes,
    limit: Duration,
) -> Result<T, HttpError> {
    let (status, body) = match timeout(limit, send(address, method, path, body)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(HttpError::TimedOut { address: address.to_owned(), timeout: limit }),
    };
    match status {
        status if status.is_success() => {
            serde_json::from_slice(&body).map_err(|error| unreadable(address, path, error.to_string()))
        }
        StatusCode::NOT_FOUND => {
            Err(HttpError::NotFound { address: address.to_owned(), path: path.to_owned() })
        }
        status => Err(HttpError::Refused {
            address: address.to_owned(),
            status: status.as_u16(),
            message: message(&body),
        }),
    }
}

async fn send(
    address: &str,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), HttpError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| HttpError::Unreachable { address: address.to_owned(), source })?;
    let not_http = |reason: String| HttpError::NotHttp { address: address.to_owned(), reason };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| not_http(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| unreadable(address, path, error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| not_http(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| unreadable(address, path, error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    // The connection has to be driven until the answer is there; how it ends afterwards doesn't matter.
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

/// What a refusal says: its `message` and `hint`, where it has them.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = |name: &str| json.as_ref().and_then(|json| json.get(name)).and_then(serde_json::Value::as_str);
    match (text("message"), text("hint")) {
        (Some(message), Some(hint)) if !hint.is_empty() => format!("{message}; {hint}"),
        (Some(message), _) => message.to_owned(),
        _ => String::from_utf8_lossy(body).trim().chars().take(300).collect(),
    }
}
