//! One connection between two nodes: one task, one loop, both directions.
//!
//! Each turn takes what others queued, asks the source while little is unsent, sends, and then reads. Whatever is queued goes
//! before what the source gives, so a heartbeat or an answer waits for one frame of bulk at most.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior};

use crate::error::{LinkEnd, SendError};
use crate::frame::{BULK_FRAME_BYTES, Frame, FrameError, FrameType};
use crate::handler::Handler;
use crate::hello::{Hello, Refusal, RefusalCode};
use crate::inbound::InboundLink;
use crate::link_shared::LinkShared;
use crate::out_frame::Outgoing;
use crate::output::Output;
use crate::reader::{Filled, FrameReader};

/// Unsent bytes above which nothing is taken from the queue: 1 MiB.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// Bytes that one turn of the task moves before others of its thread get theirs: 1 MiB.
const TURN_BYTES_MAX: u64 = 1 << 20;

/// Calls of one link that are answered at once; with more, nothing is read until one is done.
const CALLS_MAX: usize = 1024;

/// Payload bytes of the calls of one link that are answered at once; one call may be larger: 64 MiB.
const CALL_BYTES_MAX: usize = 64 << 20;

/// Which end of the connection this is.
pub(crate) enum Role {
    /// It dialled: it asks.
    Dialler,
    /// It accepted: it answers.
    Acceptor(InboundLink),
}

/// How a link is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSettings {
    /// A link that sent nothing for so long sends a sign of life.
    pub(crate) heartbeat: Duration,
    /// A link that heard nothing for so long ends.
    pub(crate) silence_max: Duration,
    /// A dialled link that nobody used for so long ends.
    pub(crate) idle_max: Option<Duration>,
}

/// The future of a link. It ends with the reason.
pub(crate) struct Link {
    socket: TcpStream,
    reader: FrameReader,
    output: Output,
    shared: Arc<LinkShared>,
    handler: Arc<dyn Handler>,
    role: Role,
    me: Hello,
    settings: LinkSettings,
    /// A message that the handler can't take yet.
    held_up: Option<Frame>,
    calls: Arc<RunningCalls>,
    ticks: Interval,
    heard_at: Instant,
    used_at: Instant,
    is_tick_silent: bool,
    /// Kept for its memory.
    taken: Vec<Outgoing>,
}

