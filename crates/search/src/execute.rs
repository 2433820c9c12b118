//! A node's part of a search, from the index to the records.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chronik_base::TopicId;
use chronik_records::Batches as BatchIter;
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tantivy::aggregation::{AggContextParams, AggregationLimitsGuard, DistributedAggregationCollector};
use tantivy::query::{BooleanQuery, ConstScoreQuery, Occur, Query, RangeQuery, TermSetQuery};
use tantivy::{DateTime, TantivyError, Term};

use crate::collect::{First, Found, score_of_rank};
use crate::engine::Engine;
use crate::fields::tokenizers;
use crate::host::{Host, HostError};
use crate::prune::{Offsets, Which};
use crate::query::{Compiler, Cut, Limited};
use crate::shard::{
    From, Indexed, Order, RawHit, RawRecord, RecordsAnswer, RecordsRequest, ShardAnswer, ShardError,
    ShardRequest,
};
use crate::topic_index::Snapshot;

/// Bytes of records in one answer, at most; the first comes whole all the same.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Buckets of all aggregations of one query.
pub(crate) const BUCKETS_MAX: u32 = 65_000;
/// Bytes read from the log at a time, where many records are wanted.
const READ_BYTES: usize = 256 << 10;

impl Engine {
    /// Answers this node's part. It may take as long as the request says, and waits for the disk.
    pub(crate) fn search(&self, request: &ShardRequest) -> Result<ShardAnswer, ShardError> {
        let began = Instant::now();
        self.shared.counters.queries.fetch_add(1, Ordering::Relaxed);
        let id = topic_id(&request.topic)?;
        let known = self
            .shared
            .topic(&id)
            .ok_or_else(|| ShardError::NotReady("this node has no index of the topic (yet)".to_owned()))?;
        let snapshot = known
            .snapshot
            .ok_or_else(|| ShardError::NotReady("the topic's index is being opened".to_owned()))?;
        let cut = Cut::new(began + Duration::from_millis(request.timeout_ms));
        let mut answer = ShardAnswer::default();
        let query = self.query(&id, &snapshot, request)?;
        let limited = Limited { query: Arc::from(query), cut: cut.clone() };
        // Whatever an index does, a query must not take the node with it.
        let searched =
            catch_unwind(AssertUnwindSafe(|| self.collect(&snapshot, &limited, request, &mut answer)));
        let found = searched.unwrap_or_else(|_| {
            Err(ShardError::Failed("the query failed within the index; it is in the node's log".to_owned()))
        })?;
        answer.count = found.count;
        if cut.was_cut() {
            self.shared.counters.cut_off.fetch_add(1, Ordering::Relaxed);
            answer.problems.push(format!(
                "the query was cut off after {} ms: counts and hits are of what was looked at until then",
                request.timeout_ms
            ));
        }
        if let Some(problem) = known.problem {
            answer.problems.push(format!("indexing is held up: {problem}"));
        }
        for partition in &request.partitions {
            let to = snapshot.state.partitions.get(partition).map_or(0, |state| state.next);
            let high_watermark = self.host.bounds(&id, *partition).map_or(to, |bounds| bounds.high_watermark);
            answer.indexed.push(Indexed { partition: *partition, to, high_watermark });
        }
        self.add_records(&id, request, found, &mut answer);
        Ok(answer)
    }

    /// The query with everything that limits it.
    fn query(
        &self,
        id: &TopicId,
        snapshot: &Snapshot,
        request: &ShardRequest,
    ) -> Result<Box<dyn Query>, ShardError> {
        let fields = &self.fields;
        let compiler = Compiler { fields, paths: &snapshot.state.paths, now_ms: request.now_ms };
        let query = compiler.compile(&request.query).map_err(|error| ShardError::Query(error.to_string()))?;
        let mut parts: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut filter = |query: Box<dyn Query>| {
            parts.push((Occur::Must, Box::new(ConstScoreQuery::new(query, 0.0)) as Box<dyn Query>));
        };
        if snapshot.state.partitions.keys().any(|partition| !request.partitions.contains(partition)) {
            let term =
                |partition: &i32| Term::from_field_u64(fields.partition, u64::from(partition.unsigned_abs()));
            filter(Box::new(TermSetQuery::new(request.partitions.iter().map(term))));
        }
        let (after, before) = request.time;
        if after.is_some() || before.is_some() {
            let term = |millis: i64| {
                Term::from_field_date(fields.timestamp, DateTime::from_timestamp_millis(millis))
            };
            filter(Box::new(RangeQuery::new(included(after.map(term)), included(before.map(term)))));
        }
        let (from, to) = request.offsets;
        if from.is_some() || to.is_some() {
            let term = |offset: i64| Term::from_field_i64(fields.offset, offset);
            let to = to.map_or(std::ops::Bound::Unbounded, |to| std::ops::Bound::Excluded(term(to)));
            filter(Box::new(RangeQuery::new(included(from.map(term)), to)));
        }
        // What the log lost since the index was last compared with it.
        for partition in &request.partitions {
            let Some(state) = snapshot.state.partitions.get(partition) else { continue };
            let start = self.host.bounds(id, *partition).map_or(i64::MAX, |bounds| bounds.log_start);
            if start > state.start {
                let gone = Offsets { partition: *partition, which: Which::Below(start) };
                parts.push((Occur::MustNot, Box::new(gone)));
            }
        }
        if parts.is_empty() {
            return Ok(query);
        }
        parts.push((Occur::Must, query));
        Ok(Box::new(BooleanQuery::new(parts)))
    }

