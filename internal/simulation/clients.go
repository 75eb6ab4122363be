package simulation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	testTenant quorate.TenantID = 1
	// tickMillis is between two timestamps of a series.
	tickMillis = 1000
	// callTimeout is how long a client waits for one answer.
	callTimeout = 2 * time.Second
	// maxTicks is how many samples of each of its series a batch may have.
	maxTicks = 4
	// maxAttempts is how often a batch is offered before its writer leaves its
	// outcome unknown.
	maxAttempts = 12
)

func genesisBounds() quorate.Bounds {
	return quorate.Bounds{Version: 1, Range: quorate.TimeRange{Start: 0, End: math.MaxInt64 / 2}, State: quorate.SetOpen}
}

// valueOf is the value of a series' sample: no other sample of a run has it.
func valueOf(series int, t int64) float64 { return float64(series)*1e12 + float64(t) }

func labelsOf(series int) []byte {
	b := wire.AppendLabel[string](nil, labels.MetricName, "simulated")
	return wire.AppendLabel(b, "series", strconv.Itoa(series))
}

// writer writes batches of samples of its own series, one batch after another.
type writer struct {
	sim    *simulation
	chance *chance
	series []int
	refs   map[int]wire.SeriesRef
	tick   int64
	// target is whom it takes for the leader.
	target *node
}

func (w *writer) run(ctx context.Context) {
	for pause(ctx, w.chance.between(0, 2*w.sim.cfg.writeEvery())) {
		w.write(ctx)
	}
}

// write sends one batch until it is acknowledged, or its writer loses patience.
func (w *writer) write(ctx context.Context) {
	s := w.sim
	batch, samples := w.next()
	command := batch.Append(nil)
	for series, of := range samples {
		for _, sample := range of {
			s.history.Send(series, sample)
		}
	}
	// A batch that everybody refused, saying so, must not take effect.
	certain := true
	for range 1 + w.chance.below(maxAttempts) {
		outcome := w.offer(ctx, batch, command)
		switch outcome {
		case acknowledged:
			s.count("batches acknowledged", 1)
			for series, of := range samples {
				s.count("samples acknowledged", len(of))
				for _, sample := range of {
					s.history.Acknowledge(series, sample.T)
				}
			}
			return
		case unknown:
			certain = false
		case refused:
		}
		if !pause(ctx, w.chance.between(10*time.Millisecond, 500*time.Millisecond)) {
			break
		}
	}
	if !certain {
		s.count("batches unknown", 1)
		return
	}
	s.count("batches refused", 1)
	for series, of := range samples {
		for _, sample := range of {
			s.history.Refuse(series, sample.T)
		}
	}
}

// next makes the writer's next batch, naming series by their labels or, where it
// knows them, half of the time by their refs.
func (w *writer) next() (*wire.Batch, map[int][]Sample) {
	b := &wire.Batch{}
	b.Reset(testTenant, genesisBounds().Version)
	samples := make(map[int][]Sample, len(w.series))
	ticks := 1 + w.chance.below(maxTicks)
	for _, series := range w.series {
		ref, known := w.refs[series]
		row := wire.ByRef(ref)
		if !known || w.chance.happens(0.5) {
			row = wire.ByDefinition(len(b.Definitions))
			b.Definitions = append(b.Definitions, labelsOf(series))
		}
		for i := range ticks {
			t := (w.tick + int64(i)) * tickMillis
			sample := Sample{T: t, V: valueOf(series, t)}
			samples[series] = append(samples[series], sample)
			b.Series = append(b.Series, row)
			b.Timestamps = append(b.Timestamps, sample.T)
			b.Values = append(b.Values, sample.V)
		}
	}
	w.tick += int64(ticks)
	return b, samples
}

type outcome int

const (
	refused outcome = iota
	acknowledged
	unknown
)

