//! The bytes of a command: kind, version, fields. A field is added by a new version; a kind or version that is not known here is refused.

use chronik_base::Uuid;

use crate::codec::{CodecError, Decoder, Encoder};
use crate::command::{AlterPartition, Assignments, Command, ConfigChanges, PartitionChange};
use crate::image::{Configs, Endpoint};

const SET_CLUSTER_ID: u8 = 1;
const REGISTER_BROKER: u8 = 2;
const UNREGISTER_BROKER: u8 = 3;
const CREATE_TOPIC: u8 = 4;
const DELETE_TOPIC: u8 = 5;
const CREATE_PARTITIONS: u8 = 6;
const ALTER_TOPIC_CONFIGS: u8 = 7;
const ALTER_BROKER_CONFIGS: u8 = 8;
const ALLOCATE_PRODUCER_IDS: u8 = 9;
const CHANGE_PARTITION: u8 = 10;
const UNFENCE_BROKER: u8 = 11;
const FENCE_BROKER: u8 = 12;
const BEGIN_SHUTDOWN: u8 = 13;
const ALTER_PARTITION: u8 = 14;
const ELECT_LEADER: u8 = 15;
const REASSIGN: u8 = 16;
const YIELD_LEADERSHIPS: u8 = 17;

/// The name of a kind, and its newest version.
fn known(kind: u8) -> Option<(&'static str, u8)> {
    Some(match kind {
        SET_CLUSTER_ID => ("SetClusterId", 0),
        REGISTER_BROKER => ("RegisterBroker", 1),
        UNREGISTER_BROKER => ("UnregisterBroker", 0),
        CREATE_TOPIC => ("CreateTopic", 0),
        DELETE_TOPIC => ("DeleteTopic", 0),
        CREATE_PARTITIONS => ("CreatePartitions", 0),
        ALTER_TOPIC_CONFIGS => ("AlterTopicConfigs", 0),
        ALTER_BROKER_CONFIGS => ("AlterBrokerConfigs", 0),
        ALLOCATE_PRODUCER_IDS => ("AllocateProducerIds", 0),
        CHANGE_PARTITION => ("ChangePartition", 0),
        UNFENCE_BROKER => ("UnfenceBroker", 0),
        FENCE_BROKER => ("FenceBroker", 0),
        BEGIN_SHUTDOWN => ("BeginShutdown", 0),
        ALTER_PARTITION => ("AlterPartition", 0),
        ELECT_LEADER => ("ElectLeader", 0),
        REASSIGN => ("Reassign", 0),
        YIELD_LEADERSHIPS => ("YieldLeaderships", 0),
        _ => return None,
    })
}

