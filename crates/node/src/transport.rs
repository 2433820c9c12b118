//! What a connection needs of its socket: reading, writing, and sending a piece of a file.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use chronik_base::FileRange;
use chronik_peer::FileSender;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of bytes in both directions that can send a piece of a file.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Sends as much of `range` as the other side takes now, from its start on, and returns the number of bytes. It is
    /// an error (`UnexpectedEof`) if the file ends before the range does.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>>;
}

/// A TCP socket without encryption: a piece of a file goes from the system's cache to the socket without being copied.
#[derive(Debug)]
pub struct PlainSocket {
    stream: TcpStream,
    files: FileSender,
}

impl PlainSocket {
    /// A socket that is connected.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, files: FileSender::default() }
    }

    /// The socket itself.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl Transport for PlainSocket {
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
        self.files.poll_send(&self.stream, cx, range)
    }
}

impl AsyncRead for PlainSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, target)
    }
}

impl AsyncWrite for PlainSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod in_memory {
    //! A pipe in memory, for tests; a piece of a file is read and then written.

    use std::os::fd::AsFd;
    use std::task::ready;

    use rustix::io::pread;
    use tokio::io::DuplexStream;

    use super::*;

    impl Transport for DuplexStream {
        fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
            let mut piece = vec![0; range.length.min(4096) as usize];
            let read = pread(range.file.as_fd(), &mut piece[..], range.position)?;
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let written = ready!(Pin::new(self).poll_write(cx, &piece[..read]))?;
            Poll::Ready(Ok(written as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn sockets() -> (PlainSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (PlainSocket::new(listener.accept().await.unwrap().0), client)
    }

    async fn send(socket: &mut PlainSocket, mut range: FileRange) -> io::Result<()> {
        while range.length > 0 {
            let sent = std::future::poll_fn(|cx| socket.poll_send_file(cx, &range)).await?;
            range.position += sent;
            range.length -= sent;
        }
        Ok(())
    }

    #[tokio::test]
    async fn files_are_sent_whole_from_disk_and_from_memory() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        let file = Arc::new(file);
        for is_cold in [true, false] {
            if is_cold {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            let (mut socket, mut client) = sockets().await;
            let range = FileRange { file: file.clone(), position: 10, length: 2_999_000 };
            let sender = tokio::spawn(async move { send(&mut socket, range).await });
            let mut received = vec![0; 2_999_000];
            client.read_exact(&mut received).await.unwrap();
            assert!(received == bytes[10..2_999_010]);
            sender.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        let (mut socket, _client) = sockets().await;
        let range = FileRange { file: Arc::new(file), position: 0, length: 10 };
        let error = send(&mut socket, range).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
