//! Figures, not verdicts: how long a write takes, how soon another node leads, and whether leadership stays where it is on a busy machine.
//! `cargo test -p chronik-raft --test soak -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by them")]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, ids};

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros() as f64 / 1000.0;
    format!("{} times: p50 {:.2}, p99 {:.2}, longest {:.2} ms", times.len(), at(50), at(99), at(100))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for half a minute"]
async fn writes_for_a_while() {
    let cluster = Cluster::of([1, 2, 3]).await;
    let leader = cluster.leader().await;
    let term = cluster.nodes[&leader].status().term;
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < Duration::from_secs(30) {
        let sent = Instant::now();
        cluster.write(vec![ids(1)]).await;
        times.push(sent.elapsed());
    }
    let last = cluster.nodes[&cluster.leader().await].status().term;
    println!("one writer, {}; {} elections", percentiles(times), last - term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for half a minute"]
async fn leaders_are_killed() {
    let mut cluster = Cluster::of([1, 2, 3]).await;
    let mut times = Vec::new();
    for _ in 0..30 {
        cluster.write(vec![ids(1)]).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let killed = Instant::now();
        // Their connections to it break.
        for node in cluster.nodes.values() {
            node.on_lost(leader);
        }
        cluster.write(vec![ids(1)]).await;
        times.push(killed.elapsed());
        cluster.start(leader).await;
        let offset = cluster.nodes[&cluster.leader().await].image().offset();
        cluster.agree(offset).await;
    }
    println!("from a leader's death to the next write, {}", percentiles(times));
}