/// Calls that are being answered.
#[derive(Default)]
struct RunningCalls {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// What reading came to.
enum Read {
    Bytes(u64),
    Nothing,
    /// Something has to be done first by others, who wake the task.
    HeldUp,
}

impl Link {
    pub(crate) fn new(
        (socket, reader): (TcpStream, FrameReader),
        shared: Arc<LinkShared>,
        handler: Arc<dyn Handler>,
        role: Role,
        me: Hello,
        settings: LinkSettings,
    ) -> Self {
        let mut ticks =
            tokio::time::interval_at(tokio::time::Instant::now() + settings.heartbeat, settings.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Self {
            socket,
            reader,
            output: Output::default(),
            shared,
            handler,
            role,
            me,
            settings,
            held_up: None,
            calls: Arc::default(),
            ticks,
            heard_at: now,
            used_at: now,
            is_tick_silent: true,
            taken: Vec::new(),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        let mut moved_bytes = 0;
        loop {
            self.take_queued(cx)?;
            self.pull_from_source()?;
            let mut sent_bytes = 0;
            let is_writable = match self.output.poll_send(&mut self.socket, cx, &mut sent_bytes) {
                Poll::Ready(result) => result.map(|()| true).map_err(socket_error)?,
                Poll::Pending => false,
            };
            self.is_tick_silent &= sent_bytes == 0;
            let (received_bytes, is_held_up) = match self.read(cx)? {
                Read::Bytes(bytes) => (bytes, false),
                Read::Nothing => (0, false),
                Read::HeldUp => (0, true),
            };
            if received_bytes > 0 || is_held_up {
                self.heard_at = Instant::now();
            }
            self.shared.count(received_bytes, sent_bytes);
            moved_bytes += sent_bytes + received_bytes;
            while self.ticks.poll_tick(cx).is_ready() {
                self.tick()?;
            }
            let can_send = is_writable && (!self.output.is_empty() || self.shared.is_source_asked());
            if received_bytes == 0 && !can_send {
                return Ok(());
            }
            if moved_bytes >= TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Ok(());
            }
        }
    }

    fn take_queued(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        let has_room = self.output.unsent_bytes() < UNSENT_BYTES_MAX;
        let closing = self.shared.take(has_room.then_some(&mut self.taken), cx.waker());
        for frame in self.taken.drain(..) {
            self.output.push(frame);
        }
        closing.map_or(Ok(()), Err)
    }

    /// Asks the source for as much as should wait for the socket.
    fn pull_from_source(&mut self) -> Result<(), LinkEnd> {
        if self.output.unsent_bytes() >= BULK_FRAME_BYTES {
            return Ok(());
        }
        let Some(source) = self.shared.take_asked_source() else { return Ok(()) };
        while let Some(frame) = source.next() {
            let frame = frame.into_outgoing();
            if frame.is_too_large() {
                return Err(LinkEnd::TooLarge { bytes: frame.payload_bytes() });
            }
            self.output.push(frame);
            if self.output.unsent_bytes() >= BULK_FRAME_BYTES {
                self.shared.keep_source_asked();
                break;
            }
        }
        Ok(())
    }

    /// Hands over the frames that have arrived, then reads once.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Read, LinkEnd> {
        let mut any_message = false;
        let outcome = loop {
            if self.calls.is_full() {
                break Ok(Read::HeldUp);
            }
            let frame = match self.held_up.take() {
                Some(frame) => frame,
                None => match self.reader.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break self.fill(cx),
                    Err(error) => break Err(error.into()),
                },
            };
            if frame.frame_type == FrameType::Message {
                if self.handler.poll_ready(&self.shared.peer, frame.kind, cx).is_pending() {
                    self.held_up = Some(frame);
                    break Ok(Read::HeldUp);
                }
                any_message = true;
            }
            if let Err(end) = self.take_frame(frame, cx) {
                break Err(end);
            }
        };
        if any_message {
            self.handler.end_of_read(&self.shared.peer);
        }
        outcome
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Result<Read, LinkEnd> {
        match self.reader.poll_fill(&mut self.socket, cx) {
            Poll::Ready(Ok(Filled::Bytes(count))) => Ok(Read::Bytes(count as u64)),
            Poll::Ready(Ok(Filled::End)) => Err(LinkEnd::Closed),
            Poll::Ready(Err(error)) => Err(socket_error(error)),
            Poll::Pending => Ok(Read::Nothing),
        }
    }

    fn take_frame(&mut self, frame: Frame, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        let Frame { frame_type, kind, request, payload } = frame;
        match (frame_type, &self.role) {
            (FrameType::Heartbeat, _) => {}
            (FrameType::Refused, _) => {
                let text =
                    Refusal::decode(payload).map_or_else(|error| error.to_string(), |refusal| refusal.text);
                return Err(LinkEnd::Ended(text));
            }
            (FrameType::Call, Role::Acceptor(_)) => self.take_call(kind, request, payload, cx),
            (FrameType::Message, Role::Acceptor(link)) => self.handler.message(link, kind, payload),
            (FrameType::Message, Role::Dialler) => {
                self.handler.reply_message(&self.shared.peer, kind, payload);
            }
            (FrameType::Answer, Role::Dialler) => self.shared.complete(request, Ok(payload)),
            (FrameType::CallRefused, Role::Dialler) => {
                let text = String::from_utf8_lossy(&payload).into_owned();
                self.shared.complete(request, Err(text));
            }
            (FrameType::Hello | FrameType::Call | FrameType::Answer | FrameType::CallRefused, _) => {
                return Err(LinkEnd::OutOfPlace(format!("{frame_type:?}")));
            }
        }
        Ok(())
    }

    /// Most calls are answered at once; one that waits gets a task of its own.
    fn take_call(&mut self, kind: u8, request: u64, payload: Bytes, cx: &mut Context<'_>) {
        let bytes = payload.len();
        let mut future = self.handler.call(&self.shared.peer, kind, payload);
        if let Poll::Ready(answer) = future.as_mut().poll(cx) {
            self.output.push(answer_frame(request, answer));
            return;
        }
        let running = RunningCall::begin(&self.calls, self.shared.clone(), request, bytes);
        tokio::spawn(async move { running.finish(future.await) });
    }