impl Command {
    /// The command's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(self.kind());
        out.u8(known(self.kind()).map_or(0, |(_, version)| version));
        match self {
            Command::SetClusterId { id } | Command::DeleteTopic { id } => out.uuid(id),
            Command::RegisterBroker { id, rack, endpoints, incarnation, directory } => {
                out.signed(i64::from(*id));
                out.optional_text(rack.as_deref());
                put_endpoints(&mut out, endpoints);
                out.uuid(incarnation);
                out.uuid(directory);
            }
            Command::UnfenceBroker { id, epoch }
            | Command::FenceBroker { id, epoch }
            | Command::BeginShutdown { id, epoch }
            | Command::YieldLeaderships { id, epoch } => {
                out.signed(i64::from(*id));
                out.signed(*epoch);
            }
            Command::UnregisterBroker { id } => out.signed(i64::from(*id)),
            Command::CreateTopic { name, id, created, assignments, configs } => {
                out.text(name);
                out.uuid(id);
                out.signed(*created);
                put_assignments(&mut out, assignments);
                put_configs(&mut out, configs);
            }
            Command::CreatePartitions { topic, first, assignments } => {
                out.uuid(topic);
                out.signed(i64::from(*first));
                put_assignments(&mut out, assignments);
            }
            Command::AlterTopicConfigs { topic, changes } => {
                out.uuid(topic);
                put_changes(&mut out, changes);
            }
            Command::AlterBrokerConfigs { broker, changes } => {
                out.u8(u8::from(broker.is_some()));
                if let Some(broker) = broker {
                    out.signed(i64::from(*broker));
                }
                put_changes(&mut out, changes);
            }
            Command::AllocateProducerIds { count } => out.unsigned(u64::from(*count)),
            Command::AlterPartition(proposal) => put_proposal(&mut out, proposal),
            Command::ElectLeader { topic, partition, unclean } => {
                out.uuid(topic);
                out.signed(i64::from(*partition));
                out.u8(u8::from(*unclean));
            }
            Command::Reassign { topic, partition, target } => {
                out.uuid(topic);
                out.signed(i64::from(*partition));
                out.optional_nodes(target.as_ref());
            }
            Command::ChangePartition(change) => put_change(&mut out, change),
        }
        out.bytes
    }

    /// Reads what [`Command::encode`] wrote, in this version or an earlier one.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut input = Decoder::new(bytes);
        let kind = input.u8("a command's kind")?;
        let version = input.u8("a command's version")?;
        let (name, newest) = known(kind).ok_or(CodecError::UnknownKind(kind))?;
        if version > newest {
            return Err(CodecError::UnknownVersion { name, version, known: newest });
        }
        let command = match kind {
            SET_CLUSTER_ID => Command::SetClusterId { id: input.uuid("a cluster id")? },
            REGISTER_BROKER => Command::RegisterBroker {
                id: input.number("a broker id")?,
                rack: input.optional_text("a rack")?,
                endpoints: get_endpoints(&mut input)?,
                incarnation: input.uuid("an incarnation")?,
                directory: if version == 0 { Uuid::ZERO } else { input.uuid("a directory's id")? },
            },
            UNFENCE_BROKER | FENCE_BROKER | BEGIN_SHUTDOWN | YIELD_LEADERSHIPS => {
                let (id, epoch) = (input.number("a broker id")?, input.signed("a broker epoch")?);
                match kind {
                    UNFENCE_BROKER => Command::UnfenceBroker { id, epoch },
                    FENCE_BROKER => Command::FenceBroker { id, epoch },
                    YIELD_LEADERSHIPS => Command::YieldLeaderships { id, epoch },
                    _ => Command::BeginShutdown { id, epoch },
                }
            }
            UNREGISTER_BROKER => Command::UnregisterBroker { id: input.number("a broker id")? },
            CREATE_TOPIC => Command::CreateTopic {
                name: input.text("a topic's name")?.to_owned(),
                id: input.uuid("a topic id")?,
                created: input.signed("a time")?,
                assignments: get_assignments(&mut input)?,
                configs: get_configs(&mut input)?,
            },
            DELETE_TOPIC => Command::DeleteTopic { id: input.uuid("a topic id")? },
            CREATE_PARTITIONS => Command::CreatePartitions {
                topic: input.uuid("a topic id")?,
                first: input.number("a partition's index")?,
                assignments: get_assignments(&mut input)?,
            },
            ALTER_TOPIC_CONFIGS => Command::AlterTopicConfigs {
                topic: input.uuid("a topic id")?,
                changes: get_changes(&mut input)?,
            },
            ALTER_BROKER_CONFIGS => Command::AlterBrokerConfigs {
                broker: if input.flag("a flag")? { Some(input.number("a broker id")?) } else { None },
                changes: get_changes(&mut input)?,
            },
            ALLOCATE_PRODUCER_IDS => {
                let count = input.unsigned("a count of producer ids")?;
                let count =
                    u32::try_from(count).map_err(|_| CodecError::Malformed("a count of producer ids"))?;
                Command::AllocateProducerIds { count }
            }
            ALTER_PARTITION => Command::AlterPartition(get_proposal(&mut input)?),
            ELECT_LEADER => Command::ElectLeader {
                topic: input.uuid("a topic id")?,
                partition: input.number("a partition's index")?,
                unclean: input.flag("a flag")?,
            },
            REASSIGN => Command::Reassign {
                topic: input.uuid("a topic id")?,
                partition: input.number("a partition's index")?,
                target: input.optional_nodes("replicas")?,
            },
            _ => Command::ChangePartition(get_change(&mut input)?),
        };
        input.finish()?;
        Ok(command)
    }

    fn kind(&self) -> u8 {
        match self {
            Command::SetClusterId { .. } => SET_CLUSTER_ID,
            Command::RegisterBroker { .. } => REGISTER_BROKER,
            Command::UnregisterBroker { .. } => UNREGISTER_BROKER,
            Command::CreateTopic { .. } => CREATE_TOPIC,
            Command::DeleteTopic { .. } => DELETE_TOPIC,
            Command::CreatePartitions { .. } => CREATE_PARTITIONS,
            Command::AlterTopicConfigs { .. } => ALTER_TOPIC_CONFIGS,
            Command::AlterBrokerConfigs { .. } => ALTER_BROKER_CONFIGS,
            Command::AllocateProducerIds { .. } => ALLOCATE_PRODUCER_IDS,
            Command::ChangePartition(_) => CHANGE_PARTITION,
            Command::UnfenceBroker { .. } => UNFENCE_BROKER,
            Command::FenceBroker { .. } => FENCE_BROKER,
            Command::BeginShutdown { .. } => BEGIN_SHUTDOWN,
            Command::YieldLeaderships { .. } => YIELD_LEADERSHIPS,
            Command::AlterPartition(_) => ALTER_PARTITION,
            Command::ElectLeader { .. } => ELECT_LEADER,
            Command::Reassign { .. } => REASSIGN,
        }
    }

    /// The bytes of several commands, as nodes send them to each other.
    pub fn encode_all(commands: &[Command]) -> Vec<u8> {
        let mut out = Encoder::default();
        put_commands(&mut out, commands.iter().map(Command::encode));
        out.bytes
    }

    /// Reads what [`Command::encode_all`] wrote.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, CodecError> {
        let mut input = Decoder::new(bytes);
        let commands = get_commands(&mut input)?;
        input.finish()?;
        Ok(commands)
    }
}

