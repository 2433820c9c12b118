//! Whole frames, byte by byte, as clients and brokers put them on the wire.

#![allow(clippy::unwrap_used, reason = "a test may end by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use chronik_base::{Chunk, FileRange, Uuid};
use chronik_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use chronik_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use chronik_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use chronik_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use chronik_protocol::{ApiKey, Decode, Reader, RequestHeader, Str, request_frame, response_frame};

/// Bytes of hexadecimal digits; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn flat(chunks: &[Chunk]) -> Vec<u8> {
    let mut all = Vec::new();
    for chunk in chunks {
        let Chunk::Bytes(bytes) = chunk else { panic!("{chunk:?} is not in memory") };
        all.extend_from_slice(bytes);
    }
    all
}

#[test]
fn the_first_request_of_a_modern_client() {
    let request = ApiVersionsRequest {
        client_software_name: Str::from("librdkafka"),
        client_software_version: Str::from("2.12.1"),
        ..Default::default()
    };
    let frame = flat(&request_frame(3, 1, Some(Str::from("rdkafka")), &request));
    let expected = hex("00000025 0012 0003 00000001 0007 72646b61666b61 00
                        0b 6c696272646b61666b61 07 322e31322e31 00");
    assert_eq!(frame, expected);
    let mut reader = Reader::new(Bytes::from(frame).slice(4..));
    let header = RequestHeader::decode(&mut reader).unwrap();
    assert_eq!((header.key(), header.api_version, header.correlation_id), (Some(ApiKey::ApiVersions), 3, 1));
    assert_eq!(ApiVersionsRequest::decode(&mut reader, 3), Ok(request));
}

#[test]
fn the_answer_about_versions_has_the_old_header() {
    let response = ApiVersionsResponse {
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        ..Default::default()
    };
    let frame = flat(&response_frame(ApiKey::ApiVersions, 3, 1, &response));
    assert_eq!(frame, hex("00000013 00000001 0000 02 0012 0000 0004 00 00000000 00"));
    let frame = flat(&response_frame(ApiKey::ApiVersions, 0, 1, &response));
    assert_eq!(frame, hex("00000010 00000001 0000 00000001 0012 0000 0004"));
}

#[test]
fn a_request_for_metadata() {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(Str::from("t")), ..Default::default() }]),
        ..Default::default()
    };
    assert_eq!(
        flat(&request_frame(1, 2, None, &request)),
        hex("00000011 0003 0001 00000002 ffff 00000001 0001 74")
    );
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(flat(&request_frame(1, 2, None, &all)), hex("0000000e 0003 0001 00000002 ffff ffffffff"));
    // Version 0 cannot say null: an empty list stands for all topics there.
    assert_eq!(flat(&request_frame(0, 2, None, &all)), hex("0000000e 0003 0000 00000002 ffff 00000000"));
}

#[test]
fn records_of_a_produce_request_are_not_copied() {
    let body = hex("ffff ffff 00007530 00000001 0001 74 00000001 00000003 00000004 01020304");
    let bytes = Bytes::from(body);
    let request = ProduceRequest::decode(&mut Reader::new(bytes.clone()), 7).unwrap();
    assert_eq!((request.transactional_id, request.acks, request.timeout_ms), (None, -1, 30_000));
    let partition = &request.topic_data[0].partition_data[0];
    let records = partition.records.as_ref().unwrap();
    assert_eq!((partition.index, records.as_ref()), (3, [1u8, 2, 3, 4].as_slice()));
    assert_eq!(records.as_ptr(), bytes[bytes.len() - 4..].as_ptr());
}

#[test]
fn an_answer_to_a_produce_request() {
    let response = ProduceResponse {
        responses: vec![TopicProduceResponse {
            topic_id: Uuid([7; 16]),
            partition_responses: vec![PartitionProduceResponse {
                index: 3,
                base_offset: 42,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = flat(&response_frame(ApiKey::Produce, 13, 9, &response));
    let expected = hex("0000003e 00000009 00
                        02 07070707070707070707070707070707
                        02 00000003 0000 000000000000002a ffffffffffffffff ffffffffffffffff 01 00 00
                        00 00000000 00");
    assert_eq!(frame, expected);
}

#[test]
fn a_fetched_file_range_stays_one() {
    let file = Arc::new(std::io::stdin());
    let range = FileRange { file, position: 4096, length: 1 << 20 };
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: Str::from("t"),
            partitions: vec![PartitionData {
                high_watermark: 5,
                records: Some(vec![Chunk::File(range), Chunk::Bytes(Bytes::from_static(b"tail"))]),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let chunks = response_frame(ApiKey::Fetch, 4, 1, &response);
    assert_eq!(chunks.len(), 3, "{chunks:?}");
    let Chunk::Bytes(head) = &chunks[0] else { panic!("{chunks:?}") };
    let total: usize = chunks.iter().map(Chunk::len).sum();
    assert_eq!(head[..4], (total as u32 - 4).to_be_bytes());
    assert_eq!(head[head.len() - 4..], ((1u32 << 20) + 4).to_be_bytes());
    assert!(matches!(&chunks[1], Chunk::File(range) if (range.position, range.length) == (4096, 1 << 20)));
    assert!(matches!(&chunks[2], Chunk::Bytes(bytes) if bytes.as_ref() == b"tail"));
}
