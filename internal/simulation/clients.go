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
	routes map[*replicaSet]*route
	tick   int64
}

func (w *writer) run(ctx context.Context) {
	for pause(ctx, w.chance.between(0, 2*w.sim.cfg.writeEvery())) {
		w.write(ctx)
	}
}

func (w *writer) route(set *replicaSet) *route {
	r := w.routes[set]
	if r == nil {
		r = &route{refs: make(map[int]wire.SeriesRef)}
		w.routes[set] = r
	}
	return r
}

// write writes the next ticks of all series.
func (w *writer) write(ctx context.Context) {
	ticks := int64(1 + w.chance.below(maxTicks))
	parts := w.split(w.tick, ticks)
	w.tick += ticks
	w.sim.reach(ctx, w.tick*tickMillis)
	for _, p := range parts {
		for series, of := range p.samples {
			for _, sample := range of {
				w.sim.history.Send(series, sample)
			}
		}
	}
	for _, p := range parts {
		if w.chance.happens(0.02) {
			w.sendMisrouted(ctx, p.misroute(w.chance))
		}
		w.send(ctx, p)
	}
}

// send sends one batch until it is acknowledged, or its writer loses patience.
func (w *writer) send(ctx context.Context, p *part) {
	s := w.sim
	command := p.batch.Append(nil)
	// A batch that everybody refused, saying so, must not take effect.
	certain := true
	for range 1 + w.chance.below(maxAttempts) {
		outcome, result := w.offer(ctx, p.set, command)
		if outcome == answered {
			outcome = w.judge(p, result)
		}
		switch outcome {
		case acknowledged:
			s.count("batches acknowledged", 1)
			s.acknowledged(p.set)
			for series, of := range p.samples {
				s.count("samples acknowledged", len(of))
				for _, sample := range of {
					s.history.Acknowledge(series, sample.T)
				}
			}
			return
		case unknown:
			certain = false
		case refused, answered:
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
	for series, of := range p.samples {
		for _, sample := range of {
			s.history.Refuse(series, sample.T)
		}
	}
}

// sendMisrouted sends a batch of another bounds version, once.
func (w *writer) sendMisrouted(ctx context.Context, p *part) {
	if outcome, result := w.offer(ctx, p.set, p.batch.Append(nil)); outcome == answered {
		if err := p.checkRefused(result); err != nil {
			w.sim.fail(err)
		}
		w.sim.count("batches of another version", 1)
	}
}

type outcome int

const (
	refused outcome = iota
	// answered is what the state machine has said something of.
	answered
	acknowledged
	unknown
)

// offer proposes a batch to whoever leads, as far as the writer knows.
func (w *writer) offer(ctx context.Context, set *replicaSet, command []byte) (outcome, any) {
	s, to := w.sim, w.route(set)
	if to.target == nil {
		to.target = s.anyNode(w.chance)
	}
	r := to.target.replica(set)
	if r == nil {
		to.target = nil
		return refused, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := r.group.Propose(ctx, wire.KindWrite, command)
	if r.dead() {
		to.target = nil
		return unknown, nil
	}
	if err == nil {
		return answered, result
	}
	to.target = nil
	if quorate.KindOf(err) != quorate.Unavailable {
		s.fail(fmt.Errorf("a batch proposed at %s: %w", r.node, err))
	}
	var notLeader *raftset.NotLeaderError
	if errors.As(err, &notLeader) {
		to.target = s.nodeOf(notLeader.Leader.Node)
	}
	if errors.Is(err, raftset.ErrOutcomeUnknown) {
		if s.cfg.mutant == acknowledgesEarly {
			return acknowledged, nil
		}
		return unknown, nil
	}
	return refused, nil
}

// judge checks what the state machine answers.
func (w *writer) judge(p *part, result any) outcome {
	r, err := p.checkStored(result)
	if err != nil && w.sim.cfg.mutant == boundless {
		return acknowledged
	}
	if err != nil {
		w.sim.fail(err)
		return unknown
	}
	if r.Duplicates > 0 {
		w.sim.count("batches stored by an earlier attempt", 1)
	}
	w.sim.count("rows out of bounds", p.strays)
	refs := w.route(p.set).refs
	for i, series := range p.defined {
		if known, ok := refs[series]; ok && known != r.Defined[i] {
			w.sim.fail(fmt.Errorf("series %d has the ref %d in set %d, and had %d", series, r.Defined[i], p.set.id, known))
		}
		refs[series] = r.Defined[i]
	}
	return acknowledged
}

// reader reads series in one set, at whatever node it asks, once reading there is
// confirmed.
type reader struct {
	sim    *simulation
	chance *chance
}

func (r *reader) run(ctx context.Context) {
	for pause(ctx, r.chance.between(0, 2*r.sim.cfg.readEvery())) {
		n, set := r.sim.anyNode(r.chance), r.sim.someSet(r.chance)
		for range 2 {
			leader, err := r.read(ctx, n, set)
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
func (r *reader) read(ctx context.Context, n *node, set *replicaSet) (leader *node, _ error) {
	s := r.sim
	at := n.replica(set)
	if at == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := s.history.BeginRead()
	if err := s.confirm(ctx, at); err != nil {
		s.count("reads refused", 1)
		var notLeader *raftset.NotLeaderError
		if errors.As(err, &notLeader) {
			return s.nodeOf(notLeader.Leader.Node), nil
		}
		return nil, nil // a read that is not confirmed is not made
	}
	view, err := at.shard.View()
	if err != nil {
		return nil, nil // the process ends
	}
	defer view.Close()
	some := []int{r.chance.below(s.cfg.series())}
	if r.chance.happens(0.05) {
		some = allSeries(s.cfg.series())
	}
	if err := s.check(ctx, began, at, view, some); err != nil {
		return nil, err
	}
	s.count("reads", 1)
	if set.number < s.foremost() {
		s.count("reads of earlier buckets", 1)
	}
	return nil, nil
}

// confirm makes sure that a read of a replica's shard sees everything that was
// acknowledged before, or the mutant's idea of it.
func (s *simulation) confirm(ctx context.Context, r *replica) error {
	switch s.cfg.mutant {
	case readsUnconfirmed:
		if _, leads := r.group.Leadership(); !leads {
			return raftset.ErrStopped
		}
		return nil
	case readsFollowers:
		return nil
	default:
		_, err := r.group.ConfirmRead(ctx)
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
func (s *simulation) check(ctx context.Context, began uint64, r *replica, view *tsdbshard.View, series []int) error {
	type found struct {
		series  int
		samples []Sample
	}
	var all []found
	for _, number := range series {
		samples, err := samplesOf(ctx, view, number)
		if err != nil {
			return fmt.Errorf("read series %d in set %d at %s: %w", number, r.set.id, r.node, err)
		}
		all = append(all, found{number, samples})
	}
	for _, f := range all {
		if err := s.history.EndRead(began, fmt.Sprintf("%s, set %d", r.node, r.set.id), r.set.bounds.Range, f.series, f.samples); err != nil {
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
