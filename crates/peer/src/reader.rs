//! From the socket's bytes to frames. Memory grows as bytes arrive, never by what a header claims.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::frame::{Frame, FrameError, HEADER_BYTES, Header};

/// Bytes that one read takes into the buffer that the links of a thread share: 64 KiB.
const SHARED_BYTES: usize = 64 << 10;

/// A payload that still lacks more than this is read straight into its own buffer: 16 KiB.
const DIRECT_BYTES_MIN: usize = 16 << 10;

/// A buffer grows at once by what its payload lacks, but by no more than this or what has arrived, whichever is larger:
/// 1 MiB.
const GROWTH_BYTES_MIN: usize = 1 << 20;

thread_local! {
    // What arrives is copied from here, so that a payload's memory is only as large as what arrived with it.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SHARED_BYTES].into_boxed_slice());
}

/// Splits what arrives into frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    /// The header of the frame whose payload is arriving.
    header: Option<Header>,
    payload_bytes_max: usize,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The other side sends nothing more.
    End,
    /// So many bytes, at least one.
    Bytes(usize),
}

impl FrameReader {
    /// A reader that refuses payloads of more than `payload_bytes_max` bytes. `read` arrived before.
    pub(crate) fn new(payload_bytes_max: usize, read: &[u8]) -> Self {
        Self { buffer: BytesMut::from(read), header: None, payload_bytes_max }
    }

    /// Takes payloads of up to `payload_bytes_max` bytes from here on.
    pub(crate) fn set_limit(&mut self, payload_bytes_max: usize) {
        self.payload_bytes_max = payload_bytes_max;
    }

    /// Bytes that arrived and belong to no frame that was taken.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes of memory that the frame that is arriving holds.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next whole frame; `None` if it has not arrived yet.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                    Header::check_start(&self.buffer)?;
                    return Ok(None);
                };
                let header = Header::decode(bytes, self.payload_bytes_max)?;
                self.buffer.advance(HEADER_BYTES);
                *self.header.insert(header)
            }
        };
        let length = header.length as usize;
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.header = None;
        let payload = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // The payloads share this memory; it goes when the last of them does.
            self.buffer = BytesMut::new();
        }
        let checked = payload.get(..header.checked as usize).unwrap_or_default();
        if crc32c::crc32c(checked) != header.payload_crc {
            return Err(FrameError::PayloadChecksum);
        }
        let Header { frame_type, kind, request, .. } = header;
        Ok(Some(Frame { frame_type, kind, request, payload }))
    }

    /// Reads once.
    pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        source: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Filled>> {
        let missing =
            self.header.map_or(0, |header| (header.length as usize).saturating_sub(self.buffer.len()));
        let read = if missing > DIRECT_BYTES_MIN {
            // The next header comes along, so that the next payload can be read straight, too.
            let wanted = missing + HEADER_BYTES;
            if self.buffer.capacity() - self.buffer.len() < wanted.min(DIRECT_BYTES_MIN) {
                self.buffer.reserve(wanted.min(self.buffer.len().max(GROWTH_BYTES_MIN)));
            }
            let mut target = (&mut self.buffer).limit(wanted);
            ready!(pin!(source.read_buf(&mut target)).poll(cx))?
        } else {
            ready!(self.poll_fill_shared(source, cx))?
        };
        Poll::Ready(Ok(if read == 0 { Filled::End } else { Filled::Bytes(read) }))
    }

    fn poll_fill_shared<T: AsyncRead + Unpin>(
        &mut self,
        source: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        SHARED.with_borrow_mut(|shared| {
            let mut target = ReadBuf::new(shared);
            ready!(Pin::new(source).poll_read(cx, &mut target))?;
            self.buffer.extend_from_slice(target.filled());
            Poll::Ready(Ok(target.filled().len()))
        })
    }

    /// Reads until a frame is whole. `None` if the other side ends before.
    pub(crate) async fn read_frame<T: AsyncRead + Unpin>(
        &mut self,
        source: &mut T,
    ) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(Some(frame));
            }
            if std::future::poll_fn(|cx| self.poll_fill(source, cx)).await? == Filled::End {
                return Ok(None);
            }
        }
    }
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Splits `bytes` into frames as a link would, as a target for fuzzing: never panics, whatever they are. Gives the number of
/// frames and the payload bytes in them.
pub fn count_frames(bytes: &Bytes, payload_bytes_max: usize) -> Result<(usize, usize), FrameError> {
    let mut reader = FrameReader::new(payload_bytes_max, bytes);
    let (mut frames, mut payload_bytes) = (0, 0);
    while let Some(frame) = reader.next_frame()? {
        frames += 1;
        payload_bytes += frame.payload.len();
    }
    Ok((frames, payload_bytes))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::frame::FrameType;
    use crate::out_frame::Outgoing;

    fn bytes_of(payload: &[u8]) -> Vec<u8> {
        let frame = Outgoing::new(FrameType::Message, 7, 0, Bytes::copy_from_slice(payload));
        let mut bytes = frame.header().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_are_split_wherever_they_are_cut() {
        let mut stream = bytes_of(b"one");
        stream.extend(bytes_of(b""));
        stream.extend(bytes_of(b"three"));
        for cut in 0..=stream.len() {
            let mut reader = FrameReader::new(100, &stream[..cut]);
            let mut payloads = Vec::new();
            while let Some(frame) = reader.next_frame().unwrap() {
                payloads.push(frame.payload);
            }
            reader.buffer.extend_from_slice(&stream[cut..]);
            while let Some(frame) = reader.next_frame().unwrap() {
                payloads.push(frame.payload);
            }
            assert_eq!(payloads, [&b"one"[..], b"", b"three"], "cut at {cut}");
            assert_eq!(reader.held_bytes(), 0);
        }
    }

    #[test]
    fn a_damaged_payload_is_noticed() {
        let mut stream = bytes_of(b"payload");
        *stream.last_mut().unwrap() ^= 1;
        assert_eq!(FrameReader::new(100, &stream).next_frame(), Err(FrameError::PayloadChecksum));
    }

    #[tokio::test]
    async fn a_claimed_length_does_not_reserve_memory() {
        let header = Header {
            frame_type: FrameType::Message,
            kind: 0,
            request: 0,
            length: 100 << 20,
            checked: 0,
            payload_crc: 0,
        };
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(&header.encode()).await.unwrap();
        let mut reader = FrameReader::new(128 << 20, &[]);
        for _ in 0..3 {
            client.write_all(&[7]).await.unwrap();
            std::future::poll_fn(|cx| reader.poll_fill(&mut server, cx)).await.unwrap();
            assert_eq!(reader.next_frame(), Ok(None));
        }
        assert!(reader.held_bytes() <= 2 * GROWTH_BYTES_MIN, "{}", reader.held_bytes());
    }

    #[tokio::test]
    async fn large_frames_arrive_whole() {
        let body: Vec<u8> = (0..3_000_000u32).map(|i| (i / 3) as u8).collect();
        let (mut client, mut server) = tokio::io::duplex(50_000);
        let sent = bytes_of(&body);
        let writer = tokio::spawn(async move {
            for _ in 0..3 {
                client.write_all(&sent).await.unwrap();
            }
        });
        let mut reader = FrameReader::new(4_000_000, &[]);
        for _ in 0..3 {
            let frame = reader.read_frame(&mut server).await.unwrap().unwrap();
            assert!(frame.payload == body);
        }
        assert!(reader.read_frame(&mut server).await.unwrap().is_none());
        writer.await.unwrap();
    }
}
