//! HTTP on a connection whose first bytes have been read.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use chronik_config::{HttpWrites, NodeConfig};
use chronik_http::{Caller, Hosts, Options, Origins, Router, Writes};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::control::Control;

/// How long a request's headers may take to arrive: 10 s. Its body is bounded by the sweep, as any silence is.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The most a request's headers may take up, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Where Linux has the name of the machine.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// What a connection is told that is one too many.
const TOO_MANY: &str =
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n";

/// What holds for all routes, by the settings.
pub(crate) fn options(config: &NodeConfig) -> Options {
    let host_of = |address: &str| address.rsplit_once(':').map(|(host, _)| host.to_owned());
    let own = std::fs::read_to_string(HOST_NAME_FILE).ok().map(|name| name.trim().to_owned());
    let named = config.http_hosts.iter().cloned().chain(own.filter(|name| !name.is_empty()));
    let listens = host_of(&config.listen).into_iter().chain(config.advertise.as_deref().and_then(host_of));
    let peers = config.peers.iter().map(|peer| peer.address.host.clone());
    Options {
        writes: match config.http_writes {
            HttpWrites::Local => Writes::Local,
            HttpWrites::On => Writes::On,
            HttpWrites::Off => Writes::Off,
        },
        hosts: Hosts::new(named.chain(listens).chain(peers)),
        origins: Origins::new(config.http_cors_origins.iter().cloned()),
        time_limit: Duration::from_millis(config.http_request_timeout_ms),
        body_bytes_max: config.http_request_max_bytes,
    }
}

/// Refuses a connection because `limit` others are open (`http.max.connections`).
pub(crate) async fn refuse(mut stream: TcpStream, limit: usize) {
    let body = format!(
        r#"{{"code":"too_many_connections","message":"{limit} HTTP connections are open, the limit","hint":"close some, or raise http.max.connections"}}"#
    );
    let answer = format!("{TOO_MANY}content-length: {}\r\n\r\n{body}", body.len());
    // It may be gone already.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Serves `routes` on `stream`, of which `read` was read before, to a `caller`.
pub(crate) async fn serve(
    stream: TcpStream,
    read: Bytes,
    control: &Arc<Control>,
    routes: Router,
    caller: Caller,
) {
    let stream = Replayed { read, stream, control: control.clone() };
    let service = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut is_draining = false;
    let ended = std::future::poll_fn(|cx| {
        // Draining wakes this task.
        if !is_draining && control.is_draining() {
            is_draining = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!("the HTTP connection of {} failed: {error}", control.peer());
    }
}

/// A socket that gives what was read of it once more, and tells the node of every movement.
struct Replayed {
    read: Bytes,
    stream: TcpStream,
    control: Arc<Control>,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let count = self.read.len().min(target.remaining());
            target.put_slice(self.read.get(..count).unwrap_or_default());
            self.read.advance(count);
            return Poll::Ready(Ok(()));
        }
        let poll = Pin::new(&mut self.stream).poll_read(cx, target);
        if poll.is_ready() {
            self.control.touch();
        }
        poll
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if poll.is_ready() {
            self.control.touch();
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
