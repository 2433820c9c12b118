package chronik;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.junit.jupiter.api.Test;

/** Admin calls, and what they answer to nonsense. */
class AdminTest extends Clients {
  private KafkaFuture<Void> createWith(String topic, int partitions, int replicas, Map<String, String> config) {
    return admin.createTopics(List.of(new NewTopic(topic, partitions, (short) replicas).configs(config))).all();
  }

  private Map<String, ConfigEntry> config(ConfigResource resource) throws Exception {
    var entries = get(admin.describeConfigs(List.of(resource)).all()).get(resource).entries();
    var found = new HashMap<String, ConfigEntry>();
    entries.forEach(entry -> found.put(entry.name(), entry));
    return found;
  }

  private String topicConfig(String topic, String key) throws Exception {
    return config(new ConfigResource(ConfigResource.Type.TOPIC, topic)).get(key).value();
  }

  private KafkaFuture<Void> alter(String topic, String key, String value, OpType operation) {
    var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    var change = new AlterConfigOp(new ConfigEntry(key, value), operation);
    return admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all();
  }

  @Test
  void createTopics() throws Exception {
    var created = admin.createTopics(List.of(new NewTopic(name, 4, (short) 1).configs(Map.of("retention.ms", "1000"))));
    assertEquals(4, get(created.numPartitions(name)));
    assertEquals("1000", get(created.config(name)).get("retention.ms").value());
    until("the topic has leaders", () -> partitionCount(name) == 4);
    var id = get(created.topicId(name));
    var byId = get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id);
    assertEquals(name, byId.name());
    assertEquals("1000", topicConfig(name, "retention.ms"));
    fails(TopicExistsException.class, createWith(name, 1, 1, Map.of()));
    get(admin.createTopics(List.of(new NewTopic(name + "-dry", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all());
    assertFalse(get(admin.listTopics().names()).contains(name + "-dry"));
  }

  @Test
  void createTopicsWithAssignmentOrDefaults() throws Exception {
    var node = get(admin.describeCluster().nodes()).iterator().next().id();
    get(admin.createTopics(List.of(new NewTopic(name, Map.of(0, List.of(node), 1, List.of(node))))).all());
    until("two partitions", () -> partitionCount(name) == 2);
    name += "-defaults";
    get(admin.createTopics(List.of(new NewTopic(name, Optional.empty(), Optional.empty()))).all());
    until("one partition", () -> partitionCount(name) == 1);
  }

  @Test
  void errorsOfCreateTopics() {
    for (var bad : List.of("a b", "..", "x".repeat(250))) {
      fails(InvalidTopicException.class, createWith(bad, 1, 1, Map.of()));
    }
    fails(InvalidPartitionsException.class, createWith(name, 0, 1, Map.of()));
    fails(InvalidReplicationFactorException.class, createWith(name, 1, 99, Map.of()));
    fails(InvalidConfigurationException.class, createWith(name, 1, 1, Map.of("no.such.setting", "1")));
    fails(InvalidConfigurationException.class, createWith(name, 1, 1, Map.of("retention.ms", "soon")));
  }

  @Test
  void describeAndAlterConfigs() throws Exception {
    create(1, Map.of("retention.ms", "1000"));
    get(alter(name, "segment.bytes", "2000000", OpType.SET));
    get(alter(name, "cleanup.policy", "compact", OpType.APPEND));
    assertEquals("2000000", topicConfig(name, "segment.bytes"));
    assertEquals("delete,compact", topicConfig(name, "cleanup.policy"));
    assertEquals("1000", topicConfig(name, "retention.ms"));
    get(alter(name, "cleanup.policy", "delete", OpType.SUBTRACT));
    assertEquals("compact", topicConfig(name, "cleanup.policy"));
    get(alter(name, "retention.ms", "", OpType.DELETE));
    assertNotEquals("1000", topicConfig(name, "retention.ms"));
    fails(InvalidConfigurationException.class, alter(name, "max.message.bytes", "-5", OpType.SET));
    fails(UnknownTopicOrPartitionException.class, alter(name + "-unknown", "retention.ms", "1", OpType.SET));
    var entry = config(new ConfigResource(ConfigResource.Type.TOPIC, name)).get("segment.bytes");
    assertEquals(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, entry.source());
  }

  @Test
  void brokerConfigs() throws Exception {
    var node = get(admin.describeCluster().nodes()).iterator().next().idString();
    var found = config(new ConfigResource(ConfigResource.Type.BROKER, node));
    assertTrue(found.containsKey("min.insync.replicas") && found.containsKey("log.retention.ms"), found.keySet().toString());
  }

  @Test
  void createPartitions() throws Exception {
    create(1);
    get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all());
    until("three partitions", () -> partitionCount(name) == 3);
    fails(InvalidPartitionsException.class, admin.createPartitions(Map.of(name, NewPartitions.increaseTo(2))).all());
  }

  @Test
  void deleteRecords() throws Exception {
    create(1);
    produce(name, 0, 10);
    var partition = new TopicPartition(name, 0);
    var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
    assertEquals(4, get(deleted.lowWatermarks().get(partition)).lowWatermark());
    var consumer = assigned(name, 1, Map.of());
    assertEquals(Map.of(partition, 4L), consumer.beginningOffsets(List.of(partition)));
    consumer.seek(partition, 0);
    assertEquals(numbers(4, 10), values(read(consumer, 6)));
  }

  @Test
  void listOffsets() throws Exception {
    create(1);
    var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
    for (var after : List.of(0, 2000, 1000)) {
      records.add(new ProducerRecord<>(name, null, 1_700_000_000_000L + after, null, bytes(after)));
    }
    produce(producer(Map.of()), records);
    var partition = new TopicPartition(name, 0);
    var expected =
        List.of(
            Map.entry(OffsetSpec.earliest(), 0L),
            Map.entry(OffsetSpec.latest(), 3L),
            Map.entry(OffsetSpec.maxTimestamp(), 1L),
            Map.entry(OffsetSpec.forTimestamp(1_700_000_000_500L), 1L),
            Map.entry(OffsetSpec.forTimestamp(1_800_000_000_000L), -1L));
    for (var one : expected) {
      assertEquals(one.getValue(), get(admin.listOffsets(Map.of(partition, one.getKey())).all()).get(partition).offset());
    }
  }

  @Test
  void groups() throws Exception {
    create(1);
    produce(name, 0, 5);
    var partition = new TopicPartition(name, 0);
    var consumer = consumer(Map.of("group.id", name));
    consumer.subscribe(List.of(name));
    read(consumer, 5);
    consumer.commitSync();
    var described = get(admin.describeConsumerGroups(List.of(name)).all()).get(name);
    assertEquals(GroupState.STABLE, described.groupState());
    assertEquals(Set.of(partition), described.members().iterator().next().assignment().topicPartitions());
    fails(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(name)).all());
    close(consumer);
    var empty = ListGroupsOptions.forConsumerGroups().inGroupStates(Set.of(GroupState.EMPTY));
    assertTrue(get(admin.listGroups(empty).all()).stream().anyMatch(group -> group.groupId().equals(name)));
    assertEquals(5, committed(partition).offset());
    get(admin.alterConsumerGroupOffsets(name, Map.of(partition, new OffsetAndMetadata(2))).all());
    assertEquals(2, committed(partition).offset());
    get(admin.deleteConsumerGroupOffsets(name, Set.of(partition)).all());
    assertFalse(get(admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata()).containsKey(partition));
    try {
      get(admin.deleteConsumerGroups(List.of(name)).all());
    } catch (ExecutionException gone) {
      // Without members and offsets the group may be gone by itself.
      assertEquals(GroupIdNotFoundException.class, gone.getCause().getClass());
    }
    fails(GroupIdNotFoundException.class, admin.deleteConsumerGroups(List.of(name)).all());
  }

