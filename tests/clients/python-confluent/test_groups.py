"""Consumer groups: members come and go, and nothing is lost or read twice."""

import pytest
from chronik_pytest import until
from confluent_kafka import ConsumerGroupState, TopicPartition


class Group:
    """Consumers of one group, polled in turn by this thread."""

    def __init__(self, client, group, topic, **config):
        self.client, self.group, self.topic, self.config = client, group, topic, config
        self.members = []
        self.values = []

    def join(self, **config):
        member = self.client.consumer(self.group, **self.config, **config)
        member.subscribe([self.topic])
        self.members.append(member)
        return member

    def leave(self, member):
        self.members.remove(member)
        self.client.close(member)

    def poll(self):
        for member in self.members:
            message = member.poll(0.02)
            if message is not None:
                assert message.error() is None, message.error()
                self.values.append(message.value())

    def shares(self):
        self.poll()
        return sorted(len(member.assignment()) for member in self.members)

    def wait_for_shares(self, expected):
        until(f"shares {expected}", lambda: self.shares() == expected)

    def read(self, total):
        until(f"{total} messages in all", lambda: self.poll() or len(self.values) >= total)

    def commit(self):
        for member in self.members:
            if positions := [p for p in member.position(member.assignment()) if p.offset >= 0]:
                member.commit(offsets=positions, asynchronous=False)


@pytest.mark.parametrize("strategy", ["range,roundrobin", "cooperative-sticky"])
def test_group_of_three(client, name, strategy):
    topic = client.create(name, partitions=6)
    group = Group(client, name, topic, partition_assignment_strategy=strategy)
    producer = client.producer()

    def produce(first, last):
        for i in range(first, last):
            client.produce(topic, [b"%d" % i], producer, partition=i % 6)

    group.join()
    group.join()
    group.wait_for_shares([3, 3])
    produce(0, 60)
    group.read(60)
    group.commit()
    third = group.join()
    group.wait_for_shares([2, 2, 2])
    produce(60, 120)
    group.read(120)
    group.commit()
    group.leave(third)
    group.wait_for_shares([3, 3])
    produce(120, 180)
    group.read(180)
    assert sorted(group.values, key=int) == [b"%d" % i for i in range(180)]


def test_resume_from_commits(client, name):
    topic = client.create(name)
    client.produce(topic, [b"%d" % i for i in range(10)])
    first = client.consumer(name)
    first.subscribe([topic])
    assert [m.value() for m in client.read(first, 10)][:4] == [b"0", b"1", b"2", b"3"]
    first.commit(offsets=[TopicPartition(topic, 0, 4, metadata="half-way")], asynchronous=False)
    client.close(first)
    second = client.consumer(name)
    second.subscribe([topic])
    assert [m.value() for m in client.read(second, 6)] == [b"%d" % i for i in range(4, 10)]
    (committed,) = second.committed([TopicPartition(topic, 0)], timeout=20)
    assert (committed.offset, committed.metadata) == (4, "half-way")


def test_static_membership(client, name):
    topic = client.create(name, partitions=2)
    group = Group(client, name, topic)
    group.join(group_instance_id="one")
    two = group.join(group_instance_id="two")
    group.wait_for_shares([1, 1])
    before = {p.partition for p in two.assignment()}
    members = {m.group_instance_id: m.member_id for m in describe(client, name).members}
    assert set(members) == {"one", "two"}
    # A static member that closes does not leave, and gets its partition back when it returns.
    group.leave(two)
    two = group.join(group_instance_id="two")
    group.wait_for_shares([1, 1])
    assert {p.partition for p in two.assignment()} == before
    again = {m.group_instance_id: m.member_id for m in describe(client, name).members}
    assert again["one"] == members["one"]


def describe(client, group):
    return client.admin.describe_consumer_groups([group])[group].result(20)


def test_group_states(client, name):
    topic = client.create(name)
    group = Group(client, name, topic)
    member = group.join()
    group.wait_for_shares([1])
    until("a stable group", lambda: group.poll() or describe(client, name).state == ConsumerGroupState.STABLE)
    described = describe(client, name)
    assert described.partition_assignor == "range"
    assert [p.topic for p in described.members[0].assignment.topic_partitions] == [topic]
    group.leave(member)
    until("an empty group", lambda: describe(client, name).state == ConsumerGroupState.EMPTY)
