package chronik;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Kafka Streams counts words, with its repartition and changelog topics, but without transactions. */
class StreamsTest extends Clients {
  @TempDir Path state;

  private KafkaStreams wordCount(String lines, String counts) {
    var builder = new StreamsBuilder();
    builder.<String, String>stream(lines)
        .flatMapValues(line -> List.of(line.split(" ")))
        .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
        .count(Materialized.as("counts"))
        .toStream()
        .to(counts, Produced.with(Serdes.String(), Serdes.Long()));
    var config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, Chronik.shared());
    config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    config.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
    config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    config.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
    config.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 500);
    config.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    return new KafkaStreams(builder.build(), config);
  }

  private void waitFor(Consumer<byte[], byte[]> consumer, Map<String, Long> found, Map<String, Long> expected) {
    var deserializer = new LongDeserializer();
    until(
        "counts of " + expected,
        () -> {
          for (var record : consumer.poll(Duration.ofMillis(100))) {
            var word = new String(record.key(), StandardCharsets.UTF_8);
            found.put(word, deserializer.deserialize(record.topic(), record.value()));
          }
          return found.equals(expected);
        });
  }

  @Test
  void wordCount() throws Exception {
    var lines = create(2);
    var counts = name + "-counts";
    get(admin.createTopics(List.of(new NewTopic(counts, 1, (short) 1))).all());
    until("the topic has a leader", () -> partitionCount(counts) == 1);
    var producer = producer(Map.of());
    produce(producer, List.of(record(lines, null, bytes("to be or not to be"))));
    var reader = assigned(counts, 1, Map.of());
    var found = new HashMap<String, Long>();
    var first = wordCount(lines, counts);
    try (first) {
      first.start();
      waitFor(reader, found, Map.of("to", 2L, "be", 2L, "or", 1L, "not", 1L));
    }
    // Starts again without its local state, which comes back from the changelog topic.
    var second = wordCount(lines, counts);
    try (second) {
      second.cleanUp();
      second.start();
      produce(producer, List.of(record(lines, null, bytes("to do"))));
      waitFor(reader, found, Map.of("to", 3L, "be", 2L, "or", 1L, "not", 1L, "do", 1L));
    }
    assertEquals(5, found.size());
  }
}
