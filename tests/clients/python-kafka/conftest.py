"""What the tests of this suite share: clients with short timeouts, and loops that end."""

import pytest
from chronik_pytest import until
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient

# How long a poll waits at most; it returns at once when there are records. Not short, because a leader that learns of a
# topic's partitions only after it has joined joins again at once, and when a poll ends in the middle of that,
# kafka-python 3.0.12 forgets about its assignment.
POLL_MS = 2000


class Client:
    """Makes clients of one broker, and closes them when the test is over."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.open = [self.admin]

    def create(self, topic, partitions=1, **config):
        config = {key.replace("_", "."): str(value) for key, value in config.items()}
        new = {"num_partitions": partitions, "replication_factor": 1, "configs": config}
        self.admin.create_topics({topic: new}, wait_for_metadata=True)
        return topic

    def producer(self, **config):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, **config)
        self.open.append(producer)
        return producer

    def produce(self, topic, values, producer=None, **common):
        """Produces `values` and returns where each of them went."""
        producer = producer or self.producer()
        futures = [producer.send(topic, value=value, **common) for value in values]
        producer.flush(30)
        return [future.get(30) for future in futures]

    def consumer(self, group=None, **config):
        consumer = KafkaConsumer(
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
        return consumer

    def close(self, client):
        self.open.remove(client)
        client.close()

    def read(self, consumer, count):
        """The next `count` messages of a consumer that has an assignment or a subscription."""
        messages = []

        def poll():
            wanted = count - len(messages)
            for records in consumer.poll(POLL_MS, max_records=wanted).values():
                messages.extend(records)
            return len(messages) >= count

        until(f"{count} messages read", poll)
        return messages


@pytest.fixture
def client(bootstrap):
    client = Client(bootstrap)
    yield client
    for one in reversed(client.open):
        one.close()