    /// Time has passed: shows that this node lives, and judges whether the other does.
    fn tick(&mut self) -> Result<(), LinkEnd> {
        if std::mem::replace(&mut self.is_tick_silent, true) && self.output.is_empty() {
            self.output.push(Outgoing::empty(FrameType::Heartbeat));
        }
        let silent = self.heard_at.elapsed();
        if silent >= self.settings.silence_max {
            let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
            return Err(LinkEnd::Silent { silent_ms });
        }
        if let Some(idle_max) = self.settings.idle_max {
            if self.shared.has_calls() {
                self.used_at = Instant::now();
            } else if self.used_at.elapsed() >= idle_max {
                return Err(LinkEnd::Ours("nobody used it"));
            }
        }
        Ok(())
    }

    /// Tells the other side why, if the socket takes it at once.
    fn say_why(&mut self, why: &LinkEnd, cx: &mut Context<'_>) {
        let (code, text) = match why {
            LinkEnd::Replaced => (RefusalCode::Superseded, why.to_string()),
            LinkEnd::Ours(reason) => (RefusalCode::Stopping, (*reason).to_owned()),
            LinkEnd::Frame(FrameError::Version(_)) => (RefusalCode::Version, why.to_string()),
            LinkEnd::Frame(_) | LinkEnd::OutOfPlace(_) => (RefusalCode::Protocol, why.to_string()),
            _ => return,
        };
        let payload = Refusal { code, hello: self.me.clone(), text }.encode();
        self.output.push(Outgoing::new(FrameType::Refused, 0, 0, payload));
        let _ = self.output.poll_send(&mut self.socket, cx, &mut 0);
    }
}

impl Future for Link {
    type Output = LinkEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let this = self.get_mut();
        match this.drive(cx) {
            Ok(()) => {
                this.output.settle();
                Poll::Pending
            }
            Err(end) => {
                this.say_why(&end, cx);
                Poll::Ready(end)
            }
        }
    }
}

impl RunningCalls {
    fn is_full(&self) -> bool {
        self.count.load(Ordering::Acquire) >= CALLS_MAX
            || self.bytes.load(Ordering::Acquire) >= CALL_BYTES_MAX
    }
}

/// A call that is being answered. Its answer goes out when this goes, also if its task panics.
struct RunningCall {
    calls: Arc<RunningCalls>,
    link: Arc<LinkShared>,
    request: u64,
    bytes: usize,
    answer: Result<Bytes, String>,
}

impl RunningCall {
    fn begin(calls: &Arc<RunningCalls>, link: Arc<LinkShared>, request: u64, bytes: usize) -> Self {
        calls.count.fetch_add(1, Ordering::AcqRel);
        calls.bytes.fetch_add(bytes, Ordering::AcqRel);
        let answer = Err("the call was dropped by its handler".to_owned());
        Self { calls: calls.clone(), link, request, bytes, answer }
    }
}

impl RunningCall {
    fn finish(mut self, answer: Result<Bytes, String>) {
        self.answer = answer;
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.calls.count.fetch_sub(1, Ordering::AcqRel);
        self.calls.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let answer = std::mem::replace(&mut self.answer, Ok(Bytes::new()));
        // This wakes the link's task, which may have stopped reading because of this call.
        self.link.answer(answer_frame(self.request, answer));
    }
}

fn answer_frame(request: u64, answer: Result<Bytes, String>) -> Outgoing {
    let refusal = |text: String| Outgoing::new(FrameType::CallRefused, 0, request, text.into());
    match answer {
        Ok(payload) => {
            let frame = Outgoing::new(FrameType::Answer, 0, request, payload);
            if frame.is_too_large() {
                return refusal(SendError::TooLarge { bytes: frame.payload_bytes() }.to_string());
            }
            frame
        }
        Err(text) => refusal(text),
    }
}

fn socket_error(error: io::Error) -> LinkEnd {
    LinkEnd::Socket(error.to_string())
}
