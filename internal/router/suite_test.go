package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/suitestore"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/promql"
	"github.com/quorate/quorate/tsdbshard"
)

// upstreamCases is how many cases the suite of the pinned Prometheus has.
const upstreamCases = 2243

// The suite on what a query pins of one shard, for each way in which a shard may
// hold its samples, on this node and on another.
func TestShardsPassTheUpstreamSuite(t *testing.T) {
	for name, way := range map[string]suiteWay{
		"in a sealed file":                          {},
		"in a sealed file and the overlay over it":  {late: true},
		"in the file that an overlay was sealed to": {late: true, merged: true},
		"in a sealed file some of which is deleted": {deleted: true},
		"elsewhere, in an open shard":               {remote: true, open: true},
		"elsewhere, in two layers":                  {remote: true, late: true},
		"elsewhere, some of it deleted":             {remote: true, deleted: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSuiteStore(t, way)
			var last quorate.TenantID
			cases := suitestore.RunSuite(t, suitestore.Opener(suitestore.Config{Append: s.Append, Queryable: s, FreshTenant: func() quorate.TenantID {
				s.mu.Lock()
				defer s.mu.Unlock()
				last++
				return last
			}}))
			if cases != upstreamCases {
				t.Errorf("the suite has %d cases, want %d", cases, upstreamCases)
			}
		})
	}
}

// suiteWay says where a tenant's samples are when they are read.
type suiteWay struct {
	late    bool // every second sample came when the others were sealed
	merged  bool // and the overlay was sealed as well
	deleted bool // the file has more series, and a deletion of them
	open    bool // the shard is not sealed
	remote  bool // all of it is on another node
}

// suiteStore keeps each tenant in a set of its own, built of all that was
// appended when it is first read after an append.
type suiteStore struct {
	t   *testing.T
	way suiteWay

	// front asks and home has the views, where the way is remote.
	front, home *Router

	mu      sync.Mutex
	sets    quorate.ReplicaSetID // the last one's number
	tenants map[quorate.TenantID]*suiteTenant
}

