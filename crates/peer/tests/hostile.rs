//! What arrives from who means harm, or is broken.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use chronik_peer::PeerSettings;
use common::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The text of the refusal that ends the connection, if one comes.
async fn end(socket: &mut TcpStream) -> Option<String> {
    let mut refusal = None;
    while let Some((frame_type, _, _, payload)) = soon("the end", read_raw(socket)).await {
        if frame_type == REFUSED {
            refusal = Some(String::from_utf8_lossy(&payload).into_owned());
        }
    }
    refusal
}

async fn refusal_of(bytes: &[u8]) -> String {
    let a = node(1).await;
    let mut socket = raw_peer(&a, &hello(2), 1).await;
    socket.write_all(bytes).await.unwrap();
    let refusal = end(&mut socket).await.unwrap();
    until("the end of the link", || a.peers.inbound_links().is_empty()).await;
    refusal
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeted_peer_that_breaks_the_protocol_is_told_and_cut_off() {
    let mut damaged = raw_frame(CALL, ECHO, 1, b"payload");
    *damaged.last_mut().unwrap() ^= 1;
    assert!(refusal_of(&damaged).await.contains("does not match its checksum"));
    let huge = raw_header(CALL, ECHO, 1, u32::MAX, b"");
    assert!(refusal_of(&huge).await.contains("4294967295 bytes is over the limit of 134217728"));
    assert!(refusal_of(&[0; 32]).await.contains("peer protocol"));
    assert!(refusal_of(&raw_frame(99, 0, 0, b"")).await.contains("unknown type 99"));
    for out_of_place in [HELLO, ANSWER, CALL_REFUSED] {
        assert!(refusal_of(&raw_frame(out_of_place, 0, 1, b"")).await.contains("out of place"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_kind_is_refused_and_the_link_stays() {
    let a = node(1).await;
    let mut socket = raw_peer(&a, &hello(2), 1).await;
    for request in 1..4 {
        socket.write_all(&raw_frame(CALL, 200, request, b"what")).await.unwrap();
        let answer = loop {
            let frame = soon("the answer", read_raw(&mut socket)).await.unwrap();
            if frame.0 != HEARTBEAT {
                break frame;
            }
        };
        assert_eq!((answer.0, answer.2), (CALL_REFUSED, request));
        assert_eq!(answer.3, b"calls of kind 200 are unknown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_greeting_little_is_taken() {
    let a = node(1).await;
    let mut socket = raw_connection(&a).await;
    socket.write_all(&raw_header(HELLO, 0, 0, (64 << 10) + 1, b"")).await.unwrap();
    assert!(end(&mut socket).await.unwrap().contains("over the limit of 65536"));
    let mut socket = raw_connection(&a).await;
    socket.write_all(&raw_frame(CALL, ECHO, 1, b"")).await.unwrap();
    assert!(end(&mut socket).await.unwrap().contains("before it greeted"));
    let mut socket = raw_connection(&a).await;
    socket.write_all(&raw_frame(HELLO, 0, 0, b"too short")).await.unwrap();
    assert!(end(&mut socket).await.unwrap().contains("can't be read"));
    assert!(a.recorder.links.lock().unwrap().is_empty(), "the handler hears of none");
    assert_eq!(a.peers.turned_away().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greeting_that_trickles_in_is_not_waited_for() {
    let impatient = PeerSettings { greeting_timeout: Duration::from_millis(300), ..settings() };
    let a = node_with(hello(1), impatient).await;
    let mut socket = raw_connection(&a).await;
    let greeting = raw_greeting(&hello(2), 1, 1);
    let (mut reading, mut writing) = socket.split();
    let trickle = async {
        for byte in &greeting {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickle => panic!("the whole greeting was waited for"),
        _ = soon("the end", reading.read_to_end(&mut answer)) => {}
    }
    assert!(answer.is_empty(), "nobody is greeted");
    assert!(a.peers.turned_away()[0].problem.contains("no greeting came within 300 ms"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_does_not_disturb_others() {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    connected(&a, 2).await;
    for i in 0..100u8 {
        let mut socket = raw_connection(&b).await;
        let _ = socket.write_all(&[i; 100]).await;
    }
    assert_eq!(a.recorder.events.lock().unwrap().len(), 1);
    assert!(b.peers.turned_away().len() <= 16);
}

/// Streams of frames, some of them damaged, and of anything.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0..9u8, any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(frame_type, kind, request, payload)| raw_frame(frame_type, kind, request, &payload));
    let header = (1..8u8, any::<u32>(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(frame_type, length, checked)| raw_header(frame_type, 0, 0, length, &checked));
    let garbage = prop::collection::vec(any::<u8>(), 0..100);
    let piece = prop_oneof![4 => frame, 1 => header, 1 => garbage];
    (
        prop::collection::vec(piece, 0..8),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    )
        .prop_map(|(pieces, damages)| {
            let mut bytes = pieces.concat();
            for (at, flip) in damages {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= flip;
                }
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_decoder_never_panics_and_gives_no_more_than_it_got(bytes in streams()) {
        if let Ok((frames, payload_bytes)) = chronik_peer::count_frames(&bytes.clone().into(), 1 << 20) {
            prop_assert!(frames * 32 + payload_bytes <= bytes.len());
        }
    }

    #[test]
    fn whole_frames_are_all_found(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| raw_frame(MESSAGE, 1, 0, payload)).collect();
        let total = payloads.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(chronik_peer::count_frames(&bytes.into(), 1 << 20), Ok((payloads.len(), total)));
    }
}
