package block

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/quorate/quorate/internal/cursor"
)

// checkContextEvery is after how many label values or series the context is
// looked at.
const checkContextEvery = 1024

// indexReader satisfies tsdb.IndexReader for one tenant. A series' ref is its
// place among the tenant's series plus one: rising refs are rising labels.
type indexReader struct {
	t     *CanonicalTenant
	names []nameEntry // in order

	// mu guards the pages that the last series was read from: a selection
	// walks series in order, so the next one is mostly in the same pages.
	mu     sync.Mutex
	values []*valuesPage // by name
	series *blobPage
	shapes *shapesPage
	pairs  []uint32 // scratch
	runs   []uint32 // scratch
}

var _ tsdb.IndexReader = (*indexReader)(nil)

// Close does nothing: who reads holds the block.
func (r *indexReader) Close() error { return nil }

// name returns the entry of a label name, nil if no series has it.
func (r *indexReader) name(name string) *nameEntry {
	i, ok := slices.BinarySearchFunc(r.names, name, func(e nameEntry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return nil
	}
	return &r.names[i]
}

// eachValue calls visit with the values of a name in order, and with the
// number of each one's pair in the block, until it returns false.
func (r *indexReader) eachValue(ctx context.Context, n *nameEntry, visit func(value string, number, series uint32) bool) error {
	count := 0
	err := r.t.f.eachValue(r.t.cache, r.t.entry.firstPair+n.first, n.values, func(number uint32, value string, series uint32) bool {
		if count++; count%checkContextEvery == 0 && ctx.Err() != nil {
			return false
		}
		return visit(value, number, series)
	})
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// Symbols returns all label names and values in order. It gathers them first;
// only who writes another index asks for them.
func (r *indexReader) Symbols() index.StringIter {
	var symbols []string
	for i := range r.names {
		n := &r.names[i]
		symbols = append(symbols, n.name)
		err := r.t.f.eachValue(r.t.cache, r.t.entry.firstPair+n.first, n.values, func(_ uint32, value string, _ uint32) bool {
			symbols = append(symbols, value)
			return true
		})
		if err != nil {
			return failedStrings{err: err}
		}
	}
	slices.Sort(symbols)
	return index.NewStringListIter(slices.Compact(symbols))
}

// failedStrings has no strings and an error.
type failedStrings struct{ err error }

// Next returns false.
func (failedStrings) Next() bool { return false }

// At is never called.
func (failedStrings) At() string { return "" }

// Err returns why there are no strings.
func (f failedStrings) Err() error { return f.err }

// SortedLabelValues returns the values of a label over the series that match,
// in order.
func (r *indexReader) SortedLabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, error) {
	return r.LabelValues(ctx, name, hints, matchers...)
}

// LabelValues returns the values of a label over the series that match, in order.
func (r *indexReader) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, error) {
	values, err := r.labelValues(ctx, name, hints, matchers)
	if err != nil {
		return nil, fmt.Errorf("values of label %q: %w", name, err)
	}
	return values, nil
}

func (r *indexReader) labelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers []*labels.Matcher) ([]string, error) {
	n := r.name(name)
	if n == nil {
		return nil, nil
	}
	limit := int(n.values)
	if hints != nil && hints.Limit > 0 {
		limit = min(limit, hints.Limit)
	}
	others := slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Name != name })
	var (
		values  []string
		numbers []uint32
	)
	err := r.eachValue(ctx, n, func(value string, number, _ uint32) bool {
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Name == name && !m.Matches(value) }) {
			return true
		}
		values = append(values, value)
		if others {
			numbers = append(numbers, number)
			return true
		}
		return len(values) < limit
	})
	if err != nil || !others || len(values) == 0 {
		return values, err
	}
	return r.valuesOfMatching(ctx, values, numbers, limit, matchers)
}

// valuesOfMatching returns those of the values that a matching series has.
func (r *indexReader) valuesOfMatching(ctx context.Context, values []string, numbers []uint32, limit int, matchers []*labels.Matcher) ([]string, error) {
	selected, err := tsdb.PostingsForMatchers(ctx, r, slices.Clone(matchers)...)
	if err != nil {
		return nil, err
	}
	candidates := make([]index.Postings, len(values))
	for i, number := range numbers {
		candidates[i] = r.t.postings(number)
	}
	found, err := index.FindIntersectingPostings(selected, candidates)
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	found = found[:min(limit, len(found))]
	matching := make([]string, len(found))
	for i, at := range found {
		matching[i] = values[at]
	}
	return matching, nil
}

// LabelNames returns the label names of the series that match, in order.
func (r *indexReader) LabelNames(ctx context.Context, matchers ...*labels.Matcher) ([]string, error) {
	if len(matchers) > 0 {
		selected, err := tsdb.PostingsForMatchers(ctx, r, slices.Clone(matchers)...)
		if err != nil {
			return nil, fmt.Errorf("label names: %w", err)
		}
		return r.LabelNamesFor(ctx, selected)
	}
	names := make([]string, len(r.names))
	for i := range r.names {
		names[i] = r.names[i].name
	}
	return names, nil
}

