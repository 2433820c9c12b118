"""Admin calls, and what they answer to nonsense."""

import uuid

import pytest
from chronik_pytest import until
from kafka import OffsetAndMetadata, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)


def create(client, topic, **options):
    return client.admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, **options}})


def topic_config(client, topic):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    entries = client.admin.describe_configs([resource], config_filter="all")["topic"][topic]
    return {key: entry["value"] for key, entry in entries.items()}


def alter(client, topic, configs, **options):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
    return client.admin.alter_configs([resource], **options)["topic"][topic]


def test_create_topics(client, name):
    client.create(name, partitions=4, retention_ms=1000)
    (topic,) = client.admin.describe_topics([name])
    assert sorted(p["partition_index"] for p in topic["partitions"]) == [0, 1, 2, 3]
    assert topic_config(client, name)["retention.ms"] == "1000"
    (by_id,) = client.admin.describe_topics([uuid.UUID(str(topic["topic_id"]))])
    assert by_id["name"] == name
    with pytest.raises(TopicAlreadyExistsError):
        create(client, name)


def test_create_topics_with_broker_defaults(client, name):
    (created,) = client.admin.create_topics([name])["topics"]
    assert (created["num_partitions"], created["replication_factor"]) == (1, 1)
    assert "cleanup.policy" in created["configs"]


def test_create_topics_with_assignment(client, name):
    node = client.admin.describe_cluster()["brokers"][0]["broker_id"]
    create(client, name, num_partitions=-1, replication_factor=-1, assignments={0: [node], 1: [node]})
    assert len(client.admin.describe_topics([name])[0]["partitions"]) == 2


def test_invalid_topic_name(client):
    for bad in ["a b", "..", "x" * 250]:
        with pytest.raises(InvalidTopicError):
            create(client, bad)


def test_invalid_partitions_and_replicas(client, name):
    with pytest.raises(InvalidPartitionsError):
        create(client, name, num_partitions=0)
    with pytest.raises(InvalidReplicationFactorError):
        create(client, name, replication_factor=99)


def test_invalid_config(client, name):
    with pytest.raises(InvalidConfigurationError):
        create(client, name, configs={"no.such.setting": "1"})
    with pytest.raises(InvalidConfigurationError):
        create(client, name, configs={"retention.ms": "soon"})


def test_describe_and_alter_configs(client, name):
    client.create(name)
    assert topic_config(client, name)["cleanup.policy"] == "delete"
    assert alter(client, name, {"retention.ms": "5000"}, incremental=False) == "OK"
    assert topic_config(client, name)["retention.ms"] == "5000"


def test_incremental_alter_configs(client, name):
    client.create(name, retention_ms=1000)
    assert alter(client, name, {"cleanup.policy": (AlterConfigOp.APPEND, "compact"), "segment.bytes": "2000000"}) == "OK"
    config = topic_config(client, name)
    assert config["cleanup.policy"] == "delete,compact"
    assert config["segment.bytes"] == "2000000"
    assert config["retention.ms"] == "1000"
    assert alter(client, name, {"retention.ms": (AlterConfigOp.DELETE, None)}) == "OK"
    assert topic_config(client, name)["retention.ms"] != "1000"
    assert "InvalidConfig" in alter(client, name, {"max.message.bytes": "-5"})


def test_create_partitions(client, name):
    client.create(name)
    client.admin.create_partitions({name: 3})
    client.admin.wait_for_topics([name])
    assert len(client.admin.describe_topics([name])[0]["partitions"]) == 3
    with pytest.raises(InvalidPartitionsError):
        client.admin.create_partitions({name: 2})


def test_delete_records(client, name):
    topic = client.create(name)
    partition = TopicPartition(topic, 0)
    client.produce(topic, [b"%d" % i for i in range(10)])
    assert client.admin.delete_records({partition: 4})[partition]["low_watermark"] == 4
    consumer = client.consumer()
    assert consumer.beginning_offsets([partition]) == {partition: 4}
    consumer.assign([partition])
    consumer.seek(partition, 0)
    assert client.read(consumer, 1)[0].value == b"4"


def test_list_offsets(client, name):
    topic = client.create(name)
    producer = client.producer()
    for stamp in [1_700_000_000_000, 1_700_000_002_000, 1_700_000_001_000]:
        client.produce(topic, [b"v"], producer, timestamp_ms=stamp)
    partition = TopicPartition(topic, 0)

    def offset(spec):
        return client.admin.list_partition_offsets({partition: spec})[partition].offset

    assert offset(OffsetSpec.EARLIEST) == 0
    assert offset(OffsetSpec.LATEST) == 3
    assert offset(OffsetSpec.MAX_TIMESTAMP) == 1
    assert offset(1_700_000_000_500) == 1


def test_groups(client, name):
    topic = client.create(name)
    partition = TopicPartition(topic, 0)
    client.produce(topic, [b"v"] * 5)
    consumer = client.consumer(name)
    consumer.subscribe([topic])
    client.read(consumer, 5)
    consumer.commit()
    described = client.admin.describe_groups([name])[name]
    assert described["group_state"] == "Stable"
    assert len(described["members"]) == 1
    assert name in [g["group_id"] for g in client.admin.list_groups(states_filter=["Stable"])]
    assert client.admin.delete_groups([name])[name] == "NonEmptyGroupError"
    client.close(consumer)
    assert name in [g["group_id"] for g in client.admin.list_groups()]
    assert client.admin.list_group_offsets(name)[name][partition].offset == 5
    client.admin.alter_group_offsets(name, {partition: OffsetAndMetadata(2, "", -1)})
    assert client.admin.list_group_offsets(name)[name][partition].offset == 2
    client.admin.delete_group_offsets(name, [partition])
    assert partition not in client.admin.list_group_offsets(name)[name]
    until("the group is gone", lambda: client.admin.delete_groups([name])[name] in ("OK", "GroupIdNotFoundError"))
    assert name not in [g["group_id"] for g in client.admin.list_groups()]


def test_delete_topics(client, name):
    client.create(name)
    client.admin.delete_topics([name])
    until("the topic is gone", lambda: name not in client.admin.list_topics())
    with pytest.raises(UnknownTopicOrPartitionError):
        client.admin.delete_topics([name])
    client.create(name)
    client.produce(name, [b"again"])


def test_describe_cluster(client, bootstrap):
    cluster = client.admin.describe_cluster()
    assert cluster["cluster_id"]
    assert [f"{broker['host']}:{broker['port']}" for broker in cluster["brokers"]] == [bootstrap]
    assert cluster["controller_id"] == cluster["brokers"][0]["broker_id"]


def test_describe_log_dirs(client, name):
    client.create(name)
    client.produce(name, [b"v" * 100])
    (node,) = client.admin.describe_log_dirs([name])
    (log_dir,) = node["log_dirs"]
    assert log_dir["error_code"] == 0
    (topic,) = log_dir["topics"]
    assert topic["name"] == name
    assert topic["partitions"][0]["partition_size"] > 100


def test_describe_topic_partitions(client, name):
    client.create(name, partitions=3)
    described = client.admin.describe_topic_partitions([name])
    (topic,) = described["topics"]
    assert [p["partition_index"] for p in topic["partitions"]] == [0, 1, 2]
