//! Calls and messages between two nodes over loopback.

mod common;

use std::time::Duration;

use bytes::Bytes;
use chronik_base::{CallError, Transport};
use common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered() {
    let (a, b) = (node(1).await, node(2).await);
    a.peers.set_addresses(vec![(2, b.address.clone())]);
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
