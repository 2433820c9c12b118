//! The page of metrics as instruments of the library: each family is one, and is read from the page when metrics are sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chronik_metrics::{Family, Kind, Section};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use crate::client::Client;
use crate::reading::{Reading, read};

/// One page serves all instruments that are read within this time: 1 s.
const PAGE_AGE_MAX: Duration = Duration::from_secs(1);

/// The lines of one page, by metric.
type Page = Arc<HashMap<String, Vec<Reading>>>;

/// What the page said last.
struct Pages {
    source: Box<dyn Fn() -> String + Send + Sync>,
    last: Mutex<Option<(Instant, Page)>>,
}

impl Pages {
    fn now(&self) -> Page {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, page)) if at.elapsed() < PAGE_AGE_MAX => page.clone(),
            _ => {
                let page = Arc::new(read(&(self.source)()));
                *last = Some((Instant::now(), page.clone()));
                page
            }
        }
    }

    /// Tells the library of every line of that name.
    fn observe(&self, name: &str, observer: &dyn AsyncInstrument<f64>) {
        for reading in self.now().get(name).into_iter().flatten() {
            let labels =
                reading.labels.iter().map(|(label, value)| KeyValue::new(label.clone(), value.clone()));
            observer.observe(reading.value, &labels.collect::<Vec<_>>());
        }
    }
}

/// Begins to send all `sections` each `interval`.
pub(crate) fn start(
    client: Client,
    endpoint: &str,
    resource: Resource,
    interval: Duration,
    sections: &[Section],
    source: Box<dyn Fn() -> String + Send + Sync>,
) -> Result<SdkMeterProvider, ExporterBuildError> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{endpoint}/v1/metrics"))
        .build()?;
    let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("chronik");
    let pages = Arc::new(Pages { source, last: Mutex::new(None) });
    for family in sections.iter().flat_map(|section| section.families) {
        register(&meter, family, &pages);
    }
    Ok(provider)
}

/// Of a histogram the number and the sum are sent: the library has no way to hand over buckets that were counted elsewhere.
fn register(meter: &Meter, family: &'static Family, pages: &Arc<Pages>) {
    let add = |is_counter: bool, name: String, line: String| {
        let pages = pages.clone();
        if is_counter {
            let builder = meter.f64_observable_counter(name).with_description(family.help);
            builder.with_callback(move |observer| pages.observe(&line, observer)).build();
        } else {
            let builder = meter.f64_observable_gauge(name).with_description(family.help);
            builder.with_callback(move |observer| pages.observe(&line, observer)).build();
        }
    };
    match family.kind {
        Kind::Gauge => add(false, family.name.to_owned(), family.line_name()),
        Kind::Counter => add(true, family.name.to_owned(), family.line_name()),
        Kind::Histogram => {
            for part in ["count", "sum"] {
                let name = format!("{}_{part}", family.name);
                add(true, name.clone(), name);
            }
        }
    }
}
