package engine

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	tenant quorate.TenantID     = 1
	set    quorate.ReplicaSetID = 7
)

// shard is Quorate's engine: one shard, given log entries as Raft would.
type shard struct {
	dir     string
	shard   *tsdbshard.Shard
	view    *tsdbshard.View
	sealed  *tsdbshard.Sealed
	sight   *tsdbshard.SealedView
	index   uint64
	bounds  quorate.TimeRange
	entries []quorate.LogEntry // of the present round
	encoder wire.Encoder
}

func newShard(ctx context.Context, dir string, w *workload) (engine, error) {
	s := &shard{dir: dir, index: 1, bounds: quorate.TimeRange{Start: start, End: w.last()}}
	var err error
	if s.shard, err = tsdbshard.New(s.config()); err != nil {
		return nil, err
	}
	bounds := quorate.Bounds{Version: 1, Range: s.bounds, State: quorate.SetOpen}
	if err := s.shard.Open(ctx, tsdbshard.GenesisPayload(bounds), s.index); err != nil {
		return nil, err
	}
	return s, nil
}

// definedBytes returns the length of a delta block that defines the series and
// has no samples: what is not samples in the other.
func definedBytes(ctx context.Context, dir string, w *workload) (int64, error) {
	e, err := newShard(ctx, dir, w)
	if err != nil {
		return 0, err
	}
	s := e.(*shard)
	for from := 0; from < w.cfg.Series; from += samplesPerEntry {
		var b wire.Batch
		b.Reset(tenant, 1)
		for i := from; i < min(from+samplesPerEntry, w.cfg.Series); i++ {
			b.Definitions = append(b.Definitions, canonicalOf(i))
		}
		s.index++
		entry := quorate.LogEntry{Index: s.index, Data: s.encoder.Append(nil, wire.KindWrite, b.Append(nil))}
		if _, err := s.shard.ApplyBatch([]quorate.LogEntry{entry}); err != nil { //nolint:contextcheck // applying takes none
			return 0, err
		}
	}
	if err := s.flush(ctx); err != nil {
		return 0, err
	}
	bytes, err := bytesIn(s.config().Dir)
	if err != nil {
		return 0, err
	}
	return bytes, s.close()
}

// canonicalOf returns a series' labels as log entries have them.
func canonicalOf(series int) (canonical []byte) {
	for _, l := range labelsOf(series) {
		canonical = wire.AppendLabel(canonical, l.Name, l.Value)
	}
	return canonical
}

func (s *shard) config() tsdbshard.Config {
	return tsdbshard.Config{Dir: filepath.Join(s.dir, "shard"), Set: set}
}

// prepare encodes the entries of a round: by definitions in the first, by refs
// in the others.
func (s *shard) prepare(w *workload) {
	s.entries = s.entries[:0]
	for from := 0; from < w.cfg.Series; from += samplesPerEntry {
		var b wire.Batch
		b.Reset(tenant, 1)
		for i := from; i < min(from+samplesPerEntry, w.cfg.Series); i++ {
			if w.round == 0 {
				b.Series = append(b.Series, wire.ByDefinition(len(b.Definitions)))
				b.Definitions = append(b.Definitions, canonicalOf(i))
			} else {
				b.Series = append(b.Series, wire.ByRef(wire.SeriesRef(i)))
			}
			b.Timestamps = append(b.Timestamps, w.time(i))
			b.Values = append(b.Values, w.values[i])
		}
		s.index++
		s.entries = append(s.entries, quorate.LogEntry{Index: s.index, Data: s.encoder.Append(nil, wire.KindWrite, b.Append(nil))})
	}
}

func (s *shard) apply(context.Context, *workload) error {
	for i := range s.entries {
		results, err := s.shard.ApplyBatch(s.entries[i : i+1]) //nolint:contextcheck // applying takes none
		if err != nil {
			return err
		}
		if r, ok := results[0][0].(*wire.BatchResult); !ok || r.Floats == 0 {
			return fmt.Errorf("entry %d stored nothing: %+v", s.entries[i].Index, results[0][0])
		}
	}
	clear(s.entries) // not to be counted as the engine's memory
	return nil
}

// flush makes the samples a delta block, as a snapshot does.
func (s *shard) flush(ctx context.Context) error {
	f, err := s.shard.Freeze()
	if err != nil {
		return err
	}
	if _, err = f.Persist(ctx, s.index); err != nil {
		return err
	}
	f.Published()
	return nil
}

// seal seals the shard and makes its canonical block, which is read back.
func (s *shard) seal(ctx context.Context) error {
	s.index++
	var command wire.Seal
	entry := quorate.LogEntry{Index: s.index, Data: s.encoder.Append(nil, wire.KindSeal, command.Append(nil))}
	if _, err := s.shard.ApplyBatch([]quorate.LogEntry{entry}); err != nil { //nolint:contextcheck // applying takes none
		return err
	}
	v, err := s.shard.View()
	if err != nil {
		return err
	}
	defer v.Close()
	cfg := s.config()
	file, err := tsdbshard.WriteCanonical(ctx, tsdbshard.Sources{View: v, Seal: command}, cfg, s.index)
	if err != nil {
		return err
	}
	if s.sealed, err = tsdbshard.OpenSealed(cfg, s.index, s.bounds, file); err != nil {
		return err
	}
	s.sight, err = s.sealed.View(nil)
	return err
}

func (s *shard) memory() (tsdb.BlockReader, error) {
	if err := s.release(); err != nil {
		return nil, err
	}
	var err error
	if s.view, err = s.shard.View(); err != nil {
		return nil, err
	}
	return s.view.Tenant(tenant), nil
}

func (s *shard) block() (tsdb.BlockReader, error) {
	return s.sight.Tenant(tenant), nil
}

// release closes the view that memory gave.
func (s *shard) release() error {
	if s.view != nil {
		s.view.Close()
		s.view = nil
	}
	return nil
}

func (s *shard) close() error {
	if s.sight != nil {
		s.sight.Close()
	}
	if s.sealed != nil {
		if err := s.sealed.Close(); err != nil {
			return err
		}
	}
	if err := s.release(); err != nil {
		return err
	}
	return s.shard.Close()
}
