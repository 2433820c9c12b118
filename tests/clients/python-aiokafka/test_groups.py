"""Consumer groups: members come and go, and nothing is lost or read twice."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import OffsetAndMetadata
from conftest import until


class Group:
    """Consumers of one group, each read by a task of its own."""

    def __init__(self, client, group, topic, **config):
        self.client, self.group, self.topic, self.config = client, group, topic, config
        self.members = []
        self.values = []

    async def join(self, **config):
        """Starts a member without waiting for its share: the others have to take part in the rebalance."""
        member = await self.client.consumer(self.topic, group=self.group, **self.config, **config)
        self.members.append((member, asyncio.create_task(self.read_all(member))))
        return member

    async def read_all(self, member):
        async for message in member:
            self.values.append(message.value)

    async def leave(self, member):
        ((_, task),) = [pair for pair in self.members if pair[0] is member]
        self.members.remove((member, task))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.client.stop(member)

    async def wait_for_shares(self, sizes):
        def shared():
            shares = [member.assignment() for member, _ in self.members]
            return sorted(map(len, shares)) == sizes and len(frozenset().union(*shares)) == sum(sizes)

        await until(f"shares of {sizes}", shared)

    async def read(self, total):
        await until(f"{total} messages in all", lambda: len(self.values) >= total)

    async def commit(self):
        for member, _ in self.members:
            await member.commit()


@pytest.mark.parametrize("assignor", [RangePartitionAssignor, RoundRobinPartitionAssignor])
async def test_group_of_three(client, name, assignor):
    topic = await client.create(name, partitions=6)
    group = Group(client, name, topic, partition_assignment_strategy=(assignor,))
    producer = await client.producer()

    async def produce(first, last):
        for i in range(first, last):
            await producer.send_and_wait(topic, b"%d" % i, partition=i % 6)

    await group.join()
    await group.join()
    await group.wait_for_shares([3, 3])
    await produce(0, 60)
    await group.read(60)
    await group.commit()
    third = await group.join()
    await group.wait_for_shares([2, 2, 2])
    await produce(60, 120)
    await group.read(120)
    await group.commit()
    await group.leave(third)
    await group.wait_for_shares([3, 3])
    await produce(120, 180)
    await group.read(180)
    assert sorted(group.values, key=int) == [b"%d" % i for i in range(180)]
    for member, _ in list(group.members):
        await group.leave(member)


async def test_resume_from_commits(client, name):
    topic = await client.create(name)
    partition = TopicPartition(topic, 0)
    await client.produce(topic, [b"%d" % i for i in range(10)])
    first = await client.consumer(topic, group=name)
    assert [m.value for m in await client.read(first, 4)] == [b"0", b"1", b"2", b"3"]
    await first.commit({partition: OffsetAndMetadata(4, "half-way")})
    await client.stop(first)
    second = await client.consumer(topic, group=name)
    assert [m.value for m in await client.read(second, 6)] == [b"%d" % i for i in range(4, 10)]
    assert await second.committed(partition) == 4


async def test_static_membership(client, name):
    topic = await client.create(name, partitions=2)
    group = Group(client, name, topic)
    one = await group.join(group_instance_id="one")
    two = await group.join(group_instance_id="two")
    await group.wait_for_shares([1, 1])
    before = two.assignment()
    # A static member that closes does not leave, and gets its partition back when it returns.
    await group.leave(two)
    two = await group.join(group_instance_id="two")
    await group.wait_for_shares([1, 1])
    assert two.assignment() == before
    await group.leave(one)
    await group.leave(two)
