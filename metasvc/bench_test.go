package metasvc

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// monthOfBuckets is what a node with one policy and the default retention has.
func monthOfBuckets(b *testing.B) *fakeLeader {
	leader := newCluster(b)
	for i := range int64(32) {
		leader.must(b, planOn(hours(24*i, 24*i+24), "n1"))
	}
	return leader
}

func BenchmarkMapBucket(b *testing.B) {
	m := mapOf(monthOfBuckets(b).machine.snapshot())
	for _, c := range []struct {
		name string
		day  int64
	}{{"current", 29}, {"previous", 28}, {"middle", 14}, {"oldest", 0}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			ts := c.day*24*hour + 1
			for b.Loop() {
				if m.Bucket(1, ts) == nil {
					b.Fatal("no bucket")
				}
			}
		})
	}
}

func BenchmarkClientTenant(b *testing.B) {
	leader := monthOfBuckets(b)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
		leader.must(b, CreateTenant{Name: names[i], Policy: 1})
	}
	c := openClient(b, leader, nil)
	confirmed(b, c)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, found, err := c.Tenant(b.Context(), names[i%len(names)]); !found || err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("missed", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			c.tenants.cache.Del(appendTenantKey(nil, c.Map().slots[tenantSlot(names[i%len(names)])], names[i%len(names)]))
			if _, found, err := c.Tenant(b.Context(), names[i%len(names)]); !found || err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

func BenchmarkMapCurrent(b *testing.B) {
	c := openClient(b, newCluster(b), nil)
	for b.Loop() {
		c.MapCurrent()
	}
}

// BenchmarkNewTenant is the whole way of a tenant but the log's: propose,
// apply, follow, publish, await.
func BenchmarkNewTenant(b *testing.B) {
	leader := monthOfBuckets(b)
	c := openClient(b, leader, func(cfg *ClientConfig) { cfg.MaxTenants = 1 << 30 })
	confirmed(b, c)
	i := 0
	for b.Loop() {
		if _, err := c.EnsureTenant(b.Context(), fmt.Sprintf("tenant-%d", i)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkSnapshot is of a state of 100,000 tenants.
func BenchmarkSnapshot(b *testing.B) {
	leader := monthOfBuckets(b)
	for batch := range 100 {
		var commands [][]byte
		for i := range 1000 {
			commands = append(commands, EncodeCommand(CreateTenant{Name: fmt.Sprintf("tenant-%d-%d", batch, i), Policy: 1}))
		}
		if _, err := leader.applyLocked(commands...); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("freeze", func(b *testing.B) {
		for b.Loop() {
			if _, err := leader.machine.Freeze(); err != nil {
				b.Fatal(err)
			}
		}
	})
	payload := persist(b, leader.machine)
	b.Run("persist", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			persist(b, leader.machine)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		for b.Loop() {
			if _, err := decodeState(payload, 1<<20); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkApply(b *testing.B) {
	leader := monthOfBuckets(b)
	index := leader.index
	var encoder wire.Encoder
	command := EncodeCommand(CreateTenant{Name: "acme", Policy: 1})
	var data []byte
	for b.Loop() {
		index++
		data = encoder.Append(data[:0], wire.KindMeta, command)
		if _, err := leader.machine.ApplyBatch([]quorate.LogEntry{{Index: index, Term: 1, Data: data}}); err != nil {
			b.Fatal(err)
		}
	}
}
