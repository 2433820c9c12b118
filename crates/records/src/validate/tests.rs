use super::*;
use crate::{BatchBuilder, BatchOptions, CRC_COVERS_FROM};

const NOW: Timestamp = 1_700_000_000_000;

/// Changes the header of a batch and makes its CRC right again.
fn alter(batch: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(batch).unwrap();
    change(&mut header);
    let records = &batch[HEADER_SIZE..];
    header.crc = header.compute_crc(records);
    [&header.encode()[..], records].concat().into()
}

fn build(options: BatchOptions, timestamps: &[Timestamp]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (i, timestamp) in timestamps.iter().enumerate() {
        let key = format!("key-{i}");
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v")), (b"none", None)];
        builder.append(*timestamp, Some(key.as_bytes()), Some(&[b'v'; 300]), headers).unwrap();
    }
    builder.finish().unwrap()
}

fn simple() -> Bytes {
    build(BatchOptions::default(), &[NOW, NOW + 5, NOW + 5, NOW - 3])
}

fn validate(records: Bytes) -> Result<ProduceBatch, RecordError> {
    validate_produce(records, &ProduceRules::default(), NOW)
}

#[track_caller]
fn refused(records: Bytes, rules: &ProduceRules, code: ErrorCode, says: &str) -> RecordError {
    let error = validate_produce(records, rules, NOW).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(says), "{error}");
    error
}

#[track_caller]
fn altered(change: impl FnOnce(&mut BatchHeader), code: ErrorCode, says: &str) {
    refused(alter(&simple(), change), &ProduceRules::default(), code, says);
}

#[test]
fn a_good_batch_keeps_the_producers_bytes() {
    for codec in Compression::ALL {
        let sent = build(
            BatchOptions { encoding: codec.into(), ..Default::default() },
            &[NOW, NOW + 5, NOW + 5, NOW - 3],
        );
        let stored = validate(sent.clone()).unwrap();
        assert!(!stored.rewritten);
        assert_eq!(stored.records.as_ptr(), sent[HEADER_SIZE..].as_ptr(), "copied");
        assert_eq!((stored.count(), stored.size()), (4, sent.len()));
        assert_eq!(stored.header.max_timestamp, NOW + 5);
        assert_eq!(stored.max_timestamp_delta, 1);
        let placed = stored.to_bytes(77, 5);
        let batch = Batch::parse(&placed).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!((batch.header().base_offset, batch.header().last_offset()), (77, 80));
        assert_eq!(placed[CRC_COVERS_FROM..], sent[CRC_COVERS_FROM..]);
    }
}

#[test]
fn exactly_one_whole_batch() {
    let rules = ProduceRules::default();
    let batch = simple();
    refused(Bytes::new(), &rules, ErrorCode::InvalidRecord, "no records");
    let two = Bytes::from([&batch[..], &batch[..]].concat());
    refused(two, &rules, ErrorCode::InvalidRecord, "exactly one batch");
    let more = Bytes::from([&batch[..], &[0]].concat());
    refused(more, &rules, ErrorCode::InvalidRecord, "1 bytes follow");
    for cut in 1..batch.len() {
        refused(batch.slice(..cut), &rules, ErrorCode::InvalidRecord, "cut short");
    }
}

#[test]
fn other_formats_are_named() {
    for (magic, code) in [
        (0, ErrorCode::UnsupportedForMessageFormat),
        (1, ErrorCode::UnsupportedForMessageFormat),
        (3, ErrorCode::CorruptMessage),
        (0xff, ErrorCode::CorruptMessage),
    ] {
        let mut bytes = simple().to_vec();
        bytes[16] = magic;
        refused(bytes.into(), &ProduceRules::default(), code, "magic");
    }
}

#[test]
fn every_flipped_byte_under_the_crc_is_caught() {
    let batch = simple();
    for at in CRC_COVERS_FROM..batch.len() {
        let mut bytes = batch.to_vec();
        bytes[at] ^= 0x40;
        refused(bytes.into(), &ProduceRules::default(), ErrorCode::CorruptMessage, "CRC-32C");
    }
}

