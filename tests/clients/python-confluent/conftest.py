"""What the tests of this suite share: clients with short timeouts, and loops that end."""

import pytest
from chronik_pytest import until
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

SESSION = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}


class Client:
    """Makes clients of one broker, and closes them when the test is over."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.consumers = []

    def create(self, topic, partitions=1, **config):
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        done(self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]))
        return topic

    def producer(self, **config):
        config = {key.replace("_", "."): value for key, value in config.items()}
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0, "message.timeout.ms": 20000, **config})

    def produce(self, topic, values, producer=None, **common):
        """Produces `values` and returns the delivered messages, in the order of delivery."""
        producer = producer or self.producer()
        delivered = []

        def on_delivery(error, message):
            assert error is None, error
            delivered.append(message)

        for value in values:
            producer.produce(topic, value=value, on_delivery=on_delivery, **common)
        assert producer.flush(30) == 0
        assert len(delivered) == len(values)
        return delivered

    def consumer(self, group="unused", **config):
        config = {key.replace("_", "."): value for key, value in config.items()}
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **SESSION,
                **config,
            }
        )
        self.consumers.append(consumer)
        return consumer

    def close(self, consumer):
        self.consumers.remove(consumer)
        consumer.close()

    def read(self, consumer, count):
        """The next `count` messages of a consumer that has an assignment or a subscription."""
        messages = []

        def poll():
            message = consumer.poll(0.1)
            if message is not None:
                assert message.error() is None, message.error()
                messages.append(message)
            return len(messages) >= count

        until(f"{count} messages read", poll)
        return messages


def done(futures, timeout=30):
    """Waits for the futures of an admin call and returns its results by key."""
    return {key: future.result(timeout) for key, future in futures.items()}


@pytest.fixture
def client(bootstrap):
    client = Client(bootstrap)
    yield client
    for consumer in client.consumers:
        consumer.close()
