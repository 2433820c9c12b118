"""Records go in and come out unchanged."""

import os

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError


async def assigned(client, topic, partitions=1, **config):
    consumer = await client.consumer(**config)
    consumer.assign([TopicPartition(topic, p) for p in range(partitions)])
    return consumer


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_compression_and_acks(client, name, codec, acks):
    topic = await client.create(name)
    values = [b"%d:" % i + b"abc" * 50 + os.urandom(20) for i in range(50)]
    await client.produce(topic, values, await client.producer(compression_type=codec, acks=acks))
    messages = await client.read(await assigned(client, topic), len(values))
    assert [m.value for m in messages] == values
    assert [m.offset for m in messages] == list(range(len(values)))


async def test_idempotent(client, name):
    topic = await client.create(name)
    values = [b"%d" % i for i in range(200)]
    producer = await client.producer(enable_idempotence=True, max_batch_size=200)
    sent = await client.produce(topic, values, producer, partition=0)
    assert [s.offset for s in sent] == list(range(200))
    assert [m.value for m in await client.read(await assigned(client, topic), 200)] == values


async def test_keyed_partitioning(client, name):
    topic = await client.create(name, partitions=3)
    producer = await client.producer()
    for i in range(90):
        await client.produce(topic, [b"%d" % i], producer, key=b"key-%d" % (i % 9))
    seen = {}
    for message in await client.read(await assigned(client, topic, 3), 90):
        seen.setdefault(message.key, []).append((message.partition, int(message.value)))
    assert len(seen) == 9
    for entries in seen.values():
        assert len({partition for partition, _ in entries}) == 1, "a key has one partition"
        assert [n for _, n in entries] == sorted(n for _, n in entries), "a key keeps its order"
    assert len({entries[0][0] for entries in seen.values()}) > 1, "keys spread over partitions"


async def test_headers(client, name):
    topic = await client.create(name)
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("ünïcode", "☃".encode())]
    await client.produce(topic, [b"v"], headers=headers)
    (message,) = await client.read(await assigned(client, topic), 1)
    assert list(message.headers) == headers


async def test_null_keys_and_values(client, name):
    topic = await client.create(name)
    producer = await client.producer()
    sent = [(b"k", None), (None, b"v"), (b"", b""), (b"k", b"v")]
    for key, value in sent:
        await client.produce(topic, [value], producer, key=key)
    messages = await client.read(await assigned(client, topic), len(sent))
    assert [(m.key, m.value) for m in messages] == sent


@pytest.mark.parametrize("codec", [None, "zstd"])
async def test_one_megabyte_records(client, name, codec):
    topic = await client.create(name, max_message_bytes=4_000_000)
    values = [os.urandom(1 << 20) for _ in range(3)]
    await client.produce(topic, values, await client.producer(max_request_size=4_000_000, compression_type=codec))
    consumer = await assigned(client, topic, max_partition_fetch_bytes=100_000)
    assert [m.value for m in await client.read(consumer, 3)] == values


async def test_message_too_large(client, name):
    topic = await client.create(name, max_message_bytes=10_000)
    producer = await client.producer()
    with pytest.raises(MessageSizeTooLargeError):
        await client.produce(topic, [b"x" * 20_000], producer)
    await client.produce(topic, [b"small enough"], producer)


async def test_seek_by_timestamp(client, name):
    topic = await client.create(name)
    producer = await client.producer()
    for i in range(10):
        await client.produce(topic, [b"%d" % i], producer, timestamp_ms=1_700_000_000_000 + i * 1000)
    consumer = await assigned(client, topic)
    partition = TopicPartition(topic, 0)
    found = (await consumer.offsets_for_times({partition: 1_700_000_004_500}))[partition]
    assert (found.offset, found.timestamp) == (5, 1_700_000_005_000)
    assert (await consumer.offsets_for_times({partition: 1_800_000_000_000}))[partition] is None
    consumer.seek(partition, found.offset)
    messages = await client.read(consumer, 5)
    assert [m.value for m in messages] == [b"%d" % i for i in range(5, 10)]
    assert messages[0].timestamp == 1_700_000_005_000


async def test_beginning_and_end_offsets(client, name):
    topic = await client.create(name)
    partition = TopicPartition(topic, 0)
    consumer = await client.consumer()
    assert await consumer.end_offsets([partition]) == {partition: 0}
    await client.produce(topic, [b"v"] * 7)
    assert await consumer.beginning_offsets([partition]) == {partition: 0}
    assert await consumer.end_offsets([partition]) == {partition: 7}
    consumer.assign([partition])
    await consumer.seek_to_end(partition)
    assert await consumer.position(partition) == 7
    await consumer.seek_to_beginning(partition)
    assert await consumer.position(partition) == 0


async def test_offset_out_of_range_reset(client, name):
    topic = await client.create(name)
    await client.produce(topic, [b"%d" % i for i in range(3)])
    partition = TopicPartition(topic, 0)
    earliest = await assigned(client, topic)
    earliest.seek(partition, 1000)
    assert [m.value for m in await client.read(earliest, 3)] == [b"0", b"1", b"2"]
    strict = await assigned(client, topic, auto_offset_reset="none")
    strict.seek(partition, 1000)
    with pytest.raises(OffsetOutOfRangeError):
        await client.read(strict, 1)


async def test_read_committed(client, name):
    topic = await client.create(name)
    await client.produce(topic, [b"a", b"b"])
    consumer = await assigned(client, topic, isolation_level="read_committed")
    assert [m.value for m in await client.read(consumer, 2)] == [b"a", b"b"]
    assert consumer.last_stable_offset(TopicPartition(topic, 0)) == 2


async def test_topic_created_by_first_use(client, name):
    await client.produce(name, [b"v"])
    messages = await client.read(await assigned(client, name), 1)
    assert [m.value for m in messages] == [b"v"]
