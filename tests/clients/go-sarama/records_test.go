package sarama

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/IBM/sarama"
)

func TestCompressionAndAcks(t *testing.T) {
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		for _, acks := range []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll} {
			t.Run(fmt.Sprintf("%v-acks-%d", codec, acks), func(t *testing.T) {
				topic := create(t, 1)
				config := newConfig()
				config.Producer.Compression = codec
				config.Producer.RequiredAcks = acks
				sent := messages(topic, 0, 50)
				for _, message := range sent {
					noise := make([]byte, 20)
					_, _ = rand.Read(noise)
					message.Value = sarama.ByteEncoder(append(fmt.Appendf(nil, "%0100d", 0), noise...))
				}
				produce(t, newProducer(t, config), sent)
				sameValues(t, sent, readFrom(t, newConfig(), topic, 0, 0, 50))
			})
		}
	}
}

func TestIdempotent(t *testing.T) {
	topic := create(t, 1)
	config := newConfig()
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Flush.MaxMessages = 10
	sent := messages(topic, 0, 300)
	produce(t, newProducer(t, config), sent)
	found := readFrom(t, newConfig(), topic, 0, 0, 300)
	sameValues(t, sent, found)
	if found[299].Offset != 299 {
		t.Fatalf("last offset %d", found[299].Offset)
	}
}

func TestKeyedPartitioning(t *testing.T) {
	topic := create(t, 3)
	config := newConfig()
	config.Producer.Partitioner = sarama.NewHashPartitioner
	sent := messages(topic, 0, 90)
	partitions := map[string]int32{}
	used := map[int32][]*sarama.ProducerMessage{}
	producer := newProducer(t, config)
	for i, message := range sent {
		key := fmt.Sprintf("key-%d", i%9)
		message.Key = sarama.StringEncoder(key)
		partition, offset, err := producer.SendMessage(message)
		if err != nil {
			t.Fatal(err)
		}
		if before, seen := partitions[key]; seen && before != partition {
			t.Fatalf("%s is in partitions %d and %d", key, before, partition)
		}
		if offset != int64(len(used[partition])) {
			t.Fatalf("offset %d in partition %d after %d messages", offset, partition, len(used[partition]))
		}
		partitions[key], used[partition] = partition, append(used[partition], message)
	}
	if len(used) < 2 {
		t.Fatalf("all keys went to one partition")
	}
	for partition, expected := range used {
		sameValues(t, expected, readFrom(t, newConfig(), topic, partition, 0, len(expected)))
	}
}

func TestHeaders(t *testing.T) {
	topic := create(t, 1)
	headers := []sarama.RecordHeader{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte("2")},
		{Key: []byte("empty"), Value: []byte{}}, {Key: []byte("ünïcode"), Value: []byte("☃")},
	}
	sent := messages(topic, 0, 1)
	sent[0].Headers = headers
	produce(t, newProducer(t, newConfig()), sent)
	found := readFrom(t, newConfig(), topic, 0, 0, 1)[0].Headers
	if len(found) != len(headers) {
		t.Fatalf("found %v", found)
	}
	for i, header := range headers {
		if string(found[i].Key) != string(header.Key) || string(found[i].Value) != string(header.Value) {
			t.Fatalf("sent %v, found %v", header, found[i])
		}
	}
}

func TestNullKeysAndValues(t *testing.T) {
	topic := create(t, 1)
	sent := []*sarama.ProducerMessage{
		{Topic: topic}, {Topic: topic, Key: sarama.StringEncoder("k")}, {Topic: topic, Value: sarama.StringEncoder("v")},
	}
	produce(t, newProducer(t, newConfig()), sent)
	for i, message := range readFrom(t, newConfig(), topic, 0, 0, len(sent)) {
		if (message.Key == nil) != (sent[i].Key == nil) || (message.Value == nil) != (sent[i].Value == nil) {
			t.Fatalf("message %d: key %q, value %q", i, message.Key, message.Value)
		}
	}
}

