package franz

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const start = int64(1_700_000_000_000)

// timed makes one record for each of the times, in milliseconds after start.
func timed(topic string, times ...int64) []*kgo.Record {
	all := records(topic, len(times))
	for i, at := range times {
		all[i].Timestamp = time.UnixMilli(start + at)
	}
	return all
}

func mustBe(t *testing.T, what string, expected, found error) {
	t.Helper()
	if !errors.Is(found, expected) {
		t.Fatalf("%s: expected %v, found %v", what, expected, found)
	}
}

func topicConfig(t *testing.T, admin *kadm.Client, topic string) map[string]string {
	t.Helper()
	resources, err := admin.DescribeTopicConfigs(within(t), topic)
	mustBe(t, "describe", nil, err)
	found := map[string]string{}
	for _, config := range resources[0].Configs {
		found[config.Key] = config.MaybeValue()
	}
	return found
}

func TestCreateTopics(t *testing.T) {
	topic := create(t, 4, "retention.ms", "1000")
	admin := newAdmin(t)
	topics, err := admin.ListTopics(within(t), topic)
	mustBe(t, "list", nil, err)
	if len(topics[topic].Partitions) != 4 || topics[topic].ID == (kadm.TopicID{}) {
		t.Fatalf("found %v", topics[topic])
	}
	if found := topicConfig(t, admin, topic)["retention.ms"]; found != "1000" {
		t.Fatalf("retention.ms is %s", found)
	}
	_, err = admin.CreateTopic(within(t), 1, 1, nil, topic)
	mustBe(t, "again", kerr.TopicAlreadyExists, err)
	_, err = admin.ValidateCreateTopics(within(t), 1, 1, nil, chronik.Name(t)+"-dry")
	mustBe(t, "validate", nil, err)
}

func TestCreateTopicsErrors(t *testing.T) {
	admin := newAdmin(t)
	for _, bad := range []string{"a b", "..", strings.Repeat("x", 250)} {
		_, err := admin.CreateTopic(within(t), 1, 1, nil, bad)
		mustBe(t, bad, kerr.InvalidTopicException, err)
	}
	_, err := admin.CreateTopic(within(t), 0, 1, nil, chronik.Name(t))
	mustBe(t, "no partitions", kerr.InvalidPartitions, err)
	_, err = admin.CreateTopic(within(t), 1, 99, nil, chronik.Name(t))
	mustBe(t, "99 replicas", kerr.InvalidReplicationFactor, err)
	for key, value := range map[string]string{"no.such.setting": "1", "retention.ms": "soon"} {
		_, err = admin.CreateTopic(within(t), 1, 1, map[string]*string{key: &value}, chronik.Name(t))
		mustBe(t, key, kerr.InvalidConfig, err)
	}
}

func TestDescribeAndAlterConfigs(t *testing.T) {
	topic := create(t, 1, "retention.ms", "1000")
	admin := newAdmin(t)
	alter := func(op kadm.IncrementalOp, key, value string) error {
		config := kadm.AlterConfig{Op: op, Name: key, Value: &value}
		if op == kadm.DeleteConfig {
			config.Value = nil
		}
		responses, err := admin.AlterTopicConfigs(within(t), []kadm.AlterConfig{config}, topic)
		if err != nil {
			return err
		}
		return responses[0].Err
	}
	mustBe(t, "set", nil, alter(kadm.SetConfig, "segment.bytes", "2000000"))
	mustBe(t, "append", nil, alter(kadm.AppendConfig, "cleanup.policy", "compact"))
	found := topicConfig(t, admin, topic)
	if found["segment.bytes"] != "2000000" || found["retention.ms"] != "1000" || found["cleanup.policy"] != "delete,compact" {
		t.Fatalf("found %v", found)
	}
	mustBe(t, "subtract", nil, alter(kadm.SubtractConfig, "cleanup.policy", "delete"))
	mustBe(t, "delete", nil, alter(kadm.DeleteConfig, "retention.ms", ""))
	found = topicConfig(t, admin, topic)
	if found["cleanup.policy"] != "compact" || found["retention.ms"] == "1000" {
		t.Fatalf("found %v", found)
	}
	mustBe(t, "invalid", kerr.InvalidConfig, alter(kadm.SetConfig, "max.message.bytes", "-5"))
	whole := []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("7000")}}
	_, err := admin.AlterTopicConfigsState(within(t), whole, topic)
	mustBe(t, "state", nil, err)
	found = topicConfig(t, admin, topic)
	if found["retention.ms"] != "7000" || found["cleanup.policy"] != "delete" {
		t.Fatalf("found %v", found)
	}
}

func TestCreatePartitions(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	responses, err := admin.UpdatePartitions(within(t), 3, topic)
	mustBe(t, "update", nil, err)
	mustBe(t, "update", nil, responses.Error())
	chronik.Until(t, "three partitions", func() bool {
		topics, err := admin.ListTopics(within(t), topic)
		return err == nil && len(topics[topic].Partitions) == 3
	})
	responses, err = admin.UpdatePartitions(within(t), 2, topic)
	mustBe(t, "fewer", nil, err)
	mustBe(t, "fewer", kerr.InvalidPartitions, responses.Error())
}

func TestDeleteRecords(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	produce(t, newClient(t), records(topic, 10)...)
	var upTo kadm.Offsets
	upTo.AddOffset(topic, 0, 4, -1)
	deleted, err := admin.DeleteRecords(within(t), upTo)
	mustBe(t, "delete", nil, err)
	if response, _ := deleted.Lookup(topic, 0); response.LowWatermark != 4 || response.Err != nil {
		t.Fatalf("found %v", response)
	}
	found := read(t, newClient(t, fromStart(topic, 1)), 6)
	if found[0].Offset != 4 || string(found[0].Value) != "4" {
		t.Fatalf("first is %d %s", found[0].Offset, found[0].Value)
	}
}