// LabelNamesFor returns the label names of the series of a postings list, in order.
func (r *indexReader) LabelNamesFor(ctx context.Context, p index.Postings) ([]string, error) {
	seen := make([]bool, len(r.names))
	left := len(seen)
	for i := 0; left > 0 && p.Next(); i++ {
		if i%checkContextEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err := r.labelsOf(uint64(p.At()), func(name int, _ uint32) error {
			if !seen[name] {
				seen[name] = true
				left--
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var names []string
	for i := range r.names {
		if seen[i] {
			names = append(names, r.names[i].name)
		}
	}
	return names, p.Err()
}

// number returns a series' number in the block.
func (t *CanonicalTenant) number(ref uint64) (uint32, error) {
	if ref == 0 || ref > uint64(t.entry.series) {
		return 0, fmt.Errorf("series %d: %w", ref, storage.ErrNotFound)
	}
	return t.entry.firstSeries + uint32(ref-1), nil
}

// labelsOf calls visit with the place of each label's name and the number of
// its pair in the block.
func (r *indexReader) labelsOf(ref uint64, visit func(name int, number uint32) error) error {
	number, err := r.t.number(ref)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err = r.visitLocked(number, visit)
	return err
}

// visitLocked is labelsOf by the number in the block; it returns what follows
// the labels in the series' row.
func (r *indexReader) visitLocked(number uint32, visit func(name int, number uint32) error) (rest []byte, err error) {
	row, err := r.rowLocked(number)
	if err != nil {
		return nil, err
	}
	c := cursor.Cursor{B: row}
	r.pairs = readPairs(&c, r.pairs[:0], r.t.entry.pairs)
	if c.Bad {
		return nil, r.damaged(number, "labels")
	}
	name := 0
	for _, p := range r.pairs {
		// Pairs rise, and so do names.
		left := r.names[name:]
		name += sort.Search(len(left), func(i int) bool { return left[i].first+left[i].values > p })
		if err := visit(name, r.t.entry.firstPair+p); err != nil {
			return nil, err
		}
	}
	return c.B, nil
}

func (r *indexReader) damaged(number uint32, what string) error {
	page := r.t.f.dir.sections[pageSeries].find(number)
	return r.t.f.at(pageSeries, page, fmt.Errorf("%w: %s of series %d", ErrDamaged, what, number))
}

// rowLocked returns the row of a series.
func (r *indexReader) rowLocked(number uint32) ([]byte, error) {
	if p := r.series; p == nil || number < p.rows[0].number || number > p.rows[len(p.rows)-1].number {
		i := r.t.f.dir.sections[pageSeries].find(number)
		if i < 0 {
			return nil, fmt.Errorf("%w: series %d is in no page", ErrDamaged, number)
		}
		p, err := r.t.f.blobPage(r.t.cache, pageSeries, i)
		if err != nil {
			return nil, err
		}
		r.series = p
	}
	at := r.series.find(number)
	if at == len(r.series.rows) || r.series.rows[at].number != number {
		return nil, r.damaged(number, "row")
	}
	return r.series.row(at), nil
}

// valueLocked returns the value of a pair, which is of the name at a place.
func (r *indexReader) valueLocked(name int, number uint32) (string, error) {
	p := r.values[name]
	if p == nil || number < p.first || number-p.first >= uint32(len(p.ends)) {
		var err error
		if p, err = r.t.f.valuesPageOf(r.t.cache, number); err != nil {
			return "", err
		}
		r.values[name] = p
	}
	return p.value(int(number - p.first)), nil
}

// Series gives a series' labels and where its chunks of the tenant's time are.
func (r *indexReader) Series(ref storage.SeriesRef, builder *labels.ScratchBuilder, metas *[]chunks.Meta) error {
	number, err := r.t.number(uint64(ref))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	builder.Reset()
	rest, err := r.visitLocked(number, func(name int, pair uint32) error {
		value, err := r.valueLocked(name, pair)
		builder.Add(r.names[name].name, value)
		return err
	})
	if err != nil || metas == nil {
		return err
	}
	c := cursor.Cursor{B: rest}
	r.runs = readShapeRuns(&c, r.runs[:0])
	if c.Bad {
		return r.damaged(number, "shapes")
	}
	*metas = (*metas)[:0]
	for i, n := range r.runs {
		s, err := r.shapeLocked(n)
		if err != nil {
			return err
		}
		if s.mint <= r.t.maxt && s.maxt >= r.t.mint {
			*metas = append(*metas, chunks.Meta{Ref: chunkRef(number, i), MinTime: s.mint, MaxTime: s.maxt})
		}
	}
	return nil
}

func (r *indexReader) shapeLocked(n uint32) (*shape, error) {
	if p := r.shapes; p == nil || n < p.first || n-p.first >= uint32(len(p.shapes)) {
		p, err := r.t.f.shapesPageOf(r.t.cache, n)
		if err != nil {
			return nil, err
		}
		r.shapes = p
	}
	return &r.shapes.shapes[n-r.shapes.first], nil
}

// SortedPostings orders series by their labels, as refs are anyway.
func (*indexReader) SortedPostings(p index.Postings) index.Postings { return p }

// ShardedPostings keeps the series of one shard of a selection, by the stable
// hash of their labels as TSDB blocks do.
func (r *indexReader) ShardedPostings(p index.Postings, shardIndex, shardCount uint64) index.Postings {
	var (
		refs    []storage.SeriesRef
		builder labels.ScratchBuilder
	)
	for p.Next() {
		if err := r.Series(p.At(), &builder, nil); err != nil {
			return index.ErrPostings(fmt.Errorf("shard postings: %w", err))
		}
		if labels.StableHash(builder.Labels())%shardCount == shardIndex {
			refs = append(refs, p.At())
		}
	}
	if err := p.Err(); err != nil {
		return index.ErrPostings(fmt.Errorf("shard postings: %w", err))
	}
	return index.NewListPostings(refs)
}