/// A count, then each command with its length in front.
pub(crate) fn put_commands(out: &mut Encoder, commands: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) {
    out.list(commands, |out, command| {
        out.unsigned(command.as_ref().len() as u64);
        out.bytes.extend_from_slice(command.as_ref());
    });
}

pub(crate) fn get_commands(input: &mut Decoder<'_>) -> Result<Vec<Command>, CodecError> {
    input.list("commands", |input| {
        let length = input.count("a command's length")?;
        Command::decode(input.take(length, "a command")?)
    })
}

pub(crate) fn put_endpoints(out: &mut Encoder, endpoints: &[Endpoint]) {
    out.list(endpoints.iter(), |out, endpoint| {
        out.text(&endpoint.listener);
        out.text(&endpoint.host);
        out.unsigned(u64::from(endpoint.port));
    });
}

pub(crate) fn get_endpoints(input: &mut Decoder<'_>) -> Result<Vec<Endpoint>, CodecError> {
    input.list("endpoints", |input| {
        Ok(Endpoint {
            listener: input.text("a listener's name")?.to_owned(),
            host: input.text("a host")?.to_owned(),
            port: u16::try_from(input.unsigned("a port")?).map_err(|_| CodecError::Malformed("a port"))?,
        })
    })
}

fn put_assignments(out: &mut Encoder, assignments: &Assignments) {
    out.list(assignments.iter(), |out, replicas| out.nodes(replicas));
}

fn get_assignments(input: &mut Decoder<'_>) -> Result<Assignments, CodecError> {
    input.list("assignments", |input| input.nodes("replicas"))
}

pub(crate) fn put_configs(out: &mut Encoder, configs: &Configs) {
    out.list(configs.iter(), |out, (name, value)| {
        out.text(name);
        out.text(value);
    });
}

pub(crate) fn get_configs(input: &mut Decoder<'_>) -> Result<Configs, CodecError> {
    let pairs = input.list("settings", |input| {
        Ok((input.text("a setting's name")?.to_owned(), input.text("a setting's value")?.to_owned()))
    })?;
    Ok(pairs.into_iter().collect())
}

fn put_changes(out: &mut Encoder, changes: &ConfigChanges) {
    out.list(changes.iter(), |out, (name, value)| {
        out.text(name);
        out.optional_text(value.as_deref());
    });
}

fn get_changes(input: &mut Decoder<'_>) -> Result<ConfigChanges, CodecError> {
    input.list("changes of settings", |input| {
        Ok((input.text("a setting's name")?.to_owned(), input.optional_text("a setting's value")?))
    })
}

fn put_proposal(out: &mut Encoder, proposal: &AlterPartition) {
    out.uuid(&proposal.topic);
    out.signed(i64::from(proposal.partition));
    out.signed(i64::from(proposal.leader));
    out.signed(i64::from(proposal.leader_epoch));
    out.signed(i64::from(proposal.partition_epoch));
    out.list(proposal.isr.iter(), |out, (id, epoch)| {
        out.signed(i64::from(*id));
        out.signed(*epoch);
    });
}

fn get_proposal(input: &mut Decoder<'_>) -> Result<AlterPartition, CodecError> {
    Ok(AlterPartition {
        topic: input.uuid("a topic id")?,
        partition: input.number("a partition's index")?,
        leader: input.number("a leader")?,
        leader_epoch: input.number("a leader epoch")?,
        partition_epoch: input.number("a partition epoch")?,
        isr: input
            .list("an ISR", |input| Ok((input.number("a broker id")?, input.signed("a broker epoch")?)))?,
    })
}

fn put_change(out: &mut Encoder, change: &PartitionChange) {
    out.uuid(&change.topic);
    out.signed(i64::from(change.partition));
    out.signed(i64::from(change.partition_epoch));
    out.u8(u8::from(change.leader.is_some()));
    if let Some(leader) = change.leader {
        out.signed(i64::from(leader));
    }
    let lists = [&change.isr, &change.replicas, &change.eligible_leaders, &change.adding, &change.removing];
    for list in lists {
        out.optional_nodes(list.as_ref());
    }
}

fn get_change(input: &mut Decoder<'_>) -> Result<PartitionChange, CodecError> {
    Ok(PartitionChange {
        topic: input.uuid("a topic id")?,
        partition: input.number("a partition's index")?,
        partition_epoch: input.number("a partition epoch")?,
        leader: if input.flag("a flag")? { Some(input.number("a leader")?) } else { None },
        isr: input.optional_nodes("an ISR")?,
        replicas: input.optional_nodes("replicas")?,
        eligible_leaders: input.optional_nodes("eligible leaders")?,
        adding: input.optional_nodes("added replicas")?,
        removing: input.optional_nodes("removed replicas")?,
    })
}
