//! HTTP on a connection whose first bytes have been read.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use chronik_http::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::control::Control;

/// How long a request's headers may take to arrive: 10 s. Its body is bounded by the sweep, as any silence is.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The most a request's headers may take up, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Serves `routes` on `stream`, of which `read` was read before.
pub(crate) async fn serve(stream: TcpStream, read: Bytes, control: &Arc<Control>, routes: Router) {
    let stream = Replayed { read, stream, control: control.clone() };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
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
