package franz

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	chronik "chronik/tests/clients"

	"github.com/twmb/franz-go/pkg/kgo"
)

// member is a consumer of a group, read by a goroutine of its own.
type member struct {
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}
	mutex  sync.Mutex
	share  map[int32]bool
}

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

func join(t *testing.T, group, topic string, read *values, options ...kgo.Opt) *member {
	m := &member{share: map[int32]bool{}, done: make(chan struct{})}
	change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range partitions[topic] {
				if to {
					m.share[partition] = true
				} else {
					delete(m.share, partition)
				}
			}
		}
	}
	m.client = newClient(t, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}, options...)...)
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	t.Cleanup(stop)
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			fetches := m.client.PollFetches(ctx)
			read.mutex.Lock()
			fetches.EachRecord(func(record *kgo.Record) { read.all = append(read.all, string(record.Value)) })
			read.mutex.Unlock()
		}
	}()
	return m
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.client.Close()
}

func (m *member) partitions() map[int32]bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return maps.Clone(m.share)
}

func waitForShares(t *testing.T, sizes []int, members ...*member) {
	t.Helper()
	chronik.Until(t, fmt.Sprintf("shares of %v", sizes), func() bool {
		var found []int
		all := map[int32]bool{}
		for _, m := range members {
			share := m.partitions()
			found = append(found, len(share))
			maps.Copy(all, share)
		}
		slices.Sort(found)
		total := 0
		for _, size := range sizes {
			total += size
		}
		return slices.Equal(found, sizes) && len(all) == total
	})
}

func commit(t *testing.T, members ...*member) {
	t.Helper()
	for _, m := range members {
		if err := m.client.CommitUncommittedOffsets(within(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGroupOfThree(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
	} {
		t.Run(name, func(t *testing.T) {
			topic := create(t, 6)
			read := &values{}
			producer := newClient(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
			produceAndRead := func(first, last int) {
				sent := records(topic, last)[first:]
				for i, record := range sent {
					record.Partition = int32(i % 6)
				}
				produce(t, producer, sent...)
				chronik.Until(t, fmt.Sprintf("%d records in all", last), func() bool { return read.count() >= last })
			}
			one := join(t, topic, topic, read, kgo.Balancers(balancer))
			two := join(t, topic, topic, read, kgo.Balancers(balancer))
			waitForShares(t, []int{3, 3}, one, two)
			produceAndRead(0, 60)
			commit(t, one, two)
			three := join(t, topic, topic, read, kgo.Balancers(balancer))
			waitForShares(t, []int{2, 2, 2}, one, two, three)
			produceAndRead(60, 120)
			commit(t, one, two, three)
			three.leave()
			waitForShares(t, []int{3, 3}, one, two)
			produceAndRead(120, 180)
			found := map[string]int{}
			for _, value := range read.all {
				found[value]++
			}
			if len(found) != 180 || len(read.all) != 180 {
				t.Fatalf("read %d records, %d of them different, of 180", len(read.all), len(found))
			}
		})
	}
}

func TestResumeFromCommits(t *testing.T) {
	topic := create(t, 1)
	sent := records(topic, 10)
	produce(t, newClient(t), sent...)
	options := []kgo.Opt{
		kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	first := newClient(t, options...)
	found := read(t, first, 4)
	sameValues(t, sent[:4], found)
	if err := first.CommitRecords(within(t), found...); err != nil {
		t.Fatal(err)
	}
	first.Close()
	sameValues(t, sent[4:], read(t, newClient(t, options...), 6))
}

func TestFirstMessageOfANewGroupComesSoon(t *testing.T) {
	topic := create(t, 1)
	produce(t, newClient(t), records(topic, 1)...)
	client := newClient(t, kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	before := time.Now()
	read(t, client, 1)
	// On an idle machine it is far below a second; a stock broker waits for three.
	if took := time.Since(before); took > 2500*time.Millisecond {
		t.Fatalf("took %v", took)
	}
}

func TestStaticMembership(t *testing.T) {
	topic := create(t, 2)
	read := &values{}
	one := join(t, topic, topic, read, kgo.InstanceID("one"))
	two := join(t, topic, topic, read, kgo.InstanceID("two"))
	waitForShares(t, []int{1, 1}, one, two)
	before := two.partitions()
	// A static member that closes does not leave, and gets its partition back when it returns.
	two.leave()
	two = join(t, topic, topic, read, kgo.InstanceID("two"))
	waitForShares(t, []int{1, 1}, one, two)
	if !maps.Equal(before, two.partitions()) {
		t.Fatalf("had %v, has %v", before, two.partitions())
	}
}
