"""Admin calls, and what they answer to nonsense."""

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from conftest import until


async def create_error(client, topic, partitions=1, replicas=1, **options):
    response = await client.admin.create_topics([NewTopic(topic, partitions, replicas, **options)])
    return for_code(response.topic_errors[0][1])


async def topic_config(client, topic):
    (response,) = await client.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, _, _, _, entries),) = response.resources
    assert code == 0
    return {entry[0]: entry[1] for entry in entries}


async def test_create_topics(client, name):
    await client.create(name, partitions=4, retention_ms=1000)
    (topic,) = await client.admin.describe_topics([name])
    assert sorted(p["partition"] for p in topic["partitions"]) == [0, 1, 2, 3]
    assert (await topic_config(client, name))["retention.ms"] == "1000"
    assert await create_error(client, name) is TopicAlreadyExistsError


async def test_create_topics_validate_only(client, name):
    response = await client.admin.create_topics([NewTopic(name, 1, 1)], validate_only=True)
    assert for_code(response.topic_errors[0][1]) is NoError
    assert name not in await client.admin.list_topics()


async def test_invalid_topic_name(client):
    for bad in ["a b", "..", "x" * 250]:
        assert await create_error(client, bad) is InvalidTopicError


async def test_invalid_partitions_and_replicas(client, name):
    assert await create_error(client, name, partitions=0) is InvalidPartitionsError
    assert await create_error(client, name, replicas=99) is InvalidReplicationFactorError


async def test_invalid_config(client, name):
    for config in [{"no.such.setting": "1"}, {"retention.ms": "soon"}]:
        assert await create_error(client, name, topic_configs=config) is InvalidConfigurationError


async def test_describe_and_alter_configs(client, name):
    await client.create(name)
    assert (await topic_config(client, name))["cleanup.policy"] == "delete"
    resource = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "5000"})
    (response,) = await client.admin.alter_configs([resource])
    assert response.resources[0][0] == 0
    assert (await topic_config(client, name))["retention.ms"] == "5000"


async def test_create_partitions(client, name):
    await client.create(name)
    await client.admin.create_partitions({name: NewPartitions(3)})
    await until("three partitions", lambda: partition_count(client, name, 3))
    with pytest.raises(InvalidPartitionsError):
        await client.admin.create_partitions({name: NewPartitions(2)})


async def partition_count(client, topic, count):
    (described,) = await client.admin.describe_topics([topic])
    return len(described["partitions"]) == count


async def test_delete_records(client, name):
    topic = await client.create(name)
    partition = TopicPartition(topic, 0)
    await client.produce(topic, [b"%d" % i for i in range(10)])
    assert await client.admin.delete_records({partition: RecordsToDelete(4)}) == {partition: 4}
    consumer = await client.consumer()
    assert await consumer.beginning_offsets([partition]) == {partition: 4}
    consumer.assign([partition])
    consumer.seek(partition, 0)
    assert (await client.read(consumer, 1))[0].value == b"4"


async def test_groups(client, name):
    topic = await client.create(name)
    partition = TopicPartition(topic, 0)
    await client.produce(topic, [b"v"] * 5)
    consumer = await client.consumer(topic, group=name)
    await client.read(consumer, 5)
    await consumer.commit()
    (response,) = await client.admin.describe_consumer_groups([name])
    code, group, state, protocol_type, protocol, members, *_ = response.groups[0]
    assert (code, group, state, protocol_type, protocol) == (0, name, "Stable", "consumer", "roundrobin")
    assert len(members) == 1
    await client.stop(consumer)
    assert name in [entry[0] for entry in await client.admin.list_consumer_groups()]
    assert (await client.admin.list_consumer_group_offsets(name))[partition].offset == 5
    (response,) = await client.admin.describe_consumer_groups([name])
    assert response.groups[0][2] == "Empty"


async def test_delete_topics(client, name):
    await client.create(name)
    response = await client.admin.delete_topics([name])
    assert response.topic_error_codes[0][1] == 0
    await until("the topic is gone", lambda: gone(client, name))
    response = await client.admin.delete_topics([name])
    assert for_code(response.topic_error_codes[0][1]) is UnknownTopicOrPartitionError
    await client.create(name)
    await client.produce(name, [b"again"])


async def gone(client, topic):
    return topic not in await client.admin.list_topics()


async def test_describe_cluster(client, bootstrap):
    cluster = await client.admin.describe_cluster()
    assert cluster["cluster_id"]
    assert [f"{broker['host']}:{broker['port']}" for broker in cluster["brokers"]] == [bootstrap]
    assert cluster["controller_id"] == cluster["brokers"][0]["node_id"]
