package block

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// memFile is a file in memory that counts how often it is closed and read.
type memFile struct {
	bytes.Buffer // only what it is created from
	data         []byte
	closed       atomic.Int32
	reads        atomic.Int64
	readBytes    atomic.Int64
	fail         func(offset int64) error // may be nil
}

var _ durable.File = (*memFile)(nil)

func fileOf(data []byte) *memFile { return &memFile{data: data} }

func (f *memFile) ReadAt(b []byte, offset int64) (int, error) {
	f.reads.Add(1)
	f.readBytes.Add(int64(len(b)))
	if f.fail != nil {
		if err := f.fail(offset); err != nil {
			return 0, err
		}
	}
	if f.closed.Load() > 0 {
		return 0, fs.ErrClosed
	}
	if offset < 0 || offset > int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Close() error {
	if f.closed.Add(1) > 1 {
		return fs.ErrClosed
	}
	return nil
}

func (f *memFile) Sync() error                { return nil }
func (f *memFile) Stat() (fs.FileInfo, error) { return memInfo{size: int64(len(f.data))}, nil }

type memInfo struct{ size int64 }

func (memInfo) Name() string       { return "test" }
func (i memInfo) Size() int64      { return i.size }
func (memInfo) Mode() fs.FileMode  { return 0o600 }
func (memInfo) ModTime() time.Time { return time.Time{} }
func (memInfo) IsDir() bool        { return false }
func (memInfo) Sys() any           { return nil }

var errDisk = errors.New("input/output error")

// failingWriter fails at its n-th write.
type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left == 0 {
		return 0, errDisk
	}
	w.left--
	return len(b), nil
}

// modelSeries is a series as a test knows it.
type modelSeries struct {
	tenant    quorate.TenantID
	labels    labels.Labels
	canonical []byte
	samples   []chunk.Sample
	chunks    []chunk.Chunk
	newest    Newest
	exemplars []Exemplar
}

type modelMetadata struct {
	tenant quorate.TenantID
	wire.Metadata
}

// model is what a block is to hold: series by tenant and labels.
type model struct {
	series   []*modelSeries
	metadata []modelMetadata
}

// modelConfig bounds a random model.
type modelConfig struct {
	tenants, series, samples int
	start                    int64
}

const testStart = 1_770_000_000_000

func newModel(tb testing.TB, seed uint64, cfg modelConfig) *model {
	tb.Helper()
	chance := rand.New(rand.NewPCG(seed, 1))
	m := &model{}
	for range cfg.tenants {
		tenant := quorate.TenantID(1 + chance.IntN(4*cfg.tenants))
		if slices.ContainsFunc(m.series, func(s *modelSeries) bool { return s.tenant == tenant }) {
			continue
		}
		m.addTenant(tb, chance, tenant, cfg)
	}
	slices.SortFunc(m.series, func(a, b *modelSeries) int {
		if a.tenant != b.tenant {
			return int(a.tenant) - int(b.tenant)
		}
		return labels.Compare(a.labels, b.labels)
	})
	slices.SortFunc(m.metadata, func(a, b modelMetadata) int {
		if a.tenant != b.tenant {
			return int(a.tenant) - int(b.tenant)
		}
		return bytes.Compare([]byte(a.Family), []byte(b.Family))
	})
	return m
}

