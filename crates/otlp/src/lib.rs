//! Traces of produce requests, and all metrics, for a collector that speaks OTLP over HTTP. In the binary with the feature `otlp` only, and
//! silent unless `otlp.endpoint` is set.
//!
//! Nothing here is on the way of a request: a trace is handed over when its request is answered, and sent later by a thread of the library's, as
//! metrics are. Where the collector takes nothing, traces are let go.

mod client;
mod metrics;
mod reading;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use chronik_metrics::Section;
use opentelemetry::trace::{Span, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use client::{BadEndpoint, Client};

/// What is sent, and where to.
pub struct Options {
    /// The collector, such as `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// This node, as the collector is to know it.
    pub node_id: i32,
    /// Its version.
    pub version: &'static str,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// Every family of metrics.
    pub sections: Vec<Section>,
    /// The page of metrics as it is now, as OpenMetrics text.
    pub page: Box<dyn Fn() -> String + Send + Sync>,
    /// Where connections to the collector run.
    pub runtime: tokio::runtime::Handle,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is none.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The library refuses to send.
    #[error("otlp.endpoint can't be used: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Sends until it is dropped or told to stop.
pub struct Exporter {
    traces: SdkTracerProvider,
    tracer: SdkTracer,
    metrics: SdkMeterProvider,
}

impl Exporter {
    /// Begins to send.
    ///
    /// # Errors
    /// The endpoint is no address of a collector. Whether anybody listens there is seen later, and logged.
    pub fn start(options: Options) -> Result<Self, OtlpError> {
        let Options { endpoint, node_id, version, metrics_interval, sections, page, runtime } = options;
        let endpoint = endpoint.trim_end_matches('/');
        let client = Client::new(endpoint, runtime)?;
        let resource = Resource::builder()
            .with_service_name("chronik")
            .with_attribute(KeyValue::new("service.version", version))
            .with_attribute(KeyValue::new("service.instance.id", i64::from(node_id)))
            .build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build()?;
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.clone())
            .build();
        let metrics = metrics::start(client, endpoint, resource, metrics_interval, &sections, page)?;
        let tracer = traces.tracer("chronik");
        Ok(Self { traces, tracer, metrics })
    }

    /// One produce request of `peer` was answered. It began then, and each stage ended so many microseconds later.
    pub fn produced(
        &self,
        began: SystemTime,
        peer: SocketAddr,
        stages: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let attributes = [
            KeyValue::new("client.address", peer.ip().to_string()),
            KeyValue::new("client.port", i64::from(peer.port())),
        ];
        let request = self
            .tracer
            .span_builder("Produce")
            .with_kind(SpanKind::Server)
            .with_start_time(began)
            .with_attributes(attributes)
            .start(&self.tracer);
        let context = Context::new().with_span(request);
        let mut at = began;
        for (stage, end_us) in stages {
            let end = began + Duration::from_micros(end_us);
            let builder = self.tracer.span_builder(stage).with_start_time(at);
            builder.start_with_context(&self.tracer, &context).end_with_timestamp(end);
            at = end;
        }
        context.span().end_with_timestamp(at);
    }

    /// Sends what is left, for five seconds at most. Blocks.
    pub fn stop(&self) {
        for stopped in [self.traces.shutdown(), self.metrics.shutdown()] {
            if let Err(error) = stopped {
                tracing::warn!("what was left to send to otlp.endpoint was not sent: {error}");
            }
        }
    }
}
