//! One connection that speaks Kafka's protocol: one task, one loop, no queue between reading and writing.
//!
//! Requests are read on while earlier ones wait, and answers go out in order. Each turn of the loop sends what is
//! answered, then reads once, hands every frame that is whole to the [`Service`], and tells it that the read is over.
//! Only the oldest request that waits is polled: whatever it waits for goes on by itself.
//!
//! The loop stops reading, and so lets TCP hold the client back, while too many requests wait, while their bytes are
//! too many (for the connection or the node), or while the client does not take its answers.

mod output;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use chronik_base::Chunk;
use chronik_broker::{CloseReason, Outcome, Response};

use crate::control::{Control, Phase};
use crate::gate::{Gate, Reading};
use crate::service::Service;
use crate::sniff::{self, Opening};
use crate::transport::Transport;
use output::Output;
use reader::{BadLength, Filled, FrameReader};

/// Bytes of unsent answers in memory above which no more requests are taken: 512 KiB.
const UNSENT_BYTES_MAX: usize = 512 << 10;

/// Bytes that one turn of the task reads before others of its thread get theirs: 512 KiB.
const TURN_BYTES_MAX: usize = 512 << 10;

/// A queue of answers that grew beyond this is given back when it is empty.
const QUEUE_KEPT: usize = 128;

/// What a request that waits costs beside its bytes.
pub const REQUEST_OVERHEAD_BYTES: usize = 512;

/// How much one connection may ask for before it is answered.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Largest request frame, in bytes (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Bytes of requests that may wait for their answers (`connection.queued.max.bytes`); a larger one waits alone.
    /// Each request counts [`REQUEST_OVERHEAD_BYTES`] more than its length, which bounds their number too.
    pub waiting_bytes_max: usize,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ending {
    /// The client closed it.
    Client,
    /// The socket failed.
    Socket(io::Error),
    /// The node closes it because of what the client sent.
    Refused(CloseReason),
    /// An answer asked for it.
    Answered,
    /// The node stops.
    Draining,
    /// The client speaks HTTP; these bytes have been read.
    Http(Bytes),
    /// It is another node's; these bytes have been read.
    Peer(Bytes),
}

/// One unanswered request.
struct Waiting {
    request_bytes: usize,
    answer: Answer,
}

