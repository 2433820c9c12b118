//! From the socket's bytes to request frames.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes that one read takes into the buffer that the connections of a thread share.
const SHARED_BYTES: usize = 64 << 10;

/// A frame that still lacks more than this is read straight into its own buffer.
const DIRECT_BYTES_MIN: usize = 16 << 10;

/// A buffer grows at once by what its frame lacks, but by no more than this or what has arrived, whichever is larger:
/// a length alone must not reserve memory.
const GROWTH_BYTES_MIN: usize = 1 << 20;

thread_local! {
    // A connection owns a buffer only while it holds a part of a frame, so that ten thousand idle ones own none, and
    // a frame's buffer is only as large as what arrived with it.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SHARED_BYTES].into_boxed_slice());
}

/// Splits what arrives into frames: a length of four bytes, big-endian, then as many bytes.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

/// A frame that is refused because of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLength {
    /// The length that the frame claims.
    pub(crate) length: i32,
    /// The largest length that is taken.
    pub(crate) limit: usize,
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The other side sends nothing more.
    End,
    /// So many bytes, at least one.
    Bytes(usize),
}

impl FrameReader {
    /// A reader that refuses frames of more than `frame_bytes_max` bytes.
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// The bytes that arrived and were not taken yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes everything that arrived and was not taken yet.
    pub(crate) fn take_buffered(&mut self) -> Bytes {
        std::mem::take(&mut self.buffer).freeze()
    }

    /// Bytes of memory that the frame that is arriving holds.
    pub(crate) fn held_bytes(&self) -> usize {
        if self.buffer.is_empty() { 0 } else { self.buffer.capacity() }
    }

    /// The next whole frame, without its length; `None` if it has not arrived yet.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Bytes>, BadLength> {
        let Some(length) = self.frame_length()? else { return Ok(None) };
        if self.buffer.len() - 4 < length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // The frames share this memory; it goes when the last of them does.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// The length of the frame at the start of the buffer, if it has arrived.
    fn frame_length(&self) -> Result<Option<usize>, BadLength> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= self.frame_bytes_max => Ok(Some(bytes)),
            _ => Err(BadLength { length, limit: self.frame_bytes_max }),
        }
    }

    /// Reads once.
    pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Filled>> {
        let missing = match self.frame_length() {
            Ok(Some(length)) => (4 + length).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        let read = if missing > DIRECT_BYTES_MIN {
            if self.buffer.capacity() - self.buffer.len() < DIRECT_BYTES_MIN {
                self.buffer.reserve(missing.min(self.buffer.len().max(GROWTH_BYTES_MIN)));
            }
            ready!(pin!(transport.read_buf(&mut self.buffer)).poll(cx))?
        } else {
            ready!(self.poll_fill_shared(transport, cx))?
        };
        Poll::Ready(Ok(if read == 0 { Filled::End } else { Filled::Bytes(read) }))
    }

    fn poll_fill_shared<T: AsyncRead + Unpin>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        SHARED.with_borrow_mut(|shared| {
            let mut target = ReadBuf::new(shared);
            ready!(Pin::new(transport).poll_read(cx, &mut target))?;
            self.buffer.extend_from_slice(target.filled());
            Poll::Ready(Ok(target.filled().len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn reader_of(bytes: &[u8], frame_bytes_max: usize) -> FrameReader {
        FrameReader { buffer: BytesMut::from(bytes), frame_bytes_max }
    }

    #[test]
    fn lengths_beyond_the_limit_and_below_zero_are_refused() {
        let mut reader = reader_of(&i32::MAX.to_be_bytes(), 100);
        assert_eq!(reader.next_frame(), Err(BadLength { length: i32::MAX, limit: 100 }));
        let mut reader = reader_of(&(-1i32).to_be_bytes(), 100);
        assert_eq!(reader.next_frame(), Err(BadLength { length: -1, limit: 100 }));
        let mut reader = reader_of(&101i32.to_be_bytes(), 100);
        assert!(reader.next_frame().is_err());
    }

    #[test]
    fn an_empty_frame_is_a_frame() {
        let mut reader = reader_of(&[0, 0, 0, 0, 0, 0, 0, 1, 9], 100);
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::new())));
        assert_eq!(reader.next_frame(), Ok(Some(Bytes::from_static(&[9]))));
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_claimed_length_does_not_reserve_memory() {
        let limit = 100 << 20;
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(&(limit as i32).to_be_bytes()).await.unwrap();
        client.write_all(&[7; 10]).await.unwrap();
        let mut reader = FrameReader::new(limit);
        for _ in 0..2 {
            client.write_all(&[7]).await.unwrap();
            std::future::poll_fn(|cx| reader.poll_fill(&mut server, cx)).await.unwrap();
        }
        assert!(reader.held_bytes() <= 2 * GROWTH_BYTES_MIN, "{}", reader.held_bytes());
    }

    #[tokio::test]
    async fn a_large_frame_arrives_whole() {
        let body: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let (mut client, mut server) = tokio::io::duplex(50_000);
        let sent = body.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..2 {
                client.write_all(&(sent.len() as u32).to_be_bytes()).await.unwrap();
                client.write_all(&sent).await.unwrap();
            }
        });
        let mut reader = FrameReader::new(4_000_000);
        for _ in 0..2 {
            let frame = loop {
                if let Some(frame) = reader.next_frame().unwrap() {
                    break frame;
                }
                std::future::poll_fn(|cx| reader.poll_fill(&mut server, cx)).await.unwrap();
            };
            assert!(frame == body);
        }
        writer.await.unwrap();
    }
}
