package chronik;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Records go in and come out unchanged. */
class RecordsTest extends Clients {
  private final Random random = new Random(1);

  private byte[] noise(int length) {
    var noise = new byte[length];
    random.nextBytes(noise);
    return noise;
  }

  static Stream<Arguments> codecsAndAcks() {
    return Stream.of("none", "gzip", "snappy", "lz4", "zstd")
        .flatMap(codec -> Stream.of("0", "1", "all").map(acks -> Arguments.of(codec, acks)));
  }

  @ParameterizedTest(name = "{0} acks {1}")
  @MethodSource("codecsAndAcks")
  void compressionAndAcks(String codec, String acks) throws Exception {
    var topic = create(1);
    var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
    for (var i = 0; i < 50; i++) {
      var value = (i + "abc".repeat(50) + new String(noise(20), StandardCharsets.ISO_8859_1));
      records.add(record(topic, null, value.getBytes(StandardCharsets.UTF_8)));
    }
    var config = Map.<String, Object>of("compression.type", codec, "acks", acks, "enable.idempotence", false);
    produce(producer(config), records);
    var found = read(assigned(topic, 1, Map.of()), 50);
    for (var i = 0; i < 50; i++) {
      assertEquals(i, found.get(i).offset());
      assertArrayEquals(records.get(i).value(), found.get(i).value());
    }
  }

  @Test
  void idempotent() throws Exception {
    var topic = create(1);
    var config = Map.<String, Object>of("enable.idempotence", true, "acks", "all", "batch.size", 200);
    var sent = produce(producer(config), numbered(topic, 0, 500));
    for (var i = 0; i < 500; i++) assertEquals(i, sent.get(i).offset());
    assertEquals(numbers(0, 500), values(read(assigned(topic, 1, Map.of()), 500)));
  }

  @Test
  void keyedPartitioning() throws Exception {
    var topic = create(3);
    var producer = producer(Map.of());
    for (var i = 0; i < 90; i++) produce(producer, List.of(record(topic, bytes("key-" + i % 9), bytes(i))));
    var partitions = new HashMap<String, Integer>();
    var last = new HashMap<String, Integer>();
    for (var record : read(assigned(topic, 3, Map.of()), 90)) {
      var key = new String(record.key(), StandardCharsets.UTF_8);
      var number = Integer.parseInt(new String(record.value(), StandardCharsets.UTF_8));
      var before = partitions.put(key, record.partition());
      assertTrue(before == null || before == record.partition(), "a key has one partition");
      var previous = last.put(key, number);
      assertTrue(previous == null || previous < number, "a key keeps its order");
    }
    assertEquals(9, partitions.size());
    assertTrue(new HashSet<>(partitions.values()).size() > 1, "keys spread over partitions");
  }

  @Test
  void headers() throws Exception {
    var topic = create(1);
    var headers =
        List.<Header>of(
            new RecordHeader("a", bytes("1")),
            new RecordHeader("a", bytes("2")),
            new RecordHeader("empty", new byte[0]),
            new RecordHeader("none", null),
            new RecordHeader("ünïcode", bytes("☃")));
    produce(producer(Map.of()), List.of(new ProducerRecord<>(topic, (Integer) null, (byte[]) null, bytes("v"), headers)));
    assertEquals(headers, List.of(read(assigned(topic, 1, Map.of()), 1).get(0).headers().toArray()));
  }

  @Test
  void nullKeysAndValues() throws Exception {
    var topic = create(1);
    var sent =
        List.of(
            record(topic, null, null), record(topic, bytes("k"), null),
            record(topic, null, bytes("v")), record(topic, new byte[0], new byte[0]));
    produce(producer(Map.of()), sent);
    var found = read(assigned(topic, 1, Map.of()), 4);
    for (var i = 0; i < 4; i++) {
      assertArrayEquals(sent.get(i).key(), found.get(i).key());
      assertArrayEquals(sent.get(i).value(), found.get(i).value());
    }
  }

  @Test
  void timestamps() throws Exception {
    var stamp = 1_600_000_000_123L;
    var topic = create(1);
    produce(producer(Map.of()), List.of(new ProducerRecord<>(topic, null, stamp, null, bytes("v"))));
    var found = read(assigned(topic, 1, Map.of()), 1).get(0);
    assertEquals(stamp, found.timestamp());
    assertEquals(TimestampType.CREATE_TIME, found.timestampType());
    name += "-append";
    var appended = create(1, Map.of("message.timestamp.type", "LogAppendTime"));
    var sent = produce(producer(Map.of()), List.of(new ProducerRecord<>(appended, null, stamp, null, bytes("v"))));
    found = read(assigned(appended, 1, Map.of()), 1).get(0);
    assertEquals(TimestampType.LOG_APPEND_TIME, found.timestampType());
    assertEquals(sent.get(0).timestamp(), found.timestamp());
    assertTrue(Math.abs(System.currentTimeMillis() - found.timestamp()) < 60_000);
  }

