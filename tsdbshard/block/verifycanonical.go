package block

import (
	"fmt"

	"github.com/quorate/quorate/internal/wire"
)

// canonical checks the pages of a canonical block.
func (v *verifier) canonical() error {
	c := &Canonical{file: v.f}
	t := &tenantVerifier{v: v, cursor: c.Series()}
	t.cursor.meet = v.meet
	for e := range v.f.dir.tenants.all {
		if err := t.tenant(e); err != nil {
			return fmt.Errorf("tenant %v: %w", e.id, err)
		}
	}
	if t.cursor.Next() || t.cursor.Err() != nil {
		return fmt.Errorf("%w: more series than its tenants have (%w)", ErrDamaged, t.cursor.Err())
	}
	if err := v.counts(t); err != nil {
		return err
	}
	if err := v.samplesTimes(); err != nil {
		return err
	}
	if err := v.exemplars(v.found.Series); err != nil {
		return err
	}
	return v.metadata()
}

// counts checks that no page has rows that nothing leads to.
func (v *verifier) counts(t *tenantVerifier) error {
	samples := uint64(v.found.Rows)
	for _, e := range v.f.dir.sections[pageSamples].pages {
		if e.continued {
			samples++
		}
	}
	for _, want := range []struct {
		kind pageKind
		rows uint64
	}{
		{pageSeries, uint64(v.found.Series)}, {pageSamples, samples}, {pageNames, t.withSeries},
		{pageValues, t.pairs}, {pagePostings, t.pieces}, {pageShapes, t.shapes},
	} {
		if err := v.rows(want.kind, want.rows); err != nil {
			return err
		}
	}
	return nil
}

// tenantVerifier checks one tenant after the other.
type tenantVerifier struct {
	v      *verifier
	cursor *SeriesCursor

	// Sums over the tenants so far.
	withSeries, pairs, pieces, shapes uint64

	// Of the tenant at hand, for each series: the number of its labels, then
	// those of their pairs.
	rows   []uint32
	counts []uint32 // series of each pair
}

func (t *tenantVerifier) tenant(e tenantEntry) error {
	t.v.tenants[e.id] = struct{}{}
	if e.series == 0 {
		if e.pairs > 0 || e.samples > 0 {
			return fmt.Errorf("%w: no series, but %d label pairs and %d samples", ErrDamaged, e.pairs, e.samples)
		}
		return nil
	}
	t.rows, t.counts = t.rows[:0], make([]uint32, e.pairs)
	if err := t.series(e); err != nil {
		return err
	}
	if err := t.values(e); err != nil {
		return err
	}
	t.withSeries++
	t.pairs += uint64(e.pairs)
	return t.postings(e)
}

// series checks the tenant's series, their samples included.
func (t *tenantVerifier) series(e tenantEntry) error {
	var previous []byte
	own := emptySummary()
	for i := range e.series {
		if err := t.v.step(); err != nil {
			return err
		}
		if !t.cursor.Next() {
			return fmt.Errorf("%w: %d series of %d (%w)", ErrDamaged, i, e.series, t.cursor.Err())
		}
		labels, chunks := t.cursor.Labels(), t.cursor.Chunks()
		if err := wire.CheckLabels(labels); err != nil {
			return fmt.Errorf("%w: series %d: %w", ErrDamaged, i, err)
		}
		if t.cursor.Tenant() != e.id || i > 0 && compareLabels(previous, labels) >= 0 {
			return fmt.Errorf("%w: series %d is not in order", ErrDamaged, i)
		}
		previous = append(previous[:0], labels...)
		if err := t.v.chunks(chunks, t.v.f.dir.header.canonical.Range); err != nil {
			return fmt.Errorf("series %d: %w", i, err)
		}
		for _, n := range t.cursor.runs {
			t.shapes = max(t.shapes, uint64(n)+1)
		}
		own.addChunks(chunks)
		t.v.found.Series++
		if len(chunks) > 0 {
			t.v.found.Rows++
		}
		pairs := t.cursor.index.pairs
		t.rows = append(append(t.rows, uint32(len(pairs))), pairs...)
		for _, p := range pairs {
			t.counts[p]++
		}
	}
	if own.Samples != e.samples || own.MinTime != e.mint || own.MaxTime != e.maxt {
		return fmt.Errorf("%w: %d samples from %d to %d, the directory says %d from %d to %d", ErrDamaged,
			own.Samples, own.MinTime, own.MaxTime, e.samples, e.mint, e.maxt)
	}
	return nil
}

// values checks the tenant's names and values: order, counts, and that each
// can be found.
func (t *tenantVerifier) values(e tenantEntry) error {
	f, r := t.v.f, t.cursor.index
	for i := range r.names {
		n := &r.names[i]
		last, some := "", false
		var failed error
		err := f.eachValue(t.cursor.cache, e.firstPair+n.first, n.values, func(number uint32, value string, series uint32) bool {
			found, ok, err := f.findValue(t.cursor.cache, e.firstPair+n.first, n.values, value)
			switch {
			case err != nil:
				failed = err
			case value == "" || some && value <= last || series != t.counts[number-e.firstPair] || series == 0:
				failed = fmt.Errorf("%w: value %q of %q after %q: %d series, %d have it", ErrDamaged, value, n.name, last, series, t.counts[number-e.firstPair])
			case !ok || found != number:
				failed = fmt.Errorf("%w: value %q of %q is pair %d, but is found as %d", ErrDamaged, value, n.name, number, found)
			default:
				failed = t.v.step()
			}
			last, some = value, true
			return failed == nil
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// postings checks that the lists of the label pairs are those of the series.
func (t *tenantVerifier) postings(e tenantEntry) error {
	ends := make([]uint32, len(t.counts))
	total := uint32(0)
	for i, n := range t.counts {
		ends[i] = total
		total += n
	}
	lists := make([]uint32, total)
	for i, rest := uint32(0), t.rows; len(rest) > 0; i++ {
		n := rest[0]
		for _, p := range rest[1 : 1+n] {
			lists[ends[p]] = i
			ends[p]++
		}
		rest = rest[1+n:]
	}
	own := &CanonicalTenant{f: t.v.f, entry: e, cache: t.cursor.cache}
	from := uint32(0)
	for i, to := range ends {
		want := lists[from:to]
		same := true
		err := own.postings(e.firstPair + uint32(i)).each(func(list []uint32) {
			t.pieces++
			if len(list) > len(want) {
				same = false
				return
			}
			for k, n := range list {
				same = same && n == want[k]
			}
			want = want[len(list):]
		})
		if err != nil {
			return err
		}
		if !same || len(want) > 0 {
			return fmt.Errorf("%w: the postings of pair %d are not those of the series", ErrDamaged, i)
		}
		from = to
		if err := t.v.step(); err != nil {
			return err
		}
	}
	return nil
}
