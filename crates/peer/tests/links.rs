//! Connections that break, are replaced, and come back.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_base::Transport;
use chronik_peer::{PeerEvent, PeerSettings, PeerState};
use common::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn count(node: &Node, what: &str) -> usize {
    node.recorder.links.lock().unwrap().iter().filter(|(heard, _)| *heard == what).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_found_again() {
    let a = node(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    a.peers.set_addresses(vec![(2, address.to_string())]);
    let b = node_on(listener, hello(2), settings());
    connected(&a, 2).await;
    let first = b.peers.hello();
    drop(b);
    until("the refusal", || a.recorder.events_of(2, PeerEvent::Refused) > 0).await;
    assert_eq!(a.recorder.events_of(2, PeerEvent::Disconnected), 1);
    let status = a.peers.status().remove(0);
    assert_ne!(status.state, PeerState::Connected);
    assert_eq!(status.hello, Some(first), "who it was is still known");

    let mut listener = TcpListener::bind(address).await;
    let began = Instant::now();
    while listener.is_err() && began.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(10)).await;
        listener = TcpListener::bind(address).await;
    }
    let b = node_on(listener.unwrap(), hello(2), settings());
    connected(&a, 2).await;
    let status = a.peers.status().remove(0);
    assert_eq!((status.problem, status.dial_error, status.failed_dials), (None, None, 0));
    assert_eq!(status.hello, Some(b.peers.hello()));
    assert!(a.peers.call(2, ECHO, Bytes::new(), SOON).await.is_ok());
    assert!(status.sent_bytes > 0 || a.peers.status().remove(0).sent_bytes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_has_its_connection() {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    b.peers.set_addresses(vec![(1, a.address.clone())]);
    connected(&a, 2).await;
    connected(&b, 1).await;
    until("both links", || count(&a, "accepted") == 1 && count(&b, "accepted") == 1).await;
    let status = a.peers.status().remove(0);
    assert_eq!(status.state, PeerState::Connected);
    assert_eq!(status.inbound.unwrap().hello, b.peers.hello());
    for _ in 0..10 {
        assert!(a.peers.call(2, ECHO, Bytes::new(), SOON).await.is_ok());
        assert!(b.peers.call(1, ECHO, Bytes::new(), SOON).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_connects_is_dialled_at_once() {
    let slow = PeerSettings {
        backoff_min: Duration::from_secs(3_600),
        backoff_max: Duration::from_secs(3_600),
        ..settings()
    };
    let a = node_with(hello(1), slow).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    a.peers.set_addresses(vec![(2, address.to_string())]);
    let is_waiting = || a.peers.status().iter().any(|status| status.state == PeerState::Waiting);
    until("the wait of an hour", is_waiting).await;
    let b = node_on(TcpListener::bind(address).await.unwrap(), hello(2), settings());
    b.peers.set_addresses(vec![(1, a.address.clone())]);
    connected(&a, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_may_change_at_any_time() {
    let (a, b, c) = (node(1).await, node(2).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    connected(&a, 2).await;
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    assert_eq!(count(&b, "closed"), 0, "the same address changes nothing");
    a.peers.set_addresses(vec![(2, c.address.clone())]);
    until("the end of the old link", || count(&b, "closed") == 1).await;
    connected(&a, 2).await;
    assert_eq!(a.peers.address_of(2), Some(c.address.clone()));
    until("the new link", || count(&c, "accepted") == 1).await;
    a.peers.set_addresses(Vec::new());
    until("the end of the new link", || count(&c, "closed") == 1).await;
    assert!(a.peers.status().is_empty());
    let events =
        || a.recorder.events_of(2, PeerEvent::Connected) == a.recorder.events_of(2, PeerEvent::Disconnected);
    until("both ends to be told", events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_link_on_both_sides() {
    let quick = PeerSettings {
        heartbeat: Duration::from_millis(50),
        silence_max: Duration::from_millis(400),
        ..settings()
    };
    // Accepted from someone who greets and then says nothing.
    let a = node_with(hello(1), quick).await;
    let mut silent = raw_peer(&a, &hello(2), 1).await;
    let mut heartbeats = 0;
    while let Some(frame) = soon("the end", read_raw(&mut silent)).await {
        assert_eq!(frame.0, HEARTBEAT);
        heartbeats += 1;
    }
    assert!(heartbeats >= 2, "the node says that it lives: {heartbeats}");
    until("to be told", || count(&a, "closed") == 1).await;

    // Dialled to someone who greets and then says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    a.peers.set_addresses(vec![(3, listener.local_addr().unwrap().to_string())]);
    let (mut socket, _) = soon("the dial", listener.accept()).await.unwrap();
    let greeting = read_raw(&mut socket).await.unwrap();
    assert_eq!(greeting.0, HELLO);
    let whole = raw_greeting(&hello(3), -1, 0);
    let payload = &whole[32..whole.len() - 12];
    socket.write_all(&raw_frame(HELLO, 0, 0, payload)).await.unwrap();
    connected(&a, 3).await;
    until("the end", || a.recorder.events_of(3, PeerEvent::Disconnected) == 1).await;
    let status = a.peers.status().remove(0);
    assert!(status.problem.as_ref().unwrap().contains("nothing was heard"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_links_stay() {
    let quick = PeerSettings {
        heartbeat: Duration::from_millis(50),
        silence_max: Duration::from_millis(1_500),
        ..settings()
    };
    let (a, b) = (node_with(hello(1), quick).await, node_with(hello(2), quick).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    connected(&a, 2).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(a.recorder.events.lock().unwrap().len(), 1);
    assert_eq!(count(&b, "closed"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_connection_replaces_an_earlier_one_and_never_the_other_way() {
    let a = node(1).await;
    let him = hello(2);
    let mut second = raw_peer(&a, &him, 2).await;
    // A dial that was delayed comes after a later one.
    let mut first = raw_connection(&a).await;
    first.write_all(&raw_greeting(&him, 1, 1)).await.unwrap();
    let refused = soon("the refusal", read_raw(&mut first)).await.unwrap();
    assert_eq!((refused.0, refused.3[0]), (REFUSED, 6));
    assert_eq!(count(&a, "closed"), 0);
    // A later one takes its place, and the other is told.
    let _third = raw_peer(&a, &him, 3).await;
    let told = loop {
        let frame = soon("the refusal", read_raw(&mut second)).await.unwrap();
        if frame.0 != HEARTBEAT {
            break frame;
        }
    };
    assert_eq!((told.0, told.3[0]), (REFUSED, 6));
    // So does any of another run of the process, whatever its number.
    let restarted = hello(2);
    let _fourth = raw_peer(&a, &restarted, 1).await;
    until("the link", || a.peers.inbound_link(2).is_some_and(|link| link.peer().hello == restarted)).await;
    let heard: Vec<_> =
        a.recorder.links.lock().unwrap().iter().map(|(what, link)| (*what, link.id())).collect();
    let ids: Vec<u64> = heard.iter().filter(|(what, _)| *what == "accepted").map(|(_, id)| *id).collect();
    let expected = [
        ("accepted", ids[0]),
        ("closed", ids[0]),
        ("accepted", ids[1]),
        ("closed", ids[1]),
        ("accepted", ids[2]),
    ];
    assert_eq!(heard, expected, "the end of one is told before the next begins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_a_node_is_may_change() {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    connected(&a, 2).await;
    // Joining a cluster keeps the link.
    a.peers.set_cluster_id(unique());
    b.peers.set_cluster_id(a.peers.hello().cluster_id);
    assert!(a.peers.call(2, ECHO, Bytes::new(), SOON).await.is_ok());
    assert_eq!(a.recorder.events_of(2, PeerEvent::Connected), 1);
    // Another id makes it greet anew.
    a.peers.update_hello(|hello| hello.node_id = 7);
    until("the new link", || b.peers.inbound_link(7).is_some() && b.peers.inbound_link(1).is_none()).await;
    connected(&a, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_close_nothing_is_accepted_or_dialled() {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    b.peers.set_addresses(vec![(1, a.address.clone())]);
    connected(&a, 2).await;
    connected(&b, 1).await;
    a.peers.hello_at(&b.address, SOON).await.unwrap();
    a.peers.close();
    until("the end of all links", || {
        a.peers.inbound_links().is_empty() && b.peers.inbound_links().is_empty()
    })
    .await;
    let why = || b.peers.status().remove(0).problem;
    until("the reason", || why().is_some_and(|why| why.contains("the node stops"))).await;
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    assert!(a.peers.status().is_empty());
}
