//! Calls between two nodes over loopback.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::{CallError, Transport};
use chronik_peer::{PAYLOAD_BYTES_MAX, PeerSettings};
use common::*;

/// Node 1, which dials node 2.
async fn pair() -> (Node, Node) {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered() {
    let (a, _b) = pair().await;
    let answer = a.peers.call(2, ECHO, Bytes::from_static(b"hello"), SOON).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    let refused = a.peers.call(2, 77, Bytes::new(), SOON).await;
    assert_eq!(
        refused,
        Err(CallError::Refused { node: 2, problem: "calls of kind 77 are unknown".to_owned() })
    );
    let late = a.peers.call(2, NEVER, Bytes::new(), Duration::from_millis(20)).await;
    assert_eq!(late, Err(CallError::TimedOut { node: 2, waited_ms: 20 }));
    assert_eq!(a.peers.call(3, ECHO, Bytes::new(), SOON).await, Err(CallError::UnknownNode(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_calls_may_be_answered_first() {
    let (a, b) = pair().await;
    connected(&a, 2).await;
    let slow = tokio::spawn(a.peers.call(2, WAIT, Bytes::from_static(b"slow"), SOON));
    for i in 0..100u32 {
        let payload = Bytes::copy_from_slice(&i.to_be_bytes());
        assert_eq!(a.peers.call(2, ECHO, payload.clone(), SOON).await, Ok(payload));
    }
    assert!(!slow.is_finished());
    b.recorder.release.notify_one();
    assert_eq!(soon("the slow answer", slow).await.unwrap(), Ok(Bytes::from_static(b"slow")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_run_at_once_are_all_answered() {
    let (a, b) = pair().await;
    connected(&a, 2).await;
    let calls: Vec<_> = (0..3_000u32)
        .map(|i| tokio::spawn(a.peers.call(2, WAIT, Bytes::copy_from_slice(&i.to_be_bytes()), 3 * SOON)))
        .collect();
    let releaser = b.recorder.clone();
    let releasing = tokio::spawn(async move {
        loop {
            releaser.release.notify_waiters();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for (i, call) in calls.into_iter().enumerate() {
        let answer = soon("an answer", call).await.unwrap();
        assert_eq!(answer, Ok(Bytes::copy_from_slice(&(i as u32).to_be_bytes())));
    }
    releasing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_calls_arrive_whole() {
    let (a, _b) = pair().await;
    for length in [0, 1, 2_048, 2_049, 16 << 10, 65_536, 300_000, 9_000_000] {
        let payload: Bytes = (0..length).map(|i| (i / 5) as u8).collect::<Vec<_>>().into();
        let answer = a.peers.call(2, ECHO, payload.clone(), SOON).await;
        assert!(answer == Ok(payload), "{length} bytes");
    }
    let payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    let refused = a.peers.call(2, ECHO, payload, SOON).await;
    assert!(matches!(&refused, Err(CallError::Refused { problem, .. }) if problem.contains("134217729")));
    assert!(a.peers.is_connected(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_refuses_its_call_alone() {
    let (a, _b) = pair().await;
    let refused = a.peers.call(2, PANIC, Bytes::new(), SOON).await;
    assert!(matches!(&refused, Err(CallError::Refused { .. })), "{refused:?}");
    assert!(a.peers.call(2, ECHO, Bytes::new(), SOON).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_once_when_the_connection_does() {
    let (a, b) = pair().await;
    connected(&a, 2).await;
    let call = tokio::spawn(a.peers.call(2, NEVER, Bytes::new(), Duration::from_secs(600)));
    a.peers.call(2, ECHO, Bytes::new(), SOON).await.unwrap();
    drop(b);
    let ended = soon("the end of the call", call).await.unwrap();
    let Err(CallError::Disconnected { node: 2, problem }) = ended else { panic!("{ended:?}") };
    assert!(problem.contains("the node stops"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_a_call_fails_at_once_and_says_why() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, address.clone())]);
    let began = Instant::now();
    let ended = a.peers.call(2, ECHO, Bytes::new(), Duration::from_secs(600)).await;
    let Err(CallError::Disconnected { node: 2, problem }) = ended else { panic!("{ended:?}") };
    assert!(problem.contains(&format!("nobody listens at {address}")), "{problem}");
    assert!(began.elapsed() < SOON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_leaves_nothing_behind() {
    let (a, b) = pair().await;
    connected(&a, 2).await;
    for _ in 0..50 {
        let call = a.peers.call(2, WAIT, Bytes::new(), Duration::from_millis(1));
        assert!(matches!(call.await, Err(CallError::TimedOut { .. })));
    }
    // The answers that come now belong to nobody.
    b.recorder.release.notify_waiters();
    assert_eq!(a.peers.call(2, ECHO, Bytes::from_static(b"x"), SOON).await, Ok(Bytes::from_static(b"x")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_called_by_its_address_alone() {
    // Ids may not be settled yet: both think that they are node 1.
    let (a, b) = (node(1).await, node(1).await);
    let (answer, hello) =
        a.peers.call_address(&b.address, ECHO, Bytes::from_static(b"join"), SOON).await.unwrap();
    assert_eq!(answer, Bytes::from_static(b"join"));
    assert_eq!(hello, b.peers.hello());
    a.peers.call_address(&b.address, ECHO, Bytes::new(), SOON).await.unwrap();
    assert_eq!(b.recorder.links.lock().unwrap().len(), 1, "the second call takes the same connection");
    assert!(!b.peers.inbound_links()[0].is_lasting());

    b.peers.update_hello(|hello| hello.has_metadata = true);
    assert!(a.peers.hello_at(&b.address, SOON).await.unwrap().has_metadata);
    assert!(a.peers.call_address(&b.address, ECHO, Bytes::new(), SOON).await.unwrap().1.has_metadata);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_by_address_ends_when_nobody_uses_it() {
    let quick = PeerSettings {
        heartbeat: Duration::from_millis(20),
        address_idle_max: Duration::from_millis(40),
        ..settings()
    };
    let (a, b) = (node_with(hello(1), quick).await, node(2).await);
    a.peers.hello_at(&b.address, SOON).await.unwrap();
    let closed = || b.recorder.links.lock().unwrap().iter().filter(|(what, _)| *what == "closed").count();
    until("the end of the unused connection", || closed() == 1).await;
    assert!(a.peers.call_address(&b.address, ECHO, Bytes::new(), SOON).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_keeps_the_connection_on_which_it_is_answered() {
    let (a, b) = (node(1).await, node(1).await);
    a.peers.set_cluster_id(unique());
    let call = a.peers.call_address(&b.address, WAIT, Bytes::new(), SOON);
    let joining = async {
        until("the call", || !b.peers.inbound_links().is_empty()).await;
        b.peers.update_hello(|hello| {
            hello.node_id = 2;
            hello.cluster_id = a.peers.hello().cluster_id;
        });
        loop {
            b.recorder.release.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = call => assert!(answer.is_ok(), "{answer:?}"),
        () = joining => {}
    }
}
