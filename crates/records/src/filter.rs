//! Takes records out of a batch, as the cleaner of a compacted topic does (KIP-534 for the delete horizon).

use bytes::Bytes;
use chronik_base::Timestamp;

use crate::batch::Batch;
use crate::builder::{BuildError, put_record, seal};
use crate::compression::{self, Compression};
use crate::header::{Attributes, BatchHeader, HEADER_SIZE, NO_TIMESTAMP, TimestampType};
use crate::record::{Record, RecordsError};

/// How [`filter_batch`] treats what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterOptions {
    /// What a batch gets as its delete horizon if tombstones stay in it and it has none yet: usually now plus
    /// `delete.retention.ms`, in milliseconds since the Unix epoch. `None` leaves batches without one.
    pub delete_horizon: Option<Timestamp>,
    /// Keep the header when no record stays, because it holds the last sequence number of its producer.
    pub retain_empty: bool,
    /// What the records may decompress to, in bytes (the setting `max.decompressed.bytes`).
    pub max_decompressed_bytes: usize,
}

/// What has become of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// Everything stays as it is: use the batch's own bytes.
    Unchanged,
    /// The batch that takes its place. Base offset, last offset, leader epoch and producer fields are the same.
    Rewritten(Bytes),
    /// Nothing stays.
    Removed,
}

/// Why a batch cannot be filtered. It stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Its records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The new batch cannot be made.
    #[error("the batch at offset {base_offset} cannot be rewritten: {error}")]
    Build {
        /// Base offset of the batch.
        base_offset: i64,
        /// Why not.
        error: BuildError,
    },
}

