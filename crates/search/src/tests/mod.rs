//! Search over a node that is none: its logs are lists of batches in memory.

mod cluster;
mod fake;
mod indexing;
mod queries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::model::{SearchAnswer, SearchRequest};
use crate::{Options, Search};
use fake::Fake;

/// How long a test waits for what has to come: a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) fake: Arc<Fake>,
    pub(crate) search: Arc<Search>,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

impl Node {
    pub(crate) fn start(fake: &Arc<Fake>) -> Self {
        Self::start_in(fake, Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn start_in(fake: &Arc<Fake>, dir: Arc<tempfile::TempDir>) -> Self {
        let options = Options {
            dir: dir.path().join("search"),
            memory: 32 << 20,
            timeout_ms: 30_000,
            max_decompressed: 1 << 20,
        };
        let search = Search::start(true, options, fake.clone()).unwrap();
        Self { fake: fake.clone(), search, dir }
    }

    /// Ends search and starts it anew on the same directory.
    pub(crate) fn restart(self) -> Self {
        self.search.stop();
        Self::start_in(&self.fake, self.dir.clone())
    }

    /// Asks until the answer is as it is to be, or for too long: the last answer then.
    pub(crate) async fn until(
        &self,
        request: &SearchRequest,
        is_good: impl Fn(&SearchAnswer) -> bool,
    ) -> SearchAnswer {
        let began = Instant::now();
        loop {
            let answer = self.search.search("logs", request.clone()).await;
            match answer {
                Ok(answer) if is_good(&answer) || began.elapsed() > PATIENCE => return answer,
                Err(error) if began.elapsed() > PATIENCE => panic!("{error:?}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until everything is indexed, and answers then.
    pub(crate) async fn ask(&self, request: SearchRequest) -> SearchAnswer {
        self.until(&request, |answer| {
            !answer.index.is_empty()
                && answer.index.iter().all(|index| index.indexed_to >= index.high_watermark)
        })
        .await
    }

    /// Partitions and offsets of what a query finds, in order.
    pub(crate) async fn find(&self, q: &str) -> Vec<(u32, i64)> {
        let answer = self.ask(SearchRequest { limit: Some(1000), ..query(q) }).await;
        assert_eq!(answer.problems, Vec::<String>::new(), "{q}");
        let mut found: Vec<_> =
            answer.hits.iter().map(|hit| (hit.record.partition, hit.record.offset)).collect();
        assert_eq!(answer.count, found.len() as u64, "{q}");
        found.sort_unstable();
        found
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.search.stop();
    }
}

pub(crate) fn query(q: &str) -> SearchRequest {
    SearchRequest { q: q.to_owned(), ..SearchRequest::default() }
}

/// A few records of every sort, in two partitions.
pub(crate) fn sample() -> Vec<(i32, Option<&'static str>, Value)> {
    vec![
        (
            0,
            Some("order-1"),
            json!({"level": "error", "msg": "connection reset by peer", "user": {"id": 42}, "ms": 250}),
        ),
        (
            0,
            Some("order-2"),
            json!({"level": "info", "msg": "connection opened by peer number one of the day", "user": {"id": 7}, "ms": 12.5}),
        ),
        (
            0,
            Some("order-1"),
            json!({"level": "ERROR", "msg": "disk full", "at": "2026-11-25T12:00:00Z", "ok": false}),
        ),
        (1, None, json!("plain text about a connection")),
        (
            1,
            Some("k"),
            json!({"level": "warn", "tags": ["red", "blue"], "user": {"id": 42}, "city": "New York"}),
        ),
    ]
}

pub(crate) fn with_sample() -> Arc<Fake> {
    let fake = Fake::new(2, "");
    for (index, (partition, key, value)) in sample().into_iter().enumerate() {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        fake.add(partition, key, Some(&value), 1_000_000 + 1000 * index as i64);
    }
    fake
}
