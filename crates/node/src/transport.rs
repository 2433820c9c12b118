//! What a connection needs of its socket: reading, writing, and sending a piece of a file.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use chronik_base::FileRange;
use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// At most this much of a file goes into one system call, so that one connection can't keep a worker busy: 512 KiB.
const PIECE_BYTES_MAX: u64 = 512 << 10;

/// Bytes that one read takes while a file is brought into memory.
const WARMING_READ_BYTES: usize = 64 << 10;

/// A stream of bytes in both directions that can send a piece of a file.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Sends as much of `range` as the other side takes now, from its start on, and returns the number of bytes. It is
    /// an error (`UnexpectedEof`) if the file ends before the range does.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>>;
}

/// A TCP socket without encryption: a piece of a file goes from the system's cache to the socket without being copied.
///
/// What is not in the cache is read first, on a thread that may wait for the disk: `sendfile` would wait on the thread
/// that other connections share.
#[derive(Debug)]
pub struct PlainSocket {
    stream: TcpStream,
    /// The piece that is known to be in the cache.
    warm: Piece,
    /// The piece that is being read into it.
    warming: Option<(Piece, JoinHandle<()>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    start: u64,
    end: u64,
}

impl PlainSocket {
    /// A socket that is connected.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, warm: Piece::default(), warming: None }
    }

    /// The socket itself.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Ready with the number of bytes from the start of `range` that are in the cache.
    fn poll_warm(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<u64> {
        if let Some((piece, task)) = &mut self.warming {
            // If the read failed, sendfile meets the same error and tells it.
            let _ = ready!(Pin::new(task).poll(cx));
            self.warm = *piece;
            self.warming = None;
        }
        if !(self.warm.start..self.warm.end).contains(&range.position) {
            let end = range.position + range.length.min(PIECE_BYTES_MAX);
            let piece = Piece { start: range.position, end };
            if !is_cached(range, piece) {
                let range = range.clone();
                let mut task = tokio::task::spawn_blocking(move || read_through(&range, piece));
                if Pin::new(&mut task).poll(cx).is_pending() {
                    self.warming = Some((piece, task));
                    return Poll::Pending;
                }
            }
            self.warm = piece;
        }
        Poll::Ready(range.length.min(self.warm.end - range.position))
    }
}

/// Whether the ends of a piece can be read without waiting for the disk. A system that can't tell is trusted to be fast.
fn is_cached(range: &FileRange, piece: Piece) -> bool {
    let is_there = |position| {
        let mut byte = [0];
        let read =
            preadv2(range.file.as_fd(), &mut [IoSliceMut::new(&mut byte)], position, ReadWriteFlags::NOWAIT);
        read != Err(Errno::AGAIN)
    };
    is_there(piece.start) && is_there(piece.end.saturating_sub(1))
}

fn read_through(range: &FileRange, piece: Piece) {
    let mut bytes = vec![0; WARMING_READ_BYTES];
    let mut position = piece.start;
    while position < piece.end {
        match pread(range.file.as_fd(), &mut bytes[..], position) {
            Ok(0) => return,
            Ok(read) => position += read as u64,
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

impl Transport for PlainSocket {
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
        let count = usize::try_from(ready!(self.poll_warm(cx, range))).unwrap_or(usize::MAX);
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut position = range.position;
                Ok(sendfile(&self.stream, range.file.as_fd(), Some(&mut position), count)?)
            });
            match sent {
                Ok(0) if count > 0 => return Poll::Ready(Err(file_too_short(range))),
                Ok(sent) => {
                    if sent as u64 >= self.warm.end.saturating_sub(range.position) {
                        // The next piece may be of another file.
                        self.warm = Piece::default();
                    }
                    return Poll::Ready(Ok(sent as u64));
                }
                // try_io has cleared the readiness, so that the next round waits for the socket.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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

/// The error of a file that ends inside a range that was to be sent.
fn file_too_short(range: &FileRange) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("a log file ends before byte {} of an answer", range.position.saturating_add(range.length)),
    )
}

#[cfg(test)]
mod in_memory {
    //! A pipe in memory, for tests; a piece of a file is read and then written.

    use tokio::io::DuplexStream;

    use super::*;

    impl Transport for DuplexStream {
        fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
            let mut piece = vec![0; range.length.min(4096) as usize];
            let read = pread(range.file.as_fd(), &mut piece[..], range.position)?;
            if read == 0 {
                return Poll::Ready(Err(file_too_short(range)));
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
