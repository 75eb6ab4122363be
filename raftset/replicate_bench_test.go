package raftset

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// BenchmarkReplicate measures proposals to a set of three voters in one process:
// all but the wire and the disks' independence. The commands do not compress.
func BenchmarkReplicate(b *testing.B) {
	for _, store := range []struct {
		name string
		logs func() LogStoreFactory
	}{{"memory", MemoryLogs}, {"wal", WAL}} {
		for _, callers := range []int{1, 8, 64} {
			for _, size := range []int{8 << 10, 64 << 10} {
				b.Run(fmt.Sprintf("log=%s/callers=%d/bytes=%d", store.name, callers, size), func(b *testing.B) {
					benchmarkReplicate(b, store.logs, callers, size)
				})
			}
		}
	}
}

func benchmarkReplicate(b *testing.B, logs func() LogStoreFactory, callers, size int) {
	c := newCluster(b, func(_ *node, cfg *HostConfig) { cfg.LogStore, cfg.SegmentBytes = logs(), defaultSegmentBytes })
	for _, n := range c.nodes {
		closeGroup(b, n.group)
		g, err := n.host.Open(b.Context(), testSet, n.member.Replica, &sink{})
		if err != nil {
			b.Fatal(err)
		}
		n.group = g
	}
	leader := c.leader(b)
	random := rand.NewChaCha8([32]byte{})
	commands := make([][]byte, callers)
	for i := range commands {
		commands[i] = make([]byte, size)
		if _, err := random.Read(commands[i]); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.WithoutCancel(b.Context())
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, callers)
	for i := range callers {
		go func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				if _, err := leader.group.Propose(ctx, testKind, commands[i]); err != nil {
					errs <- err
					return
				}
				if n%1024 == 0 {
					for _, m := range c.nodes {
						// A flush under way elsewhere does as well.
						_ = m.group.Flush(ctx)
					}
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConfirmRead measures a confirmed read of a set of three voters, by
// how many ask at once.
func BenchmarkConfirmRead(b *testing.B) {
	for _, by := range []string{"round", "lease"} {
		for _, readers := range []int{1, 64} {
			b.Run(fmt.Sprintf("by=%s/readers=%d", by, readers), func(b *testing.B) {
				benchmarkConfirmRead(b, by == "lease", readers)
			})
		}
	}
}

func benchmarkConfirmRead(b *testing.B, lease bool, readers int) {
	c := newCluster(b, func(_ *node, cfg *HostConfig) { cfg.LogStore, cfg.ReadLease = MemoryLogs(), lease })
	leader := c.leader(b)
	if lease {
		awaitLease(b, leader)
	}
	ctx := context.WithoutCancel(b.Context())
	rounds := c.network.count(askTerms)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, readers)
	for range readers {
		go func() {
			for left.Add(-1) >= 0 {
				if _, err := leader.group.ConfirmRead(ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range readers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(c.network.count(askTerms)-rounds)/float64(b.N), "messages/op")
}
