package chronik;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.fail;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;

/** What the tests share: clients of one broker, closed when the test is over, and loops that end. */
@Timeout(value = 90, unit = TimeUnit.SECONDS)
abstract class Clients {
  private final List<AutoCloseable> open = new ArrayList<>();

  /** A name for this test's topics and groups that no other run has used. */
  protected String name;

  protected Admin admin;

  @BeforeEach
  void start(TestInfo test) {
    name = test.getTestMethod().orElseThrow().getName() + "-" + UUID.randomUUID().toString().substring(0, 8);
    admin = closing(Admin.create(Map.of("bootstrap.servers", Chronik.shared())));
  }

  @AfterEach
  void close() throws Exception {
    Collections.reverse(open);
    for (var one : open) one.close();
  }

  protected <T extends AutoCloseable> T closing(T one) {
    open.add(one);
    return one;
  }

  protected void close(AutoCloseable one) throws Exception {
    open.remove(one);
    one.close();
  }

  protected static <T> T get(KafkaFuture<T> future) throws Exception {
    return future.get(30, TimeUnit.SECONDS);
  }

  /** Checks that a future fails with this error of Kafka's. */
  protected static void fails(Class<? extends Throwable> with, KafkaFuture<?> future) {
    assertInstanceOf(with, assertThrows(ExecutionException.class, () -> get(future)).getCause());
  }

  protected static void until(String what, BooleanSupplier attempt) {
    var deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
    while (!attempt.getAsBoolean()) {
      if (System.nanoTime() > deadline) fail("after 30 s still not true: " + what);
    }
  }

  protected String create(int partitions, Map<String, String> config) throws Exception {
    get(admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(config))).all());
    until("the topic has leaders", () -> partitionCount(name) == partitions);
    return name;
  }

  protected String create(int partitions) throws Exception {
    return create(partitions, Map.of());
  }

  protected int partitionCount(String topic) {
    try {
      var partitions = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions();
      return (int) partitions.stream().filter(partition -> partition.leader() != null).count();
    } catch (Exception error) {
      return 0;
    }
  }

  protected Producer<byte[], byte[]> producer(Map<String, Object> config) {
    var all = new HashMap<String, Object>(Map.of("bootstrap.servers", Chronik.shared(), "linger.ms", 0));
    all.putAll(config);
    return closing(new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer()));
  }

  protected static List<RecordMetadata> produce(
      Producer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records) throws Exception {
    var sent = records.stream().map(producer::send).toList();
    var metadata = new ArrayList<RecordMetadata>();
    for (var one : sent) metadata.add(one.get(30, TimeUnit.SECONDS));
    return metadata;
  }

  protected void produce(String topic, int first, int last) throws Exception {
    produce(producer(Map.of()), numbered(topic, first, last));
  }

  /** Records with the numbers from first up to last as their values, over the partitions in turn if there are several. */
  protected static List<ProducerRecord<byte[], byte[]>> numbered(String topic, int first, int last) {
    return IntStream.range(first, last).mapToObj(i -> record(topic, null, bytes(i))).toList();
  }

  protected static ProducerRecord<byte[], byte[]> record(String topic, byte[] key, byte[] value) {
    return new ProducerRecord<>(topic, key, value);
  }

  protected static byte[] bytes(Object of) {
    return of.toString().getBytes(StandardCharsets.UTF_8);
  }

  protected Consumer<byte[], byte[]> consumer(Map<String, Object> config) {
    var all = new HashMap<String, Object>();
    all.put("bootstrap.servers", Chronik.shared());
    all.put("enable.auto.commit", false);
    all.put("auto.offset.reset", "earliest");
    all.put("session.timeout.ms", 6000);
    all.put("heartbeat.interval.ms", 200);
    all.put("default.api.timeout.ms", 30000);
    all.putAll(config);
    return closing(new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer()));
  }

  /** A consumer of all partitions of a topic, without a group. */
  protected Consumer<byte[], byte[]> assigned(String topic, int partitions, Map<String, Object> config) {
    var consumer = consumer(config);
    consumer.assign(IntStream.range(0, partitions).mapToObj(i -> new TopicPartition(topic, i)).toList());
    return consumer;
  }

  /** Reads until there are so many records. */
  protected static List<ConsumerRecord<byte[], byte[]>> read(Consumer<byte[], byte[]> consumer, int count) {
    var found = new ArrayList<ConsumerRecord<byte[], byte[]>>();
    until(
        count + " records read",
        () -> {
          consumer.poll(Duration.ofMillis(100)).forEach(found::add);
          return found.size() >= count;
        });
    assertEquals(count, found.size());
    return found;
  }

  protected static List<String> values(List<ConsumerRecord<byte[], byte[]>> records) {
    return records.stream().map(one -> new String(one.value(), StandardCharsets.UTF_8)).toList();
  }

  protected static List<String> numbers(int first, int last) {
    return IntStream.range(first, last).mapToObj(Integer::toString).toList();
  }
}
