//! Zstandard frames, decoded with a context that each thread keeps: to make one costs more than a small batch.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::{CompressionError, ZSTD_WINDOW_LOG_MAX};

/// A context that has grown beyond this many bytes is not kept: one batch with a large window must not hold on to it.
const KEEP_MAX: usize = 4 << 20;

thread_local! {
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// Decodes frames that follow each other.
pub(super) struct Decoder<'a> {
    /// There until the decoder is dropped.
    context: Option<DCtx<'static>>,
    input: InBuffer<'a>,
    /// True between frames: the input may end here.
    frame_done: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, CompressionError> {
        let context = match SPARE.take() {
            Some(context) => context,
            None => {
                let mut context = DCtx::try_create()
                    .ok_or_else(|| CompressionError::Failed(ErrorKind::OutOfMemory.into()))?;
                context
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|code| CompressionError::Failed(io::Error::other(get_error_name(code))))?;
                context
            }
        };
        // An empty input is no frame.
        Ok(Self { context: Some(context), input: InBuffer::around(data), frame_done: false })
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(context) = &mut self.context else {
            return Ok(0);
        };
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let at_end = self.input.pos() == self.input.src.len();
            if at_end && self.frame_done {
                return Ok(0);
            }
            let mut output = OutBuffer::around(&mut *buf);
            let hint = context
                .decompress_stream(&mut output, &mut self.input)
                .map_err(|code| io::Error::new(ErrorKind::InvalidData, get_error_name(code)))?;
            self.frame_done = hint == 0;
            let count = output.pos();
            if count > 0 {
                return Ok(count);
            }
            if at_end && !self.frame_done {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the frame is cut short"));
            }
        }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        if let Some(mut context) = self.context.take()
            && context.sizeof() <= KEEP_MAX
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            SPARE.set(Some(context));
        }
    }
}
