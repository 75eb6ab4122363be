package tsdbshard

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

const (
	// fetchAhead is how many rows of a sorted selection are copied under one
	// lock. A reader that took the lock for each series would wait for Apply
	// once for each.
	fetchAhead = 256
	// checkContextEvery is after how many label values the context is looked at.
	checkContextEvery = 1024
)

// indexReader satisfies tsdb.IndexReader for one tenant of a view.
type indexReader struct {
	tv *TenantView

	// mu guards what follows.
	mu sync.Mutex
	// ahead are rows copied for a selection that is being walked.
	ahead map[uint32]image
	// idle is the gatherer that Series used last, if no Series uses it.
	idle *gatherer
}

var _ tsdb.IndexReader = (*indexReader)(nil)

// Close does nothing: the view holds everything.
func (r *indexReader) Close() error { return nil }

// locked runs f with the tenant and the series table under the shard's read
// lock; f takes snapshots of lists and returns.
func (r *indexReader) locked(f func(t *table, tn *tenant)) {
	if r.tv.tenant == nil {
		return
	}
	v := r.tv.view
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	f(v.st.table, r.tv.tenant)
}

// values returns the labels of a name that the view shows, in the order of
// their first series.
func (r *indexReader) values(name string) (values idList) {
	r.locked(func(t *table, tn *tenant) {
		if n, ok := tn.names[name]; ok {
			values = t.labels.names[n].values.snapshot(&t.slab, r.tv.view.nextLabel)
		}
	})
	return values
}

// listsAtOnce is of how many labels lists are taken under one lock.
const listsAtOnce = 256

