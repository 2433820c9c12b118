"""Consumer groups: members come and go, and nothing is lost or read twice."""

import threading
import time

import pytest
from chronik_pytest import until
from conftest import POLL_MS
from kafka import OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor


class Member:
    """A consumer of a group in a thread of its own, since joining a group blocks."""

    def __init__(self, client, group, topic, values, **config):
        self.values = values
        self.consumer = client.consumer(group, **config)
        self.client = client
        self.consumer.subscribe([topic])
        self.commit_wanted = threading.Event()
        self.ending = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.ending.is_set():
                for records in self.consumer.poll(50 if self.share() else POLL_MS).values():
                    self.values.extend(record.value for record in records)
                if self.commit_wanted.is_set():
                    self.consumer.commit()
                    self.commit_wanted.clear()
        except Exception as error:
            self.error = error

    def share(self):
        return frozenset(p.partition for p in self.consumer.assignment())

    def leave(self):
        self.ending.set()
        self.thread.join(30)
        assert self.error is None
        self.client.close(self.consumer)


def commit(members):
    for member in members:
        member.commit_wanted.set()
    until("all have committed", lambda: not any(m.commit_wanted.is_set() and not m.error for m in members))
    assert not any(member.error for member in members), [member.error for member in members]


def wait_for_shares(members, sizes):
    def shared():
        assert not any(member.error for member in members), [member.error for member in members]
        shares = [member.share() for member in members]
        return sorted(map(len, shares)) == sizes and len(frozenset().union(*shares)) == sum(sizes)

    until(f"shares of {sizes}", shared)


@pytest.mark.parametrize("assignor", [RangePartitionAssignor, RoundRobinPartitionAssignor])
def test_group_of_three(client, name, assignor):
    topic = client.create(name, partitions=6)
    producer = client.producer()
    values = []

    def produce_and_read(first, last):
        for i in range(first, last):
            producer.send(topic, b"%d" % i, partition=i % 6)
        producer.flush(30)
        until(f"{last} messages in all", lambda: len(values) >= last)

    def join():
        return Member(client, name, topic, values, partition_assignment_strategy=[assignor])

    members = [join(), join()]
    wait_for_shares(members, [3, 3])
    produce_and_read(0, 60)
    commit(members)
    members.append(join())
    wait_for_shares(members, [2, 2, 2])
    produce_and_read(60, 120)
    commit(members)
    members.pop().leave()
    wait_for_shares(members, [3, 3])
    produce_and_read(120, 180)
    assert sorted(values, key=int) == [b"%d" % i for i in range(180)]
    for member in members:
        member.leave()


def test_resume_from_commits(client, name):
    topic = client.create(name)
    partition = TopicPartition(topic, 0)
    client.produce(topic, [b"%d" % i for i in range(10)])
    first = client.consumer(name)
    first.subscribe([topic])
    assert [m.value for m in client.read(first, 4)] == [b"0", b"1", b"2", b"3"]
    first.commit({partition: OffsetAndMetadata(4, "half-way", -1)})
    client.close(first)
    second = client.consumer(name)
    second.subscribe([topic])
    assert [m.value for m in client.read(second, 6)] == [b"%d" % i for i in range(4, 10)]
    assert second.committed(partition) == 4
    assert second.committed(partition, metadata=True).metadata == "half-way"


def test_static_membership(client, name):
    topic = client.create(name, partitions=2)
    members = [Member(client, name, topic, [], group_instance_id=one) for one in ("one", "two")]
    wait_for_shares(members, [1, 1])
    before = members[1].share()
    described = client.admin.describe_groups([name])[name]
    assert {m["group_instance_id"] for m in described["members"]} == {"one", "two"}
    # A static member that closes does not leave, and gets its partition back when it returns.
    members[1].leave()
    members[1] = Member(client, name, topic, [], group_instance_id="two")
    started = time.monotonic()
    wait_for_shares(members, [1, 1])
    assert members[1].share() == before
    assert time.monotonic() - started < 6, "did not wait for the session to expire"
    for member in members:
        member.leave()
