//! Traces and metrics for a collector (`otlp.endpoint`), in a binary that is built with the feature `otlp`; in any other the setting is refused.

use std::sync::Arc;

use chronik_broker::Broker;
use chronik_config::NodeConfig;

use crate::start_error::StartError;
use crate::status::Status;

/// Sends until it is stopped.
pub(crate) struct Export {
    #[cfg(feature = "otlp")]
    exporter: Arc<chronik_otlp::Exporter>,
}

#[cfg(feature = "otlp")]
impl Export {
    /// Begins to send, where the settings say so.
    pub(crate) fn start(
        config: &NodeConfig,
        broker: &Arc<Broker>,
        status: &Arc<Status>,
    ) -> Result<Option<Self>, StartError> {
        let Some(endpoint) = config.otlp_endpoint.clone() else { return Ok(None) };
        let status = status.clone();
        let exporter = Arc::new(
            chronik_otlp::Exporter::start(chronik_otlp::Options {
                endpoint: endpoint.clone(),
                node_id: broker.node_id(),
                version: env!("CARGO_PKG_VERSION"),
                metrics_interval: std::time::Duration::from_millis(config.otlp_metrics_interval_ms),
                sections: crate::metric_sections(),
                page: Box::new(move || chronik_http::NodeStatus::metrics(&*status)),
                runtime: tokio::runtime::Handle::current(),
            })
            .map_err(|error| StartError::Config(error.to_string()))?,
        );
        broker.set_traces(Arc::new(Traces(exporter.clone())), config.otlp_trace_every);
        tracing::info!(
            "metrics and one of {} produce requests go to {endpoint} (otlp.endpoint)",
            config.otlp_trace_every
        );
        Ok(Some(Self { exporter }))
    }

    /// Sends what is left, for a few seconds at most. Blocks.
    pub(crate) fn stop(self) {
        self.exporter.stop();
    }
}

/// What hears of produce requests that were traced.
#[cfg(feature = "otlp")]
struct Traces(Arc<chronik_otlp::Exporter>);

#[cfg(feature = "otlp")]
impl chronik_broker::TraceSink for Traces {
    fn produced(&self, trace: chronik_broker::ProduceTrace) {
        let stages = chronik_broker::STAGES.into_iter().zip(trace.ends_us);
        self.0.produced(trace.began, trace.peer, stages);
    }
}

#[cfg(not(feature = "otlp"))]
impl Export {
    /// Refuses a setting that this binary can't follow.
    pub(crate) fn start(
        config: &NodeConfig,
        _: &Arc<Broker>,
        _: &Arc<Status>,
    ) -> Result<Option<Self>, StartError> {
        match &config.otlp_endpoint {
            None => Ok(None),
            Some(endpoint) => Err(StartError::Config(format!(
                "otlp.endpoint = {endpoint:?}: this binary can't send traces; build it with `--features otlp`, or leave the setting out"
            ))),
        }
    }

    /// There is nothing to send.
    pub(crate) fn stop(self) {}
}