/// Rewrites `batch` with the records for which `keep` says true. Records keep their offsets, timestamps and bytes; the
/// codec stays the same.
///
/// # Errors
/// [`FilterError`], if the records cannot be read or compressed again.
pub fn filter_batch(
    batch: &Batch<'_>,
    options: &FilterOptions,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Filtered, FilterError> {
    let header = *batch.header();
    let records = batch.records(options.max_decompressed_bytes)?;
    let failed = |error| FilterError::Build { base_offset: header.base_offset, error };

    // The verdicts come first: most batches stay whole and then nothing is copied.
    let mut kept: Vec<Record<'_>> = Vec::new();
    let (mut total, mut tombstones) = (0, false);
    for record in &records {
        let record = record?;
        total += 1;
        if keep(&record) {
            tombstones |= record.value.is_none();
            kept.push(record);
        }
    }
    if kept.is_empty() {
        return match (options.retain_empty, total) {
            (false, _) => Ok(Filtered::Removed),
            (true, 0) => Ok(Filtered::Unchanged),
            (true, _) => Ok(Filtered::Rewritten(empty_batch(&header).map_err(failed)?)),
        };
    }
    let new_horizon = match header.delete_horizon() {
        None if tombstones => options.delete_horizon,
        _ => None,
    };
    if kept.len() == total && new_horizon.is_none() {
        return Ok(Filtered::Unchanged);
    }
    rewrite(&header, batch.compression()?, &kept, new_horizon).map(Filtered::Rewritten).map_err(failed)
}

fn rewrite(
    old: &BatchHeader,
    codec: Compression,
    kept: &[Record<'_>],
    new_horizon: Option<Timestamp>,
) -> Result<Bytes, BuildError> {
    let size: usize = kept.iter().map(Record::encoded_size).sum();
    let mut bytes = Vec::with_capacity(HEADER_SIZE + size);
    bytes.resize(HEADER_SIZE, 0);
    let mut header = *old;
    if let Some(horizon) = new_horizon {
        // The horizon takes the base timestamp's place, so every delta counts from it.
        header.attributes = header.attributes.with_delete_horizon(true);
        header.base_timestamp = horizon;
        for record in kept {
            let delta = record
                .timestamp
                .checked_sub(horizon)
                .ok_or(BuildError::Timestamp { timestamp: record.timestamp, base: horizon })?;
            put_record(&mut bytes, record.offset_delta, delta, record.key, record.value, record.headers)?;
        }
    } else {
        for record in kept {
            bytes.extend_from_slice(record.encoded);
        }
    }
    // Readers take the timestamps of a batch with the broker's time from the header: it has to stay.
    if header.attributes.timestamp_type() == TimestampType::CreateTime {
        header.max_timestamp = kept.iter().map(|record| record.timestamp).fold(NO_TIMESTAMP, i64::max);
    }
    // No more records than the batch had, whose count is an i32.
    header.record_count = kept.len() as i32;
    if codec != Compression::None {
        let packed = compression::compress(codec.into(), bytes.get(HEADER_SIZE..).unwrap_or_default())?;
        bytes.truncate(HEADER_SIZE);
        bytes.extend_from_slice(&packed);
    }
    seal(header, bytes)
}

/// A batch without records that keeps its place and what its producer's state is rebuilt from.
fn empty_batch(old: &BatchHeader) -> Result<Bytes, BuildError> {
    let attributes =
        Attributes(old.attributes.0).with_compression(Compression::None).with_delete_horizon(false);
    let header = BatchHeader { attributes, base_timestamp: old.max_timestamp, record_count: 0, ..*old };
    seal(header, vec![0; HEADER_SIZE])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, BatchOptions};

    const OPTIONS: FilterOptions =
        FilterOptions { delete_horizon: None, retain_empty: false, max_decompressed_bytes: 1 << 20 };

    fn batch(compression: Compression, timestamp_type: TimestampType) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            encoding: compression.into(),
            base_offset: 100,
            partition_leader_epoch: 4,
            producer_id: 9,
            producer_epoch: 2,
            base_sequence: 50,
            timestamp_type,
            ..Default::default()
        });
        builder.append(1_000, Some(b"a"), Some(b"1"), &[(b"h", Some(b"x"))]).unwrap();
        builder.append(3_000, Some(b"b"), None, &[]).unwrap();
        builder.append(2_000, Some(b"c"), Some(b"3"), &[]).unwrap();
        builder.finish().unwrap()
    }

    type Plain = (i64, Timestamp, Vec<u8>, Option<Vec<u8>>, usize);

    fn plain(bytes: &[u8]) -> Vec<Plain> {
        let batch = Batch::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        let records = batch.records(1 << 20).unwrap();
        let owned = |r: Record<'_>| {
            (r.offset, r.timestamp, r.key.unwrap().to_vec(), r.value.map(<[u8]>::to_vec), r.headers.len())
        };
        records.iter().map(|r| owned(r.unwrap())).collect()
    }

    fn filter(bytes: &[u8], options: FilterOptions, keep: &[&[u8]]) -> Filtered {
        let batch = Batch::parse(bytes).unwrap();
        filter_batch(&batch, &options, |record| keep.contains(&record.key.unwrap())).unwrap()
    }

    #[track_caller]
    fn rewritten(filtered: Filtered) -> Bytes {
        match filtered {
            Filtered::Rewritten(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kept_records_keep_offsets_and_the_batch_its_place() {
        for codec in Compression::ALL {
            let old = batch(codec, TimestampType::CreateTime);
            let new = rewritten(filter(&old, OPTIONS, &[b"a", b"c"]));
            let all = plain(&old);
            assert_eq!(plain(&new), [all[0].clone(), all[2].clone()]);
            let (old, new) = (BatchHeader::parse(&old).unwrap(), BatchHeader::parse(&new).unwrap());
            let expected = BatchHeader {
                batch_length: new.batch_length,
                crc: new.crc,
                max_timestamp: 2_000,
                record_count: 2,
                ..old
            };
            assert_eq!(new, expected);
            assert_eq!((new.last_offset(), new.last_sequence()), (102, 52));
        }
    }

    #[test]
    fn nothing_to_do_copies_nothing() {
        let old = batch(Compression::Lz4, TimestampType::CreateTime);
        assert_eq!(filter(&old, OPTIONS, &[b"a", b"b", b"c"]), Filtered::Unchanged);
        assert_eq!(filter(&old, OPTIONS, &[]), Filtered::Removed);
    }

    #[test]
    fn an_empty_batch_keeps_the_producers_sequence() {
        let options = FilterOptions { retain_empty: true, ..OPTIONS };
        let old = batch(Compression::Zstd, TimestampType::CreateTime);
        let new = rewritten(filter(&old, options, &[]));
        assert!(plain(&new).is_empty());
        let header = BatchHeader::parse(&new).unwrap();
        assert_eq!((header.base_offset, header.last_offset(), header.record_count), (100, 102, 0));
        assert_eq!((header.producer_id, header.producer_epoch, header.last_sequence()), (9, 2, 52));
        assert_eq!((header.max_timestamp, header.attributes.compression_id()), (3_000, 0));
        assert_eq!(new.len(), HEADER_SIZE);
        // Once more: it stays while its producer is known and goes afterwards.
        assert_eq!(filter(&new, options, &[]), Filtered::Unchanged);
        assert_eq!(filter(&new, OPTIONS, &[]), Filtered::Removed);
    }

    #[test]
    fn tombstones_set_the_delete_horizon_once() {
        let options = FilterOptions { delete_horizon: Some(90_000), ..OPTIONS };
        for codec in Compression::ALL {
            let old = batch(codec, TimestampType::CreateTime);
            let new = rewritten(filter(&old, options, &[b"a", b"b", b"c"]));
            assert_eq!(BatchHeader::parse(&new).unwrap().delete_horizon(), Some(90_000));
            assert_eq!(plain(&new), plain(&old));
            let later = FilterOptions { delete_horizon: Some(99_999), ..OPTIONS };
            assert_eq!(filter(&new, later, &[b"a", b"b", b"c"]), Filtered::Unchanged);
            let fewer = rewritten(filter(&new, later, &[b"b"]));
            assert_eq!(BatchHeader::parse(&fewer).unwrap().delete_horizon(), Some(90_000));
            assert_eq!(plain(&fewer), plain(&old)[1..2]);
        }
        let old = batch(Compression::None, TimestampType::CreateTime);
        let no_tombstone = rewritten(filter(&old, options, &[b"a"]));
        assert_eq!(BatchHeader::parse(&no_tombstone).unwrap().delete_horizon(), None);
    }

    #[test]
    fn the_brokers_time_stays() {
        let old = batch(Compression::None, TimestampType::LogAppendTime);
        let options = FilterOptions { delete_horizon: Some(90_000), ..OPTIONS };
        for keep in [&[&b"a"[..]][..], &[b"b"]] {
            let new = rewritten(filter(&old, options, keep));
            assert_eq!(plain(&new)[0].1, 3_000);
        }
    }

    #[test]
    fn damage_is_an_error_and_not_a_loss() {
        let mut old = batch(Compression::None, TimestampType::CreateTime).to_vec();
        old[HEADER_SIZE] = 0x7f;
        let batch = Batch::parse(&old).unwrap();
        let error = filter_batch(&batch, &OPTIONS, |_| true).unwrap_err();
        assert!(error.to_string().contains("record 0 of the batch at offset 100"), "{error}");
    }
}
