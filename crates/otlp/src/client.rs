//! How the library's requests reach the collector: a connection for each, on the node's own runtime.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::http::{HeaderValue, Uri};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// How long the collector may take for one request: 10 s.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The largest answer of a collector that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The address in `otlp.endpoint` is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "otlp.endpoint = {0:?}: expected http://HOST:PORT, such as http://127.0.0.1:4318 (TLS is not spoken)"
)]
pub struct BadEndpoint(String);

/// Sends requests to one address.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: Arc<str>,
    host: HeaderValue,
    runtime: Handle,
}

impl Client {
    pub(crate) fn new(endpoint: &str, runtime: Handle) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad())?;
        Ok(Self { address: address.into(), host, runtime })
    }
}

#[async_trait]
impl HttpClient for Client {
    /// The library calls it from threads of its own, where no runtime is.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let work = exchange(self.address.clone(), self.host.clone(), request);
        let task = self.runtime.spawn(async move { tokio::time::timeout(TIME_LIMIT, work).await });
        task.await??
    }
}

async fn exchange(
    address: Arc<str>,
    host: HeaderValue,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let stream = TcpStream::connect(&*address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let (mut parts, body) = request.into_parts();
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = Uri::from(path.clone());
    }
    parts.headers.insert(HOST, host);
    let work = async {
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok::<_, Box<dyn Error + Send + Sync>>(Response::from_parts(parts, body))
    };
    // The connection has to be driven until the answer is there; how it ends afterwards doesn't matter.
    tokio::pin!(work);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut work => answer,
        _ = &mut connection => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoints_are_addresses() {
        let address = |text| Client::new(text, Handle::current()).map(|client| client.address.to_string());
        assert_eq!(address("http://127.0.0.1:4318").unwrap(), "127.0.0.1:4318");
        assert_eq!(address("http://collector").unwrap(), "collector:80");
        for bad in ["https://collector:4318", "collector:4318", "127.0.0.1", "", "http://"] {
            assert!(address(bad).unwrap_err().to_string().contains("expected http://HOST:PORT"), "{bad}");
        }
    }
}
