//! The bytes of a whole image: what a snapshot holds. One version for all of it; an unknown one is refused.

use std::sync::Arc;

use chronik_base::Uuid;

use crate::codec::{CodecError, Decoder, Encoder};
use crate::command_codec::{get_configs, get_endpoints, put_configs, put_endpoints};
use crate::image::{Broker, Image, Partition, Tally, Topic};
use crate::partitions::Partitions;

/// The version of the bytes that [`Image::encode`] writes. 1 added what fencing and elections need.
const VERSION: u8 = 1;

impl Image {
    /// The image's bytes. The same image has the same bytes, however it came about.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(VERSION);
        out.unsigned(self.offset);
        out.uuid(&self.cluster_id);
        out.signed(self.next_producer_id);
        out.unsigned(self.tally.elections);
        out.unsigned(self.tally.unclean);
        put_configs(&mut out, &self.default_broker_configs);
        out.unsigned(self.broker_configs.len() as u64);
        for (id, configs) in self.broker_configs.iter() {
            out.signed(i64::from(*id));
            put_configs(&mut out, configs);
        }
        out.unsigned(self.brokers.len() as u64);
        for broker in self.brokers() {
            put_broker(&mut out, broker);
        }
        out.unsigned(self.topics.len() as u64);
        for topic in self.topics() {
            put_topic(&mut out, topic);
        }
        out.bytes
    }

    /// Reads what [`Image::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut input = Decoder::new(bytes);
        let version = input.u8("the image's version")?;
        if version > VERSION {
            return Err(CodecError::UnknownVersion { name: "image", version, known: VERSION });
        }
        let mut image = Image {
            offset: input.unsigned("an offset")?,
            cluster_id: input.uuid("a cluster id")?,
            next_producer_id: input.signed("a producer id")?,
            tally: if version == 0 { Tally::default() } else { get_tally(&mut input)? },
            default_broker_configs: Arc::new(get_configs(&mut input)?),
            ..Image::default()
        };
        for _ in 0..input.count("settings of brokers")? {
            let id = input.number("a broker id")?;
            image.broker_configs.insert(id, Arc::new(get_configs(&mut input)?));
        }
        for _ in 0..input.count("brokers")? {
            let broker = get_broker(&mut input, version)?;
            image.brokers.insert(broker.id, Arc::new(broker));
        }
        for _ in 0..input.count("topics")? {
            let topic = get_topic(&mut input)?;
            image.put_topic(Arc::new(topic));
        }
        input.finish()?;
        Ok(image)
    }
}

fn put_broker(out: &mut Encoder, broker: &Broker) {
    out.signed(i64::from(broker.id));
    out.optional_text(broker.rack.as_deref());
    put_endpoints(out, &broker.endpoints);
    out.uuid(&broker.incarnation);
    out.signed(broker.epoch);
    out.uuid(&broker.directory);
    out.u8(u8::from(broker.fenced));
    out.u8(u8::from(broker.in_shutdown));
}

fn get_tally(input: &mut Decoder<'_>) -> Result<Tally, CodecError> {
    Ok(Tally { elections: input.unsigned("elections")?, unclean: input.unsigned("unclean elections")? })
}

fn get_broker(input: &mut Decoder<'_>, version: u8) -> Result<Broker, CodecError> {
    let mut broker = Broker {
        id: input.number("a broker id")?,
        rack: input.optional_text("a rack")?,
        endpoints: get_endpoints(input)?,
        incarnation: input.uuid("an incarnation")?,
        epoch: input.signed("a broker epoch")?,
        directory: Uuid::ZERO,
        fenced: false,
        in_shutdown: false,
    };
    if version > 0 {
        broker.directory = input.uuid("a directory's id")?;
        broker.fenced = input.flag("a flag")?;
        broker.in_shutdown = input.flag("a flag")?;
    }
    Ok(broker)
}

fn put_topic(out: &mut Encoder, topic: &Topic) {
    out.text(&topic.name);
    out.uuid(&topic.id);
    out.signed(topic.created);
    put_configs(out, &topic.configs);
    out.unsigned(topic.partitions.len() as u64);
    for (_, partition) in topic.partitions.iter() {
        put_partition(out, partition);
    }
}

fn get_topic(input: &mut Decoder<'_>) -> Result<Topic, CodecError> {
    let name = input.text("a topic's name")?.into();
    let id = input.uuid("a topic id")?;
    let created = input.signed("a time")?;
    let configs = Arc::new(get_configs(input)?);
    let partitions: Partitions = input.list("partitions", get_partition)?.into_iter().collect();
    Ok(Topic { name, id, created, partitions, configs })
}

/// Set in a partition's first byte: its ISR is its replicas, its leader the first of them, and the rest is empty. So are nearly all.
const PLAIN: u8 = 1;

fn is_plain(partition: &Partition) -> bool {
    partition.isr == partition.replicas
        && partition.replicas.first() == Some(&partition.leader)
        && [&partition.eligible_leaders, &partition.adding, &partition.removing]
            .iter()
            .all(|list| list.is_empty())
}

fn put_partition(out: &mut Encoder, partition: &Partition) {
    let plain = is_plain(partition);
    out.u8(u8::from(plain));
    out.signed(i64::from(partition.leader_epoch));
    out.signed(i64::from(partition.partition_epoch));
    out.nodes(&partition.replicas);
    if !plain {
        out.signed(i64::from(partition.leader));
        out.nodes(&partition.isr);
        out.nodes(&partition.eligible_leaders);
        out.nodes(&partition.adding);
        out.nodes(&partition.removing);
    }
}

fn get_partition(input: &mut Decoder<'_>) -> Result<Partition, CodecError> {
    let form = input.u8("a partition")?;
    if form > PLAIN {
        return Err(CodecError::Malformed("a partition"));
    }
    let leader_epoch = input.number("a leader epoch")?;
    let partition_epoch = input.number("a partition epoch")?;
    let replicas = input.nodes("replicas")?;
    let mut partition = Partition { leader_epoch, partition_epoch, ..Partition::new(&replicas) };
    if form != PLAIN {
        partition.leader = input.number("a leader")?;
        partition.isr = input.nodes("an ISR")?.into();
        partition.eligible_leaders = input.nodes("eligible leaders")?.into();
        partition.adding = input.nodes("added replicas")?.into();
        partition.removing = input.nodes("removed replicas")?.into();
    }
    Ok(partition)
}
