//! What HTTP shows of the node: what the broker knows of itself and of the cluster, its metrics, and those of the connections.

use std::sync::Arc;

use chronik_base::BoxFuture;
use chronik_broker::Broker;
use chronik_http::NodeStatus;
use chronik_metrics::Page;
use chronik_search::Search;
use chronik_status::{ClusterStatus, LagReport, PromoteAnswer, PromoteRequest, Refusal};

use crate::gate::Gate;
use crate::metrics::NodeFigures;
use crate::registry::Registry;

/// The parts of the node that have something to show.
pub(crate) struct Status {
    pub(crate) broker: Arc<Broker>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) search: Arc<Search>,
}

impl NodeStatus for Status {
    fn not_ready(&self) -> Option<String> {
        self.broker.not_ready()
    }

    fn metrics(&self) -> String {
        let mut page = Page::new();
        let node = NodeFigures {
            is_ready: self.broker.not_ready().is_none(),
            connections: self.registry.count(),
            queued_bytes: self.gate.held(),
            queued_bytes_max: self.gate.limit(),
            data_dir: self.broker.data_path(),
        };
        node.write(&mut page);
        self.broker.write_metrics(&mut page);
        self.search.render_metrics(&mut page);
        page.finish()
    }

    fn cluster_status(&self) -> ClusterStatus {
        self.broker.cluster_status()
    }

    fn lag(&self, topic: Option<&str>, all: bool, limit: usize) -> LagReport {
        self.broker.lag_report(topic, all, limit)
    }

    fn promote(&self, request: PromoteRequest) -> BoxFuture<Result<PromoteAnswer, Refusal>> {
        let broker = self.broker.clone();
        // What was begun is carried out, whether or not the connection lasts.
        let work = tokio::spawn(async move { broker.promote(request).await });
        Box::pin(async move {
            work.await.unwrap_or_else(|error| {
                Err(Refusal { error: error.to_string(), see: "the log of this node".to_owned() })
            })
        })
    }
}
