//! Reads everything back and compares it with the ledgers.

use super::Target;
use super::ledger::{Fate, Ledger};
use super::record::{self, Identity};
use crate::admin;
use anyhow::{Context, Result, bail};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Serialize;
use std::ops::Deref;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const DETAILS: usize = 20;

/// What is wrong, in numbers, and the first few in words.
#[derive(Serialize, Default)]
pub struct Findings {
    /// Acknowledged and not there, or not where the answer said.
    pub lost: u64,
    /// There and never sent, or with other bytes than were sent.
    pub invented: u64,
    /// There more than once.
    pub duplicates: u64,
    /// There in another order than sent.
    pub out_of_order: u64,
    pub details: Vec<String>,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.lost + self.invented + self.duplicates + self.out_of_order == 0
    }

    fn add(count: &mut u64, details: &mut Vec<String>, detail: String) {
        *count += 1;
        if details.len() < DETAILS {
            details.push(detail);
        }
    }
}

/// Reads on where the last reading ended.
pub struct Verifier {
    seed: u64,
    targets: Vec<TargetState>,
    /// Producers whose records may be there more than once, in any order.
    repeating: Vec<u16>,
}

struct TargetState {
    target: Target<'static>,
    next_offset: i64,
    /// For each producer, which sequence numbers were read, and how far the search for lost ones came.
    read: Vec<Vec<bool>>,
    checked: Vec<u64>,
}

