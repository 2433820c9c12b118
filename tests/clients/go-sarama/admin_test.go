package sarama

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/IBM/sarama"
)

func mustBe(t *testing.T, what string, expected, found error) {
	t.Helper()
	if !errors.Is(found, expected) {
		t.Fatalf("%s: expected %v, found %v", what, expected, found)
	}
}

func topicConfig(t *testing.T, admin sarama.ClusterAdmin, topic string) map[string]string {
	t.Helper()
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	mustBe(t, "describe", nil, err)
	found := map[string]string{}
	for _, entry := range entries {
		found[entry.Name] = entry.Value
	}
	return found
}

func TestCreateTopics(t *testing.T) {
	topic := create(t, 4, "retention.ms", "1000")
	admin := newAdmin(t)
	topics, err := admin.ListTopics()
	mustBe(t, "list", nil, err)
	if topics[topic].NumPartitions != 4 || *topics[topic].ConfigEntries["retention.ms"] != "1000" {
		t.Fatalf("found %v", topics[topic])
	}
	mustBe(t, "again", sarama.ErrTopicAlreadyExists, admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	mustBe(t, "validate", nil, admin.CreateTopic(topic+"-dry", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, true))
}

func TestCreateTopicsErrors(t *testing.T) {
	admin := newAdmin(t)
	one := func() *sarama.TopicDetail { return &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1} }
	for _, bad := range []string{"a b", "..", strings.Repeat("x", 250)} {
		mustBe(t, bad, sarama.ErrInvalidTopic, admin.CreateTopic(bad, one(), false))
	}
	detail := one()
	detail.NumPartitions = 0
	mustBe(t, "no partitions", sarama.ErrInvalidPartitions, admin.CreateTopic(chronik.Name(t), detail, false))
	detail = one()
	detail.ReplicationFactor = 99
	mustBe(t, "99 replicas", sarama.ErrInvalidReplicationFactor, admin.CreateTopic(chronik.Name(t), detail, false))
	for key, value := range map[string]string{"no.such.setting": "1", "retention.ms": "soon"} {
		detail = one()
		detail.ConfigEntries = map[string]*string{key: &value}
		mustBe(t, key, sarama.ErrInvalidConfig, admin.CreateTopic(chronik.Name(t), detail, false))
	}
}

func TestDescribeAndAlterConfigs(t *testing.T) {
	topic := create(t, 1, "retention.ms", "1000")
	admin := newAdmin(t)
	alter := func(operation sarama.IncrementalAlterConfigsOperation, key, value string) error {
		entry := sarama.IncrementalAlterConfigsEntry{Operation: operation, Value: &value}
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{key: entry}, false)
	}
	mustBe(t, "set", nil, alter(sarama.IncrementalAlterConfigsOperationSet, "segment.bytes", "2000000"))
	mustBe(t, "append", nil, alter(sarama.IncrementalAlterConfigsOperationAppend, "cleanup.policy", "compact"))
	found := topicConfig(t, admin, topic)
	if found["segment.bytes"] != "2000000" || found["retention.ms"] != "1000" || found["cleanup.policy"] != "delete,compact" {
		t.Fatalf("found %v", found)
	}
	mustBe(t, "delete", nil, alter(sarama.IncrementalAlterConfigsOperationDelete, "retention.ms", ""))
	if found = topicConfig(t, admin, topic); found["retention.ms"] == "1000" {
		t.Fatalf("found %v", found)
	}
	if err := alter(sarama.IncrementalAlterConfigsOperationSet, "max.message.bytes", "-5"); err == nil {
		t.Fatal("a negative size was taken")
	}
	value := "7000"
	mustBe(t, "alter", nil, admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &value}, false))
	if found = topicConfig(t, admin, topic); found["retention.ms"] != "7000" || found["cleanup.policy"] != "delete" {
		t.Fatalf("found %v", found)
	}
}

func TestCreatePartitions(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	mustBe(t, "grow", nil, admin.CreatePartitions(topic, 3, nil, false))
	chronik.Until(t, "three partitions", func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 3
	})
	mustBe(t, "shrink", sarama.ErrInvalidPartitions, admin.CreatePartitions(topic, 2, nil, false))
}

