//! From answers to the socket: small pieces are gathered by copying, large ones by reference, files by `sendfile`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use chronik_base::Chunk;
use chronik_broker::Response;

use crate::transport::Transport;

/// A piece of an answer up to this size is copied next to its neighbours; a larger one is sent from where it is.
const COPIED_BYTES_MAX: usize = 2 << 10;

/// Pieces that one `writev` takes.
const SLICES_MAX: usize = 64;

/// A shared buffer that grew beyond this is given back to the allocator: 256 KiB.
const SHARED_BYTES_MAX: usize = 256 << 10;

thread_local! {
    // Lent to a connection while its task runs; only one with answers that its client does not take keeps it.
    static SHARED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Answers that are being sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Before `tail`; none is empty.
    pieces: VecDeque<Chunk>,
    /// Small pieces, copied one after the other.
    tail: BytesMut,
    /// Bytes in `pieces` that are in memory.
    piece_bytes: usize,
}

impl Output {
    /// True if everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// Bytes in memory that are not sent yet.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.piece_bytes + self.tail.len()
    }

    /// Adds a whole answer.
    pub(crate) fn push(&mut self, response: Response) {
        if self.tail.capacity() == 0 {
            self.tail = SHARED.with_borrow_mut(std::mem::take);
            self.tail.clear();
        }
        for chunk in response.chunks {
            match chunk {
                Chunk::Bytes(bytes) if bytes.len() <= COPIED_BYTES_MAX => self.tail.extend_from_slice(&bytes),
                Chunk::Bytes(bytes) => {
                    self.seal_tail();
                    self.piece_bytes += bytes.len();
                    self.pieces.push_back(Chunk::Bytes(bytes));
                }
                Chunk::File(range) if range.length == 0 => {}
                Chunk::File(range) => {
                    self.seal_tail();
                    self.pieces.push_back(Chunk::File(range));
                }
            }
        }
    }

    /// Sends until all is sent or the socket takes no more. Sets `sent_any` if any bytes went.
    pub(crate) fn poll_send<T: Transport>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
        sent_any: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.pieces.front_mut() {
                None if self.tail.is_empty() => return Poll::Ready(Ok(())),
                None => {
                    let sent = ready!(Pin::new(&mut *transport).poll_write(cx, &self.tail))?;
                    if sent == self.tail.len() {
                        self.tail.clear();
                    } else {
                        self.tail.advance(checked(sent)?);
                    }
                }
                Some(Chunk::File(range)) => {
                    let sent = ready!(transport.poll_send_file(cx, range))?;
                    range.position += sent;
                    range.length = range.length.saturating_sub(sent);
                    if range.length == 0 {
                        self.pieces.pop_front();
                    }
                }
                Some(Chunk::Bytes(_)) => {
                    let sent = ready!(self.poll_send_gathered(transport, cx))?;
                    self.advance(checked(sent)?);
                }
            }
            *sent_any = true;
        }
    }

    /// Lends the buffer back, if nothing is in it, and drops what a burst left over.
    pub(crate) fn settle(&mut self) {
        if self.tail.is_empty() && self.tail.capacity() > 0 {
            let tail = std::mem::take(&mut self.tail);
            if tail.capacity() <= SHARED_BYTES_MAX {
                SHARED.set(tail);
            }
        }
        if self.pieces.is_empty() && self.pieces.capacity() > SLICES_MAX {
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
    fn poll_send_gathered<T: Transport>(
        &mut self,
        transport: &mut T,
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
        let slices = slices.get(..count).unwrap_or_default();
        Pin::new(transport).poll_write_vectored(cx, slices)
    }

    /// Takes `sent` bytes off the front.
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
                    self.tail.advance(sent.min(self.tail.len()));
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