func newSuiteStore(t *testing.T, way suiteWay) *suiteStore {
	t.Helper()
	s := &suiteStore{t: t, way: way, tenants: map[quorate.TenantID]*suiteTenant{}}
	n := newNetwork(t)
	for i, r := range []**Router{&s.front, &s.home} {
		node := quorate.NodeID{Name: fmt.Sprint("n", i+1), Incarnation: quorate.NewIncarnation()}
		p := n.port(node)
		*r = New(Config{Self: node, Peers: p})
		(*r).Register(p)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.front.Close(), s.home.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// layer returns a view as a query has it.
func (s *suiteStore) layer(p *pinned, view View) (layer, error) {
	if !s.way.remote {
		return localLayer{view}, nil
	}
	id, err := s.home.served.add(view, s.front.self)
	if err != nil {
		return nil, err
	}
	p.addStream(func() { s.home.served.end(id) })
	return &remoteLayer{router: s.front, node: s.home.self, view: id, left: &p.remoteBytes}, nil
}

type suiteTenant struct {
	requests []*wire.Batch
	built    bool
	base     *tsdbshard.Sealed
	open     *tsdbshard.Shard // in place of base
	overlay  *tsdbshard.Shard // nil without
}

var _ promql.Queryable = (*suiteStore)(nil)

func (s *suiteStore) Append(_ context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error) {
	b, err := suitestore.BatchOf(tenant, req)
	if err != nil {
		return wire.WriteResult{}, err
	}
	var kept wire.Batch // the request's memory is the caller's again
	if err := kept.Decode(b.Append(nil)); err != nil {
		return wire.WriteResult{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[tenant]
	if t == nil {
		t = &suiteTenant{}
		s.tenants[tenant] = t
	}
	t.requests, t.built = append(t.requests, &kept), false
	return wire.WriteResult{Floats: len(req.Values), Histograms: len(req.Histograms), Exemplars: len(req.Exemplars)}, nil
}

// suiteLog feeds a shard as its Raft group would.
type suiteLog struct {
	t       *testing.T
	cfg     tsdbshard.Config
	shard   *tsdbshard.Shard
	index   uint64
	encoder wire.Encoder
}

func (s *suiteStore) newLog(ctx context.Context) (*suiteLog, error) {
	s.sets++
	cfg := tsdbshard.Config{Dir: filepath.Join(s.t.TempDir(), fmt.Sprint(s.sets)), Set: s.sets}
	shard, err := tsdbshard.New(cfg)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() {
		if err := shard.Close(); err != nil {
			s.t.Error(err)
		}
	})
	bounds := quorate.Bounds{Version: 1, Range: quorate.Forever, State: quorate.SetOpen}
	return &suiteLog{t: s.t, cfg: cfg, shard: shard, index: 1}, shard.Open(ctx, tsdbshard.GenesisPayload(bounds), 1)
}

func (l *suiteLog) apply(kind wire.Kind, command []byte) error {
	l.index++
	results, err := l.shard.ApplyBatch([]quorate.LogEntry{{Index: l.index, Term: 1, Data: l.encoder.Append(nil, kind, command)}})
	if err != nil {
		return err
	}
	if r, ok := results[0][0].(*wire.BatchResult); ok && (r.Status != wire.BatchApplied || r.Refused > 0) {
		return fmt.Errorf("entry %d: result %+v", l.index, r)
	}
	return nil
}

// seal makes the sealed file of what was applied.
func (l *suiteLog) seal(ctx context.Context, base *tsdbshard.Sealed) (*tsdbshard.Sealed, error) {
	seal := wire.Seal{Intent: 1}
	if err := l.apply(wire.KindSeal, seal.Append(nil)); err != nil {
		return nil, err
	}
	view, err := l.shard.View()
	if err != nil {
		return nil, err
	}
	defer view.Close()
	file, err := tsdbshard.WriteCanonical(ctx, tsdbshard.Sources{View: view, Base: base, Seal: seal}, l.cfg, l.index)
	if err != nil {
		return nil, err
	}
	sealed, err := tsdbshard.OpenSealed(l.cfg, l.index, quorate.Forever, file)
	if err == nil {
		l.t.Cleanup(func() {
			if err := sealed.Close(); err != nil {
				l.t.Error(err)
			}
		})
	}
	return sealed, err
}

// build makes the sets of a tenant of all its requests.
func (s *suiteStore) build(ctx context.Context, t *suiteTenant) error {
	below, err := s.newLog(ctx)
	if err != nil {
		return err
	}
	above, err := s.newLog(ctx)
	if err != nil {
		return err
	}
	for _, b := range t.requests {
		for log, part := range map[*suiteLog]*wire.Batch{below: s.part(b, false), above: s.part(b, true)} {
			if err := log.apply(wire.KindWrite, part.Append(nil)); err != nil {
				return err
			}
		}
	}
	if s.way.open {
		t.open, t.built = below.shard, true
		return nil
	}
	t.overlay = nil
	if t.base, err = below.seal(ctx, nil); err != nil {
		return err
	}
	switch {
	case s.way.merged:
		t.base, err = above.seal(ctx, t.base)
	case s.way.late:
		t.overlay = above.shard
	}
	t.built = true
	return err
}

// part returns the rows of a batch that come to the base, or to the overlay:
// where there are late ones, each second float to either, and to the overlay
// also another value for each float of the base, which is not to be read.
// Histograms go by series: of two layers nobody knows whether a counter was
// reset between them, and some cases ask for that (see layers_test.go).
func (s *suiteStore) part(b *wire.Batch, late bool) *wire.Batch {
	p := &wire.Batch{Tenant: b.Tenant, Version: b.Version, Definitions: b.Definitions, Metadata: b.Metadata}
	mine := func(row int) bool { return !s.way.late && !late || s.way.late && late == (row%2 == 1) }
	for i, name := range b.Series {
		value := b.Values[i]
		if !mine(i) {
			if !late || !s.way.late {
				continue
			}
			value = value*2 + 1
		}
		p.Series, p.Timestamps, p.Values = append(p.Series, name), append(p.Timestamps, b.Timestamps[i]), append(p.Values, value)
		if len(b.StartTimestamps) > 0 {
			p.StartTimestamps = append(p.StartTimestamps, b.StartTimestamps[i])
		}
	}
	for i, name := range b.HistogramSeries {
		if series, _ := name.Definition(); !mine(series) {
			continue
		}
		p.HistogramSeries, p.HistogramTimestamps = append(p.HistogramSeries, name), append(p.HistogramTimestamps, b.HistogramTimestamps[i])
		p.Histograms = append(p.Histograms, b.Histograms[i])
		if len(b.HistogramStartTimestamps) > 0 {
			p.HistogramStartTimestamps = append(p.HistogramStartTimestamps, b.HistogramStartTimestamps[i])
		}
	}
	if s.way.deleted && !late {
		addDeleted(p)
	}
	return p
}

// deletedLabel is one that the series to be deleted have; it stands last.
const deletedLabel = "\U0010FFFF"

// addDeleted adds to each series one with the same samples and a label more.
func addDeleted(p *wire.Batch) {
	n := len(p.Definitions)
	p.Definitions = slices.Clone(p.Definitions)
	for _, canonical := range p.Definitions[:n] {
		p.Definitions = append(p.Definitions, wire.AppendLabel(slices.Clone(canonical), deletedLabel, "x"))
	}
	twice := func(names []wire.RowSeries) []wire.RowSeries {
		for _, name := range names[:len(names):len(names)] {
			at, _ := name.Definition()
			names = append(names, wire.ByDefinition(n+at))
		}
		return names
	}
	p.Series, p.HistogramSeries = twice(p.Series), twice(p.HistogramSeries)
	p.Timestamps, p.Values = slices.Repeat(p.Timestamps, 2), slices.Repeat(p.Values, 2)
	p.StartTimestamps, p.HistogramStartTimestamps = slices.Repeat(p.StartTimestamps, 2), slices.Repeat(p.HistogramStartTimestamps, 2)
	p.HistogramTimestamps, p.Histograms = slices.Repeat(p.HistogramTimestamps, 2), slices.Repeat(p.Histograms, 2)
}

// deletions are that of the series that addDeleted adds.
func (s *suiteStore) deletions(tenant quorate.TenantID) []wire.NumberedDeletion {
	if !s.way.deleted {
		return nil
	}
	return []wire.NumberedDeletion{{ID: 1, Deletion: wire.Deletion{
		Tenant: tenant, MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, deletedLabel, "x")},
	}}}
}

// Querier reads what a query pins of the tenant's shard.
func (s *suiteStore) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[tenant]
	if t == nil {
		return storage.NoopQuerier(), nil
	}
	if !t.built {
		if err := s.build(ctx, t); err != nil {
			return nil, err
		}
	}
	p := &pinned{shards: make([]pinnedShard, 1)}
	p.remoteBytes.Store(1 << 30)
	shard := &p.shards[0]
	shard.oldest = -1 << 62
	var base View
	var err error
	if s.way.open {
		base, err = t.open.View()
	} else {
		base, err = t.base.View(s.deletions(tenant))
	}
	if err != nil {
		return nil, err
	}
	if shard.base, err = s.layer(p, base); err != nil {
		return nil, err
	}
	if t.overlay != nil {
		overlay, err := t.overlay.View()
		if err != nil {
			return nil, err
		}
		if shard.overlay, err = s.layer(p, overlay); err != nil {
			return nil, err
		}
	}
	q, err := shard.querier(tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	return &querier{Querier: q, pinned: p}, nil
}

func (s *suiteStore) ChunkQuerier(context.Context, quorate.TenantID, int64, int64) (storage.ChunkQuerier, error) {
	return storage.NoopChunkedQuerier(), nil // the suite asks for samples only
}

func (s *suiteStore) ExemplarQuerier(context.Context, quorate.TenantID) (storage.ExemplarQuerier, error) {
	return nil, fmt.Errorf("the suite asks for no exemplars")
}

func (s *suiteStore) Metadata(context.Context, quorate.TenantID, string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	return nil, nil, fmt.Errorf("the suite asks for no metadata")
}

func (s *suiteStore) Stats(context.Context, quorate.TenantID, string, int) (*tsdb.Stats, annotations.Annotations, error) {
	return nil, nil, fmt.Errorf("the suite asks for no statistics")
}
