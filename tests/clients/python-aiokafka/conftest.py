"""What the tests of this suite share: an event loop for each test, and clients with short timeouts."""

import asyncio
import inspect

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a test that is a coroutine, with a `client` made in the same event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = {key: pyfuncitem.funcargs[key] for key in inspect.signature(pyfuncitem.obj).parameters}

    async def run():
        client = wanted["client"]
        await client.admin_started()
        try:
            await pyfuncitem.obj(**wanted)
        finally:
            for one in reversed(client.open):
                await one.stop()
            await client.admin.close()

    asyncio.run(asyncio.wait_for(run(), 90))
    return True


@pytest.fixture
def client(bootstrap):
    return Client(bootstrap)


class Client:
    """Makes clients of one broker; they are stopped when the test is over."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.open = []

    async def admin_started(self):
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await self.admin.start()

    async def create(self, topic, partitions=1, **config):
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        response = await self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        for _, code, *message in response.topic_errors:
            assert code == 0, message
        await until("the topic has leaders", lambda: self.leaders(topic))
        return topic

    async def leaders(self, topic):
        (described,) = await self.admin.describe_topics([topic])
        return described["partitions"] and all(p["leader"] >= 0 for p in described["partitions"])

    async def producer(self, **config):
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **config)
        self.open.append(producer)
        await producer.start()
        return producer

    async def produce(self, topic, values, producer=None, **common):
        """Produces `values` and returns where each of them went."""
        producer = producer or await self.producer()
        sent = [await producer.send(topic, value, **common) for value in values]
        return await asyncio.wait_for(asyncio.gather(*sent), 30)

    async def consumer(self, *topics, group=None, **config):
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "session_timeout_ms": 6000,
                "heartbeat_interval_ms": 200,
                **config,
            },
        )
        self.open.append(consumer)
        await asyncio.wait_for(consumer.start(), 30)
        return consumer

    async def stop(self, one):
        self.open.remove(one)
        await asyncio.wait_for(one.stop(), 30)

    async def read(self, consumer, count):
        """The next `count` messages of a consumer that has an assignment or a subscription."""
        return [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]


async def until(what, attempt, seconds=30.0):
    """Awaits `attempt` until it returns something true, and returns that; fails the test after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = attempt()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if loop.time() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not true: {what}")
        await asyncio.sleep(0.02)
