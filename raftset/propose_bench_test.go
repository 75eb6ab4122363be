package raftset

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate"
)

// sink is a state machine that costs nothing but the call.
type sink struct {
	ledger
	commands atomic.Int64
}

func (s *sink) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	results := make([][]any, len(entries))
	for i, e := range entries {
		entry, err := s.decoder.Decode(e.Data)
		if err != nil {
			return nil, err
		}
		results[i] = make([]any, len(entry.Commands))
		s.commands.Add(int64(len(entry.Commands)))
	}
	return results, nil
}

// BenchmarkPropose measures a whole proposal, from call to result: batching,
// encoding, log, apply. The commands do not compress.
func BenchmarkPropose(b *testing.B) {
	for _, store := range []struct {
		name string
		logs LogStoreFactory
	}{{"memory", MemoryLogs()}, {"wal", WAL()}} {
		for _, callers := range []int{1, 8, 64} {
			for _, size := range []int{8 << 10, 20 << 10} {
				b.Run(fmt.Sprintf("log=%s/callers=%d/bytes=%d", store.name, callers, size), func(b *testing.B) {
					benchmarkPropose(b, store.logs, callers, size)
				})
			}
		}
	}
}

func benchmarkPropose(b *testing.B, logs LogStoreFactory, callers, size int) {
	h := newHost(b, HostConfig{Dir: b.TempDir(), LogStore: logs, SegmentBytes: defaultSegmentBytes})
	form(b, h, testSet)
	s := &sink{}
	g, err := h.Open(b.Context(), testSet, testReplica, s)
	if err != nil {
		b.Fatal(err)
	}
	awaitLeader(b, g)
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
			for left.Add(-1) >= 0 {
				if _, err := g.Propose(ctx, testKind, commands[i]); err != nil {
					errs <- err
					return
				}
				if left.Load()%4096 == 0 {
					// Bound the log in memory and the replay.
					if err := g.Flush(ctx); err != nil {
						errs <- err
						return
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