func TestListOffsets(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	produce(t, newClient(t), timed(topic, 0, 2000, 1000)...)
	check := func(what string, expected int64) func(kadm.ListedOffsets, error) {
		return func(listed kadm.ListedOffsets, err error) {
			t.Helper()
			mustBe(t, what, nil, err)
			if found, _ := listed.Lookup(topic, 0); found.Err != nil || found.Offset != expected {
				t.Fatalf("%s: expected %d, found %v", what, expected, found)
			}
		}
	}
	check("start", 0)(admin.ListStartOffsets(within(t), topic))
	check("end", 3)(admin.ListEndOffsets(within(t), topic))
	check("committed", 3)(admin.ListCommittedOffsets(within(t), topic))
	check("by time", 1)(admin.ListOffsetsAfterMilli(within(t), start+500, topic))
	check("max timestamp", 1)(admin.ListMaxTimestampOffsets(within(t), topic))
}

func TestGroups(t *testing.T) {
	topic := create(t, 1)
	group := topic
	admin := newAdmin(t)
	produce(t, newClient(t), records(topic, 5)...)
	consumed := &values{}
	consumer := join(t, group, topic, consumed)
	chronik.Until(t, "five records", func() bool { return consumed.count() == 5 })
	commit(t, consumer)
	described, err := admin.DescribeGroups(within(t), group)
	mustBe(t, "describe", nil, err)
	if described[group].State != "Stable" || len(described[group].Members) != 1 {
		t.Fatalf("found %v", described[group])
	}
	_, err = admin.DeleteGroup(within(t), group)
	mustBe(t, "delete a group in use", kerr.NonEmptyGroup, err)
	lag, err := admin.Lag(within(t), group)
	mustBe(t, "lag", nil, err)
	if total := lag[group].Lag.Total(); total != 0 {
		t.Fatalf("lag %d", total)
	}
	consumer.leave()
	listed, err := admin.ListGroups(within(t), "Empty")
	mustBe(t, "list", nil, err)
	if _, there := listed[group]; !there {
		t.Fatalf("%s is not in %v", group, listed)
	}
	var to kadm.Offsets
	to.AddOffset(topic, 0, 2, -1)
	mustBe(t, "commit", nil, admin.CommitAllOffsets(within(t), group, to))
	fetched, err := admin.FetchOffsets(within(t), group)
	mustBe(t, "fetch", nil, err)
	if at, _ := fetched.Lookup(topic, 0); at.At != 2 {
		t.Fatalf("found %v", at)
	}
	many := admin.FetchManyOffsets(within(t), group, group+"-unknown")
	mustBe(t, "fetch many", nil, many.Error())
	var set kadm.TopicsSet
	set.Add(topic, 0)
	removed, err := admin.DeleteOffsets(within(t), group, set)
	mustBe(t, "delete offsets", nil, err)
	mustBe(t, "delete offsets", nil, removed.Error())
	_, err = admin.DeleteGroup(within(t), group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		t.Fatal(err)
	}
	_, err = admin.DeleteGroup(within(t), group)
	mustBe(t, "delete again", kerr.GroupIDNotFound, err)
}

func TestDeleteTopics(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	_, err := admin.DeleteTopic(within(t), topic)
	mustBe(t, "delete", nil, err)
	chronik.Until(t, "the topic is gone", func() bool {
		topics, err := admin.ListTopics(within(t))
		return err == nil && !topics.Has(topic)
	})
	_, err = admin.DeleteTopic(within(t), topic)
	mustBe(t, "delete again", kerr.UnknownTopicOrPartition, err)
}

func TestDescribeCluster(t *testing.T) {
	metadata, err := newAdmin(t).BrokerMetadata(within(t))
	mustBe(t, "metadata", nil, err)
	broker := metadata.Brokers[0]
	if address := fmt.Sprintf("%s:%d", broker.Host, broker.Port); address != chronik.Bootstrap(t) || metadata.Cluster == "" {
		t.Fatalf("found %v at %s", metadata, address)
	}
	if metadata.Controller != broker.NodeID {
		t.Fatalf("controller %d", metadata.Controller)
	}
}

func TestDescribeLogDirsAndProducers(t *testing.T) {
	topic := create(t, 1)
	admin := newAdmin(t)
	produce(t, newClient(t), records(topic, 10)...)
	var set kadm.TopicsSet
	set.Add(topic, 0)
	all, err := admin.DescribeAllLogDirs(within(t), set)
	mustBe(t, "log dirs", nil, err)
	size := int64(0)
	all.Each(func(directory kadm.DescribedLogDir) { size += directory.Size() })
	if size == 0 {
		t.Fatalf("found %v", all)
	}
	producers, err := admin.DescribeProducers(within(t), set)
	mustBe(t, "producers", nil, err)
	if found := producers[topic].Partitions[0].ActiveProducers; len(found) != 1 {
		t.Fatalf("found %v", found)
	}
	epochs, err := admin.OffsetForLeaderEpoch(within(t), kadm.OffsetForLeaderEpochRequest{topic: {0: 0}})
	mustBe(t, "leader epoch", nil, err)
	if found := epochs[topic][0]; found.Err != nil || found.EndOffset != 10 {
		t.Fatalf("found %v", found)
	}
}
