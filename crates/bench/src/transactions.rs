//! The transactional load: a message counts as acknowledged when its transaction is committed, and its latency lasts
//! until then.

use crate::producers::{Handle, give_up_at};
use anyhow::{Context, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::PoisonError;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_millis(1);

/// Gives the producer its id; an error when the broker refuses transactions.
pub fn prepare(producer: &BaseProducer<Handle>) -> Result<()> {
    producer.init_transactions(PATIENCE).context("--transactional: the broker gives no producer id")
}

/// Commits one transaction after the other until the measurement ends.
pub fn run(producer: &BaseProducer<Handle>, size: usize) -> Result<()> {
    let handle = producer.context();
    while handle.window.now() < handle.window.end() {
        producer.begin_transaction().context("beginning a transaction")?;
        for _ in 0..size {
            let due = handle.window.now();
            while let Err(error) = handle.send(producer, due) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    handle.failed(&error, due);
                    break;
                }
                std::thread::sleep(WAIT);
            }
        }
        let committed = producer.commit_transaction(PATIENCE);
        // Reports that the polling thread has not yet served belong to this transaction.
        while producer.in_flight_count() > 0 && handle.window.now() < give_up_at(&handle.window) {
            std::thread::sleep(WAIT);
        }
        settle(handle, &committed);
        if let Err(error) = committed {
            producer
                .abort_transaction(PATIENCE)
                .with_context(|| format!("aborting the transaction whose commit failed with \"{error}\""))?;
        }
    }
    Ok(())
}

/// Counts the messages of a transaction as its commit ended.
fn settle(handle: &Handle, committed: &Result<(), KafkaError>) {
    let delivered = std::mem::take(&mut *handle.uncommitted.lock().unwrap_or_else(PoisonError::into_inner));
    let now = handle.window.now();
    for message in delivered {
        match committed {
            Ok(()) => handle.acknowledged(message.begun_ns, now, message.bytes, message.booked),
            Err(error) => handle.failed(error, message.begun_ns),
        }
    }
}
