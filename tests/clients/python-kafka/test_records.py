"""Records go in and come out unchanged."""

import os

import pytest
from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    InvalidTopicError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)


def assigned(client, topic, partitions=1, **config):
    consumer = client.consumer(**config)
    consumer.assign([TopicPartition(topic, p) for p in range(partitions)])
    return consumer


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_compression_and_acks(client, name, codec, acks):
    topic = client.create(name)
    values = [b"%d:" % i + b"abc" * 50 + os.urandom(20) for i in range(50)]
    producer = client.producer(compression_type=codec, acks=acks, enable_idempotence=False)
    client.produce(topic, values, producer)
    messages = client.read(assigned(client, topic), len(values))
    assert [m.value for m in messages] == values
    assert [m.offset for m in messages] == list(range(len(values)))


def test_idempotent(client, name):
    topic = client.create(name)
    values = [b"%d" % i for i in range(200)]
    sent = client.produce(topic, values, client.producer(enable_idempotence=True, batch_size=100))
    assert [s.offset for s in sent] == list(range(200))
    assert [m.value for m in client.read(assigned(client, topic), 200)] == values


def test_keyed_partitioning(client, name):
    topic = client.create(name, partitions=3)
    producer = client.producer()
    for i in range(90):
        client.produce(topic, [b"%d" % i], producer, key=b"key-%d" % (i % 9))
    seen = {}
    for message in client.read(assigned(client, topic, 3), 90):
        seen.setdefault(message.key, []).append((message.partition, int(message.value)))
    assert len(seen) == 9
    for entries in seen.values():
        assert len({partition for partition, _ in entries}) == 1, "a key has one partition"
        assert [n for _, n in entries] == sorted(n for _, n in entries), "a key keeps its order"
    assert len({entries[0][0] for entries in seen.values()}) > 1, "keys spread over partitions"


def test_headers(client, name):
    topic = client.create(name)
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("ünïcode", "☃".encode())]
    client.produce(topic, [b"v"], headers=headers)
    assert list(client.read(assigned(client, topic), 1)[0].headers) == headers


def test_null_keys_and_values(client, name):
    topic = client.create(name)
    producer = client.producer()
    sent = [(b"k", None), (None, b"v"), (b"", b""), (b"k", b"v")]
    for key, value in sent:
        client.produce(topic, [value], producer, key=key)
    assert [(m.key, m.value) for m in client.read(assigned(client, topic), len(sent))] == sent


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_one_megabyte_records(client, name, codec):
    topic = client.create(name, max_message_bytes=4_000_000)
    values = [os.urandom(1 << 20) for _ in range(3)]
    client.produce(topic, values, client.producer(max_request_size=4_000_000, compression_type=codec))
    consumer = assigned(client, topic, max_partition_fetch_bytes=100_000)
    assert [m.value for m in client.read(consumer, 3)] == values


def test_message_too_large(client, name):
    topic = client.create(name, max_message_bytes=10_000)
    producer = client.producer()
    with pytest.raises(MessageSizeTooLargeError):
        client.produce(topic, [b"x" * 20_000], producer)
    client.produce(topic, [b"small enough"], client.producer())


def test_seek_by_timestamp(client, name):
    topic = client.create(name)
    producer = client.producer()
    for i in range(10):
        client.produce(topic, [b"%d" % i], producer, timestamp_ms=1_700_000_000_000 + i * 1000)
    consumer = assigned(client, topic)
    partition = TopicPartition(topic, 0)
    found = consumer.offsets_for_times({partition: 1_700_000_004_500})[partition]
    assert (found.offset, found.timestamp) == (5, 1_700_000_005_000)
    assert consumer.offsets_for_times({partition: 1_800_000_000_000})[partition] is None
    consumer.seek(partition, found.offset)
    messages = client.read(consumer, 5)
    assert [m.value for m in messages] == [b"%d" % i for i in range(5, 10)]
    assert messages[0].timestamp == 1_700_000_005_000


def test_beginning_and_end_offsets(client, name):
    topic = client.create(name)
    partition = TopicPartition(topic, 0)
    consumer = client.consumer()
    assert consumer.end_offsets([partition]) == {partition: 0}
    client.produce(topic, [b"v"] * 7)
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 7}
    consumer.assign([partition])
    consumer.seek_to_end(partition)
    assert consumer.position(partition) == 7
    consumer.seek_to_beginning(partition)
    assert consumer.position(partition) == 0


def test_offset_out_of_range_reset(client, name):
    topic = client.create(name)
    client.produce(topic, [b"%d" % i for i in range(3)])
    partition = TopicPartition(topic, 0)
    earliest = assigned(client, topic)
    earliest.seek(partition, 1000)
    assert [m.value for m in client.read(earliest, 3)] == [b"0", b"1", b"2"]
    strict = assigned(client, topic, auto_offset_reset="none")
    strict.seek(partition, 1000)
    with pytest.raises(OffsetOutOfRangeError):
        client.read(strict, 1)


def test_read_committed(client, name):
    topic = client.create(name)
    client.produce(topic, [b"a", b"b"])
    consumer = assigned(client, topic, isolation_level="read_committed")
    assert [m.value for m in client.read(consumer, 2)] == [b"a", b"b"]


def test_unknown_topic(client, name):
    consumer = client.consumer(allow_auto_create_topics=False)
    assert not consumer.partitions_for_topic(name)
    with pytest.raises(UnknownTopicOrPartitionError):
        client.admin.list_partition_offsets({TopicPartition(name, 0): OffsetSpec.LATEST})
    assert name not in client.admin.list_topics()


def test_topic_created_by_first_use(client, name):
    client.produce(name, [b"v"])
    assert [m.value for m in client.read(assigned(client, name), 1)] == [b"v"]
    assert name in client.admin.list_topics()


def test_invalid_topic_name_in_metadata(client):
    with pytest.raises((InvalidTopicError, ValueError)):
        client.producer(max_block_ms=1000).send("no good", b"v").get(10)