func TestOneMegabyteRecords(t *testing.T) {
	topic := create(t, 1, "max.message.bytes", "4000000")
	config := newConfig()
	config.Producer.MaxMessageBytes = 4_000_000
	sent := messages(topic, 0, 3)
	for _, message := range sent {
		value := make([]byte, 1<<20)
		_, _ = rand.Read(value)
		message.Value = sarama.ByteEncoder(value)
	}
	produce(t, newProducer(t, config), sent)
	sameValues(t, sent, readFrom(t, newConfig(), topic, 0, 0, 3))
}

func TestMessageTooLarge(t *testing.T) {
	topic := create(t, 1, "max.message.bytes", "10000")
	producer := newProducer(t, newConfig())
	large := &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(make([]byte, 20_000))}
	if _, _, err := producer.SendMessage(large); !errors.Is(err, sarama.ErrMessageSizeTooLarge) {
		t.Fatalf("found %v", err)
	}
	produce(t, producer, messages(topic, 0, 1))
}

func TestSeekByTimestamp(t *testing.T) {
	topic := create(t, 1)
	sent := messages(topic, 0, 4)
	for i, message := range sent {
		message.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i)*1000)
	}
	produce(t, newProducer(t, newConfig()), sent)
	client := newClient(t, newConfig())
	for at, expected := range map[int64]int64{
		1_700_000_001_500: 2, 1_800_000_000_000: 4, sarama.OffsetOldest: 0, sarama.OffsetNewest: 4,
	} {
		offset, err := client.GetOffset(topic, 0, at)
		if err != nil {
			t.Fatal(err)
		}
		// Without such a record the answer is -1; newer versions of sarama give the end instead.
		if offset != expected && !(expected == 4 && offset == -1) {
			t.Fatalf("at %d: offset %d instead of %d", at, offset, expected)
		}
	}
	found := readFrom(t, newConfig(), topic, 0, 2, 2)
	sameValues(t, sent[2:], found)
	if found[0].Timestamp.UnixMilli() != 1_700_000_002_000 {
		t.Fatalf("timestamp %v", found[0].Timestamp)
	}
}

func TestOffsetOutOfRange(t *testing.T) {
	topic := create(t, 1)
	produce(t, newProducer(t, newConfig()), messages(topic, 0, 3))
	consumer, err := sarama.NewConsumer([]string{chronik.Bootstrap(t)}, newConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = consumer.Close() }()
	if _, err = consumer.ConsumePartition(topic, 0, 1000); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.Fatalf("found %v", err)
	}
}

func TestReadCommitted(t *testing.T) {
	topic := create(t, 1)
	sent := messages(topic, 0, 3)
	produce(t, newProducer(t, newConfig()), sent)
	config := newConfig()
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	sameValues(t, sent, readFrom(t, config, topic, 0, 0, 3))
}

func TestUnknownTopic(t *testing.T) {
	config := newConfig()
	config.Metadata.AllowAutoTopicCreation = false
	config.Metadata.Retry.Max = 0
	_, err := newClient(t, config).Partitions(chronik.Name(t))
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Fatalf("found %v", err)
	}
}

func TestTopicCreatedByFirstUse(t *testing.T) {
	topic := chronik.Name(t)
	sent := messages(topic, 0, 1)
	produce(t, newProducer(t, newConfig()), sent)
	sameValues(t, sent, readFrom(t, newConfig(), topic, 0, 0, 1))
}

// The oldest versions of the protocol that sarama still speaks when it is told of an old broker.
func TestOldProtocolVersions(t *testing.T) {
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V2_0_0_0, sarama.V2_8_0_0} {
		t.Run(version.String(), func(t *testing.T) {
			topic := create(t, 1)
			config := newConfig()
			config.Version = version
			config.ApiVersionsRequest = false
			sent := messages(topic, 0, 10)
			produce(t, newProducer(t, config), sent)
			sameValues(t, sent, readFrom(t, config, topic, 0, 0, 10))
		})
	}
}
