//! From frames to the socket: small pieces are gathered by copying, large ones by reference, files by `sendfile`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use chronik_base::Chunk;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::file_sender::FileSender;
use crate::out_frame::{Outgoing, Payload};

/// A piece up to this size is copied next to its neighbours; a larger one is sent from where it is: 2 KiB.
const COPIED_BYTES_MAX: usize = 2 << 10;

/// Copied bytes are sealed into a piece of their own at this size, so that one buffer does not grow without end: 128 KiB.
const TAIL_BYTES_MAX: usize = 128 << 10;

/// Pieces that one `writev` takes.
const SLICES_MAX: usize = 64;

/// Frames that are being sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Before `tail`; none is empty.
    pieces: VecDeque<Chunk>,
    /// Headers and small pieces, copied one after the other.
    tail: BytesMut,
    /// Bytes in `pieces`, those in files too.
    piece_bytes: usize,
    files: FileSender,
}

impl Output {
    /// True if everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// Bytes that are not sent yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.piece_bytes + self.tail.len()
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: Outgoing) {
        self.tail.extend_from_slice(&frame.header());
        match frame.payload {
            Payload::One(bytes) => self.push_chunk(Chunk::Bytes(bytes)),
            Payload::Many(chunks) => chunks.into_iter().for_each(|chunk| self.push_chunk(chunk)),
        }
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Bytes(bytes) if bytes.len() <= COPIED_BYTES_MAX => {
                self.tail.extend_from_slice(&bytes);
                if self.tail.len() >= TAIL_BYTES_MAX {
                    self.seal_tail();
                }
            }
            chunk if chunk.is_empty() => {}
            chunk => {
                self.seal_tail();
                self.piece_bytes += chunk.len();
                self.pieces.push_back(chunk);
            }
        }
    }

    /// Sends until all is sent or the socket takes no more. Adds what went to `sent`.
    pub(crate) fn poll_send(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        sent_bytes: &mut u64,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = match self.pieces.front_mut() {
                None if self.tail.is_empty() => return Poll::Ready(Ok(())),
                Some(Chunk::File(range)) => {
                    let sent = ready!(self.files.poll_send(socket, cx, range))?;
                    range.position += sent;
                    range.length = range.length.saturating_sub(sent);
                    if range.length == 0 {
                        self.pieces.pop_front();
                    }
                    let sent = usize::try_from(sent).unwrap_or(usize::MAX);
                    self.piece_bytes = self.piece_bytes.saturating_sub(sent);
                    sent
                }
                Some(Chunk::Bytes(_)) | None => {
                    let sent = checked(ready!(self.poll_send_gathered(socket, cx))?)?;
                    self.advance(sent);
                    sent
                }
            };
            *sent_bytes += sent as u64;
        }
    }

    /// Gives memory back that a burst left over.
    pub(crate) fn settle(&mut self) {
        if self.is_empty() && self.tail.capacity() > TAIL_BYTES_MAX {
            self.tail = BytesMut::new();
        }
        if self.pieces.is_empty() && self.pieces.capacity() > 2 * SLICES_MAX {
            self.pieces = VecDeque::new();
        }
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.piece_bytes += self.tail.len();
            self.pieces.push_back(Chunk::Bytes(self.tail.split().freeze()));
        }
    }

    /// One `writev` of the pieces in memory up to the first file.
    fn poll_send_gathered(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let in_memory = self.pieces.iter().map_while(|piece| match piece {
            Chunk::Bytes(bytes) => Some(&bytes[..]),
            Chunk::File(_) => None,
        });
        for (slice, bytes) in slices.iter_mut().zip(in_memory) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let tail_follows = count == self.pieces.len() && !self.tail.is_empty();
        if let (true, Some(slice)) = (tail_follows, slices.get_mut(count)) {
            *slice = IoSlice::new(&self.tail);
            count += 1;
        }
        Pin::new(socket).poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    /// Takes `sent` bytes in memory off the front.
    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            match self.pieces.front_mut() {
                Some(Chunk::Bytes(bytes)) if sent < bytes.len() => {
                    bytes.advance(sent);
                    self.piece_bytes -= sent;
                    return;
                }
                Some(Chunk::Bytes(bytes)) => {
                    sent -= bytes.len();
                    self.piece_bytes -= bytes.len();
                    self.pieces.pop_front();
                }
                Some(Chunk::File(_)) | None => {
                    if sent >= self.tail.len() {
                        self.tail.clear();
                    } else {
                        self.tail.advance(sent);
                    }
                    return;
                }
            }
        }
    }
}

/// A socket that takes nothing although it is writable never will.
fn checked(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}
