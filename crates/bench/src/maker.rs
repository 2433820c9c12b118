//! Makes the messages of one producer: key, partition, value and stamp.

use crate::message::{Keys, Payloads, Sizes, Stamp};
use crate::random::Random;
use crate::window::Window;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};

/// What the messages of a load are like.
#[derive(Clone)]
pub struct Content {
    /// Topic that they go to.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Choice of keys.
    pub keys: Keys,
    /// Choice of sizes.
    pub sizes: Sizes,
    /// Choice of bytes.
    pub payloads: Payloads,
    /// True if values bear a stamp.
    pub stamped: bool,
    /// The number of the run, for the stamps.
    pub run: u64,
}

/// One producer's state.
pub struct Maker {
    content: Content,
    producer: u32,
    random: Random,
    /// Partition of the next message without a key.
    round: u32,
    /// Number of the next message in each partition.
    next: Vec<u64>,
    value: Vec<u8>,
}

impl Maker {
    /// The first message goes to a partition by the producer's number, so that many producers spread from the start.
    pub fn new(content: Content, producer: u32) -> Self {
        let partitions = content.partitions.max(1);
        Self {
            random: Random::new(content.run ^ (u64::from(producer) << 32)),
            round: (producer.wrapping_mul(7919)) % partitions,
            next: vec![0; partitions as usize],
            value: Vec::new(),
            content,
            producer,
        }
    }

    /// Queues the next message, due at `due` nanoseconds of the run. One that the queue does not take is as if it had
    /// never been made.
    pub fn send<C>(&mut self, to: &BaseProducer<C>, window: &Window, due: u64) -> Result<(), KafkaError>
    where
        C: ProducerContext<DeliveryOpaque = usize>,
    {
        let partitions = self.content.partitions.max(1);
        let key = self.content.keys.choose(&mut self.random).map(Keys::bytes);
        let partition = key.map_or(self.round, |key| Keys::partition(&key, partitions));
        let size = self.content.sizes.choose(&mut self.random);
        let number = self.random.next();
        self.content.payloads.write(number, size, &mut self.value);
        let sequence = self.next.get(partition as usize).copied().unwrap_or(0);
        if self.content.stamped {
            let due_ns = window.since_1970(due);
            Stamp { run: self.content.run, producer: self.producer, sequence, due_ns }.seal(&mut self.value);
        }
        let record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.content.topic, due as usize)
                .partition(partition as i32)
                .payload(&self.value);
        let sent = match &key {
            Some(key) => to.send(record.key(key)),
            None => to.send(record),
        };
        sent.map_err(|(error, _)| error)?;
        if let Some(next) = self.next.get_mut(partition as usize) {
            *next += 1;
        }
        if key.is_none() {
            self.round = (self.round + 1) % partitions;
        }
        Ok(())
    }
}
