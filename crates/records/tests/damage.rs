//! Nothing that a disk, a network or a hostile client does to the bytes of a batch may panic, and nothing that the CRC
//! covers may change unseen.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input has failed")]

use bytes::Bytes;
use chronik_records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, BatchRef, BatchScanError, Batches, CRC_COVERS_FROM,
    Compression, Encoding, FilterOptions, HEADER_SIZE, ProduceRules, filter_batch, peek_size,
    validate_produce,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn batch(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        encoding: codec.into(),
        producer_id: 5,
        producer_epoch: 0,
        base_sequence: 0,
        ..Default::default()
    });
    for i in 0..20 {
        let value = vec![i as u8; i * 11];
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"name", Some(b"value")), (b"none", None)];
        let key = (i % 3 > 0).then_some(&b"some key"[..]);
        builder.append(1_000 + i as i64, key, (i % 4 > 0).then_some(&value[..]), headers).unwrap();
    }
    builder.finish().unwrap()
}

/// Everything that reads bytes, on bytes that may be anything.
fn read_all(bytes: &Bytes) {
    let _ = peek_size(bytes);
    let _ = BatchRef::parse(bytes);
    for batch in Batches::new(bytes).flatten() {
        let _ = batch.verify_crc();
        if let Ok(records) = batch.records(LIMIT) {
            for record in records.iter().flatten() {
                let _ = record.headers.find_last(b"name");
            }
        }
        let options =
            FilterOptions { delete_horizon: Some(7), retain_empty: true, max_decompressed_bytes: LIMIT };
        let mut odd = false;
        let _ = filter_batch(&batch, &options, |_| {
            odd = !odd;
            odd
        });
    }
    for encoding in [None, Some(Encoding::from(Compression::Lz4))] {
        let rules =
            ProduceRules { encoding, compacted: true, max_decompressed_bytes: LIMIT, ..Default::default() };
        let _ = validate_produce(bytes.clone(), &rules, 1_000);
    }
}

/// Makes the CRC right again, so that the checks behind it are reached.
fn mend_crc(bytes: &mut [u8]) {
    if let Ok(header) = BatchHeader::parse(bytes) {
        let crc = header.compute_crc(&bytes[HEADER_SIZE..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn codec() -> impl Strategy<Value = Compression> {
    (0u8..5).prop_map(|id| Compression::from_id(id).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn altered_batches_never_panic(
        codec in codec(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        mend in any::<bool>(),
    ) {
        let mut bytes = batch(codec).to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if mend {
            mend_crc(&mut bytes);
        }
        read_all(&bytes.clone().into());
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes.into());
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes.into());
    }

    #[test]
    fn noise_behind_a_good_header_never_panics(
        records in proptest::collection::vec(any::<u8>(), 0..300),
        attributes in 0u8..8,
        count in -1i32..6,
    ) {
        let mut bytes = batch(Compression::None)[..HEADER_SIZE].to_vec();
        bytes[8..12].copy_from_slice(&(49 + records.len() as i32).to_be_bytes());
        bytes[22] = attributes;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend(records);
        mend_crc(&mut bytes);
        read_all(&bytes.into());
    }
}

#[test]
fn every_changed_byte_under_the_crc_is_seen() {
    for codec in Compression::ALL {
        let good = batch(codec);
        for at in CRC_COVERS_FROM..good.len() {
            for bit in 0..8 {
                let mut bytes = good.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(Batch::parse(&bytes).unwrap().verify_crc().is_err(), "{codec} byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let good = batch(Compression::None);
    let two = [&good[..], &good[..]].concat();
    for cut in good.len() + 1..two.len() {
        let mut batches = Batches::new(&two[..cut]);
        assert!(batches.next().unwrap().is_ok());
        match batches.next() {
            Some(Err(BatchScanError::TornTail { position, have, need })) => {
                assert_eq!((position, have), (good.len(), cut - good.len()));
                assert!(need > have);
            }
            other => panic!("{other:?}"),
        }
        assert!(batches.next().is_none());
    }
    for (at, value) in [(16, 1), (8, 0xff), (16, 3)] {
        let mut damaged = two.clone();
        damaged[good.len() + at] = value;
        let last = Batches::new(&damaged).last().unwrap();
        assert!(matches!(last, Err(BatchScanError::Damaged { position, .. }) if position == good.len()));
    }
}
