//! What a connection needs of its socket: reading, writing, and sending a piece of a file.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use chronik_base::FileRange;
use rustix::fs::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// At most this much of a file goes into one system call, so that one connection can't keep a worker busy: 1 MiB.
const SEND_FILE_BYTES_MAX: u64 = 1 << 20;

/// A stream of bytes in both directions that can send a piece of a file.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Sends as much of `range` as the other side takes now, from its start on, and returns the number of bytes. It is
    /// an error (`UnexpectedEof`) if the file ends before the range does.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>>;
}

impl Transport for TcpStream {
    fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
        let count = usize::try_from(range.length.min(SEND_FILE_BYTES_MAX)).unwrap_or(usize::MAX);
        loop {
            ready!(self.poll_write_ready(cx))?;
            let sent = self.try_io(Interest::WRITABLE, || {
                let mut position = range.position;
                Ok(sendfile(&*self, range.file.as_fd(), Some(&mut position), count)?)
            });
            match sent {
                Ok(0) if count > 0 => return Poll::Ready(Err(file_too_short(range))),
                Ok(sent) => return Poll::Ready(Ok(sent as u64)),
                // try_io has cleared the readiness, so that the next round waits for the socket.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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

    use std::pin::Pin;

    use tokio::io::DuplexStream;

    use super::*;

    impl Transport for DuplexStream {
        fn poll_send_file(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<u64>> {
            let mut piece = vec![0; range.length.min(4096) as usize];
            let read = rustix::io::pread(range.file.as_fd(), &mut piece[..], range.position)?;
            if read == 0 {
                return Poll::Ready(Err(file_too_short(range)));
            }
            let written = ready!(Pin::new(self).poll_write(cx, &piece[..read]))?;
            Poll::Ready(Ok(written as u64))
        }
    }
}