impl Verifier {
    /// Starts at the first offset of every target.
    pub fn new(targets: &[Target<'static>], seed: u64) -> Self {
        let targets = targets
            .iter()
            .map(|&target| TargetState { target, next_offset: 0, read: Vec::new(), checked: Vec::new() })
            .collect();
        Self { seed, targets, repeating: Vec::new() }
    }

    /// Lets records of these producers be there more than once, in any order: clients without idempotence repeat what
    /// an error left open. Each must still be where its acknowledgement said.
    pub fn with_repeating(mut self, producers: Vec<u16>) -> Self {
        self.repeating = producers;
        self
    }

    /// Reads up to the end of every partition and compares; the producers must be paused.
    pub fn read_new(
        &mut self,
        bootstrap: &str,
        ledgers: &[impl Deref<Target = Ledger>],
        findings: &mut Findings,
    ) -> Result<()> {
        let mut config = admin::client_config(bootstrap);
        config.set("group.id", "chronik-harness").set("enable.auto.commit", "false");
        config.set("fetch.wait.max.ms", "10").set("check.crcs", "true");
        let consumer: BaseConsumer = config.create().context("making the consumer")?;
        let mut assignment = TopicPartitionList::new();
        let mut ends = Vec::new();
        self.prepare(ledgers.len());
        for state in &self.targets {
            let Target { topic, partition } = state.target;
            let (_, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("asking for the end of {topic}-{partition}"))?;
            assignment.add_partition_offset(topic, partition, Offset::Offset(state.next_offset))?;
            if end < state.next_offset {
                let detail = format!(
                    "{topic}-{partition} ends at {end}, but was read up to {} before",
                    state.next_offset
                );
                Findings::add(&mut findings.lost, &mut findings.details, detail);
            }
            ends.push(end);
        }
        consumer.assign(&assignment).context("assigning the partitions")?;
        let mut last_arrival = Instant::now();
        while self.targets.iter().zip(&ends).any(|(state, end)| state.next_offset < *end) {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    last_arrival = Instant::now();
                    self.take(&message, ledgers, findings);
                }
                Some(Err(error)) if is_transient(&error) => {}
                Some(Err(error)) => bail!("reading back: {error}"),
                None if last_arrival.elapsed() > PATIENCE => {
                    bail!(
                        "nothing to read for {} s, before the end: {}",
                        PATIENCE.as_secs(),
                        self.behind(&ends)
                    )
                }
                None => {}
            }
        }
        self.find_lost(ledgers, findings);
        Ok(())
    }

    /// Makes room for what this many producers sent.
    fn prepare(&mut self, producers: usize) {
        for state in &mut self.targets {
            state.read.resize_with(producers, Vec::new);
            state.checked.resize(producers, 0);
        }
    }

    fn find_lost(&mut self, ledgers: &[impl Deref<Target = Ledger>], findings: &mut Findings) {
        for (index, state) in self.targets.iter_mut().enumerate() {
            state.find_lost(index, ledgers, findings);
        }
    }

    fn behind(&self, ends: &[i64]) -> String {
        let behind = self.targets.iter().zip(ends).filter(|(state, end)| state.next_offset < **end);
        behind
            .map(|(state, end)| {
                format!("{}-{} at {} of {end}", state.target.topic, state.target.partition, state.next_offset)
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn take(
        &mut self,
        message: &impl Message,
        ledgers: &[impl Deref<Target = Ledger>],
        findings: &mut Findings,
    ) {
        let seed = self.seed;
        let place = Target { topic: message.topic(), partition: message.partition() };
        let Some(index) = self.targets.iter().position(|state| state.target == place) else { return };
        if let Some(state) = self.targets.get_mut(index) {
            state.take(index, message, seed, &self.repeating, ledgers, findings);
        }
    }
}

impl TargetState {
    fn take(
        &mut self,
        index: usize,
        message: &impl Message,
        seed: u64,
        repeating: &[u16],
        ledgers: &[impl Deref<Target = Ledger>],
        findings: &mut Findings,
    ) {
        let offset = message.offset();
        let place = format!("{}-{} offset {offset}", self.target.topic, self.target.partition);
        if offset != self.next_offset {
            let detail = format!("{place}: the record before it has offset {}", self.next_offset - 1);
            Findings::add(&mut findings.out_of_order, &mut findings.details, detail);
        }
        self.next_offset = offset + 1;
        let bytes = message.payload().unwrap_or_default();
        let identity = match identify(seed, index, bytes, ledgers) {
            Ok(identity) => identity,
            Err(reason) => {
                let detail = format!("{place}: {} bytes that nobody sent: {reason}", bytes.len());
                return Findings::add(&mut findings.invented, &mut findings.details, detail);
            }
        };
        let who = format!("record {} of producer {}", identity.sequence, identity.producer);
        let Some(read) = self.read.get_mut(usize::from(identity.producer)) else { return };
        let sequence = identity.sequence as usize;
        let fate = ledgers.get(usize::from(identity.producer)).and_then(|l| l.fate(index, identity.sequence));
        let promised = if let Some(Fate::Acknowledged(promised)) = fate { promised } else { None };
        let careless = repeating.contains(&identity.producer);
        if careless && promised.is_some_and(|promised| promised != offset) {
            // A copy of what is, or has to be, elsewhere.
            return;
        }
        if !careless && read.get(sequence) == Some(&true) {
            let detail = format!("{place}: {who} is there a second time");
            return Findings::add(&mut findings.duplicates, &mut findings.details, detail);
        }
        if !careless && sequence < read.len() {
            let detail = format!("{place}: {who} comes after record {}", read.len() - 1);
            Findings::add(&mut findings.out_of_order, &mut findings.details, detail);
        }
        read.resize(read.len().max(sequence + 1), false);
        if let Some(slot) = read.get_mut(sequence) {
            *slot = true;
        }
        if let Some(promised) = promised
            && promised != offset
        {
            let detail = format!("{place}: {who} was acknowledged with offset {promised}");
            Findings::add(&mut findings.lost, &mut findings.details, detail);
        }
    }

    fn find_lost(&mut self, index: usize, ledgers: &[impl Deref<Target = Ledger>], findings: &mut Findings) {
        for (producer, ledger) in ledgers.iter().enumerate() {
            let Some(read) = self.read.get(producer) else { continue };
            let Some(checked) = self.checked.get_mut(producer) else { continue };
            let end = ledger.next(index);
            for sequence in *checked..end {
                let there = read.get(sequence as usize).copied().unwrap_or(false);
                if let (false, Some(Fate::Acknowledged(offset))) = (there, ledger.fate(index, sequence)) {
                    let Target { topic, partition } = self.target;
                    let at =
                        offset.map_or("an unnamed offset".to_owned(), |offset| format!("offset {offset}"));
                    let detail = format!(
                        "{topic}-{partition}: record {sequence} of producer {producer}, acknowledged with {at}, is lost"
                    );
                    Findings::add(&mut findings.lost, &mut findings.details, detail);
                }
            }
            *checked = end;
        }
    }
}

/// Whose record this is, if it is exactly what that producer sent to this target.
fn identify(
    seed: u64,
    index: usize,
    bytes: &[u8],
    ledgers: &[impl Deref<Target = Ledger>],
) -> Result<Identity, &'static str> {
    let identity = record::identify(bytes)?;
    if usize::from(identity.target) != index {
        return Err("it was sent to another partition");
    }
    let ledger =
        ledgers.get(usize::from(identity.producer)).ok_or("it names a producer that there is not")?;
    if ledger.fate(index, identity.sequence).is_none() {
        return Err("its producer has not come that far");
    }
    if record::encode(seed, identity) != bytes {
        return Err("its bytes differ from those sent");
    }
    Ok(identity)
}

fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    const SEED: u64 = 9;
    const TARGET: Target<'static> = Target { topic: "t", partition: 0 };

    /// One producer that was acknowledged three records at the offsets 0 to 2.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(1);
        for sequence in 0..3 {
            ledger.sent(0);
            ledger.settled(0, sequence, Fate::Acknowledged(Some(sequence as i64)));
        }
        ledger
    }

    fn bytes(sequence: u64) -> Vec<u8> {
        record::encode(SEED, Identity { producer: 0, target: 0, sequence })
    }

    /// Lost, invented, duplicates, out of order after reading these values in this order.
    fn found(values: &[Vec<u8>]) -> [u64; 4] {
        let ledgers = [&ledger()];
        let mut verifier = Verifier::new(&[TARGET], SEED);
        verifier.prepare(ledgers.len());
        let mut findings = Findings::default();
        for (offset, value) in values.iter().enumerate() {
            let message = OwnedMessage::new(
                Some(value.clone()),
                None,
                TARGET.topic.to_owned(),
                Timestamp::NotAvailable,
                TARGET.partition,
                offset as i64,
                None,
            );
            verifier.take(&message, &ledgers, &mut findings);
        }
        verifier.find_lost(&ledgers, &mut findings);
        [findings.lost, findings.invented, findings.duplicates, findings.out_of_order]
    }

    #[test]
    fn what_was_acknowledged_and_is_there_is_clean() {
        assert_eq!(found(&[bytes(0), bytes(1), bytes(2)]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_cut_tail_is_a_loss() {
        assert_eq!(found(&[bytes(0), bytes(1)]), [1, 0, 0, 0]);
    }

    #[test]
    fn a_record_that_is_there_twice_is_a_duplicate() {
        assert_eq!(found(&[bytes(0), bytes(1), bytes(2), bytes(2)]), [0, 0, 1, 0]);
    }

    #[test]
    fn two_records_in_the_wrong_order_are_also_not_where_the_answers_said() {
        assert_eq!(found(&[bytes(0), bytes(2), bytes(1)]), [2, 0, 0, 1]);
    }

    #[test]
    fn changed_and_unsent_records_are_invented() {
        let mut changed = bytes(2);
        changed[10] ^= 1;
        assert_eq!(found(&[bytes(0), bytes(1), changed]), [1, 1, 0, 0]);
        assert_eq!(found(&[bytes(0), bytes(1), bytes(2), bytes(3)]), [0, 1, 0, 0]);
    }
}
