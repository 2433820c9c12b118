// Package franz runs franz-go, with its admin client kadm, against a broker.
package franz

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	chronik "chronik/tests/clients"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCompressionAndAcks(t *testing.T) {
	codecs := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for codecName, codec := range codecs {
		for acksName, required := range acks {
			t.Run(codecName+"-acks-"+acksName, func(t *testing.T) {
				topic := create(t, 1)
				sent := records(topic, 50)
				for _, record := range sent {
					noise := make([]byte, 20)
					_, _ = rand.Read(noise)
					record.Value = append(fmt.Appendf(record.Value, "%0100d", 0), noise...)
				}
				producer := newClient(t, kgo.ProducerBatchCompression(codec), kgo.RequiredAcks(required), kgo.DisableIdempotentWrite())
				produce(t, producer, sent...)
				sameValues(t, sent, read(t, newClient(t, fromStart(topic, 1)), 50))
			})
		}
	}
}

func TestIdempotent(t *testing.T) {
	topic := create(t, 1)
	sent := records(topic, 500)
	// Small batches, several of them in flight.
	produce(t, newClient(t, kgo.ProducerBatchMaxBytes(512)), sent...)
	found := read(t, newClient(t, fromStart(topic, 1)), 500)
	sameValues(t, sent, found)
	for i, record := range found {
		if record.Offset != int64(i) || record.ProducerID < 0 {
			t.Fatalf("record %d has offset %d and producer id %d", i, record.Offset, record.ProducerID)
		}
	}
}

func TestKeyedPartitioning(t *testing.T) {
	topic := create(t, 3)
	sent := records(topic, 90)
	for i, record := range sent {
		record.Key = fmt.Appendf(nil, "key-%d", i%9)
	}
	produce(t, newClient(t), sent...)
	partitions := map[string]int32{}
	last := map[string]int{}
	used := map[int32]bool{}
	for _, record := range read(t, newClient(t, fromStart(topic, 3)), 90) {
		key := string(record.Key)
		if partition, seen := partitions[key]; seen && partition != record.Partition {
			t.Fatalf("%s is in partitions %d and %d", key, partition, record.Partition)
		}
		var n int
		_, _ = fmt.Sscan(string(record.Value), &n)
		if previous, seen := last[key]; seen && previous >= n {
			t.Fatalf("%s: %d came after %d", key, n, previous)
		}
		partitions[key], last[key], used[record.Partition] = record.Partition, n, true
	}
	if len(partitions) != 9 || len(used) < 2 {
		t.Fatalf("%d keys in %d partitions", len(partitions), len(used))
	}
}

func TestHeaders(t *testing.T) {
	topic := create(t, 1)
	headers := []kgo.RecordHeader{
		{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")},
		{Key: "empty", Value: []byte{}}, {Key: "none", Value: nil}, {Key: "ünïcode", Value: []byte("☃")},
	}
	produce(t, newClient(t), &kgo.Record{Topic: topic, Value: []byte("v"), Headers: headers})
	found := read(t, newClient(t, fromStart(topic, 1)), 1)[0].Headers
	if len(found) != len(headers) {
		t.Fatalf("found %v", found)
	}
	for i, header := range headers {
		if found[i].Key != header.Key || string(found[i].Value) != string(header.Value) || (found[i].Value == nil) != (header.Value == nil) {
			t.Fatalf("sent %v, found %v", header, found[i])
		}
	}
}

func TestNullKeysAndValues(t *testing.T) {
	topic := create(t, 1)
	sent := []*kgo.Record{
		{Topic: topic}, {Topic: topic, Key: []byte("k")}, {Topic: topic, Value: []byte("v")},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
	}
	produce(t, newClient(t), sent...)
	for i, record := range read(t, newClient(t, fromStart(topic, 1)), len(sent)) {
		if (record.Key == nil) != (sent[i].Key == nil) || (record.Value == nil) != (sent[i].Value == nil) {
			t.Fatalf("record %d: key %q, value %q", i, record.Key, record.Value)
		}
	}
}

func TestOneMegabyteRecords(t *testing.T) {
	topic := create(t, 1, "max.message.bytes", "4000000")
	sent := records(topic, 3)
	for _, record := range sent {
		record.Value = make([]byte, 1<<20)
		_, _ = rand.Read(record.Value)
	}
	produce(t, newClient(t, kgo.ProducerBatchMaxBytes(4_000_000)), sent...)
	sameValues(t, sent, read(t, newClient(t, fromStart(topic, 1), kgo.FetchMaxPartitionBytes(100_000)), 3))
}

func TestMessageTooLarge(t *testing.T) {
	topic := create(t, 1, "max.message.bytes", "10000")
	client := newClient(t, kgo.ProducerBatchCompression(kgo.NoCompression()))
	large := &kgo.Record{Topic: topic, Value: make([]byte, 20_000)}
	if err := client.ProduceSync(within(t), large).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("found %v", err)
	}
	produce(t, newClient(t), records(topic, 1)...)
}

func TestOffsetOutOfRangeReset(t *testing.T) {
	topic := create(t, 1)
	sent := records(topic, 3)
	produce(t, newClient(t), sent...)
	beyond := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1000)}})
	consumer := newClient(t, beyond, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	sameValues(t, sent, read(t, consumer, 3))
	strict := newClient(t, beyond, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err := strict.PollFetches(within(t)).Err(); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Fatalf("found %v", err)
	}
}

func TestSeekByTimestamp(t *testing.T) {
	topic := create(t, 1)
	sent := timed(topic, 0, 1000, 2000, 3000)
	produce(t, newClient(t), sent...)
	at := kgo.NewOffset().AfterMilli(start + 1500)
	consumer := newClient(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: at}}))
	found := read(t, consumer, 2)
	sameValues(t, sent[2:], found)
	if found[0].Timestamp.UnixMilli() != start+2000 {
		t.Fatalf("timestamp %v", found[0].Timestamp)
	}
}

func TestReadCommitted(t *testing.T) {
	topic := create(t, 1)
	sent := records(topic, 3)
	produce(t, newClient(t), sent...)
	consumer := newClient(t, fromStart(topic, 1), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	sameValues(t, sent, read(t, consumer, 3))
}

func TestUnknownTopic(t *testing.T) {
	topic := chronik.Name(t)
	client := newClient(t, kgo.UnknownTopicRetries(1))
	if err := client.ProduceSync(within(t), records(topic, 1)...).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("found %v", err)
	}
}

func TestTopicCreatedByFirstUse(t *testing.T) {
	topic := chronik.Name(t)
	sent := records(topic, 1)
	produce(t, newClient(t, kgo.AllowAutoTopicCreation()), sent...)
	sameValues(t, sent, read(t, newClient(t, fromStart(topic, 1)), 1))
}
