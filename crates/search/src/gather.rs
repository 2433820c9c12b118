//! Searches over all partitions of a topic: each is asked at a node that has it, and the answers are put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chronik_base::{BoxFuture, NodeId};
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine::{Engine, Options};
use crate::execute::{ANSWER_BYTES_MAX, read_records};
use crate::host::{Host, TopicInfo};
use crate::model::PartitionIndex;
use crate::shard::{
    PeerAnswer, PeerRequest, Rank, RawHit, RecordsAnswer, RecordsRequest, ShardAnswer, ShardError,
    ShardRequest,
};

/// What nodes say to each other begins with this.
const VERSION: u8 = 1;
/// Beyond a query's own time, for the way to another node and back.
const WAY: Duration = Duration::from_secs(2);
/// Queries at once on one node; further ones wait for their turn.
const AT_ONCE: usize = 4;

/// Search as a node offers it, for the whole cluster.
pub struct Search {
    pub(crate) host: Arc<dyn Host>,
    /// `None` where the node keeps no indexes (`search.enabled=false`).
    pub(crate) engine: Option<Arc<Engine>>,
    pub(crate) options: Options,
    turns: Arc<Semaphore>,
}

/// What all nodes found together.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) count: u64,
    pub(crate) hits: Vec<RawHit>,
    /// Where there are more hits: the rank behind which they come.
    pub(crate) upto: Option<Rank>,
    pub(crate) aggregations: Option<serde_json::Value>,
    pub(crate) index: Vec<PartitionIndex>,
    pub(crate) problems: Vec<String>,
}

impl Search {
    /// Starts search. Where it is not `enabled` on this node, no index is kept here, and records can be read all the same.
    ///
    /// # Errors
    /// The indexing thread can't be made.
    pub fn start(enabled: bool, options: Options, host: Arc<dyn Host>) -> std::io::Result<Arc<Self>> {
        let engine = enabled.then(|| Engine::start(&options, host.clone())).transpose()?.map(Arc::new);
        Ok(Arc::new(Self { host, engine, options, turns: Arc::new(Semaphore::new(AT_ONCE)) }))
    }

    /// Ends the indexing thread, and waits for it.
    pub fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop();
        }
    }

    /// Answers another node, which asked by [`Host::call`].
    pub fn answer(self: &Arc<Self>, payload: &Bytes) -> BoxFuture<Result<Bytes, String>> {
        let request = match payload.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            _ => Err("a search of an unknown version".to_owned()),
        };
        let search = self.clone();
        Box::pin(async move {
            let answer = match request? {
                PeerRequest::Search(request) => PeerAnswer::Search(search.search_here(request).await),
                PeerRequest::Records(request) => PeerAnswer::Records(search.read_here(request).await),
            };
            encode(&answer)
        })
    }

    async fn search_here(&self, request: ShardRequest) -> Result<ShardAnswer, ShardError> {
        let Some(engine) = self.engine.clone() else {
            return Err(ShardError::NotReady(
                "this node keeps no indexes (search.enabled = false)".to_owned(),
            ));
        };
        let turn = self.turns.clone().acquire_owned().await;
        self.blocking(move || {
            let _turn = turn;
            engine.search(&request)
        })
        .await
    }

    async fn read_here(&self, request: RecordsRequest) -> Result<RecordsAnswer, ShardError> {
        let (host, most) = (self.host.clone(), self.options.max_decompressed);
        self.blocking(move || read_records(&*host, most, &request)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ShardError> + Send + 'static,
    ) -> Result<T, ShardError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => Err(ShardError::Failed(error.to_string())),
        }
    }

    /// Asks each partition at one of its replicas: here where there is one, else at the leader; where that fails, at the next one.
    ///
    /// # Errors
    /// The query is at fault.
    pub(crate) async fn gather(
        self: &Arc<Self>,
        topic: &TopicInfo,
        request: &ShardRequest,
    ) -> Result<Gathered, ShardError> {
        let me = self.host.node_id();
        let mut gathered = Gathered::default();
        let mut merged: Option<IntermediateAggregationResults> = None;
        let mut left: Vec<i32> = request.partitions.clone();
        let mut failed: BTreeMap<NodeId, String> = BTreeMap::new();
        let began = Instant::now();
        while !left.is_empty() {
            let mut asked: BTreeMap<NodeId, Vec<i32>> = BTreeMap::new();
            for partition in std::mem::take(&mut left) {
                match self.choose(topic, partition, me, &failed) {
                    Some(node) => asked.entry(node).or_default().push(partition),
                    None => {
                        let why = topic
                            .replicas
                            .get(usize::try_from(partition).unwrap_or(usize::MAX))
                            .and_then(|nodes| nodes.iter().find_map(|node| failed.get(node)))
                            .map_or("none of its replicas can be reached", String::as_str);
                        gathered.problems.push(format!("partition {partition} was not searched: {why}"));
                    }
                }
            }
            let mut answers = JoinSet::new();
            for (node, partitions) in asked {
                let spent = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let timeout_ms = request.timeout_ms.saturating_sub(spent).max(1);
                let part = ShardRequest { partitions: partitions.clone(), timeout_ms, ..request.clone() };
                let search = self.clone();
                answers.spawn(async move { (node, partitions, search.ask(node, part).await) });
            }
            while let Some(answer) = answers.join_next().await {
                let Ok((node, partitions, answer)) = answer else { continue };
                match answer {
                    Ok(answer) => merge(&mut gathered, &mut merged, node, answer),
                    Err(error @ ShardError::Query(_)) => return Err(error),
                    Err(error) => {
                        failed.insert(node, format!("node {node}: {error}"));
                        left.extend(partitions);
                    }
                }
            }
        }
        gathered.index.sort_by_key(|index| index.partition);
        gathered.hits.sort_by_key(|hit| hit.rank);
        if let Some(upto) = gathered.upto {
            gathered.hits.retain(|hit| hit.rank <= upto);
        }
        if gathered.hits.len() > request.limit {
            gathered.hits.truncate(request.limit);
            gathered.upto = gathered.hits.last().map(|hit| hit.rank);
        }
        if let (Some(text), Some(engine)) = (&request.aggregations, &self.engine) {
            gathered.aggregations = Some(finish(text, merged.unwrap_or_default(), engine)?);
        }
        Ok(gathered)
    }

    fn choose(
        &self,
        topic: &TopicInfo,
        partition: i32,
        me: NodeId,
        failed: &BTreeMap<NodeId, String>,
    ) -> Option<NodeId> {
        let nodes = topic.replicas.get(usize::try_from(partition).ok()?)?;
        let usable = |node: &&NodeId| !failed.contains_key(node);
        let here = nodes.iter().filter(usable).find(|node| **node == me && self.engine.is_some());
        here.or_else(|| nodes.iter().find(usable)).copied()
    }

    async fn ask(self: Arc<Self>, node: NodeId, request: ShardRequest) -> Result<ShardAnswer, ShardError> {
        if node == self.host.node_id() {
            return self.search_here(request).await;
        }
        let timeout = Duration::from_millis(request.timeout_ms) + WAY;
        match self.call(node, &PeerRequest::Search(request), timeout).await? {
            PeerAnswer::Search(answer) => answer,
            PeerAnswer::Records(_) => Err(ShardError::Failed("another answer than was asked for".to_owned())),
        }
    }

    /// Reads records at a node that has them, the leader first.
    pub(crate) async fn read(
        &self,
        topic: &TopicInfo,
        request: RecordsRequest,
    ) -> Result<RecordsAnswer, ShardError> {
        let me = self.host.node_id();
        let nodes = usize::try_from(request.partition).ok().and_then(|index| topic.replicas.get(index));
        let mut problem = ShardError::NotReady("none of the partition's replicas can be reached".to_owned());
        for node in nodes.into_iter().flatten() {
            let answer = if *node == me {
                self.read_here(request.clone()).await
            } else {
                match self.call(*node, &PeerRequest::Records(request.clone()), WAY).await {
                    Ok(PeerAnswer::Records(answer)) => answer,
                    Ok(PeerAnswer::Search(_)) => continue,
                    Err(error) => Err(error),
                }
            };
            match answer {
                Err(error @ (ShardError::NotReady(_) | ShardError::Failed(_))) => problem = error,
                answer => return answer,
            }
        }
        Err(problem)
    }

    async fn call(
        &self,
        node: NodeId,
        request: &PeerRequest,
        timeout: Duration,
    ) -> Result<PeerAnswer, ShardError> {
        let payload = encode(request).map_err(ShardError::Failed)?;
        let answer = self.host.call(node, payload, timeout).await.map_err(ShardError::NotReady)?;
        match answer.split_first() {
            Some((&VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|error| ShardError::Failed(error.to_string()))
            }
            _ => Err(ShardError::Failed("the answer is of an unknown version".to_owned())),
        }
    }
}

