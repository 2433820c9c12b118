//! Every way in which a dial fails: one clear line, kept as status, and tried again.

#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use chronik_base::NodeId;
use chronik_peer::{AddressCallError, DialError, MAGIC, PeerEvent, PeerSettings, PeerState};
use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The error that `node` has for `peer`, once it has one.
async fn dial_error(node: &Node, peer: NodeId) -> DialError {
    let find = || node.peers.status().into_iter().find(|status| status.node == peer);
    until("a dial that fails", || find().is_some_and(|status| status.failed_dials > 1)).await;
    let status = find().unwrap();
    assert_ne!(status.state, PeerState::Connected);
    let error = status.dial_error.unwrap();
    assert_eq!(status.problem, Some(error.to_string()), "one line");
    assert!(!error.to_string().contains('\n'));
    error
}

/// A listener that does the same with every connection.
async fn listener<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, address.clone())]);
    assert_eq!(dial_error(&a, 2).await, DialError::Refused { address });
    until("to be told", || a.recorder.events_of(2, PeerEvent::Refused) >= 2).await;
    assert_eq!(a.recorder.events_of(2, PeerEvent::Disconnected), 0, "it was never connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_is_none() {
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, "no-port".to_owned()), (3, "host.invalid:9092".to_owned())]);
    for peer in [2, 3] {
        let error = dial_error(&a, peer).await;
        assert!(matches!(error, DialError::Unresolved { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_listens() {
    let http = listener(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let closes = listener(|socket| async move { drop(socket) }).await;
    let resets = listener(|mut socket| async move {
        let _ = socket.read_u8().await;
    })
    .await;
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, http), (3, closes), (4, resets)]);
    let error = dial_error(&a, 2).await;
    assert!(error.to_string().contains("answers \"HTTP/1.1 400 Bad\""), "{error}");
    for peer in [3, 4] {
        let error = dial_error(&a, peer).await;
        assert!(matches!(error, DialError::NotChronik { .. }), "{error}");
        assert!(error.to_string().contains("not a Chronik node"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said() {
    let silent = listener(|mut socket| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let impatient = PeerSettings { greeting_timeout: Duration::from_millis(50), ..settings() };
    let a = node_with(hello(1), impatient).await;
    a.peers.set_addresses(vec![(2, silent.clone())]);
    assert_eq!(dial_error(&a, 2).await, DialError::Silent { address: silent, waited_ms: 50 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_answers() {
    let (a, b) = (node(1).await, node(3).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    let expected = DialError::WrongNode { address: b.address.clone(), expected: 2, found: 3 };
    assert_eq!(dial_error(&a, 2).await, expected);
    let turned_away = b.peers.turned_away();
    assert_eq!(turned_away.len(), 1, "the same from the same place counts once");
    assert!(turned_away[0].problem.contains("node 1 looks for node 2 here, but this is node 3"));
    assert!(b.recorder.links.lock().unwrap().is_empty(), "the handler hears nothing of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_answers() {
    let (a, b) = (node(1).await, node(2).await);
    let (ours, theirs) = (unique(), unique());
    a.peers.set_cluster_id(ours);
    b.peers.set_cluster_id(theirs);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    let expected = DialError::OtherCluster { address: b.address.clone(), theirs, ours };
    assert_eq!(dial_error(&a, 2).await, expected);
    assert!(b.peers.turned_away()[0].problem.contains("can't be in two clusters"));
    let by_address = a.peers.call_address(&b.address, ECHO, Bytes::new(), SOON).await;
    assert_eq!(by_address, Err(AddressCallError::Dial(expected)));
    // It joins, and all is well without anyone doing more.
    b.peers.set_cluster_id(ours);
    connected(&a, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_node_answers() {
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, a.address.clone())]);
    assert_eq!(dial_error(&a, 2).await, DialError::Myself { address: a.address.clone() });
    let by_address = a.peers.hello_at(&a.address, SOON).await;
    assert_eq!(by_address, Err(AddressCallError::Dial(DialError::Myself { address: a.address.clone() })));
    // Its own id is passed over.
    a.peers.set_addresses(vec![(1, a.address.clone())]);
    assert!(a.peers.status().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_have_one_id() {
    let (a, b) = (node(1).await, node(1).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
    let error = dial_error(&a, 2).await;
    assert!(matches!(error, DialError::WrongNode { expected: 2, found: 1, .. }), "{error}");
    // A node that takes the id of one that it is connected to greets anew, and is told.
    let (c, d) = (node(2).await, node(3).await);
    c.peers.set_addresses(vec![(3, d.address.clone())]);
    connected(&c, 3).await;
    c.peers.update_hello(|hello| hello.node_id = 3);
    let expected = DialError::SameNodeId { address: d.address.clone(), node: 3 };
    assert_eq!(dial_error(&c, 3).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_answers() {
    // A node of the future: the same first bytes, then another version.
    let future = listener(|mut socket| async move {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([9; 60]);
        let _ = socket.write_all(&bytes).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let a = node(1).await;
    a.peers.set_addresses(vec![(2, future.clone())]);
    assert_eq!(dial_error(&a, 2).await, DialError::Version { address: future, theirs: 9 });

    // And one that dials: it is told, in this version's words.
    let mut socket = raw_connection(&a).await;
    let mut bytes = MAGIC.to_vec();
    bytes.extend([9; 60]);
    socket.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer[..6], [0xC7, b'C', b'H', b'K', 1, 2], "a refusal");
    assert!(a.peers.turned_away().iter().any(|one| one.problem.contains("speaks version 9")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_address_every_reason_is_told_too() {
    let a = node(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = a.peers.hello_at(&address, SOON).await;
    assert_eq!(refused, Err(AddressCallError::Dial(DialError::Refused { address })));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let late = a.peers.hello_at(&address, Duration::from_millis(30)).await;
    assert_eq!(late, Err(AddressCallError::TimedOut { address, waited_ms: 30 }));
}
