//! Reads a partition of the offsets topic into its coordinator.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use chronik_base::Chunk;
use chronik_coordinator::Record;
use chronik_log::ReadError;
use chronik_records::{BatchScanError, Batches, RecordsError};

use crate::Broker;
use crate::groups::codec;
use crate::groups::shard::Shard;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// After a failure it is tried again, first after this long, then after twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);
/// How often it is looked whether this node still leads the partition, while its followers have not confirmed what it holds.
const COMMIT_WAIT: Duration = Duration::from_millis(500);

/// Why a partition can't be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("its file can't be read: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Batch(#[from] BatchScanError),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// Begins to load a shard; a partition without records is loaded when this returns.
pub(super) fn start(shard: &Arc<Shard>, broker: &Broker) {
    let log = &shard.partition.log;
    if log.log_start_offset() == log.log_end_offset() && shard.partition.latest().is_ok() {
        return shard.finish_loading(broker);
    }
    let weak = broker.groups.broker.get().cloned().unwrap_or_default();
    broker.groups.runtime.spawn(load(shard.clone(), weak));
}

async fn load(shard: Arc<Shard>, broker: Weak<Broker>) {
    let mut retry = RETRY_FIRST;
    // What the predecessor left may still be cut off where it was not committed; what it had committed is known once the high
    // watermark has come so far as the log that this leader began with.
    while let Some(strong) = broker.upgrade()
        && shard.partition.latest().is_err()
    {
        if shard.partition.led_epoch() != Some(shard.epoch) {
            return;
        }
        let begun_with = shard.partition.epoch_start();
        strong.wait_until_flushed(&[(shard.partition.clone(), begun_with)], COMMIT_WAIT).await;
    }
    loop {
        let Some(strong) = broker.upgrade() else { return };
        let limit = strong.config.max_decompressed_bytes;
        let reader = shard.clone();
        let read = tokio::task::spawn_blocking(move || read(&reader, limit)).await;
        match read {
            Ok(Ok(damaged)) => {
                if damaged > 0 {
                    tracing::warn!(
                        partition = shard.partition.index,
                        damaged,
                        "records of {} can't be understood and were passed over",
                        shard.partition.topic
                    );
                }
                return shard.finish_loading(&strong);
            }
            Ok(Err(error)) => {
                tracing::error!(
                    partition = shard.partition.index,
                    "groups can't be loaded from {}, trying again in {} s: {error}",
                    shard.partition.topic,
                    retry.as_secs()
                );
            }
            Err(error) => tracing::error!(partition = shard.partition.index, "loading groups ended: {error}"),
        }
        shard.restart_loading();
        drop(strong);
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MOST);
    }
}

/// Gives the coordinator every record; the number of those that nobody can read.
fn read(shard: &Shard, max_decompressed: usize) -> Result<usize, LoadError> {
    let log = &shard.partition.log;
    let end = log.written_offset();
    let mut offset = log.log_start_offset();
    let mut damaged = 0;
    while offset < end {
        let plan = log.read(offset, READ_BYTES, end, true)?;
        let mut bytes = Vec::with_capacity(plan.bytes);
        plan.chunks.iter().try_for_each(|chunk| append(chunk, &mut bytes))?;
        let mut records = Vec::new();
        for batch in Batches::new(&bytes) {
            let batch = batch?;
            if batch.header().attributes.is_control() {
                continue;
            }
            for record in &batch.records(max_decompressed)? {
                let record = record?;
                match decode(record.key, record.value) {
                    Some(decoded) => records.extend(decoded),
                    None => damaged += 1,
                }
            }
        }
        shard.load_records(records);
        if plan.next_offset <= offset {
            // Nothing is left below the end: compaction took it.
            break;
        }
        offset = plan.next_offset;
    }
    Ok(damaged)
}

/// The record, if it is one that the coordinator knows; `None` if it can't be read.
fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Option<Record>> {
    codec::decode(Bytes::copy_from_slice(key?), value.map(Bytes::copy_from_slice)).ok()
}

fn append(chunk: &Chunk, bytes: &mut Vec<u8>) -> io::Result<()> {
    match chunk {
        Chunk::Bytes(more) => bytes.extend_from_slice(more),
        Chunk::File(range) => {
            let file = File::from(range.file.as_fd().try_clone_to_owned()?);
            let start = bytes.len();
            bytes.resize(start + chunk.len(), 0);
            file.read_exact_at(bytes.get_mut(start..).unwrap_or_default(), range.position)?;
        }
    }
    Ok(())
}
