package franz

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newClient(t *testing.T, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(chronik.Bootstrap(t)),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(200 * time.Millisecond),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newAdmin(t *testing.T) *kadm.Client {
	return kadm.NewClient(newClient(t))
}

// create makes a topic; configs are name, value, name, value …
func create(t *testing.T, partitions int32, configs ...string) string {
	t.Helper()
	topic := chronik.Name(t)
	admin := newAdmin(t)
	settings := map[string]*string{}
	for i := 0; i+1 < len(configs); i += 2 {
		settings[configs[i]] = &configs[i+1]
	}
	if _, err := admin.CreateTopic(within(t), partitions, 1, settings, topic); err != nil {
		t.Fatal(err)
	}
	chronik.Until(t, "the topic has leaders", func() bool {
		topics, err := admin.ListTopics(within(t), topic)
		return err == nil && topics.Error() == nil && len(topics[topic].Partitions) == int(partitions)
	})
	return topic
}

func records(topic string, count int) []*kgo.Record {
	all := make([]*kgo.Record, count)
	for i := range all {
		all[i] = &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", i)}
	}
	return all
}

func produce(t *testing.T, client *kgo.Client, all ...*kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(within(t), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func fromStart(topic string, partitions int32) kgo.Opt {
	offsets := map[int32]kgo.Offset{}
	for p := range partitions {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})
}

// read returns the next count records of a consumer.
func read(t *testing.T, client *kgo.Client, count int) []*kgo.Record {
	t.Helper()
	ctx := within(t)
	var all []*kgo.Record
	for len(all) < count {
		fetches := client.PollRecords(ctx, count-len(all))
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(all), count, err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

func sameValues(t *testing.T, sent, found []*kgo.Record) {
	t.Helper()
	if len(sent) != len(found) {
		t.Fatalf("sent %d records, found %d", len(sent), len(found))
	}
	for i := range sent {
		if !bytes.Equal(sent[i].Value, found[i].Value) || !bytes.Equal(sent[i].Key, found[i].Key) {
			t.Fatalf("record %d differs: sent %.80q, found %.80q", i, sent[i].Value, found[i].Value)
		}
	}
}
