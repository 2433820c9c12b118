// Package sarama runs sarama, with its cluster admin, against a broker.
package sarama

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/IBM/sarama"
)

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Consumer.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	return config
}

func newClient(t *testing.T, config *sarama.Config) sarama.Client {
	t.Helper()
	client, err := sarama.NewClient([]string{chronik.Bootstrap(t)}, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newAdmin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{chronik.Bootstrap(t)}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	return admin
}

func newProducer(t *testing.T, config *sarama.Config) sarama.SyncProducer {
	t.Helper()
	producer, err := sarama.NewSyncProducer([]string{chronik.Bootstrap(t)}, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = producer.Close() })
	return producer
}

// create makes a topic; configs are name, value, name, value …
func create(t *testing.T, partitions int32, configs ...string) string {
	t.Helper()
	topic := chronik.Name(t)
	entries := map[string]*string{}
	for i := 0; i+1 < len(configs); i += 2 {
		entries[configs[i]] = &configs[i+1]
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}
	admin := newAdmin(t)
	if err := admin.CreateTopic(topic, detail, false); err != nil {
		t.Fatal(err)
	}
	chronik.Until(t, "the topic has leaders", func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		if err != nil || described[0].Err != sarama.ErrNoError {
			return false
		}
		for _, partition := range described[0].Partitions {
			if partition.Leader < 0 {
				return false
			}
		}
		return len(described[0].Partitions) == int(partitions)
	})
	return topic
}

func messages(topic string, first, last int) []*sarama.ProducerMessage {
	var all []*sarama.ProducerMessage
	for i := first; i < last; i++ {
		all = append(all, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i))})
	}
	return all
}

func produce(t *testing.T, producer sarama.SyncProducer, all []*sarama.ProducerMessage) {
	t.Helper()
	if err := producer.SendMessages(all); err != nil {
		var failed sarama.ProducerErrors
		if errors.As(err, &failed) {
			err = failed[0].Err
		}
		t.Fatal(err)
	}
}

// readFrom returns the next count messages of a partition from an offset on.
func readFrom(t *testing.T, config *sarama.Config, topic string, partition int32, offset int64, count int) []*sarama.ConsumerMessage {
	t.Helper()
	consumer, err := sarama.NewConsumer([]string{chronik.Bootstrap(t)}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = consumer.Close() }()
	stream, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	deadline := time.After(30 * time.Second)
	var found []*sarama.ConsumerMessage
	for len(found) < count {
		select {
		case message := <-stream.Messages():
			found = append(found, message)
		case err := <-stream.Errors():
			t.Fatal(err)
		case <-deadline:
			t.Fatalf("after 30 s %d of %d messages", len(found), count)
		}
	}
	return found
}

func sameValues(t *testing.T, sent []*sarama.ProducerMessage, found []*sarama.ConsumerMessage) {
	t.Helper()
	if len(sent) != len(found) {
		t.Fatalf("sent %d messages, found %d", len(sent), len(found))
	}
	for i := range sent {
		value, _ := sent[i].Value.Encode()
		if !bytes.Equal(value, found[i].Value) {
			t.Fatalf("message %d differs: sent %.80q, found %.80q", i, value, found[i].Value)
		}
	}
}