  private OffsetAndMetadata committed(TopicPartition partition) throws Exception {
    return get(admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata()).get(partition);
  }

  @Test
  void deleteTopics() throws Exception {
    create(1);
    get(admin.deleteTopics(List.of(name)).all());
    until("the topic is gone", () -> partitionCount(name) == 0);
    fails(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(name)).all());
    fails(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(name)).allTopicNames());
    create(1);
    produce(name, 0, 1);
    var id = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name).topicId();
    get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
  }

  @Test
  void describeCluster() throws Exception {
    var cluster = admin.describeCluster();
    var nodes = get(cluster.nodes());
    assertEquals(1, nodes.size());
    var node = nodes.iterator().next();
    assertEquals(Chronik.shared(), node.host() + ":" + node.port());
    assertEquals(node, get(cluster.controller()));
    assertFalse(get(cluster.clusterId()).isEmpty());
  }

  @Test
  void logDirsAndProducers() throws Exception {
    create(1);
    produce(name, 0, 10);
    var partition = new TopicPartition(name, 0);
    var node = get(admin.describeCluster().nodes()).iterator().next().id();
    var directories = get(admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
    var sizes = directories.values().stream().map(one -> one.replicaInfos().get(partition)).filter(one -> one != null);
    assertTrue(sizes.allMatch(one -> one.size() > 0));
    var producers = get(admin.describeProducers(List.of(partition)).all()).get(partition).activeProducers();
    assertEquals(1, producers.size());
    assertEquals(9, producers.get(0).lastSequence());
  }
}