func (m *model) addTenant(tb testing.TB, chance *rand.Rand, tenant quorate.TenantID, cfg modelConfig) {
	tb.Helper()
	seen := make(map[string]bool)
	for range chance.IntN(cfg.series + 1) {
		lset := randomLabels(chance)
		if seen[lset.String()] {
			continue
		}
		seen[lset.String()] = true
		s := &modelSeries{tenant: tenant, labels: lset, canonical: canonicalOf(lset)}
		s.samples = randomSamples(chance, cfg.start, chance.IntN(cfg.samples+1))
		var err error
		s.chunks, err = chunk.AppendChunks(nil, s.samples)
		require.NoError(tb, err)
		if n := len(s.samples); n > 0 && chance.IntN(4) > 0 {
			last := s.samples[n-1]
			s.newest = Newest{Kind: newestFloat, Time: last.T, Bits: math.Float64bits(last.V), Start: last.ST}
			if last.H != nil || last.FH != nil {
				s.newest.Kind, s.newest.Bits = newestHistogram, chance.Uint64()
			}
		} else if n == 0 && chance.IntN(2) == 0 {
			s.newest = Newest{Kind: newestFloat, Time: cfg.start - 5, Bits: math.Float64bits(math.Pi)}
		}
		if chance.IntN(3) == 0 {
			s.exemplars = randomExemplars(chance, cfg.start)
		}
		m.series = append(m.series, s)
	}
	for i := range chance.IntN(4) {
		m.metadata = append(m.metadata, modelMetadata{tenant, wire.Metadata{Family: fmt.Sprintf("family_%d", i), Type: "counter", Unit: "s", Help: "Hilfe ü."}})
	}
}

func randomLabels(chance *rand.Rand) labels.Labels {
	b := labels.NewScratchBuilder(4)
	b.Add("__name__", []string{"up", "http_requests_total", "naïve_λ", "z"}[chance.IntN(4)])
	if chance.IntN(8) > 0 {
		b.Add("instance", fmt.Sprintf("10.0.0.%d:9090", chance.IntN(40)))
	}
	if chance.IntN(2) > 0 {
		b.Add("job", []string{"a", "ab", "b", "日本"}[chance.IntN(4)])
	}
	if chance.IntN(20) == 0 {
		b.Add("Upper", "sorts before __name__")
	}
	if chance.IntN(5) == 0 {
		b.Add("pfad λ", fmt.Sprint(chance.IntN(3)))
	}
	if chance.IntN(30) == 0 {
		b.Add("long", string(bytes.Repeat([]byte{'x'}, 300+chance.IntN(5000))))
	}
	b.Sort()
	return b.Labels()
}

func canonicalOf(lset labels.Labels) []byte {
	var b []byte
	lset.Range(func(l labels.Label) { b = wire.AppendLabel(b, l.Name, l.Value) })
	return b
}

func randomSamples(chance *rand.Rand, start int64, n int) []chunk.Sample {
	var samples []chunk.Sample
	t := start + int64(chance.IntN(15_000))
	kind, started := chance.IntN(6), chance.IntN(4) == 0
	irregular := chance.IntN(3) == 0
	for i := range n {
		s := chunk.Sample{T: t}
		switch kind {
		case 0:
			s.H = tsdbutil.GenerateTestHistogram(int64(i))
			s.H.CounterResetHint = histogram.UnknownCounterReset
		case 1:
			s.FH = tsdbutil.GenerateTestFloatHistogram(int64(i))
			s.FH.CounterResetHint = histogram.UnknownCounterReset
		case 2:
			s.V = chance.NormFloat64()
		default:
			s.V = float64(i * 3)
		}
		// A real head makes a stale marker after a histogram one.
		if kind > 1 && chance.IntN(50) == 0 && i > 0 && samples[i-1].H == nil && samples[i-1].FH == nil {
			s.V = math.Float64frombits(value.StaleNaN)
		}
		if started {
			s.ST = start - 1000
		}
		samples = append(samples, s)
		t += 15_000
		if irregular {
			t += int64(chance.IntN(2000)) - 1000
		}
		if chance.IntN(100) == 0 {
			kind = chance.IntN(6)
		}
	}
	return samples
}

func randomExemplars(chance *rand.Rand, start int64) []Exemplar {
	var list []Exemplar
	for range 1 + chance.IntN(5) {
		e := Exemplar{T: start + int64(chance.IntN(100_000)), Bits: math.Float64bits(chance.Float64())}
		if chance.IntN(4) > 0 {
			e.Labels = wire.AppendLabel(nil, "trace_id", fmt.Sprintf("%016x", chance.Uint64()))
		}
		list = append(list, e)
	}
	slices.SortFunc(list, Exemplar.Compare)
	return slices.CompactFunc(list, func(a, b Exemplar) bool { return a.Compare(b) == 0 })
}