#[test]
fn header_fields_have_to_agree() {
    use ErrorCode::{InvalidRecord, InvalidTimestamp, UnsupportedCompressionType};
    altered(|h| h.record_count = 0, InvalidRecord, "0 records");
    altered(|h| h.record_count = -1, InvalidRecord, "-1 records");
    altered(|h| h.record_count = 3, InvalidRecord, "no gaps");
    altered(|h| h.last_offset_delta = i32::MAX, InvalidRecord, "no gaps");
    altered(|h| (h.record_count, h.last_offset_delta) = (3, 2), InvalidRecord, "bytes are left");
    altered(|h| (h.record_count, h.last_offset_delta) = (5, 4), InvalidRecord, "record 4");
    altered(|h| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1), InvalidRecord, "record 4");
    altered(|h| h.base_offset = 1, InvalidRecord, "base offset 1");
    altered(|h| h.attributes.0 |= 0x20, InvalidRecord, "control");
    altered(|h| h.attributes.0 |= 0x40, InvalidRecord, "attributes");
    altered(|h| h.attributes.0 |= 0x100, InvalidRecord, "attributes");
    altered(|h| h.attributes.0 |= 0x10, InvalidRecord, "transactional");
    altered(|h| h.attributes.0 |= 0x08, InvalidTimestamp, "LogAppendTime");
    altered(|h| h.attributes.0 |= 0x05, UnsupportedCompressionType, "type 5");
    altered(|h| (h.producer_id, h.producer_epoch) = (4, 0), InvalidRecord, "sequence -1");
    altered(|h| (h.producer_id, h.base_sequence) = (4, 0), InvalidRecord, "epoch -1");
    altered(|h| h.base_timestamp = i64::MAX, InvalidRecord, "timestamp delta");
}

#[test]
fn fields_of_a_producer_without_an_id_do_not_matter() {
    // kafkajs sends epoch 0 and sequence 0 with producer id -1.
    let batch = alter(&simple(), |h| (h.producer_epoch, h.base_sequence) = (0, 0));
    validate(batch).unwrap();
    let idempotent = alter(&simple(), |h| {
        (h.producer_id, h.producer_epoch, h.base_sequence) = (0, 0, i32::MAX);
    });
    assert_eq!(validate(idempotent).unwrap().header.last_sequence(), 2);
}

#[test]
fn size_limits_name_their_settings() {
    let batch = simple();
    let fits =
        ProduceRules { max_message_bytes: batch.len(), segment_bytes: batch.len(), ..Default::default() };
    validate_produce(batch.clone(), &fits, NOW).unwrap();
    let small = ProduceRules { max_message_bytes: batch.len() - 1, ..fits };
    refused(batch.clone(), &small, ErrorCode::MessageTooLarge, "max.message.bytes allows");
    let segment = ProduceRules { segment_bytes: batch.len() - 1, ..fits };
    refused(batch, &segment, ErrorCode::RecordListTooLarge, "segment.bytes=");
}

#[test]
fn zstd_needs_produce_7() {
    let zstd = build(BatchOptions { encoding: Compression::Zstd.into(), ..Default::default() }, &[NOW]);
    let old = ProduceRules { produce_version: 6, ..Default::default() };
    refused(zstd.clone(), &old, ErrorCode::UnsupportedCompressionType, "version 6");
    validate_produce(zstd, &ProduceRules { produce_version: 7, ..old }, NOW).unwrap();
    validate_produce(simple(), &old, NOW).unwrap();
}

#[test]
fn timestamps_are_held_to_both_limits() {
    let rules =
        ProduceRules { timestamp_before_max_ms: 100, timestamp_after_max_ms: 50, ..Default::default() };
    let at = |timestamps: &[Timestamp]| build(BatchOptions::default(), timestamps);
    validate_produce(at(&[NOW - 100, NOW + 50, -1]), &rules, NOW).unwrap();
    let error = refused(
        at(&[NOW, NOW - 101, NOW, NOW + 51]),
        &rules,
        ErrorCode::InvalidTimestamp,
        "message.timestamp.after.max.ms",
    );
    assert_eq!(error.records.iter().map(|r| r.batch_index).collect::<Vec<_>>(), [1, 3]);
    let append_time = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..rules };
    validate_produce(at(&[0]), &append_time, NOW).unwrap();
}

