"""Admin calls, and what they answer to nonsense."""

import pytest
from chronik_pytest import until
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from conftest import done


def code(future):
    with pytest.raises(KafkaException) as caught:
        future.result(20)
    return caught.value.args[0].code()


def topic_config(client, topic):
    (entries,) = done(client.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])).values()
    return {name: entry.value for name, entry in entries.items()}


def test_create_topics(client, name):
    client.create(name, partitions=4, retention_ms=1000)
    found = client.admin.list_topics(name, timeout=20).topics[name]
    assert sorted(found.partitions) == [0, 1, 2, 3]
    assert all(len(p.replicas) == 1 and p.leader == p.replicas[0] for p in found.partitions.values())
    assert topic_config(client, name)["retention.ms"] == "1000"
    assert code(client.admin.create_topics([NewTopic(name, 1, 1)])[name]) == KafkaError.TOPIC_ALREADY_EXISTS
    (described,) = done(client.admin.describe_topics(TopicCollection([name]))).values()
    assert described.name == name and len(described.partitions) == 4 and str(described.topic_id)


def test_create_topics_validate_only(client, name):
    done(client.admin.create_topics([NewTopic(name, 1, 1)], validate_only=True))
    assert name not in client.admin.list_topics(timeout=20).topics


def test_invalid_topic_name(client):
    for bad in ["a b", "..", "x" * 250]:
        assert code(client.admin.create_topics([NewTopic(bad, 1, 1)])[bad]) == KafkaError.TOPIC_EXCEPTION


def test_invalid_partitions_and_replicas(client, name):
    assert code(client.admin.create_topics([NewTopic(name, 0, 1)])[name]) == KafkaError.INVALID_PARTITIONS
    assert code(client.admin.create_topics([NewTopic(name, 1, 99)])[name]) == KafkaError.INVALID_REPLICATION_FACTOR


def test_invalid_config(client, name):
    unknown = NewTopic(name, 1, 1, config={"no.such.setting": "1"})
    assert code(client.admin.create_topics([unknown])[name]) == KafkaError.INVALID_CONFIG
    wrong = NewTopic(name, 1, 1, config={"retention.ms": "soon"})
    assert code(client.admin.create_topics([wrong])[name]) == KafkaError.INVALID_CONFIG


def test_describe_and_alter_configs(client, name):
    client.create(name)
    assert topic_config(client, name)["cleanup.policy"] == "delete"
    resource = ConfigResource(ResourceType.TOPIC, name, set_config={"retention.ms": "5000"})
    done(client.admin.alter_configs([resource]))
    assert topic_config(client, name)["retention.ms"] == "5000"


def test_incremental_alter_configs(client, name):
    client.create(name, retention_ms=1000)

    def alter(key, value, operation):
        entry = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        return client.admin.incremental_alter_configs([resource])[resource]

    alter("segment.bytes", "2000000", AlterConfigOpType.SET).result(20)
    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND).result(20)
    assert topic_config(client, name)["segment.bytes"] == "2000000"
    assert topic_config(client, name)["retention.ms"] == "1000"
    assert topic_config(client, name)["cleanup.policy"] == "delete,compact"
    alter("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT).result(20)
    assert topic_config(client, name)["cleanup.policy"] == "compact"
    alter("retention.ms", None, AlterConfigOpType.DELETE).result(20)
    assert topic_config(client, name)["retention.ms"] != "1000"
    assert code(alter("max.message.bytes", "-5", AlterConfigOpType.SET)) == KafkaError.INVALID_CONFIG


def test_broker_configs(client):
    node = next(iter(client.admin.list_topics(timeout=20).brokers))
    (entries,) = done(client.admin.describe_configs([ConfigResource(ResourceType.BROKER, str(node))])).values()
    assert "log.retention.ms" in entries and "min.insync.replicas" in entries


def test_create_partitions(client, name):
    client.create(name)
    done(client.admin.create_partitions([NewPartitions(name, 3)]))
    assert len(client.admin.list_topics(name, timeout=20).topics[name].partitions) == 3
    assert code(client.admin.create_partitions([NewPartitions(name, 2)])[name]) == KafkaError.INVALID_PARTITIONS
    client.produce(name, [b"v"], partition=2)


def test_delete_records(client, name):
    topic = client.create(name)
    client.produce(topic, [b"%d" % i for i in range(10)])
    (deleted,) = done(client.admin.delete_records([TopicPartition(topic, 0, 4)])).values()
    assert deleted.low_watermark == 4
    consumer = client.consumer()
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (4, 10)
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert client.read(consumer, 1)[0].value() == b"4"


def test_list_offsets(client, name):
    topic = client.create(name)
    producer = client.producer()
    for stamp in [1_700_000_000_000, 1_700_000_002_000, 1_700_000_001_000]:
        client.produce(topic, [b"v"], producer, timestamp=stamp)
    partition = TopicPartition(topic, 0)

    def offset(spec):
        (result,) = done(client.admin.list_offsets({partition: spec})).values()
        return result.offset

    assert offset(OffsetSpec.earliest()) == 0
    assert offset(OffsetSpec.latest()) == 3
    assert offset(OffsetSpec.max_timestamp()) == 1
    assert offset(OffsetSpec.for_timestamp(1_700_000_000_500)) == 1


def test_groups(client, name):
    topic = client.create(name)
    client.produce(topic, [b"v"] * 5)
    consumer = client.consumer(name)
    consumer.subscribe([topic])
    client.read(consumer, 5)
    consumer.commit(asynchronous=False)
    with pytest.raises(KafkaException) as caught:
        client.admin.delete_consumer_groups([name])[name].result(20)
    assert caught.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    client.close(consumer)
    listed = client.admin.list_consumer_groups().result(20)
    assert not listed.errors and name in [g.group_id for g in listed.valid]

    ask = [ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0)])]
    assert client.admin.list_consumer_group_offsets(ask)[name].result(20).topic_partitions[0].offset == 5
    to_two = [ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 2)])]
    until("offsets altered", lambda: altered(client.admin, to_two, name))
    assert client.admin.list_consumer_group_offsets(ask)[name].result(20).topic_partitions[0].offset == 2

    client.admin.delete_consumer_groups([name])[name].result(20)
    assert code(client.admin.delete_consumer_groups([name])[name]) == KafkaError.GROUP_ID_NOT_FOUND


def altered(admin, offsets, group):
    (partition,) = admin.alter_consumer_group_offsets(offsets)[group].result(20).topic_partitions
    return partition.error is None


def test_delete_topics(client, name):
    client.create(name)
    done(client.admin.delete_topics([name]))
    until("the topic is gone", lambda: name not in client.admin.list_topics(timeout=20).topics)
    assert code(client.admin.delete_topics([name])[name]) == KafkaError.UNKNOWN_TOPIC_OR_PART
    client.create(name)
    client.produce(name, [b"again"])


def test_describe_cluster(client, bootstrap):
    cluster = client.admin.describe_cluster().result(20)
    assert cluster.cluster_id
    assert [f"{node.host}:{node.port}" for node in cluster.nodes] == [bootstrap]
    assert cluster.controller.id == cluster.nodes[0].id
