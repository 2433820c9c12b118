//! The metrics of search.

use std::sync::atomic::Ordering;

use chronik_metrics::{Family, Page};

use crate::gather::Search;

/// Topics that have lines of their own; further ones are counted together, as the topic `(others)`.
const TOPICS_MAX: usize = 100;

/// Every family.
pub static FAMILIES: &[&Family] =
    &[&LAG, &BYTES, &INDEXED, &READ, &SKIPPED, &COMMITS, &COMMIT_SECONDS, &REBUILT, &QUERIES, &CUT_OFF];

static LAG: Family = Family::gauge(
    "chronik_search_lag_records",
    "Records committed on this node and not yet searchable",
    &["topic"],
);
static BYTES: Family =
    Family::gauge("chronik_search_index_bytes", "Size of the files of search indexes", &["topic"]);
static INDEXED: Family =
    Family::counter("chronik_search_indexed_records", "Records indexed since the start", &[]);
static READ: Family =
    Family::counter("chronik_search_read_bytes", "Bytes of log read for indexing since the start", &[]);
static SKIPPED: Family = Family::counter(
    "chronik_search_skipped_batches",
    "Batches that could not be decompressed for indexing",
    &[],
);
static COMMITS: Family = Family::counter("chronik_search_commits", "Commits of search indexes", &[]);
static COMMIT_SECONDS: Family =
    Family::counter("chronik_search_commit_seconds", "Time spent on commits of search indexes", &[]);
static REBUILT: Family = Family::counter(
    "chronik_search_rebuilt_indexes",
    "Indexes found damaged, or of another version or schema, and built anew",
    &[],
);
static QUERIES: Family =
    Family::counter("chronik_search_queries", "Parts of searches answered by this node", &[]);
static CUT_OFF: Family = Family::counter(
    "chronik_search_cut_off_queries",
    "Searches cut off by search.timeout.ms or search.memory",
    &[],
);

impl Search {
    /// Adds what there is to tell. Nothing, where the node keeps no indexes.
    pub fn render_metrics(&self, page: &mut Page) {
        let Some(engine) = &self.engine else { return };
        let counters = &engine.shared.counters;
        let mut lines: Vec<(String, i64, u64)> = Vec::new();
        for (id, known) in engine.shared.topics() {
            let Some(info) = self.host.topic(&known.name) else { continue };
            let lag = crate::indexer::hosted(&info, self.host.node_id())
                .filter_map(|partition| {
                    let bounds = self.host.bounds(&id, partition)?;
                    let state = known
                        .snapshot
                        .as_ref()
                        .and_then(|snapshot| snapshot.state.partitions.get(&partition));
                    let next = state.map_or(bounds.log_start, |state| state.next.max(bounds.log_start));
                    Some((bounds.high_watermark - next).max(0))
                })
                .sum();
            lines.push((known.name, lag, known.bytes));
        }
        lines.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let others = lines.split_off(lines.len().min(TOPICS_MAX));
        if !others.is_empty() {
            let lag = others.iter().map(|other| other.1).sum();
            lines.push(("(others)".to_owned(), lag, others.iter().map(|other| other.2).sum()));
        }
        page.lines(&LAG, lines.iter().map(|line| ([line.0.as_str()], line.1 as f64)));
        page.lines(&BYTES, lines.iter().map(|line| ([line.0.as_str()], line.2 as f64)));
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        page.value(&INDEXED, count(&counters.indexed));
        page.value(&READ, count(&counters.read_bytes));
        page.value(&SKIPPED, count(&counters.skipped));
        page.value(&COMMITS, count(&counters.commits));
        page.value(&COMMIT_SECONDS, count(&counters.commit_nanos) as f64 / 1e9);
        page.value(&REBUILT, count(&counters.rebuilt));
        page.value(&QUERIES, count(&counters.queries));
        page.value(&CUT_OFF, count(&counters.cut_off));
    }
}