fn encode(message: &impl serde::Serialize) -> Result<Bytes, String> {
    postcard::to_extend(message, vec![VERSION]).map(Bytes::from).map_err(|error| error.to_string())
}

fn merge(
    gathered: &mut Gathered,
    merged: &mut Option<IntermediateAggregationResults>,
    node: NodeId,
    answer: ShardAnswer,
) {
    gathered.count += answer.count;
    let mut bytes: usize = gathered.hits.iter().map(|hit| hit.record.bytes()).sum();
    let (mut upto, mut last) = (answer.upto, None);
    for hit in answer.hits {
        bytes += hit.record.bytes();
        // Several nodes together may have more than an answer holds.
        if bytes > 4 * ANSWER_BYTES_MAX {
            upto = last;
            break;
        }
        last = Some(hit.rank);
        gathered.hits.push(hit);
    }
    gathered.upto = gathered.upto.into_iter().chain(upto).min();
    let known: BTreeSet<String> = gathered.problems.iter().cloned().collect();
    gathered.problems.extend(answer.problems.into_iter().filter(|problem| !known.contains(problem)));
    gathered.index.extend(answer.indexed.into_iter().map(|indexed| PartitionIndex {
        partition: indexed.partition.unsigned_abs(),
        node,
        indexed_to: indexed.to,
        high_watermark: indexed.high_watermark,
    }));
    let Some(bytes) = answer.aggregations else { return };
    let part: Result<IntermediateAggregationResults, _> = postcard::from_bytes(&bytes);
    let problem = match (part, merged.as_mut()) {
        (Ok(part), Some(all)) => all.merge_fruits(part).err().map(|error| error.to_string()),
        (Ok(part), None) => {
            *merged = Some(part);
            None
        }
        (Err(error), _) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        gathered.problems.push(format!("the aggregations of node {node} were left out: {problem}"));
    }
}

fn finish(
    text: &str,
    merged: IntermediateAggregationResults,
    engine: &Engine,
) -> Result<serde_json::Value, ShardError> {
    let wanted: Aggregations =
        serde_json::from_str(text).map_err(|error| ShardError::Query(error.to_string()))?;
    let all = merged
        .into_final_result(wanted, engine.aggregation_limits())
        .map_err(|error| ShardError::Failed(error.to_string()))?;
    serde_json::to_value(all).map_err(|error| ShardError::Failed(error.to_string()))
}

/// The time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
