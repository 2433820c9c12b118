//! A piece of a file goes from the system's cache to a socket without being copied.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use chronik_base::FileRange;
use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// At most this much of a file goes into one system call, so that one connection can't keep a worker busy: 512 KiB.
const PIECE_BYTES_MAX: u64 = 512 << 10;

/// Bytes that one read takes while a piece is brought into the cache: 64 KiB.
const WARMING_READ_BYTES: usize = 64 << 10;

/// Sends pieces of files to one socket.
///
/// What is not in the cache is read first, on a thread that may wait for the disk: `sendfile` would wait on the thread
/// that other connections share.
#[derive(Debug, Default)]
pub struct FileSender {
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

impl FileSender {
    /// Sends as much of `range` as the other side takes now, from its start on, and gives the number of bytes.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` if the file ends before the range does.
    pub fn poll_send(
        &mut self,
        stream: &TcpStream,
        cx: &mut Context<'_>,
        range: &FileRange,
    ) -> Poll<io::Result<u64>> {
        let count = usize::try_from(ready!(self.poll_warm(cx, range))).unwrap_or(usize::MAX);
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                let mut position = range.position;
                Ok(sendfile(stream, range.file.as_fd(), Some(&mut position), count)?)
            });
            match sent {
                Ok(0) if count > 0 => return Poll::Ready(Err(file_too_short(range))),
                Ok(sent) => {
                    let sent = sent as u64;
                    if sent >= self.warm.end.saturating_sub(range.position) {
                        // The next piece may be of another file.
                        self.warm = Piece::default();
                    }
                    return Poll::Ready(Ok(sent));
                }
                // try_io has cleared the readiness, so that the next round waits for the socket.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
            let end = range.position.saturating_add(range.length.min(PIECE_BYTES_MAX));
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
        Poll::Ready(range.length.min(self.warm.end.saturating_sub(range.position)))
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

/// The error of a file that ends inside a range.
fn file_too_short(range: &FileRange) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!(
            "a file ends before byte {}, which was to be sent",
            range.position.saturating_add(range.length)
        ),
    )
}
