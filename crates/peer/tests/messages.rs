//! One-way messages, bulk that is pulled, and who waits for whom.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{Chunk, FileRange, Transport};
use chronik_peer::{BULK_FRAME_BYTES, InboundLink, OutFrame, PeerSettings, SendError, Source};
use common::*;

/// A source with a list of frames, which counts how often it was asked.
#[derive(Default)]
struct List {
    frames: Mutex<VecDeque<OutFrame>>,
    asked: AtomicUsize,
    given: AtomicUsize,
}

impl Source for List {
    fn next(&self) -> Option<OutFrame> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let frame = self.frames.lock().unwrap().pop_front();
        self.given.fetch_add(usize::from(frame.is_some()), Ordering::SeqCst);
        frame
    }
}

impl List {
    fn add(&self, kind: u8, bytes: &[u8]) {
        self.frames.lock().unwrap().push_back(OutFrame::new(kind, chunk(bytes)));
    }
}

/// Node 1, which has dialled node 2, and the link as node 2 sees it.
async fn linked(settings: PeerSettings) -> (Node, Node, InboundLink) {
    let (a, b) = (node_with(hello(1), settings).await, node_with(hello(2), settings).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    connected(&a, 2).await;
    until("the link", || b.peers.inbound_link(1).is_some()).await;
    let link = b.peers.inbound_link(1).unwrap();
    (a, b, link)
}

fn numbers(payloads: &[(i32, u8, Bytes)]) -> Vec<u32> {
    payloads.iter().map(|(_, _, p)| u32::from_be_bytes(*p.first_chunk().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_keep_their_order_in_both_directions() {
    let (a, b, link) = linked(settings()).await;
    for i in 0..10_000u32 {
        a.peers.send(2, 5, chunk(&i.to_be_bytes())).unwrap();
        link.send(6, chunk(&i.to_be_bytes())).unwrap();
    }
    until("all messages", || b.recorder.messages.lock().unwrap().len() == 10_000).await;
    until("all replies", || a.recorder.replies.lock().unwrap().len() == 10_000).await;
    let expected: Vec<u32> = (0..10_000).collect();
    let (messages, replies) = (b.recorder.messages.lock().unwrap(), a.recorder.replies.lock().unwrap());
    assert_eq!(numbers(&messages), expected);
    assert_eq!(numbers(&replies), expected);
    assert!(messages.iter().all(|(from, kind, _)| (*from, *kind) == (1, 5)));
    assert!(replies.iter().all(|(from, kind, _)| (*from, *kind) == (2, 6)));
    assert!(b.recorder.reads.load(Ordering::SeqCst) < 10_000, "one end of a read stands for many messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_asked_until_it_has_nothing_and_again_when_woken() {
    let (a, _b, link) = linked(settings()).await;
    let list = Arc::new(List::default());
    list.add(7, b"before");
    link.set_source(list.clone());
    until("the first frame", || a.recorder.replies.lock().unwrap().len() == 1).await;
    for round in 0..200u32 {
        list.add(7, &round.to_be_bytes());
        link.wake();
        link.wake();
        let expected = 2 + round as usize;
        until("the next frame", || a.recorder.replies.lock().unwrap().len() == expected).await;
    }
    // Once for each frame, once more for each wake that found nothing: nobody polls.
    assert!(list.asked.load(Ordering::SeqCst) <= 3 * 201, "{}", list.asked.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wakes_from_many_threads_lose_nothing() {
    let (a, _b, link) = linked(settings()).await;
    let list = Arc::new(List::default());
    link.set_source(list.clone());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (list, link) = (list.clone(), link.clone());
            scope.spawn(move || {
                for i in 0..5_000u32 {
                    list.add(7, &(thread * 5_000 + i).to_be_bytes());
                    link.wake();
                }
            });
        }
    });
    until("all frames", || a.recorder.replies.lock().unwrap().len() == 20_000).await;
    let mut seen = numbers(&a.recorder.replies.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..20_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_memory_arrive_as_one_payload() {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.sync_all().unwrap();
    let file = Arc::new(file);
    let (a, _b, link) = linked(settings()).await;
    let list = Arc::new(List::default());
    for is_cold in [true, false] {
        if is_cold {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        let range = |position, length| Chunk::File(FileRange { file: file.clone(), position, length });
        let chunks = vec![
            Chunk::Bytes(Bytes::from_static(b"head")),
            range(10, 1_000_000),
            Chunk::Bytes(Bytes::from(vec![9; 5_000])),
            range(2_000_000, 3),
            range(7, 0),
            Chunk::Bytes(Bytes::from_static(b"tail")),
        ];
        let frame = OutFrame::new(7, chunks);
        assert_eq!(frame.payload_bytes(), 4 + 1_000_000 + 5_000 + 3 + 4);
        list.frames.lock().unwrap().push_back(frame);
        link.set_source(list.clone());
        until("the frame", || !a.recorder.replies.lock().unwrap().is_empty()).await;
        let payload = a.recorder.replies.lock().unwrap().pop().unwrap().2;
        let expected =
            [b"head", &bytes[10..1_000_010], &[9; 5_000], &bytes[2_000_000..2_000_003], b"tail"].concat();
        assert!(payload == expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_too_short_ends_the_link() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"short").unwrap();
    let (a, _b, link) = linked(settings()).await;
    let list = Arc::new(List::default());
    let range = FileRange { file: Arc::new(file), position: 0, length: 10 };
    list.frames.lock().unwrap().push_back(OutFrame::new(7, vec![Chunk::File(range)]));
    link.set_source(list);
    until("the end of the link", || !link.is_open()).await;
    assert!(matches!(link.send(6, Vec::new()), Err(SendError::Disconnected { node: 1, .. })));
    connected(&a, 2).await;
    assert!(a.recorder.replies.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_all_sizes_arrive_as_they_were_given() {
    let (a, _b, link) = linked(settings()).await;
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i / 11) as u8).collect();
    file.write_all(&bytes).unwrap();
    let (file, memory) = (Arc::new(file), Bytes::from(bytes.clone()));
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let list = Arc::new(List::default());
    let mut expected = Vec::new();
    for _ in 0..300 {
        let (mut chunks, mut payload) = (Vec::new(), Vec::new());
        for _ in 0..draw(6) {
            // Around the sizes at which pieces are copied, sealed and read straight.
            let most = [16, 2_100, 20_000, 140_000][draw(4) as usize];
            let length = draw(most) as usize;
            let position = draw((bytes.len() - length) as u64) as usize;
            payload.extend_from_slice(&bytes[position..position + length]);
            chunks.push(if draw(3) == 0 {
                Chunk::File(FileRange {
                    file: file.clone(),
                    position: position as u64,
                    length: length as u64,
                })
            } else {
                Chunk::Bytes(memory.slice(position..position + length))
            });
        }
        expected.push(Bytes::from(payload));
        list.frames.lock().unwrap().push_back(OutFrame::new(7, chunks));
    }
    link.set_source(list);
    until("all frames", || a.recorder.replies.lock().unwrap().len() == expected.len()).await;
    let replies = a.recorder.replies.lock().unwrap();
    for (i, (reply, expected)) in replies.iter().zip(&expected).enumerate() {
        assert!(reply.2 == *expected, "frame {i} of {} bytes", expected.len());
    }
}

/// An endless source of bulk frames.
struct Endless {
    payload: Bytes,
    given: AtomicUsize,
}

impl Source for Endless {
    fn next(&self) -> Option<OutFrame> {
        self.given.fetch_add(1, Ordering::SeqCst);
        Some(OutFrame::partly_checked(HELD, vec![Chunk::Bytes(self.payload.clone())], 0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_go_before_bulk() {
    let (a, _b, link) = linked(settings()).await;
    link.set_source(Arc::new(Endless {
        payload: Bytes::from(vec![1; BULK_FRAME_BYTES]),
        given: AtomicUsize::new(0),
    }));
    until("bulk", || !a.recorder.replies.lock().unwrap().is_empty()).await;
    for i in 0..50u32 {
        let payload = Bytes::copy_from_slice(&i.to_be_bytes());
        assert_eq!(a.peers.call(2, ECHO, payload.clone(), SOON).await, Ok(payload));
        a.recorder.replies.lock().unwrap().clear();
    }
    // A small message that is queued now is behind at most what waits for the socket, not behind the source.
    a.recorder.replies.lock().unwrap().clear();
    link.send(6, chunk(b"small")).unwrap();
    until("the small message", || {
        let mut replies = a.recorder.replies.lock().unwrap();
        let found = replies.iter().any(|(_, kind, _)| *kind == 6);
        replies.clear();
        found
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_the_source_back_and_stays_connected() {
    let quick = PeerSettings {
        heartbeat: Duration::from_millis(50),
        silence_max: Duration::from_millis(1_500),
        ..settings()
    };
    let (a, b, link) = linked(quick).await;
    a.recorder.is_held.store(true, Ordering::SeqCst);
    let endless =
        Arc::new(Endless { payload: Bytes::from(vec![1; BULK_FRAME_BYTES]), given: AtomicUsize::new(0) });
    link.set_source(endless.clone());
    until("the first frame that is held up", || a.recorder.waker.lock().unwrap().is_some()).await;
    // What was pulled stops growing: it waits in sockets and at most one frame beyond.
    let mut last = (0, Instant::now());
    until("the source to be held back", || {
        let given = endless.given.load(Ordering::SeqCst);
        if given != last.0 {
            last = (given, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    })
    .await;
    let held_back = endless.given.load(Ordering::SeqCst);
    assert!(held_back * BULK_FRAME_BYTES <= 64 << 20, "{held_back} frames were pulled");
    // Much longer than silence is allowed: neither side takes it for death.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(endless.given.load(Ordering::SeqCst), held_back);
    assert!(link.is_open());
    assert_eq!(a.recorder.events.lock().unwrap().len(), 1, "connected, and nothing since");
    a.recorder.let_through();
    until("more", || endless.given.load(Ordering::SeqCst) > held_back + 100).await;
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_says_so() {
    let small = PeerSettings { queued_bytes_max: 1 << 20, ..settings() };
    let (a, b, _link) = linked(small).await;
    b.recorder.is_held.store(true, Ordering::SeqCst);
    let payload = Bytes::from(vec![1; 100_000]);
    let mut sent = 0;
    let refused = loop {
        match a.peers.send(2, HELD, vec![Chunk::Bytes(payload.clone())]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "nothing holds the sender back");
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, SendError::QueueFull { node: 2, limit, .. } if limit == 1 << 20), "{refused}");
    b.recorder.let_through();
    until("what was taken", || b.recorder.messages.lock().unwrap().len() == sent).await;
    a.peers.send(2, HELD, vec![Chunk::Bytes(payload)]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_without_a_connection_are_refused() {
    let a = node(1).await;
    assert!(matches!(a.peers.send(2, 5, Vec::new()), Err(SendError::Disconnected { node: 2, .. })));
    let (a, _b, link) = linked(settings()).await;
    link.close("the test wants it");
    until("the end", || !link.is_open()).await;
    assert!(matches!(link.send(6, Vec::new()), Err(SendError::Disconnected { node: 1, .. })));
    until("a new link", || a.recorder.events_of(2, chronik_peer::PeerEvent::Connected) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_lets_go_of_its_source_when_it_ends() {
    let (_a, _b, link) = linked(settings()).await;
    let list = Arc::new(List::default());
    link.set_source(list.clone());
    link.close("the test wants it");
    until("the source to be let go", || Arc::strong_count(&list) == 1).await;
    link.set_source(list.clone());
    assert_eq!(Arc::strong_count(&list), 1);
}
