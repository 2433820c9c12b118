package chronik;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Consumer groups: members come and go, and nothing is lost or read twice. */
class GroupsTest extends Clients {
  private final List<Consumer<byte[], byte[]>> members = new ArrayList<>();
  private final List<Integer> values = new ArrayList<>();

  private Consumer<byte[], byte[]> join(String topic, Map<String, Object> config) {
    var all = new HashMap<>(config);
    all.put("group.id", name);
    var member = consumer(all);
    member.subscribe(List.of(topic));
    members.add(member);
    return member;
  }

  private void leave(Consumer<byte[], byte[]> member) throws Exception {
    members.remove(member);
    close(member);
  }

  private void pollAll() {
    for (var member : members) {
      for (var record : member.poll(Duration.ofMillis(20))) {
        values.add(Integer.parseInt(new String(record.value(), StandardCharsets.UTF_8)));
      }
    }
  }

  private void waitForShares(Integer... sizes) {
    until(
        "shares of " + List.of(sizes),
        () -> {
          pollAll();
          var shares = members.stream().map(Consumer::assignment).toList();
          var found = shares.stream().map(Set::size).sorted().toList();
          var all = new HashSet<TopicPartition>();
          shares.forEach(all::addAll);
          return found.equals(List.of(sizes)) && all.size() == found.stream().mapToInt(Integer::intValue).sum();
        });
  }

  private void produceAndRead(String topic, int first, int last) throws Exception {
    var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
    for (var i = first; i < last; i++) records.add(new ProducerRecord<>(topic, i % 6, null, bytes(i)));
    produce(producer(Map.of()), records);
    until(
        last + " records in all",
        () -> {
          pollAll();
          return values.size() >= last;
        });
  }

  @ParameterizedTest
  @ValueSource(strings = {"RangeAssignor", "CooperativeStickyAssignor"})
  void groupOfThree(String assignor) throws Exception {
    var topic = create(6);
    var config =
        Map.<String, Object>of("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
    join(topic, config);
    join(topic, config);
    waitForShares(3, 3);
    produceAndRead(topic, 0, 60);
    members.forEach(Consumer::commitSync);
    var third = join(topic, config);
    waitForShares(2, 2, 2);
    produceAndRead(topic, 60, 120);
    members.forEach(Consumer::commitSync);
    leave(third);
    waitForShares(3, 3);
    produceAndRead(topic, 120, 180);
    values.sort(null);
    assertEquals(IntStream.range(0, 180).boxed().toList(), values);
  }

  @Test
  void resumeFromCommits() throws Exception {
    var topic = create(1);
    produce(topic, 0, 10);
    var partition = new TopicPartition(topic, 0);
    var first = join(topic, Map.of("max.poll.records", 4));
    assertEquals(numbers(0, 4), values(read(first, 4)));
    first.commitSync(Map.of(partition, new OffsetAndMetadata(4, "half-way")));
    leave(first);
    var second = join(topic, Map.of());
    assertEquals(numbers(4, 10), values(read(second, 6)));
    var committed = second.committed(Set.of(partition)).get(partition);
    assertEquals(4, committed.offset());
    assertEquals("half-way", committed.metadata());
  }

  @Test
  void staticMembership() throws Exception {
    var topic = create(2);
    var one = join(topic, Map.of("group.instance.id", "one"));
    var two = join(topic, Map.of("group.instance.id", "two"));
    waitForShares(1, 1);
    var before = two.assignment();
    var ids = memberIds();
    assertEquals(Set.of("one", "two"), ids.keySet());
    // A static member that closes does not leave, and gets its partition back when it returns.
    leave(two);
    var again = join(topic, Map.of("group.instance.id", "two"));
    waitForShares(1, 1);
    assertEquals(before, again.assignment());
    assertEquals(ids.get("one"), memberIds().get("one"));
    assertTrue(members.contains(one));
  }

  private Map<String, String> memberIds() throws Exception {
    var group = get(admin.describeConsumerGroups(List.of(name)).all()).get(name);
    return group.members().stream()
        .collect(Collectors.toMap(member -> member.groupInstanceId().orElse("-"), member -> member.consumerId()));
  }

  @Test
  void firstMessageOfANewGroupComesSoon() throws Exception {
    var topic = create(1);
    produce(topic, 0, 1);
    var before = System.nanoTime();
    read(join(topic, Map.of()), 1);
    var took = Duration.ofNanos(System.nanoTime() - before);
    // On an idle machine it is far below a second; a stock broker waits for three.
    assertTrue(took.toMillis() < 2500, "took " + took);
  }
}
