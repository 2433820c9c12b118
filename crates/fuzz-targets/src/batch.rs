//! Validation of produced batches, and everything else that reads the bytes of one.

use bytes::Bytes;
use chronik_records::{
    Batch, BatchHeader, BatchRef, Batches, Compression, Encoding, FilterOptions, Filtered, HEADER_SIZE,
    ProduceBatch, ProduceRules, TimestampType, filter_batch, validate_produce,
};

const LIMIT: usize = 1 << 20;
const NOW: i64 = 1_700_000_000_000;

/// Reads `data` as a run of batches and as a produced batch; then again with magic, length and CRC made right, so that the
/// fuzzer gets past them.
pub fn batch(data: &[u8]) {
    read(&Bytes::copy_from_slice(data));
    if let Some(mended) = mend(data) {
        read(&mended);
    }
}

fn mend(data: &[u8]) -> Option<Bytes> {
    let mut bytes = data.to_vec();
    let length = i32::try_from(bytes.len().checked_sub(12)?).ok()?;
    bytes.get_mut(8..12)?.copy_from_slice(&length.to_be_bytes());
    *bytes.get_mut(16)? = 2;
    let header = BatchHeader::parse(&bytes).ok()?;
    let crc = header.compute_crc(bytes.get(HEADER_SIZE..)?);
    bytes.get_mut(17..21)?.copy_from_slice(&crc.to_be_bytes());
    Some(bytes.into())
}

fn read(bytes: &Bytes) {
    let mut position = 0;
    let mut batches = Batches::new(bytes);
    for batch in batches.by_ref().map_while(Result::ok) {
        let size = batch.header().total_size();
        assert_eq!(batch.bytes().as_ptr(), bytes.slice(position..).as_ptr());
        position += size;
        records(&batch);
    }
    assert_eq!(batches.position(), position);
    let _ = BatchRef::parse(bytes);
    for rules in rules() {
        if let Ok(stored) = validate_produce(bytes.clone(), &rules, NOW) {
            accepted(&stored, &rules);
        }
    }
}

/// The settings of a plain topic, of a compacted one that compresses, and of one with the broker's time.
fn rules() -> [ProduceRules; 3] {
    let plain = ProduceRules { max_decompressed_bytes: LIMIT, ..Default::default() };
    [
        plain,
        ProduceRules {
            compacted: true,
            timestamp_before_max_ms: 1_000,
            encoding: Some(Encoding::from(Compression::Lz4)),
            ..plain
        },
        ProduceRules {
            timestamp_type: TimestampType::LogAppendTime,
            encoding: Some(Encoding::from(Compression::None)),
            ..plain
        },
    ]
}

/// A batch that was taken can be read by everybody, and says of itself what is true.
fn accepted(stored: &ProduceBatch, rules: &ProduceRules) {
    let bytes = stored.to_bytes(1_000, 3);
    assert_eq!(bytes.len(), stored.size());
    let batch = Batch::parse(&bytes).expect("a batch that was taken is whole");
    batch.verify_crc().expect("its CRC is right");
    assert_eq!(batch.header().base_offset, 1_000);
    let records = batch.records(LIMIT).expect("its records can be decompressed");
    assert_eq!(records.uncompressed_size() as u64, stored.uncompressed_size);
    let mut next = 1_000;
    let mut largest = -1;
    for record in &records {
        let record = record.expect("its records can be read");
        assert_eq!(record.offset, next);
        assert_eq!(record.headers.count(), record.headers.len());
        assert!(!rules.compacted || record.key.is_some());
        next += 1;
        largest = largest.max(record.timestamp);
    }
    assert_eq!(next - 1_000, i64::from(stored.header.record_count));
    assert_eq!(next, batch.header().next_offset());
    assert_eq!(largest, stored.header.max_timestamp);
}

fn records(batch: &Batch<'_>) {
    let _ = batch.verify_crc();
    let Ok(records) = batch.records(LIMIT) else {
        return;
    };
    let whole = records.iter().all(|record| record.is_ok());
    for record in records.iter().flatten() {
        let _ = record.headers.find_last(b"name");
    }
    let options =
        FilterOptions { delete_horizon: Some(NOW), retain_empty: true, max_decompressed_bytes: LIMIT };
    let mut odd = false;
    let filtered = filter_batch(batch, &options, |_| {
        odd = !odd;
        odd
    });
    match filtered {
        Ok(Filtered::Rewritten(bytes)) => {
            let new = Batch::parse(&bytes).expect("what the cleaner writes is whole");
            new.verify_crc().expect("its CRC is right");
            assert_eq!(new.header().last_offset(), batch.header().last_offset());
            let records = new.records(LIMIT).expect("its records can be decompressed");
            assert!(records.iter().all(|record| record.is_ok()), "its records can be read");
        }
        Ok(Filtered::Unchanged | Filtered::Removed) => {}
        Err(_) => assert!(!whole || batch.header().delete_horizon().is_none(), "{filtered:?}"),
    }
}