// lists gives the series lists of labels to f, one after the other: taken a
// batch at a time, so that Apply does not wait for a million of them and no
// memory is needed for more than a batch.
func (r *indexReader) lists(ids []uint32, f func(i int, l *idList) error) error {
	v := r.tv.view
	var batch [listsAtOnce]idList
	for from := 0; from < len(ids); from += listsAtOnce {
		part := ids[from:min(from+listsAtOnce, len(ids))]
		r.locked(func(t *table, _ *tenant) {
			for i, id := range part {
				batch[i] = t.labels.snapshot(&t.labels.row(id).series, v.next)
			}
		})
		for i := range part {
			if err := f(from+i, &batch[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// nameNumbers returns the numbers of the label names that the view shows.
func (r *indexReader) nameNumbers() (numbers []uint32) {
	r.locked(func(_ *table, tn *tenant) {
		for _, n := range tn.names {
			if int(n) < len(r.tv.view.names) {
				numbers = append(numbers, n)
			}
		}
	})
	return numbers
}

// Symbols returns all label names and values in order.
func (r *indexReader) Symbols() index.StringIter {
	var symbols []string
	for _, n := range r.nameNumbers() {
		name := r.tv.view.names[n].text
		symbols = append(symbols, name)
		values := r.values(name)
		for c := values.runs(); c.next(); {
			for id := c.start; id < c.end; id++ {
				symbols = append(symbols, r.tv.view.value(id))
			}
		}
	}
	slices.Sort(symbols)
	return index.NewStringListIter(slices.Compact(symbols))
}

// SortedLabelValues returns LabelValues in order.
func (r *indexReader) SortedLabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, error) {
	// The limit must cut the sorted list, not the one in order of appearance.
	values, err := r.LabelValues(ctx, name, nil, matchers...)
	if err != nil {
		return nil, err
	}
	slices.Sort(values)
	return limited(values, hints), nil
}

// LabelValues returns the values of a label over the series that match.
func (r *indexReader) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, error) {
	list := r.values(name)
	ids := list.appendAll(nil)
	if len(matchers) > 0 {
		selected, err := tsdb.PostingsForMatchers(ctx, r, slices.Clone(matchers)...)
		if err != nil {
			return nil, fmt.Errorf("values of label %q: %w", name, err)
		}
		if ids, err = r.valuesOf(ctx, selected, ids, name); err != nil {
			return nil, fmt.Errorf("values of label %q: %w", name, err)
		}
	}
	if hints != nil && hints.Limit > 0 && len(ids) > hints.Limit {
		ids = ids[:hints.Limit]
	}
	values := make([]string, len(ids))
	for i, id := range ids {
		values[i] = r.tv.view.value(id)
	}
	return values, nil
}

// valuesOf returns those labels of a name, out of all of them, that one of the
// selected series has. The lists of a few labels are intersected with the
// selection, which stops at their first common series; of many labels either
// the series are asked for theirs or, where there are more series than labels,
// the lists are looked through.
func (r *indexReader) valuesOf(ctx context.Context, selected index.Postings, all []uint32, name string) ([]uint32, error) {
	if len(all) <= listsAtOnce {
		return r.intersecting(selected, all)
	}
	refs, err := r.expand(selected, nil)
	if err != nil {
		return nil, err
	}
	v := r.tv.view
	found := make([]uint32, 0, min(len(refs), len(all)))
	if len(refs) < len(all) {
		for i, ref := range refs {
			if i%checkContextEvery == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			it, _ := v.ids(ref)
			for id, ok := it.next(); ok; id, ok = it.next() {
				if v.name(id) == name {
					found = append(found, id)
					break
				}
			}
		}
		slices.Sort(found)
		return slices.Compact(found), nil
	}
	set := union{words: make([]uint64, v.next/64+1)}
	for _, ref := range refs {
		set.addRun(ref, ref+1)
	}
	err = r.lists(all, func(i int, l *idList) error {
		for c := l.runs(); c.next(); {
			for ref := c.start; ref < c.end; ref++ {
				if set.words[ref>>6]&(1<<(ref&63)) != 0 {
					found = append(found, all[i])
					return ctx.Err()
				}
			}
		}
		return ctx.Err()
	})
	return found, err
}

// intersecting returns those of a few labels that one of the selected series has.
func (r *indexReader) intersecting(selected index.Postings, all []uint32) ([]uint32, error) {
	candidates := make([]index.Postings, len(all))
	err := r.lists(all, func(i int, l *idList) error {
		candidates[i] = newListPostings(l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	at, err := index.FindIntersectingPostings(selected, candidates)
	found := make([]uint32, len(at))
	for i := range at {
		found[i] = all[at[i]]
	}
	slices.Sort(found)
	return found, err
}

func limited(values []string, hints *storage.LabelHints) []string {
	if hints != nil && hints.Limit > 0 && len(values) > hints.Limit {
		return values[:hints.Limit]
	}
	return values
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
	numbers := r.nameNumbers()
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = r.tv.view.names[n].text
	}
	slices.Sort(names)
	return names, nil
}

// LabelNamesFor returns the label names of the series of a postings list, in order.
func (r *indexReader) LabelNamesFor(ctx context.Context, p index.Postings) ([]string, error) {
	v := r.tv.view
	seen := make([]bool, len(v.names))
	names := []string{}
	for i := 0; p.Next(); i++ {
		if i%checkContextEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ref, err := r.ref(p.At())
		if err != nil {
			return nil, err
		}
		it, _ := v.ids(ref)
		for id, ok := it.next(); ok; id, ok = it.next() {
			if n := v.label(id).name; !seen[n] {
				seen[n] = true
				names = append(names, v.names[n].text)
			}
		}
	}
	slices.Sort(names)
	return names, p.Err()
}

// Postings returns the series that have one of the values for a label.
func (r *indexReader) Postings(ctx context.Context, name string, values ...string) (index.Postings, error) {
	v := r.tv.view
	lists := make([]idList, 0, len(values))
	all, _ := index.AllPostingsKey()
	for from := 0; from < len(values); from += listsAtOnce {
		r.locked(func(t *table, tn *tenant) {
			if name == all {
				lists = append(lists[:0], tn.series.snapshot(&t.slab, v.next))
				return
			}
			for _, value := range values[from:min(from+listsAtOnce, len(values))] {
				if id, ok := t.labels.lookup(t.seed, tn, name, value); ok && id < v.nextLabel {
					lists = append(lists, t.labels.snapshot(&t.labels.row(id).series, v.next))
				}
			}
		})
	}
	return mergeLists(ctx, lists, v.next), nil
}

// PostingsForLabelMatching returns the series whose value of a label matches.
func (r *indexReader) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	var matching []uint32
	list := r.values(name)
	n := 0
	for c := list.runs(); c.next(); {
		for id := c.start; id < c.end; id++ {
			if n++; n%checkContextEvery == 0 && ctx.Err() != nil {
				return index.ErrPostings(ctx.Err())
			}
			if match(r.tv.view.value(id)) {
				matching = append(matching, id)
			}
		}
	}
	return r.seriesOf(ctx, matching)
}

// PostingsForAllLabelValues returns the series that have a label.
func (r *indexReader) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	list := r.values(name)
	return r.seriesOf(ctx, list.appendAll(nil))
}

// seriesOf returns the series that have one of the labels.
func (r *indexReader) seriesOf(ctx context.Context, ids []uint32) index.Postings {
	v := r.tv.view
	var (
		lists []idList
		u     = union{limit: v.next}
	)
	err := r.lists(ids, func(_ int, l *idList) error {
		if len(ids) > lazyUnion {
			u.add(l)
		} else {
			lists = append(lists, *l)
		}
		return ctx.Err()
	})
	switch {
	case err != nil:
		return index.ErrPostings(err)
	case len(ids) > lazyUnion:
		return u.postings()
	}
	return mergeLists(ctx, lists, v.next)
}

// ref returns the ref of a position in a postings list; see refList.
func (r *indexReader) ref(position storage.SeriesRef) (uint32, error) {
	if position == 0 || position > storage.SeriesRef(r.tv.view.next) {
		return 0, fmt.Errorf("series %d: %w", position, storage.ErrNotFound)
	}
	return uint32(position - 1), nil
}

// expand reads a postings list to its end.
func (r *indexReader) expand(p index.Postings, keep func(ref uint32) bool) ([]uint32, error) {
	refs := make([]uint32, 0, 128)
	for p.Next() {
		ref, err := r.ref(p.At())
		if err != nil {
			return nil, err
		}
		if keep == nil || keep(ref) {
			refs = append(refs, ref)
		}
	}
	return refs, p.Err()
}

// SortedPostings orders series by their labels. The list that it returns
// copies their rows in batches as it is walked.
func (r *indexReader) SortedPostings(p index.Postings) index.Postings {
	refs, err := r.expand(p, nil)
	if err != nil {
		return index.ErrPostings(fmt.Errorf("expand postings: %w", err))
	}
	r.tv.view.sort(refs)
	return &sortedList{refs: refs, at: -1, r: r}
}

// ShardedPostings keeps the series of one shard of a selection, by the stable
// hash of their labels as TSDB blocks do.
func (r *indexReader) ShardedPostings(p index.Postings, shardIndex, shardCount uint64) index.Postings {
	refs, err := r.expand(p, func(ref uint32) bool {
		return labels.StableHash(r.tv.view.labelSet(ref))%shardCount == shardIndex
	})
	if err != nil {
		return index.ErrPostings(fmt.Errorf("expand postings: %w", err))
	}
	return newRefList(refs)
}

// gatherer returns a gatherer of the tenant's time, for giveBack when done.
func (r *indexReader) gatherer() *gatherer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.idle; g != nil {
		r.idle = nil
		return g
	}
	return &gatherer{mint: r.tv.mint, maxt: r.tv.maxt}
}

func (r *indexReader) giveBack(g *gatherer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = g
}

// Series gives a series' labels and its samples as spans that do not overlap,
// those that have something of the tenant's time.
func (r *indexReader) Series(position storage.SeriesRef, builder *labels.ScratchBuilder, metas *[]chunks.Meta) error {
	ref, err := r.ref(position)
	if err != nil {
		return err
	}
	v := r.tv.view
	builder.Reset()
	v.addLabels(builder, ref)
	if metas == nil {
		return nil
	}
	live := r.image(ref)
	g := r.gatherer()
	parts, err := v.appendParts(g, nil, ref, &live)
	r.giveBack(g)
	if err != nil {
		return err
	}
	groups := groupParts(parts)
	spans := make([]span, len(groups))
	*metas = (*metas)[:0]
	for i, group := range groups {
		spans[i].parts = group
		meta := chunks.Meta{Ref: chunks.ChunkRef(i), Chunk: &spans[i], MinTime: group[0].MinTime, MaxTime: group[0].MaxTime}
		for _, p := range group[1:] {
			meta.MinTime, meta.MaxTime = min(meta.MinTime, p.MinTime), max(meta.MaxTime, p.MaxTime)
		}
		*metas = append(*metas, meta)
	}
	return nil
}

// image returns the image of a row in the live memcache.
func (r *indexReader) image(ref uint32) image {
	r.mu.Lock()
	img, ok := r.ahead[ref]
	delete(r.ahead, ref)
	r.mu.Unlock()
	if ok {
		return img
	}
	return r.tv.view.liveImages(nil, []uint32{ref})[0]
}

// fetch copies the rows of the refs, for image to find.
func (r *indexReader) fetch(refs []uint32) {
	images := r.tv.view.liveImages(make([]image, 0, len(refs)), refs)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ahead == nil {
		r.ahead = make(map[uint32]image, len(refs))
	}
	for i, ref := range refs {
		r.ahead[ref] = images[i]
	}
}

// sortedList is a list of refs in the order of their labels.
type sortedList struct {
	refs    []uint32
	at      int
	fetched int // rows before it were fetched
	r       *indexReader
}

// Next moves to the next series.
func (l *sortedList) Next() bool {
	if l.at+1 >= len(l.refs) {
		return false
	}
	l.at++
	if l.at >= l.fetched {
		l.fetched = min(l.at+fetchAhead, len(l.refs))
		l.r.fetch(l.refs[l.at:l.fetched])
	}
	return true
}

// Seek moves on to the first position at or after v. The list is not ordered
// by position, so this is of use only to walk it.
func (l *sortedList) Seek(v storage.SeriesRef) bool {
	if l.at < 0 && !l.Next() {
		return false
	}
	for l.At() < v {
		if !l.Next() {
			return false
		}
	}
	return true
}

// At returns the position that the list stands at.
func (l *sortedList) At() storage.SeriesRef { return positionOf(l.refs[l.at]) }

// Err returns nil.
func (l *sortedList) Err() error { return nil }
