//! Batches of this crate against those of the crate `kafka-protocol`, in both directions and every codec. Its lz4 and
//! zstd are the C libraries, so this also shows that the frames of `lz4_flex` are what others read and write.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input has failed")]

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use chronik_records::{
    Batch, BatchBuilder, BatchOptions, Batches, Compression, ProduceRules, validate_produce,
};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;

const LIMIT: usize = 16 << 20;

#[derive(Clone, Debug)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    // The oracle keeps headers in a map, so their names have to differ.
    let headers = proptest::collection::vec(("[a-zé]{0,6}", field()), 0..4).prop_map(|mut headers| {
        let mut seen = HashSet::new();
        headers.retain(|(key, _)| seen.insert(key.clone()));
        headers
    });
    let record = (0i64..4_000_000_000_000, field(), field(), headers)
        .prop_map(|(timestamp, key, value, headers)| Plain { timestamp, key, value, headers });
    proptest::collection::vec(record, 1..40)
}

fn codec() -> impl Strategy<Value = Compression> {
    (0u8..5).prop_map(|id| Compression::from_id(id).unwrap())
}

fn oracle_codec(codec: Compression) -> oracle::Compression {
    match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn ours(records: &[Plain], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    builder.finish().unwrap()
}

fn theirs(records: &[Plain], codec: Compression, producer_id: i64) -> Bytes {
    let records: Vec<oracle::Record> = records
        .iter()
        .enumerate()
        .map(|(i, record)| oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 3 },
            timestamp_type: oracle::TimestampType::Creation,
            offset: i as i64,
            // The oracle starts a new batch wherever the sequence does not go on, with or without a producer id.
            sequence: i as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| (StrBytes::from(key.clone()), value.clone().map(Bytes::from)))
                .collect::<IndexMap<_, _>>(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
    oracle::RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

proptest! {
    #[test]
    fn the_oracle_reads_what_we_write(records in records(), codec in codec(), base in 0i64..1 << 40) {
        let options = BatchOptions {
            encoding: codec.into(),
            base_offset: base,
            partition_leader_epoch: 6,
            producer_id: 44,
            producer_epoch: 1,
            base_sequence: 10,
            transactional: true,
            ..Default::default()
        };
        let mut bytes = ours(&records, options);
        let read = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(read.compression, oracle_codec(codec));
        prop_assert_eq!(read.records.len(), records.len());
        for (i, (read, record)) in read.records.iter().zip(&records).enumerate() {
            prop_assert_eq!(read.offset, base + i as i64);
            prop_assert_eq!(read.sequence, 10 + i as i32);
            prop_assert_eq!((read.producer_id, read.producer_epoch), (44, 1));
            prop_assert_eq!((read.partition_leader_epoch, read.transactional, read.control), (6, true, false));
            prop_assert_eq!(read.timestamp, record.timestamp);
            prop_assert_eq!(read.key.as_deref(), record.key.as_deref());
            prop_assert_eq!(read.value.as_deref(), record.value.as_deref());
            let headers: Vec<_> =
                read.headers.iter().map(|(k, v)| (k.to_string(), v.as_ref().map(|v| v.to_vec()))).collect();
            prop_assert_eq!(&headers, &record.headers);
        }
    }

    #[test]
    fn we_take_and_read_what_the_oracle_writes(records in records(), codec in codec(), producer_id in -1i64..2) {
        let bytes = theirs(&records, codec, producer_id);
        let rules = ProduceRules { timestamp_after_max_ms: i64::MAX, ..Default::default() };
        let stored = validate_produce(bytes.clone(), &rules, 0).unwrap();
        let largest = records.iter().map(|r| r.timestamp).max().unwrap();
        prop_assert_eq!(stored.header.max_timestamp, largest);
        let first = records.iter().position(|r| r.timestamp == largest).unwrap();
        prop_assert_eq!(stored.max_timestamp_delta, first as i32);
        prop_assert_eq!(stored.header.producer_id, producer_id);

        let placed = stored.to_bytes(1_000, 2);
        let batch = Batch::parse(&placed).unwrap();
        batch.verify_crc().unwrap();
        let read = batch.records(LIMIT).unwrap();
        prop_assert_eq!(read.uncompressed_size() as u64, stored.uncompressed_size);
        let read: Vec<_> = read.iter().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read.len(), records.len());
        for (i, (read, record)) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!(read.offset, 1_000 + i as i64);
            prop_assert_eq!(read.timestamp, record.timestamp);
            prop_assert_eq!(read.key, record.key.as_deref());
            prop_assert_eq!(read.value, record.value.as_deref());
            prop_assert_eq!(read.headers.len(), record.headers.len());
            for (read, (key, value)) in read.headers.zip(&record.headers) {
                prop_assert_eq!((read.key, read.value), (key.as_bytes(), value.as_deref()));
            }
        }
    }

    #[test]
    fn without_compression_both_write_the_same_bytes(records in records()) {
        let mut records = records;
        // The oracle counts timestamps from the smallest, this crate (as Kafka does) from the first.
        let smallest = records.iter().map(|r| r.timestamp).min().unwrap();
        records[0].timestamp = smallest;
        let options = BatchOptions { base_sequence: 0, ..Default::default() };
        prop_assert_eq!(ours(&records, options), theirs(&records, Compression::None, -1));
    }

    #[test]
    fn runs_of_batches_are_walked_and_cut(runs in proptest::collection::vec((records(), codec()), 1..5), cut in any::<proptest::sample::Index>()) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for (records, codec) in &runs {
            bytes.extend(ours(records, BatchOptions { encoding: (*codec).into(), ..Default::default() }));
            ends.push(bytes.len());
        }
        let cut = cut.index(bytes.len() + 1);
        let mut batches = Batches::new(&bytes[..cut]);
        let whole = batches.by_ref().take_while(Result::is_ok).count();
        prop_assert_eq!(whole, ends.iter().filter(|end| **end > 0 && **end <= cut).count());
        prop_assert_eq!(batches.position(), ends[whole]);
    }
}