func TestDeleteRecords(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	sent := messages(topic, 0, 10)
	produce(t, newProducer(t, newConfig()), sent)
	mustBe(t, "delete", nil, admin.DeleteRecords(topic, map[int32]int64{0: 4}))
	offset, err := newClient(t, newConfig()).GetOffset(topic, 0, sarama.OffsetOldest)
	mustBe(t, "oldest", nil, err)
	if offset != 4 {
		t.Fatalf("oldest offset %d", offset)
	}
	sameValues(t, sent[4:], readFrom(t, newConfig(), topic, 0, sarama.OffsetOldest, 6))
}

func TestListOffsets(t *testing.T) {
	topic := create(t, 1)
	sent := messages(topic, 0, 3)
	for i, after := range []int64{0, 2000, 1000} {
		sent[i].Timestamp = time.UnixMilli(1_700_000_000_000 + after)
	}
	produce(t, newProducer(t, newConfig()), sent)
	admin := newAdmin(t)
	for spec, expected := range map[int64]int64{-2: 0, -1: 3, 1_700_000_000_500: 1} {
		found, err := admin.ListOffsets(map[string]map[int32]int64{topic: {0: spec}}, nil)
		mustBe(t, "list", nil, err)
		if found[topic][0].Offset != expected {
			t.Fatalf("%d: expected %d, found %v", spec, expected, found[topic][0])
		}
	}
}

func TestGroups(t *testing.T) {
	topic := create(t, 1)
	group := topic
	admin := newAdmin(t)
	produce(t, newProducer(t, newConfig()), messages(topic, 0, 5))
	read := &values{}
	consumer := join(t, group, topic, read, newConfig())
	partitions := map[string][]int32{topic: {0}}
	committed := func() int64 {
		found, err := admin.ListConsumerGroupOffsets(group, partitions)
		mustBe(t, "offsets", nil, err)
		return found.GetBlock(topic, 0).Offset
	}
	chronik.Until(t, "five messages committed", func() bool { return committed() == 5 })
	described, err := admin.DescribeConsumerGroups([]string{group})
	mustBe(t, "describe", nil, err)
	if described[0].State != "Stable" || len(described[0].Members) != 1 {
		t.Fatalf("found %v", described[0])
	}
	mustBe(t, "delete a group in use", sarama.ErrNonEmptyGroup, admin.DeleteConsumerGroup(group))
	consumer.leave()
	groups, err := admin.ListConsumerGroups()
	mustBe(t, "list", nil, err)
	if groups[group] != "consumer" {
		t.Fatalf("found %v", groups)
	}
	_, err = admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: 2, LeaderEpoch: -1}}}, nil)
	mustBe(t, "alter", nil, err)
	if offset := committed(); offset != 2 {
		t.Fatalf("offset %d", offset)
	}
	mustBe(t, "delete an offset", nil, admin.DeleteConsumerGroupOffset(group, topic, 0))
	if offset := committed(); offset != -1 {
		t.Fatalf("offset %d", offset)
	}
	if err := admin.DeleteConsumerGroup(group); err != nil && !errors.Is(err, sarama.ErrGroupIDNotFound) {
		t.Fatal(err)
	}
	mustBe(t, "delete again", sarama.ErrGroupIDNotFound, admin.DeleteConsumerGroup(group))
}

func TestDeleteTopics(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	mustBe(t, "delete", nil, admin.DeleteTopic(topic))
	chronik.Until(t, "the topic is gone", func() bool {
		topics, err := admin.ListTopics()
		_, there := topics[topic]
		return err == nil && !there
	})
	mustBe(t, "delete again", sarama.ErrUnknownTopicOrPartition, admin.DeleteTopic(topic))
}

func TestDescribeCluster(t *testing.T) {
	brokers, controller, err := newAdmin(t).DescribeCluster()
	mustBe(t, "describe", nil, err)
	if !slices.ContainsFunc(brokers, func(b *sarama.Broker) bool { return b.Addr() == chronik.Bootstrap(t) && b.ID() == controller }) {
		t.Fatalf("brokers %v, controller %d", brokers, controller)
	}
}

func TestDescribeLogDirs(t *testing.T) {
	topic := create(t, 1)
	produce(t, newProducer(t, newConfig()), messages(topic, 0, 10))
	admin := newAdmin(t)
	brokers, _, err := admin.DescribeCluster()
	mustBe(t, "cluster", nil, err)
	node := brokers[0].ID()
	found, err := admin.DescribeLogDirs([]int32{node})
	mustBe(t, "log dirs", nil, err)
	for _, directory := range found[node] {
		for _, entry := range directory.Topics {
			if entry.Topic == topic && entry.Partitions[0].Size > 0 {
				return
			}
		}
	}
	t.Fatalf("%s is not in %v", topic, found)
}
