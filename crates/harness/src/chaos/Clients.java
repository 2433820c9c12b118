import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.PrintStream;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java side of the chaos test's load: an idempotent producer that sends what it is handed on standard input, and a
 * consumer group that tells what it is given. Arguments: bootstrap servers, topic, group, members of the group.
 *
 * <p>Standard input: for each record its partition (4 bytes), its sequence number (8), its length (4) and its bytes, big
 * endian; the end of it ends the program. Standard output, a line for each event: `ready`; `a PARTITION SEQUENCE OFFSET`
 * acknowledged; `f PARTITION SEQUENCE REASON` failed; `r MEMBER PARTITION OFFSET CRC-32C` read; `x MEMBER PARTITION…`
 * taken away; `c MEMBER PARTITION=OFFSET…` committed; `e REASON` something ended that should not have.
 */
public class Clients {
    private static final long COMMIT_EVERY_MS = 250;
    private static final PrintStream OUT = System.out;
    private static volatile boolean stopped;

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String topic = arguments[1];
        String group = arguments[2];
        Thread[] members = new Thread[Integer.parseInt(arguments[3])];
        for (int number = 0; number < members.length; number++) {
            int member = number;
            members[number] = new Thread(() -> consume(bootstrap, topic, group, member));
            members[number].start();
        }
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
                producerSettings(bootstrap), new ByteArraySerializer(), new ByteArraySerializer())) {
            // The first wait for metadata is not part of the load.
            producer.partitionsFor(topic);
            say("ready");
            produce(producer, topic);
        } catch (Exception failure) {
            say("e producer: " + failure);
        }
        stopped = true;
        for (Thread member : members) {
            member.join();
        }
    }

    private static void produce(KafkaProducer<byte[], byte[]> producer, String topic) throws Exception {
        DataInputStream input = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        while (true) {
            int partition;
            try {
                partition = input.readInt();
            } catch (EOFException end) {
                return;
            }
            long sequence = input.readLong();
            byte[] value = input.readNBytes(input.readInt());
            producer.send(new ProducerRecord<>(topic, partition, null, value), (metadata, failure) -> say(
                    failure == null
                            ? "a " + partition + " " + sequence + " " + metadata.offset()
                            : "f " + partition + " " + sequence + " " + failure));
        }
    }

    private static void consume(String bootstrap, String topic, String group, int member) {
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                consumerSettings(bootstrap, group), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    // Told before the next owner can be given anything.
                    partitions.forEach(positions::remove);
                    say("x " + member + partitions.stream().map(p -> " " + p.partition()).collect(Collectors.joining()));
                }
            });
            long committed = System.nanoTime();
            while (!stopped) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                    positions.put(
                            new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    CRC32C checksum = new CRC32C();
                    checksum.update(record.value());
                    say("r " + member + " " + record.partition() + " " + record.offset() + " " + checksum.getValue());
                }
                if (System.nanoTime() - committed >= COMMIT_EVERY_MS * 1_000_000) {
                    commit(consumer, positions, member);
                    committed = System.nanoTime();
                }
            }
            commit(consumer, positions, member);
        } catch (Exception failure) {
            say("e member " + member + " of the group: " + failure);
        }
    }

    /** One that fails during a fault or a rebalance promises nothing; the next one carries on. */
    private static void commit(
            KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, OffsetAndMetadata> positions, int member) {
        Map<TopicPartition, OffsetAndMetadata> now = Map.copyOf(positions);
        if (now.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(now, Duration.ofSeconds(5));
        } catch (CommitFailedException | RebalanceInProgressException | RetriableException failure) {
            return;
        }
        say("c " + member + now.entrySet().stream()
                .map(entry -> " " + entry.getKey().partition() + "=" + entry.getValue().offset())
                .collect(Collectors.joining()));
    }

    private static Properties producerSettings(String bootstrap) {
        Properties settings = commonSettings(bootstrap);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("linger.ms", "2");
        settings.put("compression.type", "snappy");
        settings.put("request.timeout.ms", "1500");
        settings.put("metadata.max.age.ms", "500");
        // Longer than any fault: an idempotent producer has no reason to give up.
        settings.put("delivery.timeout.ms", "600000");
        settings.put("max.block.ms", "600000");
        return settings;
    }

    private static Properties consumerSettings(String bootstrap, String group) {
        Properties settings = commonSettings(bootstrap);
        settings.put("group.id", group);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put(
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "500");
        settings.put("request.timeout.ms", "2000");
        settings.put("default.api.timeout.ms", "10000");
        settings.put("metadata.max.age.ms", "1000");
        settings.put("fetch.max.wait.ms", "200");
        return settings;
    }

    private static Properties commonSettings(String bootstrap) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("socket.connection.setup.timeout.ms", "1500");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("retry.backoff.max.ms", "200");
        return settings;
    }

    private static void say(String line) {
        synchronized (OUT) {
            OUT.println(line);
            OUT.flush();
        }
    }
}
