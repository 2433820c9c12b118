//! Frames of the metadata log: what is written and flushed together.
//!
//! A frame is a marker, the length of its payload, the payload's CRC-32C, and the payload: the number of its first command, how
//! many there are, and their bytes. As a frame is begun only after the one before was flushed, bytes that are no frame at the end of
//! the log are a write that was cut short; bytes that are no frame with a whole later frame behind them are damage.

use crate::codec::{CodecError, Decoder, Encoder};
use crate::command::Command;
use crate::command_codec::{get_commands, put_commands};
use crate::image::MetaOffset;

/// What each frame begins with.
const MARKER: [u8; 4] = *b"cmf\x01";

/// Bytes in front of the payload: marker, length, CRC; both numbers little-endian.
const HEAD: usize = 12;

/// The commands of one frame, and the number of the first of them.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) first: MetaOffset,
    pub(crate) commands: Vec<Command>,
}

/// What is at a place of the log.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// A frame, and the position behind it.
    Frame(Frame, usize),
    /// The end of the log.
    End,
    /// No frame; why not.
    Nothing(&'static str),
    /// A whole frame with content that cannot be read.
    Unreadable(CodecError),
}

/// The bytes of a frame of encoded commands, the first of them with number `first`.
pub(crate) fn encode(first: MetaOffset, commands: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Encoder::default();
    payload.unsigned(first);
    put_commands(&mut payload, commands.iter());
    let payload = payload.bytes;
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(&MARKER);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    frame
}

/// The longest payload: its length must fit its field.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;

/// Reads what is at `position` of the log's `bytes`.
pub(crate) fn read(bytes: &[u8], position: usize) -> Found {
    let rest = bytes.get(position..).unwrap_or(&[]);
    if rest.is_empty() {
        return Found::End;
    }
    match whole(rest) {
        Err(why) => Found::Nothing(why),
        Ok(payload) => match decode(payload) {
            Ok(frame) => Found::Frame(frame, position + HEAD + payload.len()),
            Err(error) => Found::Unreadable(error),
        },
    }
}

/// The position of the first whole frame behind `position`, if there is one.
pub(crate) fn next_whole(bytes: &[u8], position: usize) -> Option<usize> {
    let mut at = position + 1;
    loop {
        let rest = bytes.get(at..)?;
        let found = rest.windows(MARKER.len()).position(|window| window == MARKER)?;
        if whole(rest.get(found..)?).is_ok() {
            return Some(at + found);
        }
        at += found + 1;
    }
}

/// The payload of the frame that `bytes` begin with.
fn whole(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (head, rest) = bytes.split_at_checked(HEAD).ok_or("a frame's head is cut short")?;
    let field =
        |at: usize| head.get(at..at + 4).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes);
    if !head.starts_with(&MARKER) {
        return Err("there is no frame");
    }
    let (Some(length), Some(crc)) = (field(4), field(8)) else { return Err("a frame's head is cut short") };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // A marker before zeros, as a torn write leaves it, would pass for an empty frame: the CRC of nothing is 0.
    if length == 0 {
        return Err("a frame is empty");
    }
    let payload = rest.get(..length).ok_or("a frame is cut short")?;
    if crc32c::crc32c(payload) != crc {
        return Err("a frame's CRC is wrong");
    }
    Ok(payload)
}

fn decode(payload: &[u8]) -> Result<Frame, CodecError> {
    let mut input = Decoder::new(payload);
    let first = input.unsigned("a frame's offset")?;
    let commands = get_commands(&mut input)?;
    input.finish()?;
    Ok(Frame { first, commands })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_end_is_told_from_damage() {
        let commands = [Command::AllocateProducerIds { count: 7 }.encode()];
        let one = encode(1, &commands);
        let mut log = one.clone();
        log.extend_from_slice(&encode(2, &commands));
        assert!(matches!(read(&log, 0), Found::Frame(Frame { first: 1, .. }, end) if end == one.len()));
        for cut in one.len() + 1..log.len() {
            assert!(matches!(read(&log[..cut], one.len()), Found::Nothing(_)));
            assert_eq!(next_whole(&log[..cut], one.len()), None);
        }
        for at in 0..one.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 0x40;
            assert!(matches!(read(&damaged, 0), Found::Nothing(_)), "{at}");
            assert_eq!(next_whole(&damaged, 0), Some(one.len()), "{at}");
        }
    }

    #[test]
    fn a_newer_command_is_named() {
        let mut command = Command::AllocateProducerIds { count: 7 }.encode();
        command[1] = 9;
        let Found::Unreadable(error) = read(&encode(1, &[command]), 0) else { panic!("read") };
        assert!(error.to_string().contains("version 9 of the command AllocateProducerIds"), "{error}");
    }
}
