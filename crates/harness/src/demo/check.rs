//! The consumer group of the demonstration: reads along, and compares every record with the source.

use super::data::{DATA_SETS, SourceRecord};
use super::stream::Place;
use crate::admin;
use anyhow::{Context, Result, bail};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// After the last acknowledged record nothing more may come; this long it is waited for.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// Topic, partition, offset.
type ReceivedAt = (usize, i32, i64);
/// Key and value.
type Content = (Option<Vec<u8>>, Vec<u8>);

/// What the group received.
pub struct Received {
    records: HashMap<ReceivedAt, Content>,
    /// Delivered again because the crash came before the commit.
    pub redelivered: u64,
}

/// How the comparison went.
#[derive(Default)]
pub struct Verdict {
    /// Acknowledged and not there, or with other bytes.
    pub lost: u64,
    /// There and not acknowledged: never sent, or there twice.
    pub surplus: u64,
}

/// A member of a consumer group over all topics.
pub struct Reader {
    consumer: BaseConsumer,
    received: Received,
}

impl Reader {
    pub fn join(bootstrap: &str) -> Result<Self> {
        let mut config = admin::client_config(bootstrap);
        config.set("group.id", "demo").set("auto.offset.reset", "earliest");
        config.set("auto.commit.interval.ms", "200").set("session.timeout.ms", "6000");
        config.set("heartbeat.interval.ms", "1000");
        let consumer: BaseConsumer = config.create().context("making the consumer")?;
        let topics: Vec<&str> = DATA_SETS.iter().map(|set| set.topic).collect();
        consumer.subscribe(&topics).context("joining the group")?;
        Ok(Self { consumer, received: Received { records: HashMap::new(), redelivered: 0 } })
    }

    /// Reads for a moment; the number of records so far.
    pub fn poll(&mut self, time: Duration) -> Result<usize> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            // Errors while the broker is away pass; what matters is that everything arrives in the end.
            if let Some(Ok(message)) = self.consumer.poll(until.saturating_duration_since(Instant::now())) {
                let topic = DATA_SETS.iter().position(|set| set.topic == message.topic());
                let topic = topic.context("a record of a topic that was not asked for")?;
                let place = (topic, message.partition(), message.offset());
                let content =
                    (message.key().map(<[u8]>::to_vec), message.payload().unwrap_or_default().to_vec());
                if self.received.records.insert(place, content).is_some() {
                    self.received.redelivered += 1;
                }
            }
        }
        Ok(self.received.records.len())
    }

    /// Reads until `wanted` records are there, and a little longer for those that should not be.
    pub fn finish(mut self, wanted: usize, mut progress: impl FnMut(usize)) -> Result<Received> {
        let mut last = (Instant::now(), 0);
        loop {
            let count = self.poll(Duration::from_millis(50))?;
            progress(count);
            if count >= wanted {
                break;
            }
            if count > last.1 {
                last = (Instant::now(), count);
            } else if last.0.elapsed() > PATIENCE {
                bail!(
                    "the group received {count} of {wanted} records, then none for {} s",
                    PATIENCE.as_secs()
                );
            }
        }
        self.poll(AFTERWARDS)?;
        Ok(self.received)
    }
}

impl Received {
    /// Compares with the source, byte by byte, each record at the place its acknowledgement named.
    pub fn compare(mut self, source: &[SourceRecord], places: &[Option<Place>]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut without_offset = Vec::new();
        for (record, place) in source.iter().zip(places) {
            match place {
                None => {}
                Some(Place { partition, offset: Some(offset) }) => {
                    let found = self.records.remove(&(record.topic, *partition, *offset));
                    verdict.lost += u64::from(!found.is_some_and(|found| is_same(&found, record)));
                }
                Some(Place { partition, offset: None }) => without_offset.push((record, *partition)),
            }
        }
        // A retried record may be answered without its offset: any record left over with its bytes is it.
        for (record, partition) in without_offset {
            let place = self.records.iter().find_map(|(place, found)| {
                (place.0 == record.topic && place.1 == partition && is_same(found, record)).then_some(*place)
            });
            match place {
                Some(place) => drop(self.records.remove(&place)),
                None => verdict.lost += 1,
            }
        }
        verdict.surplus = self.records.len() as u64;
        verdict
    }
}

fn is_same(found: &Content, record: &SourceRecord) -> bool {
    found.0.as_deref() == record.key.as_deref().map(str::as_bytes) && found.1 == record.value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str) -> SourceRecord {
        SourceRecord { topic: 0, key: Some("k".to_owned()), value: value.into() }
    }

    fn received(entries: &[(i64, &str)]) -> Received {
        let records = entries
            .iter()
            .map(|(offset, value)| ((0, 0, *offset), (Some(b"k".to_vec()), value.as_bytes().to_vec())))
            .collect();
        Received { records, redelivered: 0 }
    }

    fn at(offset: i64) -> Option<Place> {
        Some(Place { partition: 0, offset: Some(offset) })
    }

    #[test]
    fn a_missing_a_changed_and_a_doubled_record_are_seen() {
        let source = [record("a"), record("b")];
        let places = [at(0), at(1)];
        let verdict = |entries: &[(i64, &str)]| {
            let verdict = received(entries).compare(&source, &places);
            (verdict.lost, verdict.surplus)
        };
        assert_eq!(verdict(&[(0, "a"), (1, "b")]), (0, 0));
        assert_eq!(verdict(&[(0, "a")]), (1, 0));
        assert_eq!(verdict(&[(0, "a"), (1, "x")]), (1, 0));
        assert_eq!(verdict(&[(0, "a"), (1, "b"), (2, "b")]), (0, 1));
    }

    #[test]
    fn an_acknowledgement_without_an_offset_takes_any_place_with_its_bytes() {
        let source = [record("a"), record("b")];
        let places = [Some(Place { partition: 0, offset: None }), at(1)];
        let verdict = received(&[(0, "a"), (1, "b")]).compare(&source, &places);
        assert_eq!((verdict.lost, verdict.surplus), (0, 0));
    }
}
