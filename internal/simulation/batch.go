package simulation

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/internal/wire"
)

// route is what a writer knows of a set.
type route struct {
	refs map[int]wire.SeriesRef
	// target is whom it takes for the leader.
	target *node
}

// part is what a writer sends to one set at once: a batch, as the router fills
// one, under the set's bounds version.
type part struct {
	set   *replicaSet
	batch wire.Batch
	// samples are those of each series that are to be stored.
	samples map[int][]Sample
	// defined are the series of the batch's definitions.
	defined []int
	// strays counts rows of times outside of the set's bounds.
	strays int
}

// split makes the batches of some ticks of a writer's series, cut where a bucket
// ends.
func (w *writer) split(first, ticks int64) (parts []*part) {
	for ticks > 0 {
		set := w.sim.setAt(first * tickMillis)
		n := min(ticks, (set.bounds.Range.End-first*tickMillis+tickMillis-1)/tickMillis)
		parts = append(parts, w.fill(set, first, n))
		first, ticks = first+n, ticks-n
	}
	return parts
}

// fill makes one batch. It names series by their labels or, where the writer
// knows them, half of the time by their refs. Now and then a row is in it that
// the set must refuse, and it alone.
func (w *writer) fill(set *replicaSet, first, ticks int64) *part {
	p := &part{set: set, samples: make(map[int][]Sample, len(w.series))}
	p.batch.Reset(testTenant, set.bounds.Version)
	astray := -1
	if w.chance.happens(0.03) {
		astray = pick(w.chance, w.series)
	}
	for _, series := range w.series {
		row := p.row(w, series)
		if series == astray {
			p.add(row, w.stray(set, series))
			p.strays++
		}
		for i := range ticks {
			t := (first + i) * tickMillis
			sample := Sample{T: t, V: valueOf(series, t)}
			p.samples[series] = append(p.samples[series], sample)
			p.add(row, sample)
		}
	}
	return p
}

// row names a series.
func (p *part) row(w *writer, series int) wire.RowSeries {
	if ref, known := w.route(p.set).refs[series]; known && !w.chance.happens(0.5) {
		return wire.ByRef(ref)
	}
	p.defined = append(p.defined, series)
	p.batch.Definitions = append(p.batch.Definitions, labelsOf(series))
	return wire.ByDefinition(len(p.defined) - 1)
}

func (p *part) add(row wire.RowSeries, s Sample) {
	p.batch.Series = append(p.batch.Series, row)
	p.batch.Timestamps = append(p.batch.Timestamps, s.T)
	p.batch.Values = append(p.batch.Values, s.V)
}

// stray is a sample that lies outside of a set's bounds, right beside them or at
// a time that the next bucket, or the one before, has too.
func (w *writer) stray(set *replicaSet, series int) Sample {
	away := tickMillis * int64(w.chance.below(3))
	t := set.bounds.Range.End + away
	if w.chance.happens(0.5) {
		t = set.bounds.Range.Start - 1 - away
	}
	return Sample{T: t, V: valueOf(series, t) + wrong}
}

// wrong is added to the values that nobody must ever see.
const wrong = 0.5

// misroute returns a part as it would be under another bounds version. All of it
// has to be refused, so that its values would be found if they were there.
func (p *part) misroute(c *chance) *part {
	m := &part{set: p.set, batch: p.batch}
	m.batch.Version += 1
	if c.happens(0.5) {
		m.batch.Version -= 2
	}
	m.batch.Values = slices.Clone(p.batch.Values)
	for i := range m.batch.Values {
		m.batch.Values[i] += wrong
	}
	return m
}

// checkStored tells what is wrong with the answer to a batch: nothing else than
// that all of it is stored, but for its strays, can be.
func (p *part) checkStored(result any) (*wire.BatchResult, error) {
	r, ok := result.(*wire.BatchResult)
	rows := p.batch.Rows() - p.strays
	if !ok || r.Status != wire.BatchApplied || r.Version != p.batch.Version || r.Floats != rows || len(r.Defined) != len(p.defined) {
		return nil, fmt.Errorf("a batch of %d rows and %d out of bounds is answered by set %d: %+v", rows, p.strays, p.set.id, result)
	}
	if r.Refused != p.strays || r.OutOfBounds != p.strays || (p.strays > 0 && r.First.Reason != wire.RowOutOfBounds) {
		return nil, fmt.Errorf("set %d refuses other rows than the %d out of bounds: %+v", p.set.id, p.strays, r)
	}
	return r, nil
}

// checkRefused tells what is wrong with the answer to a batch of another version.
func (p *part) checkRefused(result any) error {
	r, ok := result.(*wire.BatchResult)
	if !ok || r.Status != wire.BatchStaleRoute || r.Version != p.set.bounds.Version || r.Floats+r.Refused+len(r.Defined) > 0 {
		return fmt.Errorf("a batch of bounds version %d is answered by set %d, whose is %d: %+v", p.batch.Version, p.set.id, p.set.bounds.Version, result)
	}
	return nil
}