enum Answer {
    Ready(Response),
    Pending(Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// The future of a connection. It ends with the reason.
pub struct Connection<T, S> {
    transport: T,
    service: S,
    control: Arc<Control>,
    held: Held,
    limits: ConnectionLimits,
    reader: FrameReader,
    waiting: VecDeque<Waiting>,
    /// Bytes of the requests in `waiting`.
    waiting_bytes: usize,
    /// Bytes in memory of the answers in `waiting` that are ready.
    ready_bytes: usize,
    output: Output,
    is_kafka: bool,
    /// Why nothing more is read; the connection ends when all is answered.
    ending: Option<Ending>,
    is_registered: bool,
    is_active: bool,
}

impl<T: Transport, S: Service> Connection<T, S> {
    /// A connection that has just been accepted.
    pub fn new(
        transport: T,
        service: S,
        control: Arc<Control>,
        gate: Arc<Gate>,
        limits: ConnectionLimits,
    ) -> Self {
        Self {
            transport,
            service,
            control,
            held: Held { gate, bytes: 0 },
            limits,
            reader: FrameReader::new(limits.request_bytes_max),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            ready_bytes: 0,
            output: Output::default(),
            is_kafka: false,
            ending: None,
            is_registered: false,
            is_active: false,
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if !self.is_registered {
            self.is_registered = true;
            self.control.set_waker(cx.waker());
        }
        let mut read_bytes = 0;
        loop {
            if self.control.is_draining() && self.ending.is_none() {
                self.ending = Some(Ending::Draining);
            }
            let is_held_up = self.collect_answers(cx);
            match self.output.poll_send(&mut self.transport, cx, &mut self.is_active) {
                Poll::Ready(Ok(())) if is_held_up => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ending::Socket(error)),
            }
            if let Some(ending) = self.ending.take_if(|_| self.waiting.is_empty() && self.output.is_empty()) {
                return Poll::Ready(ending);
            }
            if !self.may_take_requests(cx) {
                return Poll::Pending;
            }
            if self.take_requests() {
                continue;
            }
            if read_bytes >= TURN_BYTES_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.reader.poll_fill(&mut self.transport, cx) {
                Poll::Ready(Ok(Filled::Bytes(count))) => {
                    self.is_active = true;
                    if !self.is_kafka {
                        self.look_at_first_bytes();
                    }
                    self.take_requests();
                    read_bytes += count;
                }
                Poll::Ready(Ok(Filled::End)) => self.ending = Some(Ending::Client),
                Poll::Ready(Err(error)) => return Poll::Ready(Ending::Socket(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Moves answers from the front of the queue to the output, up to the first that is not there yet. Returns true
    /// if it stopped before that, because the client has to take some first.
    fn collect_answers(&mut self, cx: &mut Context<'_>) -> bool {
        while self.output.memory_bytes() < UNSENT_BYTES_MAX {
            let response = match self.waiting.front_mut() {
                None => return false,
                Some(Waiting { answer: Answer::Pending(future), .. }) => match future.as_mut().poll(cx) {
                    Poll::Ready(response) => response,
                    Poll::Pending => return false,
                },
                Some(Waiting { answer: Answer::Ready(response), .. }) => {
                    let response = std::mem::take(response);
                    self.ready_bytes -= memory_bytes(&response);
                    response
                }
            };
            if let Some(done) = self.waiting.pop_front() {
                self.waiting_bytes -= done.request_bytes;
            }
            let is_last = response.close;
            self.output.push(response);
            if is_last {
                self.waiting.clear();
                self.waiting_bytes = 0;
                self.ready_bytes = 0;
                self.ending = Some(Ending::Answered);
            }
        }
        true
    }

    /// Whether more may be asked now. If not, something that is under way wakes the task: an answer, the client
    /// taking its answers, storage that catches up, or the gate.
    fn may_take_requests(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.is_some() || self.is_full() {
            return false;
        }
        let reading = if self.reader.held_bytes() == 0 { Reading::Begin } else { Reading::GoOn };
        self.service.poll_unpressured(cx).is_ready() && !self.held.gate.wait(reading, cx.waker())
    }

    fn is_full(&self) -> bool {
        self.waiting_bytes >= self.limits.waiting_bytes_max
            || self.output.memory_bytes() + self.ready_bytes >= UNSENT_BYTES_MAX
    }

    /// Hands the frames that have arrived to the service. Returns whether there was any.
    fn take_requests(&mut self) -> bool {
        let mut any = false;
        while self.is_kafka && self.ending.is_none() && !self.is_full() {
            match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    any = true;
                    self.take_request(frame);
                }
                Ok(None) => break,
                Err(bad) => self.ending = Some(Ending::Refused(bad_length(bad))),
            }
        }
        if any {
            self.service.end_of_read();
        }
        any
    }

    fn take_request(&mut self, frame: Bytes) {
        let request_bytes = frame.len() + REQUEST_OVERHEAD_BYTES;
        let answer = match self.service.handle(frame) {
            Outcome::Ready(response) => {
                self.ready_bytes += memory_bytes(&response);
                Answer::Ready(response)
            }
            Outcome::Pending(future) => Answer::Pending(future),
            Outcome::NoAnswer => return,
            Outcome::Close(reason) => {
                self.ending = Some(Ending::Refused(reason));
                return;
            }
        };
        self.waiting_bytes += request_bytes;
        self.waiting.push_back(Waiting { request_bytes, answer });
    }

    fn look_at_first_bytes(&mut self) {
        match sniff::opening(self.reader.buffered(), self.limits.request_bytes_max) {
            Opening::Undecided => self.control.set_phase(Phase::FirstBytes),
            Opening::Kafka => self.is_kafka = true,
            Opening::Http => self.ending = Some(Ending::Http(self.reader.take_buffered())),
            Opening::Peer => self.ending = Some(Ending::Peer(self.reader.take_buffered())),
            Opening::Refused(reason) => self.ending = Some(Ending::Refused(reason)),
        }
    }

    /// Tells the node what this turn changed, and lends back what an idle connection needs not hold.
    fn settle(&mut self) {
        self.output.settle();
        if self.waiting.is_empty() && self.waiting.capacity() > QUEUE_KEPT {
            self.waiting = VecDeque::new();
        }
        if std::mem::take(&mut self.is_active) {
            self.control.touch();
        }
        if self.is_kafka {
            self.control.set_phase(match () {
                () if self.ending.is_some() => Phase::Ending,
                () if self.waiting.is_empty() || !self.output.is_empty() => Phase::Kafka,
                () => Phase::Waiting,
            });
        }
        let held_bytes = self.waiting_bytes + self.reader.held_bytes();
        if held_bytes != self.held.bytes {
            self.held.set(held_bytes);
            self.control.set_held_bytes(held_bytes);
        }
    }
}

impl<T, S> Connection<T, S> {
    /// The socket.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// The socket; everything else goes.
    pub fn into_transport(self) -> T {
        self.transport
    }
}

impl<T: Transport, S: Service> Future for Connection<T, S> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        let poll = this.drive(cx);
        this.settle();
        poll
    }
}

/// What the gate counts for a connection, until that goes.
struct Held {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Held {
    fn set(&mut self, bytes: usize) {
        self.gate.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes of an answer that are in memory rather than in a file.
fn memory_bytes(response: &Response) -> usize {
    let in_memory = |chunk: &Chunk| if let Chunk::Bytes(bytes) = chunk { bytes.len() } else { 0 };
    response.chunks.iter().map(in_memory).sum()
}

fn bad_length(bad: BadLength) -> CloseReason {
    let BadLength { length, limit } = bad;
    let detail = if length < 0 {
        format!("a request says that it is {length} bytes long")
    } else {
        format!(
            "a request of {length} bytes is over the limit of {limit} (raise socket.request.max.bytes to allow it)"
        )
    };
    CloseReason { kind: "bad request length", detail }
}
