package suitestore

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/promql"
	"github.com/quorate/quorate/tsdbshard"
)

// The suite on one shard, fed with log entries as Raft would feed it, without
// Raft, router and metadata around it: what fails here fails in the shard.
func TestAShardPassesTheUpstreamSuite(t *testing.T) {
	for name, flushEvery := range map[string]uint64{
		"from memory":           0,
		"from files and memory": 2, // most storages are loaded by one entry: every second lies in a file
	} {
		t.Run(name, func(t *testing.T) {
			s := newDirectShard(t, flushEvery)
			cases := RunSuite(t, Opener(Config{Append: s.Append, Queryable: s, FreshTenant: freshTenants()}))
			if cases != upstreamCases {
				t.Errorf("the suite has %d cases, want %d", cases, upstreamCases)
			}
		})
	}
}

// directShard is a shard whose log is whoever calls Append.
type directShard struct {
	shard      *tsdbshard.Shard
	flushEvery uint64 // entries; 0 is never

	mu      sync.Mutex
	index   uint64
	encoder wire.Encoder
}

var _ promql.Queryable = (*directShard)(nil)

func newDirectShard(t *testing.T, flushEvery uint64) *directShard {
	t.Helper()
	shard, err := tsdbshard.New(tsdbshard.Config{Dir: t.TempDir(), Set: 1})
	if err != nil {
		t.Fatal(err)
	}
	bounds := quorate.Bounds{Version: 1, Range: quorate.Forever, State: quorate.SetOpen}
	if err := shard.Open(t.Context(), tsdbshard.GenesisPayload(bounds), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shard.Close(); err != nil {
			t.Error(err)
		}
	})
	return &directShard{shard: shard, flushEvery: flushEvery, index: 1}
}

// Append makes one batch of the request, with every series defined again, and
// applies it as the next entry.
func (d *directShard) Append(ctx context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error) {
	batch, err := BatchOf(tenant, req)
	if err != nil {
		return wire.WriteResult{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index++
	entry := quorate.LogEntry{Index: d.index, Term: 1, Data: d.encoder.Append(nil, wire.KindWrite, batch.Append(nil))}
	results, err := d.shard.ApplyBatch([]quorate.LogEntry{entry})
	if err != nil {
		return wire.WriteResult{}, err
	}
	r, ok := results[0][0].(*wire.BatchResult)
	if !ok || r.Status != wire.BatchApplied {
		return wire.WriteResult{}, fmt.Errorf("entry %d: result %+v", d.index, results[0][0])
	}
	if d.flushEvery > 0 && d.index%d.flushEvery == 0 {
		err = d.flush(ctx)
	}
	return wire.WriteResult{Floats: r.Floats, Histograms: r.Histograms, Exemplars: r.Exemplars, Duplicates: r.Duplicates, Refused: r.Refused}, err
}

func (d *directShard) flush(ctx context.Context) error {
	frozen, err := d.shard.Freeze()
	if err != nil {
		return err
	}
	if _, err := frozen.Persist(ctx, d.index); err != nil {
		return err
	}
	frozen.Published()
	return nil
}

func (d *directShard) Querier(_ context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	view, err := d.shard.View()
	if err != nil {
		return nil, err
	}
	q, err := tsdb.NewBlockQuerier(view.Tenant(tenant), mint, maxt)
	if err != nil {
		view.Close()
		return nil, err
	}
	return &viewQuerier{q, view}, nil
}

// viewQuerier lets go of its view when it is closed.
type viewQuerier struct {
	storage.Querier
	view *tsdbshard.View
}

func (q *viewQuerier) Close() error {
	defer q.view.Close()
	return q.Querier.Close()
}

func (d *directShard) ChunkQuerier(context.Context, quorate.TenantID, int64, int64) (storage.ChunkQuerier, error) {
	return storage.NoopChunkedQuerier(), nil // the suite asks for samples only
}

func (d *directShard) ExemplarQuerier(context.Context, quorate.TenantID) (storage.ExemplarQuerier, error) {
	return modelExemplars(nil), nil
}

func (d *directShard) Metadata(context.Context, quorate.TenantID, string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	return map[string]metadata.Metadata{}, nil, nil
}

func (d *directShard) Stats(context.Context, quorate.TenantID, string, int) (*tsdb.Stats, annotations.Annotations, error) {
	return &tsdb.Stats{}, nil, nil
}
