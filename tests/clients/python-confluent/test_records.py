"""Records go in and come out unchanged."""

import os
import time

import pytest
from chronik_pytest import until
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def read_from_start(client, topic, count, partition=0, **config):
    consumer = client.consumer(**config)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    return client.read(consumer, count)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
@pytest.mark.parametrize("codec", CODECS)
def test_compression_and_acks(client, name, codec, acks):
    topic = client.create(name)
    values = [b"%d:" % i + b"abc" * 50 + os.urandom(20) for i in range(50)]
    client.produce(topic, values, client.producer(compression_type=codec, acks=acks))
    messages = read_from_start(client, topic, len(values))
    assert [m.value() for m in messages] == values
    assert [m.offset() for m in messages] == list(range(len(values)))


def test_idempotent(client, name):
    topic = client.create(name)
    values = [b"%d" % i for i in range(500)]
    delivered = client.produce(topic, values, client.producer(enable_idempotence=True, batch_num_messages=20))
    assert [m.offset() for m in delivered] == list(range(500))
    assert [m.value() for m in read_from_start(client, topic, 500)] == values


def test_keyed_partitioning(client, name):
    topic = client.create(name, partitions=3)
    producer = client.producer()
    for i in range(90):
        client.produce(topic, [b"%d" % i], producer, key=b"key-%d" % (i % 9))
    consumer = client.consumer()
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(3)])
    seen = {}
    for message in client.read(consumer, 90):
        seen.setdefault(message.key(), []).append((message.partition(), int(message.value())))
    assert len(seen) == 9
    for entries in seen.values():
        assert len({partition for partition, _ in entries}) == 1, "a key has one partition"
        assert [n for _, n in entries] == sorted(n for _, n in entries), "a key keeps its order"
    assert len({entries[0][0] for entries in seen.values()}) > 1, "keys spread over partitions"


def test_headers(client, name):
    topic = client.create(name)
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("none", None), ("ünïcode", "☃".encode())]
    client.produce(topic, [b"v"], headers=headers)
    assert read_from_start(client, topic, 1)[0].headers() == headers


def test_null_keys_and_values(client, name):
    topic = client.create(name)
    producer = client.producer()
    sent = [(None, None), (b"k", None), (None, b"v"), (b"", b""), (b"k", b"v")]
    for key, value in sent:
        client.produce(topic, [value], producer, key=key)
    assert [(m.key(), m.value()) for m in read_from_start(client, topic, len(sent))] == sent


def test_timestamps(client, name):
    topic = client.create(name)
    stamp = 1_600_000_000_123
    client.produce(topic, [b"v"], timestamp=stamp)
    appended = client.create(name + "-append", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    client.produce(appended, [b"v"], timestamp=stamp)
    assert read_from_start(client, topic, 1)[0].timestamp() == (1, stamp)
    kind, stamped = read_from_start(client, appended, 1)[0].timestamp()
    assert kind == 2 and before - 1000 <= stamped <= int(time.time() * 1000) + 1000


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_one_megabyte_records(client, name, codec):
    topic = client.create(name, max_message_bytes=4_000_000)
    values = [os.urandom(1 << 20) for _ in range(3)]
    producer = client.producer(message_max_bytes=4_000_000, compression_type=codec)
    client.produce(topic, values, producer)
    messages = read_from_start(client, topic, 3, fetch_message_max_bytes=100_000)
    assert [m.value() for m in messages] == values


def test_message_too_large(client, name):
    topic = client.create(name, max_message_bytes=10_000)
    producer = client.producer()
    errors = []
    producer.produce(topic, b"x" * 20_000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert [e.code() for e in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    client.produce(topic, [b"small enough"], producer)


def test_seek_by_timestamp(client, name):
    topic = client.create(name)
    producer = client.producer()
    for i in range(10):
        client.produce(topic, [b"%d" % i], producer, timestamp=1_700_000_000_000 + i * 1000)
    consumer = client.consumer()
    ask = [TopicPartition(topic, 0, 1_700_000_000_000 + 4500)]
    (found,) = consumer.offsets_for_times(ask, timeout=20)
    assert found.offset == 5
    (late,) = consumer.offsets_for_times([TopicPartition(topic, 0, 1_800_000_000_000)], timeout=20)
    assert late.offset == -1
    consumer.assign([found])
    assert [m.value() for m in client.read(consumer, 5)] == [b"%d" % i for i in range(5, 10)]


def test_beginning_and_end_offsets(client, name):
    topic = client.create(name)
    consumer = client.consumer()
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (0, 0)
    client.produce(topic, [b"v"] * 7)
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (0, 7)


def test_offset_out_of_range_reset(client, name):
    topic = client.create(name)
    client.produce(topic, [b"%d" % i for i in range(3)])
    earliest = client.consumer(auto_offset_reset="earliest")
    earliest.assign([TopicPartition(topic, 0, 1000)])
    assert [m.value() for m in client.read(earliest, 3)] == [b"0", b"1", b"2"]
    strict = client.consumer(auto_offset_reset="error")
    strict.assign([TopicPartition(topic, 0, 1000)])
    message = until("an error for the offset", lambda: strict.poll(0.1))
    assert message.error().code() == KafkaError._AUTO_OFFSET_RESET


def test_read_committed(client, name):
    topic = client.create(name)
    client.produce(topic, [b"a", b"b"])
    messages = read_from_start(client, topic, 2, isolation_level="read_committed")
    assert [m.value() for m in messages] == [b"a", b"b"]


def test_unknown_topic(client, name):
    consumer = client.consumer(allow_auto_create_topics=False)
    consumer.subscribe([name])
    message = until("an error for the topic", lambda: consumer.poll(0.1))
    assert message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    producer = client.producer()
    client.produce(client.create(name + "-there"), [b"v"], producer)
    with pytest.raises(KafkaException) as caught:
        client.produce(name + "-there", [b"v"], producer, partition=77)
    assert caught.value.args[0].code() == KafkaError._UNKNOWN_PARTITION
