//! The producer of the demonstration: idempotent, waits for acknowledgement by all, lives through the crash.

use super::data::{DATA_SETS, SourceRecord};
use crate::admin;
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records in the client at any time; bounds what an acknowledgement waits behind.
const IN_FLIGHT: i32 = 5_000;
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// Where a record went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub partition: i32,
    /// None where the answer named no offset.
    pub offset: Option<i64>,
}

/// What became of the records.
pub struct Acknowledgements {
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    /// For each source record, where it was acknowledged.
    places: Vec<Option<Place>>,
    acknowledged: u64,
    sent_us: Vec<u64>,
    latencies_us: Histogram<u64>,
    /// Microseconds from which to which the broker was away; answers to what was sent before and came after
    /// are left out of the latencies.
    outage_us: Option<(u64, u64)>,
    failure: Option<String>,
}

impl Acknowledgements {
    fn new(records: usize) -> Result<Self> {
        Ok(Self {
            started: Instant::now(),
            inner: Mutex::new(Inner {
                places: vec![None; records],
                acknowledged: 0,
                sent_us: vec![0; records],
                latencies_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
                outage_us: None,
                failure: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    pub fn count(&self) -> u64 {
        self.lock().acknowledged
    }

    /// The first record that could not be delivered, in words.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    pub fn places(&self) -> Vec<Option<Place>> {
        self.lock().places.clone()
    }

    /// The broker goes away now.
    pub fn outage_begins(&self) {
        self.lock().outage_us = Some((self.now_us(), u64::MAX));
    }

    /// The broker is back.
    pub fn outage_ends(&self) {
        let now = self.now_us();
        if let Some((_, end)) = &mut self.lock().outage_us {
            *end = now;
        }
    }

    /// From sending to the acknowledgement, in milliseconds: p50, p99.
    pub fn latency_ms(&self) -> (f64, f64) {
        let inner = self.lock();
        let ms = |quantile| inner.latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
        (ms(0.5), ms(0.99))
    }
}

struct Delivery(Arc<Acknowledgements>);

impl ClientContext for Delivery {
    // The crash is part of the show.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let now = self.0.now_us();
        let mut inner = self.0.lock();
        match result {
            Ok(message) => {
                inner.acknowledged += 1;
                if let Some(place) = inner.places.get_mut(index) {
                    let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                    *place = Some(Place { partition: message.partition(), offset });
                }
                let sent = inner.sent_us.get(index).copied().unwrap_or(now);
                let over_the_outage =
                    inner.outage_us.is_some_and(|(began, ended)| sent <= ended && now >= began);
                if !over_the_outage {
                    inner.latencies_us.saturating_record(now.saturating_sub(sent).max(1));
                }
            }
            Err((error, _)) => {
                inner.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// The producer and the thread that feeds it.
pub struct Stream {
    pub acknowledgements: Arc<Acknowledgements>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Stream {
    /// Starts sending every record, each once.
    pub fn start(bootstrap: &str, records: Arc<Vec<SourceRecord>>) -> Result<Self> {
        let acknowledgements = Arc::new(Acknowledgements::new(records.len())?);
        let mut config = admin::client_config(bootstrap);
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "5");
        config.set("message.timeout.ms", "60000");
        let producer: BaseProducer<Delivery> =
            config.create_with_context(Delivery(acknowledgements.clone())).context("making the producer")?;
        let shared = acknowledgements.clone();
        let thread = std::thread::spawn(move || send(&producer, &records, &shared));
        Ok(Self { acknowledgements, thread })
    }

    /// Waits until every record has its answer.
    pub fn finish(self) -> Result<()> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the producer's thread panicked; its message is above"),
        }
    }
}

fn send(
    producer: &BaseProducer<Delivery>,
    records: &[SourceRecord],
    shared: &Acknowledgements,
) -> Result<()> {
    for (index, record) in records.iter().enumerate() {
        while producer.in_flight_count() >= IN_FLIGHT {
            producer.poll(Duration::from_millis(1));
        }
        let now = shared.now_us();
        if let Some(sent) = shared.lock().sent_us.get_mut(index) {
            *sent = now;
        }
        let topic = DATA_SETS.get(record.topic).map_or("", |set| set.topic);
        let mut message: BaseRecord<'_, str, [u8], usize> =
            BaseRecord::with_opaque_to(topic, index).payload(&record.value);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        while let Err((error, same)) = producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("handing a record to the producer");
            }
            producer.poll(Duration::from_millis(1));
            message = same;
        }
        if index % 64 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(FLUSH_WITHIN).context("waiting for the last acknowledgements")
}