    fn collect(
        &self,
        snapshot: &Snapshot,
        query: &Limited,
        request: &ShardRequest,
        answer: &mut ShardAnswer,
    ) -> Result<Found, ShardError> {
        let first = || First { order: request.order, limit: request.limit, after: request.after };
        let failed = |error: TantivyError| ShardError::Failed(error.to_string());
        let Some(text) = &request.aggregations else {
            return snapshot.searcher.search(query, &first()).map_err(failed);
        };
        let wanted: Aggregations =
            serde_json::from_str(text).map_err(|error| ShardError::Query(error.to_string()))?;
        let context = AggContextParams::new(self.aggregation_limits(), tokenizers());
        let collector = DistributedAggregationCollector::from_aggs(wanted, context);
        match snapshot.searcher.search(query, &(first(), collector)) {
            Ok((found, aggregations)) => {
                let aggregations: IntermediateAggregationResults = aggregations;
                let bytes = postcard::to_stdvec(&aggregations);
                answer.aggregations = Some(bytes.map_err(|error| ShardError::Failed(error.to_string()))?);
                Ok(found)
            }
            Err(TantivyError::InvalidArgument(error)) => Err(ShardError::Query(error)),
            Err(TantivyError::AggregationError(error)) => {
                self.shared.counters.cut_off.fetch_add(1, Ordering::Relaxed);
                answer.problems.push(format!("aggregations were left out: {error} (search.memory)"));
                snapshot.searcher.search(query, &first()).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Memory and buckets for the aggregations of one query.
    pub(crate) fn aggregation_limits(&self) -> AggregationLimitsGuard {
        AggregationLimitsGuard::new(Some((self.memory / 4) as u64), Some(BUCKETS_MAX))
    }

    /// Reads the records of what was found. One that the log no longer has is no hit.
    fn add_records(&self, id: &TopicId, request: &ShardRequest, found: Found, answer: &mut ShardAnswer) {
        let order = request.order;
        let mut wanted: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for rank in &found.hits {
            wanted.entry(rank.partition).or_default().push(rank.offset_in(order));
        }
        let mut records: BTreeMap<(i32, i64), RawRecord> = BTreeMap::new();
        if request.with_records {
            for (partition, offsets) in &mut wanted {
                offsets.sort_unstable();
                if let Err(error) = self.read_offsets(id, *partition, offsets, &mut records) {
                    answer.problems.push(format!("records of partition {partition} can't be read: {error}"));
                }
            }
        }
        let mut bytes = 0;
        let is_full = request.limit > 0 && found.hits.len() >= request.limit;
        answer.upto = found.hits.last().copied().filter(|_| is_full);
        for rank in found.hits {
            let (partition, offset) = (rank.partition, rank.offset_in(order));
            let record = match records.remove(&(partition, offset)) {
                Some(record) => record,
                None if request.with_records => continue,
                None => RawRecord { partition, offset, ..RawRecord::default() },
            };
            bytes += record.bytes();
            if bytes > ANSWER_BYTES_MAX && !answer.hits.is_empty() {
                answer.upto = answer.hits.last().map(|hit| hit.rank);
                break;
            }
            let score = (order == Order::Score).then(|| score_of_rank(rank.by));
            answer.hits.push(RawHit { rank, score, record });
        }
    }

    /// Reads the records at these offsets, which are in order.
    fn read_offsets(
        &self,
        id: &TopicId,
        partition: i32,
        offsets: &[i64],
        records: &mut BTreeMap<(i32, i64), RawRecord>,
    ) -> Result<(), HostError> {
        let mut bytes = 0;
        let mut next = 0;
        while let Some(offset) = offsets.get(next) {
            // One batch is read, unless the next ones are near.
            let near = offsets.get(next + 1).is_some_and(|other| other - offset < 1000);
            let read = match self.host.read(id, partition, *offset, if near { READ_BYTES } else { 1 }) {
                Ok(read) => read,
                Err(HostError::OutOfRange { .. }) => {
                    next += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for batch in BatchIter::new(&read.bytes).flatten() {
                let header = batch.header();
                let wanted = |offset: &i64| (header.base_offset..=header.last_offset()).contains(offset);
                if !offsets.get(next..).is_some_and(|rest| rest.iter().any(wanted)) {
                    continue;
                }
                let Ok(unpacked) = batch.records(self.max_decompressed) else { continue };
                for record in unpacked.iter().flatten() {
                    if offsets.binary_search(&record.offset).is_ok() {
                        let record = raw(partition, &record);
                        bytes += record.bytes();
                        records.insert((partition, record.offset), record);
                    }
                }
            }
            if bytes > 2 * ANSWER_BYTES_MAX {
                return Ok(());
            }
            let end = read.next_offset.max(offset + 1);
            next = offsets.partition_point(|offset| *offset < end);
        }
        Ok(())
    }
}

/// Reads records of a partition that this node has a replica of.
pub(crate) fn read_records(
    host: &dyn Host,
    max_decompressed: usize,
    request: &RecordsRequest,
) -> Result<RecordsAnswer, ShardError> {
    let id = topic_id(&request.topic)?;
    let partition = request.partition;
    let bounds = host
        .bounds(&id, partition)
        .ok_or_else(|| ShardError::NotReady(HostError::NotHosted(partition).to_string()))?;
    let mut answer = RecordsAnswer {
        next_offset: bounds.high_watermark,
        log_start: bounds.log_start,
        high_watermark: bounds.high_watermark,
        ..RecordsAnswer::default()
    };
    let start = match request.from {
        From::Offset(offset) if offset < bounds.log_start || offset > bounds.high_watermark => {
            return Err(ShardError::OutOfRange {
                offset,
                start: bounds.log_start,
                end: bounds.high_watermark,
            });
        }
        From::Offset(offset) => offset,
        From::Start => bounds.log_start,
        From::Time(time) => match host.offset_for_time(&id, partition, time).map_err(shard_error)? {
            Some(offset) => offset,
            None => return Ok(answer),
        },
    };
    let mut at = start;
    let mut bytes = 0;
    answer.next_offset = at;
    'reads: while at < bounds.high_watermark && answer.records.len() < request.limit {
        let read = host.read(&id, partition, at, READ_BYTES).map_err(shard_error)?;
        for batch in BatchIter::new(&read.bytes).flatten() {
            if batch.header().attributes.is_control() {
                continue;
            }
            let unpacked =
                batch.records(max_decompressed).map_err(|error| ShardError::Failed(error.to_string()))?;
            for record in unpacked.iter().flatten() {
                if record.offset < at {
                    continue;
                }
                let record = raw(partition, &record);
                bytes += record.bytes();
                let enough = answer.records.len() >= request.limit
                    || bytes > request.max_bytes && !answer.records.is_empty();
                if enough {
                    answer.next_offset = record.offset;
                    break 'reads;
                }
                answer.next_offset = record.offset + 1;
                answer.records.push(record);
            }
        }
        if read.next_offset <= at {
            break;
        }
        at = read.next_offset;
        answer.next_offset = at;
    }
    Ok(answer)
}

fn shard_error(error: HostError) -> ShardError {
    match error {
        HostError::OutOfRange { offset, start, end } => ShardError::OutOfRange { offset, start, end },
        other => ShardError::Failed(other.to_string()),
    }
}

fn topic_id(hex: &str) -> Result<TopicId, ShardError> {
    TopicId::from_hex(hex).ok_or_else(|| ShardError::Failed(format!("{hex:?} is no topic's id")))
}

fn included(term: Option<Term>) -> std::ops::Bound<Term> {
    term.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included)
}

fn raw(partition: i32, record: &chronik_records::Record<'_>) -> RawRecord {
    RawRecord {
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    }
}