#[test]
fn the_largest_timestamp_is_that_of_the_records() {
    let stored = validate(alter(&simple(), |h| h.max_timestamp = 12)).unwrap();
    assert!(stored.rewritten);
    assert_eq!(stored.to_bytes(0, -1), simple());
    let none = validate(build(BatchOptions::default(), &[-1, -1])).unwrap();
    assert_eq!((none.header.max_timestamp, none.max_timestamp_delta), (-1, -1));
}

#[test]
fn log_append_time_replaces_the_timestamps() {
    let rules = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..Default::default() };
    let sent = simple();
    let stored = validate_produce(sent.clone(), &rules, NOW + 1_000).unwrap();
    assert!(stored.rewritten);
    assert_eq!(stored.records.as_ptr(), sent[HEADER_SIZE..].as_ptr(), "copied");
    assert_eq!((stored.header.max_timestamp, stored.max_timestamp_delta), (NOW + 1_000, 0));
    let bytes = stored.to_bytes(10, 1);
    let batch = Batch::parse(&bytes).unwrap();
    batch.verify_crc().unwrap();
    for record in &batch.records(0).unwrap() {
        assert_eq!(record.unwrap().timestamp, NOW + 1_000);
    }
}

#[test]
fn compacted_topics_need_keys() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for key in [Some(&b"k"[..]), None, Some(b""), None] {
        builder.append(NOW, key, None, &[]).unwrap();
    }
    let batch = builder.finish().unwrap();
    validate(batch.clone()).unwrap();
    let rules = ProduceRules { compacted: true, ..Default::default() };
    let error = refused(batch, &rules, ErrorCode::InvalidRecord, "2 records refused, the first at index 1");
    assert_eq!(error.records.iter().map(|r| r.batch_index).collect::<Vec<_>>(), [1, 3]);
    assert!(error.records[0].message.contains("key"));
}

#[test]
fn the_list_of_refused_records_is_bounded() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..5_000 {
        builder.append(NOW, None, None, &[]).unwrap();
    }
    let rules = ProduceRules { compacted: true, ..Default::default() };
    let error = refused(builder.finish().unwrap(), &rules, ErrorCode::InvalidRecord, "5000 records refused");
    assert_eq!(error.records.len(), crate::RECORD_ISSUES_MAX);
}

#[test]
fn compression_type_recompresses() {
    for from in Compression::ALL {
        for to in Compression::ALL {
            let sent = build(BatchOptions { encoding: from.into(), ..Default::default() }, &[NOW, NOW + 1]);
            let rules = ProduceRules { encoding: Some(to.into()), ..Default::default() };
            let stored = validate_produce(sent.clone(), &rules, NOW).unwrap();
            assert_eq!(stored.rewritten, from != to);
            let bytes = stored.to_bytes(0, -1);
            let batch = Batch::parse(&bytes).unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.compression().unwrap(), to);
            let records = batch.records(1 << 20).unwrap();
            assert_eq!(records.iter().map(|r| r.unwrap().offset).collect::<Vec<_>>(), [0, 1]);
            // What comes out is what a producer with that codec would have sent.
            validate(bytes.clone()).unwrap();
        }
    }
}

#[test]
fn bombs_are_stopped_and_name_the_setting() {
    for codec in &Compression::ALL[1..] {
        let mut builder = BatchBuilder::new(BatchOptions { encoding: (*codec).into(), ..Default::default() });
        builder.append(NOW, None, Some(&vec![0; 8 << 20]), &[]).unwrap();
        let bomb = builder.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{codec}: {}", bomb.len());
        let rules = ProduceRules { max_decompressed_bytes: 1 << 20, ..Default::default() };
        refused(bomb.clone(), &rules, ErrorCode::MessageTooLarge, "max.decompressed.bytes");
        validate(bomb).unwrap();
    }
}

#[test]
fn damaged_compressed_records_are_invalid() {
    for codec in &Compression::ALL[1..] {
        let mut header = BatchHeader::parse(&simple()).unwrap();
        header.attributes = header.attributes.with_compression(*codec);
        header.crc = header.compute_crc(&simple()[HEADER_SIZE..]);
        let bytes = Bytes::from([&header.encode()[..], &simple()[HEADER_SIZE..]].concat());
        refused(bytes, &ProduceRules::default(), ErrorCode::InvalidRecord, "the batch at offset 0");
    }
}