// offer proposes a batch to whoever leads, as far as the writer knows.
func (w *writer) offer(ctx context.Context, batch *wire.Batch, command []byte) outcome {
	s := w.sim
	if w.target == nil {
		w.target = s.anyNode(w.chance)
	}
	p := w.target.process()
	if p == nil {
		w.target = nil
		return refused
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := p.group.Propose(ctx, wire.KindWrite, command)
	if p.dead() {
		w.target = nil
		return unknown
	}
	if err == nil {
		return w.judge(batch, result)
	}
	w.target = nil
	if quorate.KindOf(err) != quorate.Unavailable {
		s.fail(fmt.Errorf("a batch proposed at %s: %w", p.node, err))
	}
	var notLeader *raftset.NotLeaderError
	if errors.As(err, &notLeader) {
		w.target = s.nodeOf(notLeader.Leader.Node)
	}
	if errors.Is(err, raftset.ErrOutcomeUnknown) {
		if s.cfg.mutant == acknowledgesEarly {
			return acknowledged
		}
		return unknown
	}
	return refused
}

// judge checks what the state machine answers: nothing else than that the whole
// batch is stored can be.
func (w *writer) judge(batch *wire.Batch, result any) outcome {
	r, ok := result.(*wire.BatchResult)
	if !ok || r.Status != wire.BatchApplied || r.Floats != batch.Rows() || r.Refused != 0 || len(r.Defined) != len(batch.Definitions) {
		w.sim.fail(fmt.Errorf("a batch of %d rows is answered by %+v", batch.Rows(), result))
		return unknown
	}
	if r.Duplicates > 0 {
		w.sim.count("batches stored by an earlier attempt", 1)
	}
	for row, series := range batch.Series {
		i, ok := series.Definition()
		if !ok {
			continue
		}
		number := w.series[row/(len(batch.Series)/len(w.series))]
		if known, ok := w.refs[number]; ok && known != r.Defined[i] {
			w.sim.fail(fmt.Errorf("series %d has the ref %d, and had %d", number, r.Defined[i], known))
		}
		w.refs[number] = r.Defined[i]
	}
	return acknowledged
}

// reader reads series at whatever node it asks, once reading there is confirmed.
type reader struct {
	sim    *simulation
	chance *chance
}

func (r *reader) run(ctx context.Context) {
	for pause(ctx, r.chance.between(0, 2*r.sim.cfg.readEvery())) {
		n := r.sim.anyNode(r.chance)
		for range 2 {
			leader, err := r.read(ctx, n)
			if err != nil {
				r.sim.fail(err)
				return
			}
			if leader == nil || r.chance.happens(0.3) {
				break
			}
			n = leader
		}
	}
}

// read reads at one node. If another is said to lead, it returns that.
func (r *reader) read(ctx context.Context, n *node) (leader *node, _ error) {
	s := r.sim
	p := n.process()
	if p == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := s.history.BeginRead()
	if err := s.confirm(ctx, p); err != nil {
		s.count("reads refused", 1)
		var notLeader *raftset.NotLeaderError
		if errors.As(err, &notLeader) {
			return s.nodeOf(notLeader.Leader.Node), nil
		}
		return nil, nil // a read that is not confirmed is not made
	}
	view, err := p.shard.View()
	if err != nil {
		return nil, nil // the process ends
	}
	defer view.Close()
	some := []int{r.chance.below(s.cfg.series())}
	if r.chance.happens(0.05) {
		some = allSeries(s.cfg.series())
	}
	if err := s.check(ctx, began, n, view, some); err != nil {
		return nil, err
	}
	s.count("reads", 1)
	return nil, nil
}

// confirm makes sure that a read of a process' shard sees everything that was
// acknowledged before, or the mutant's idea of it.
func (s *simulation) confirm(ctx context.Context, p *process) error {
	switch s.cfg.mutant {
	case readsUnconfirmed:
		if _, leads := p.group.Leadership(); !leads {
			return raftset.ErrStopped
		}
		return nil
	case readsFollowers:
		return nil
	default:
		_, err := p.group.ConfirmRead(ctx)
		return err
	}
}

func allSeries(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// check compares what a view shows of some series with the history.
func (s *simulation) check(ctx context.Context, began uint64, n *node, view *tsdbshard.View, series []int) error {
	type found struct {
		series  int
		samples []Sample
	}
	var all []found
	for _, number := range series {
		samples, err := samplesOf(ctx, view, number)
		if err != nil {
			return fmt.Errorf("read series %d at %s: %w", number, n, err)
		}
		all = append(all, found{number, samples})
	}
	for _, f := range all {
		if err := s.history.EndRead(began, n.String(), quorate.Forever, f.series, f.samples); err != nil {
			return err
		}
	}
	return nil
}

// samplesOf reads one series as queries do.
func samplesOf(ctx context.Context, view *tsdbshard.View, series int) (samples []Sample, err error) {
	q, err := tsdb.NewBlockQuerier(view.Tenant(testTenant), math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	m, err := labels.NewMatcher(labels.MatchEqual, "series", strconv.Itoa(series))
	if err != nil {
		return nil, err
	}
	found := q.Select(ctx, false, nil, m)
	for n := 0; found.Next(); n++ {
		if n > 0 {
			return nil, fmt.Errorf("there are two of it, the second is %s", found.At().Labels())
		}
		it := found.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if kind != chunkenc.ValFloat {
				return nil, fmt.Errorf("a sample is of the kind %s", kind)
			}
			t, v := it.At()
			samples = append(samples, Sample{T: t, V: v})
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	return samples, found.Err()
}
