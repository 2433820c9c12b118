//! What HTTP shows of the node: what the broker knows of itself and of the cluster, its metrics, and those of the connections.

use std::fmt::Write;
use std::sync::Arc;

use chronik_base::BoxFuture;
use chronik_broker::Broker;
use chronik_http::NodeStatus;
use chronik_status::{ClusterStatus, LagReport, PromoteAnswer, PromoteRequest, Refusal};

use crate::gate::Gate;
use crate::registry::Registry;

/// The line that ends a text of metrics.
const END: &str = "# EOF\n";

/// The parts of the node that have something to show.
pub(crate) struct Status {
    pub(crate) broker: Arc<Broker>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Arc<Gate>,
}

impl NodeStatus for Status {
    fn not_ready(&self) -> Option<String> {
        self.broker.not_ready()
    }

    fn metrics(&self) -> String {
        let gauges = [
            ("chronik_connections", "Open connections.", self.registry.count()),
            (
                "chronik_queued_request_bytes",
                "Bytes of requests that are arriving or wait for their answers.",
                self.gate.held(),
            ),
            ("chronik_queued_request_bytes_max", "The limit, queued.max.request.bytes.", self.gate.limit()),
        ];
        with_gauges(self.broker.render_metrics(), &gauges)
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

/// Adds gauges to a text of metrics, before the line that ends it.
fn with_gauges(mut text: String, gauges: &[(&str, &str, usize)]) -> String {
    if text.ends_with(END) {
        text.truncate(text.len() - END.len());
    }
    for (name, help, value) in gauges {
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    text.push_str(END);
    text
}

#[cfg(test)]
mod tests {
    use super::with_gauges;

    #[test]
    fn the_text_ends_once() {
        let text = with_gauges("a 1\n# EOF\n".to_owned(), &[("b", "B.", 2)]);
        assert_eq!(text, "a 1\n# HELP b B.\n# TYPE b gauge\nb 2\n# EOF\n");
    }
}
