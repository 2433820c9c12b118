package sarama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	chronik "chronik/tests/clients"

	"github.com/IBM/sarama"
)

// values collects what the members of a group have read.
type values struct {
	mutex sync.Mutex
	all   []string
}

func (v *values) count() int {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	return len(v.all)
}

// member is a consumer of a group; it commits each message as soon as it is read.
type member struct {
	group sarama.ConsumerGroup
	read  *values
	stop  context.CancelFunc
	done  chan struct{}
	mutex sync.Mutex
	share []int32
}

func join(t *testing.T, group, topic string, read *values, config *sarama.Config) *member {
	t.Helper()
	consumers, err := sarama.NewConsumerGroup([]string{chronik.Bootstrap(t)}, group, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{group: consumers, read: read, stop: stop, done: make(chan struct{})}
	t.Cleanup(m.leave)
	go func() {
		for range consumers.Errors() {
		}
	}()
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := consumers.Consume(ctx, []string{topic}, m); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}()
	return m
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, partitions := range session.Claims() {
		m.share = slices.Clone(partitions)
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.share = nil
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.read.mutex.Lock()
		m.read.all = append(m.read.all, string(message.Value))
		m.read.mutex.Unlock()
		session.MarkMessage(message, "")
		session.Commit()
	}
	return nil
}

func (m *member) leave() {
	m.stop()
	_ = m.group.Close()
	<-m.done
}

func (m *member) partitions() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return slices.Clone(m.share)
}

func waitForShares(t *testing.T, sizes []int, members ...*member) {
	t.Helper()
	chronik.Until(t, fmt.Sprintf("shares of %v", sizes), func() bool {
		var found []int
		all := map[int32]bool{}
		total := 0
		for i, m := range members {
			share := m.partitions()
			found = append(found, len(share))
			total += sizes[i]
			for _, partition := range share {
				all[partition] = true
			}
		}
		slices.Sort(found)
		return slices.Equal(found, sizes) && len(all) == total
	})
}

func TestGroupOfThree(t *testing.T) {
	for _, strategy := range []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyRange(), sarama.NewBalanceStrategyRoundRobin(), sarama.NewBalanceStrategySticky(),
	} {
		t.Run(strategy.Name(), func(t *testing.T) {
			topic := create(t, 6)
			config := newConfig()
			config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
			read := &values{}
			producer := newProducer(t, newConfig())
			produceAndRead := func(first, last int) {
				sent := messages(topic, first, last)
				for i, message := range sent {
					message.Partition = int32(i % 6)
				}
				produce(t, producer, sent)
				chronik.Until(t, fmt.Sprintf("%d messages in all", last), func() bool { return read.count() >= last })
			}
			one := join(t, topic, topic, read, config)
			two := join(t, topic, topic, read, config)
			waitForShares(t, []int{3, 3}, one, two)
			produceAndRead(0, 60)
			three := join(t, topic, topic, read, config)
			waitForShares(t, []int{2, 2, 2}, one, two, three)
			produceAndRead(60, 120)
			three.leave()
			waitForShares(t, []int{3, 3}, one, two)
			produceAndRead(120, 180)
			found := map[string]bool{}
			for _, value := range read.all {
				found[value] = true
			}
			if len(found) != 180 || len(read.all) != 180 {
				t.Fatalf("read %d messages, %d of them different, of 180", len(read.all), len(found))
			}
		})
	}
}

func TestResumeFromCommits(t *testing.T) {
	topic := create(t, 1)
	produce(t, newProducer(t, newConfig()), messages(topic, 0, 4))
	read := &values{}
	first := join(t, topic, topic, read, newConfig())
	chronik.Until(t, "four messages", func() bool { return read.count() == 4 })
	first.leave()
	produce(t, newProducer(t, newConfig()), messages(topic, 4, 10))
	join(t, topic, topic, read, newConfig())
	chronik.Until(t, "ten messages", func() bool { return read.count() >= 10 })
	for i, value := range read.all {
		if value != fmt.Sprint(i) {
			t.Fatalf("read %v", read.all)
		}
	}
}

func TestStaticMembership(t *testing.T) {
	topic := create(t, 2)
	read := &values{}
	as := func(instance string) *sarama.Config {
		config := newConfig()
		config.Consumer.Group.InstanceId = instance
		return config
	}
	one := join(t, topic, topic, read, as("one"))
	two := join(t, topic, topic, read, as("two"))
	waitForShares(t, []int{1, 1}, one, two)
	before := two.partitions()
	// A static member that closes does not leave, and gets its partition back when it returns.
	two.leave()
	two = join(t, topic, topic, read, as("two"))
	waitForShares(t, []int{1, 1}, one, two)
	if !slices.Equal(before, two.partitions()) {
		t.Fatalf("had %v, has %v", before, two.partitions())
	}
	admin := newAdmin(t)
	described, err := admin.DescribeConsumerGroups([]string{topic})
	if err != nil {
		t.Fatal(err)
	}
	instances := map[string]bool{}
	for _, m := range described[0].Members {
		instances[*m.GroupInstanceId] = true
	}
	if !maps.Equal(instances, map[string]bool{"one": true, "two": true}) {
		t.Fatalf("members %v", instances)
	}
	if _, err := admin.RemoveMemberFromConsumerGroup(topic, []string{"two"}); err != nil {
		t.Fatal(err)
	}
}