  @ParameterizedTest
  @ValueSource(strings = {"none", "zstd"})
  void oneMegabyteRecords(String codec) throws Exception {
    var topic = create(1, Map.of("max.message.bytes", "4000000"));
    var sent = Stream.generate(() -> record(topic, null, noise(1 << 20))).limit(3).toList();
    produce(producer(Map.of("max.request.size", 4_000_000, "compression.type", codec)), sent);
    var found = read(assigned(topic, 1, Map.of("max.partition.fetch.bytes", 100_000)), 3);
    for (var i = 0; i < 3; i++) assertArrayEquals(sent.get(i).value(), found.get(i).value());
  }

  @Test
  void messageTooLarge() throws Exception {
    var topic = create(1, Map.of("max.message.bytes", "10000"));
    var producer = producer(Map.of());
    var large = List.of(record(topic, null, new byte[20_000]));
    var error = assertThrows(ExecutionException.class, () -> produce(producer, large));
    assertInstanceOf(RecordTooLargeException.class, error.getCause());
    produce(producer, numbered(topic, 0, 1));
  }

  @Test
  void seekByTimestamp() throws Exception {
    var topic = create(1);
    var sent = new ArrayList<ProducerRecord<byte[], byte[]>>();
    for (var i = 0; i < 10; i++) {
      sent.add(new ProducerRecord<>(topic, null, 1_700_000_000_000L + i * 1000, null, bytes(i)));
    }
    produce(producer(Map.of()), sent);
    var partition = new TopicPartition(topic, 0);
    var consumer = assigned(topic, 1, Map.of());
    var found = consumer.offsetsForTimes(Map.of(partition, 1_700_000_004_500L)).get(partition);
    assertEquals(5, found.offset());
    assertEquals(1_700_000_005_000L, found.timestamp());
    assertNull(consumer.offsetsForTimes(Map.of(partition, 1_800_000_000_000L)).get(partition));
    consumer.seek(partition, found.offset());
    assertEquals(numbers(5, 10), values(read(consumer, 5)));
  }

  @Test
  void beginningAndEndOffsets() throws Exception {
    var topic = create(1);
    var partition = new TopicPartition(topic, 0);
    var consumer = assigned(topic, 1, Map.of());
    assertEquals(Map.of(partition, 0L), consumer.endOffsets(List.of(partition)));
    produce(topic, 0, 7);
    assertEquals(Map.of(partition, 0L), consumer.beginningOffsets(List.of(partition)));
    assertEquals(Map.of(partition, 7L), consumer.endOffsets(List.of(partition)));
    consumer.seekToEnd(List.of(partition));
    assertEquals(7, consumer.position(partition));
    assertEquals(0, consumer.currentLag(partition).orElse(0));
  }

  @Test
  void offsetOutOfRangeReset() throws Exception {
    var topic = create(1);
    var partition = new TopicPartition(topic, 0);
    produce(topic, 0, 3);
    var earliest = assigned(topic, 1, Map.of());
    earliest.seek(partition, 1000);
    assertEquals(numbers(0, 3), values(read(earliest, 3)));
    var strict = assigned(topic, 1, Map.of("auto.offset.reset", "none"));
    strict.seek(partition, 1000);
    assertThrows(OffsetOutOfRangeException.class, () -> read(strict, 1));
  }

  @Test
  void readCommitted() throws Exception {
    var topic = create(1);
    produce(topic, 0, 3);
    var consumer = assigned(topic, 1, Map.of("isolation.level", "read_committed"));
    assertEquals(numbers(0, 3), values(read(consumer, 3)));
    var partition = new TopicPartition(topic, 0);
    assertEquals(Map.of(partition, 3L), consumer.endOffsets(List.of(partition)));
  }

  @Test
  void longPoll() throws Exception {
    var topic = create(1);
    var consumer = assigned(topic, 1, Map.of("fetch.max.wait.ms", 6_000));
    assertTrue(consumer.poll(Duration.ofMillis(300)).isEmpty());
    var before = System.nanoTime();
    produce(topic, 0, 1);
    assertEquals(numbers(0, 1), values(read(consumer, 1)));
    var took = Duration.ofNanos(System.nanoTime() - before);
    assertTrue(took.toSeconds() < 5, "a waiting fetch is answered when a record comes, not after " + took);
  }

  @Test
  void unknownTopic() {
    var consumer = consumer(Map.of("allow.auto.create.topics", false));
    assertEquals(List.of(), consumer.partitionsFor(name, Duration.ofSeconds(5)));
    var partition = new TopicPartition(name, 0);
    assertThrows(TimeoutException.class, () -> consumer.endOffsets(List.of(partition), Duration.ofSeconds(1)));
  }

  @Test
  void topicCreatedByFirstUse() throws Exception {
    produce(name, 0, 1);
    assertEquals(numbers(0, 1), values(read(assigned(name, 1, Map.of()), 1)));
  }

  @Test
  void invalidTopicName() {
    var error = assertThrows(Exception.class, () -> produce("no good", 0, 1));
    assertInstanceOf(InvalidTopicException.class, error instanceof ExecutionException ? error.getCause() : error);
  }
}
