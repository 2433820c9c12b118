//! Records go in and come out unchanged.

use crate::clients::*;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::{Message, Offset, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// Fifty records through this codec, once with each `acks`.
async fn compressed(codec: &str) {
    for acks in ["0", "1", "all"] {
        let topic = create(&format!("compressed-{codec}"), 1, &[]).await;
        let values: Vec<_> = (0..50).map(|number| [b"abc".repeat(50), noise(20, number)].concat()).collect();
        let producer = producer(&[("compression.type", codec), ("acks", acks), ("linger.ms", "5")]);
        produce(&producer, &topic, &values).await.unwrap();
        let found = read_from_start(&topic, values.len()).await;
        assert_eq!(payloads(&found), values, "acks={acks}");
        let offsets: Vec<i64> = found.iter().map(Message::offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>(), "acks={acks}");
    }
}

#[tokio::test]
async fn uncompressed_with_every_acks() {
    compressed("none").await;
}

#[tokio::test]
async fn gzip_with_every_acks() {
    compressed("gzip").await;
}

#[tokio::test]
async fn snappy_with_every_acks() {
    compressed("snappy").await;
}

#[tokio::test]
async fn lz4_with_every_acks() {
    compressed("lz4").await;
}

#[tokio::test]
async fn zstd_with_every_acks() {
    compressed("zstd").await;
}

#[tokio::test]
async fn idempotent() {
    let topic = create("idempotent", 1, &[]).await;
    let producer = producer(&[("enable.idempotence", "true"), ("batch.num.messages", "20")]);
    let delivered = produce(&producer, &topic, &numbered(0..500)).await.unwrap();
    assert_eq!(offsets(&delivered), (0..500).collect::<Vec<_>>());
    assert_eq!(payloads(&read_from_start(&topic, 500).await), numbered(0..500));
}

#[tokio::test]
async fn keys_choose_partitions_and_keep_their_order() {
    let topic = create("keyed", 3, &[]).await;
    let producer = producer(&[]);
    for (number, value) in numbered(0..90).iter().enumerate() {
        let key = format!("key-{}", number % 9);
        producer.send(FutureRecord::to(&topic).key(&key).payload(value), LONG).await.unwrap();
    }
    let partitions: Vec<_> = (0..3).map(|partition| (partition, Offset::Beginning)).collect();
    let mut places = BTreeMap::<Vec<u8>, BTreeSet<i32>>::new();
    let mut numbers = BTreeMap::<Vec<u8>, Vec<u32>>::new();
    for message in read(&assigned(&topic, &partitions, &[]), 90).await {
        let key = message.key().unwrap().to_vec();
        let number = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
        places.entry(key.clone()).or_default().insert(message.partition());
        numbers.entry(key).or_default().push(number);
    }
    assert_eq!(places.len(), 9);
    assert!(places.values().all(|places| places.len() == 1), "a key has one partition: {places:?}");
    assert!(numbers.values().all(|numbers| numbers.is_sorted()), "a key keeps its order: {numbers:?}");
    assert!(places.values().flatten().collect::<BTreeSet<_>>().len() > 1, "keys spread over partitions");
}

#[tokio::test]
async fn headers() {
    let topic = create("headers", 1, &[]).await;
    let sent = [
        Header { key: "a", value: Some("1") },
        Header { key: "a", value: Some("2") },
        Header { key: "empty", value: Some("") },
        Header { key: "none", value: None },
        Header { key: "ünïcode", value: Some("☃") },
    ];
    let headers = sent.iter().fold(OwnedHeaders::new(), |headers, header| headers.insert(header.clone()));
    let record = FutureRecord::<(), _>::to(&topic).payload("v").headers(headers);
    producer(&[]).send(record, LONG).await.unwrap();
    let found = read_from_start(&topic, 1).await;
    let found = found[0].headers().unwrap();
    let expected: Vec<_> = sent.iter().map(|header| (header.key, header.value.map(str::as_bytes))).collect();
    assert_eq!(found.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn null_keys_and_values() {
    let topic = create("nulls", 1, &[]).await;
    let producer = producer(&[]);
    let sent =
        [(None, None), (Some("k"), None), (None, Some("v")), (Some(""), Some("")), (Some("k"), Some("v"))];
    for (key, value) in sent {
        let record = FutureRecord { key, payload: value, ..FutureRecord::<str, str>::to(&topic) };
        producer.send(record, LONG).await.unwrap();
    }
    let found = read_from_start(&topic, sent.len()).await;
    let found: Vec<_> = found.iter().map(|message| (message.key(), message.payload())).collect();
    assert_eq!(found, sent.map(|(key, value)| (key.map(str::as_bytes), value.map(str::as_bytes))));
}

#[tokio::test]
async fn timestamps_of_the_producer_and_of_the_log() {
    const STAMP: i64 = 1_600_000_000_123;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let producer = producer(&[]);
    let created = create("stamped", 1, &[]).await;
    let appended = create("stamped-append", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = now();
    for topic in [&created, &appended] {
        let record = FutureRecord::<(), _>::to(topic).payload("v").timestamp(STAMP);
        producer.send(record, LONG).await.unwrap();
    }
    assert_eq!(read_from_start(&created, 1).await[0].timestamp(), Timestamp::CreateTime(STAMP));
    let found = read_from_start(&appended, 1).await[0].timestamp();
    let Timestamp::LogAppendTime(stamp) = found else { panic!("{found:?}") };
    assert!((before..=now()).contains(&stamp), "{stamp} is not after {before}");
}

#[tokio::test]
async fn records_of_a_megabyte() {
    for codec in ["none", "lz4"] {
        let topic = create("large", 1, &[("max.message.bytes", "4000000")]).await;
        let values: Vec<_> = (0..3).map(|seed| noise(1 << 20, seed)).collect();
        let producer = producer(&[("message.max.bytes", "4000000"), ("compression.type", codec)]);
        produce(&producer, &topic, &values).await.unwrap();
        // A reader that asks for less than one of them gets them all the same.
        let small = [("fetch.message.max.bytes", "100000")];
        let found = read(&assigned(&topic, &[(0, Offset::Beginning)], &small), 3).await;
        assert!(payloads(&found) == values, "what was read is not what was sent, {codec}");
    }
}

#[tokio::test]
async fn seek_by_time() {
    const FIRST: i64 = 1_700_000_000_000;
    let topic = create("times", 1, &[]).await;
    let producer = producer(&[]);
    for (number, value) in (0..).zip(numbered(0..10)) {
        let record = FutureRecord::<(), _>::to(&topic).payload(&value).timestamp(FIRST + number * 1000);
        producer.send(record, LONG).await.unwrap();
    }
    let reader = assigned(&topic, &[(0, Offset::Beginning)], &[]);
    assert_eq!(payloads(&read(&reader, 1).await), numbered(0..1));
    let ask = |stamp| {
        let found = reader.offsets_for_times(list(&topic, &[(0, Offset::Offset(stamp))]), LONG).unwrap();
        found.elements()[0].offset()
    };
    assert_eq!(ask(FIRST), Offset::Offset(0));
    assert_eq!(ask(1_800_000_000_000), Offset::End);
    let found = ask(FIRST + 4500);
    assert_eq!(found, Offset::Offset(5));
    reader.seek(&topic, 0, found, LONG).unwrap();
    assert_eq!(payloads(&read(&reader, 5).await), numbered(5..10));
}

#[tokio::test]
async fn first_and_last_offsets() {
    let topic = create("watermarks", 1, &[]).await;
    let reader = consumer("unused", &[]);
    assert_eq!(reader.fetch_watermarks(&topic, 0, LONG).unwrap(), (0, 0));
    produce(&producer(&[]), &topic, &numbered(0..7)).await.unwrap();
    assert_eq!(reader.fetch_watermarks(&topic, 0, LONG).unwrap(), (0, 7));
}

#[tokio::test]
async fn read_committed() {
    let topic = create("committed", 1, &[]).await;
    produce(&producer(&[]), &topic, &numbered(0..3)).await.unwrap();
    let settings = [("isolation.level", "read_committed")];
    let found = read(&assigned(&topic, &[(0, Offset::Beginning)], &settings), 3).await;
    assert_eq!(payloads(&found), numbered(0..3));
}
