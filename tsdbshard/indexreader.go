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

	"github.com/quorate/quorate/internal/wire"
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

	// mu guards ahead: rows copied for a selection that is being walked.
	mu    sync.Mutex
	ahead map[uint32]image
}

var _ tsdb.IndexReader = (*indexReader)(nil)

// Close does nothing: the view holds everything.
func (r *indexReader) Close() error { return nil }

// names runs f with the tenant's postings and the view's next ref, under the
// shard's read lock; f copies slice headers and returns.
func (r *indexReader) names(f func(p *postings, next uint32)) {
	if r.tv.tenant == nil {
		return
	}
	mu := &r.tv.view.shard.mu
	mu.RLock()
	defer mu.RUnlock()
	f(r.tv.tenant.postings, r.tv.view.next)
}

// values returns the values of a label that the view shows, in the order of
// their first series, and the lists that belong to them.
func (r *indexReader) values(name string) (values []string, lists [][]uint32) {
	r.names(func(p *postings, next uint32) {
		if n := p.names[name]; n != nil {
			k := n.cutValues(next)
			// The list headers change as series come; the values do not.
			values, lists = n.values[:k:k], slices.Clone(n.lists[:k])
			for i := range lists {
				lists[i] = cutRefs(lists[i], next)
			}
		}
	})
	return values, lists
}

// Symbols returns all label names and values in order.
func (r *indexReader) Symbols() index.StringIter {
	var symbols []string
	r.names(func(p *postings, next uint32) {
		for name, n := range p.names {
			if k := n.cutValues(next); k > 0 {
				symbols = append(append(symbols, name), n.values[:k]...)
			}
		}
	})
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
	values, lists := r.values(name)
	if len(matchers) == 0 {
		return limited(slices.Clone(values), hints), nil
	}
	selected, err := tsdb.PostingsForMatchers(ctx, r, slices.Clone(matchers)...)
	if err != nil {
		return nil, fmt.Errorf("values of label %q: %w", name, err)
	}
	candidates := make([]index.Postings, len(lists))
	for i, list := range lists {
		candidates[i] = newRefList(list)
	}
	found, err := index.FindIntersectingPostings(selected, candidates)
	if err != nil {
		return nil, fmt.Errorf("values of label %q: %w", name, err)
	}
	matching := make([]string, len(found))
	for i, at := range found {
		matching[i] = values[at]
	}
	return limited(matching, hints), nil
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
	var names []string
	r.names(func(p *postings, next uint32) {
		for name, n := range p.names {
			if n.cutValues(next) > 0 {
				names = append(names, name)
			}
		}
	})
	slices.Sort(names)
	return names, nil
}

// LabelNamesFor returns the label names of the series of a postings list, in order.
func (r *indexReader) LabelNamesFor(ctx context.Context, p index.Postings) ([]string, error) {
	seen := make(map[string]struct{})
	for i := 0; p.Next(); i++ {
		if i%checkContextEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ref, err := r.ref(p.At())
		if err != nil {
			return nil, err
		}
		for it := wire.IterLabels(r.tv.view.labelsOf(ref)); it.Next(); {
			if _, ok := seen[string(it.Name())]; !ok {
				seen[string(it.Name())] = struct{}{}
			}
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, p.Err()
}

// Postings returns the series that have one of the values for a label.
func (r *indexReader) Postings(ctx context.Context, name string, values ...string) (index.Postings, error) {
	lists := make([][]uint32, 0, len(values))
	all, _ := index.AllPostingsKey()
	r.names(func(p *postings, next uint32) {
		if name == all {
			lists = append(lists, cutRefs(p.all, next))
			return
		}
		n := p.names[name]
		if n == nil {
			return
		}
		for _, value := range values {
			if i, ok := n.at[value]; ok {
				lists = append(lists, cutRefs(n.lists[i], next))
			}
		}
	})
	return mergeLists(ctx, lists), nil
}

// PostingsForLabelMatching returns the series whose value of a label matches.
func (r *indexReader) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	values, lists := r.values(name)
	matching := make([][]uint32, 0, 16)
	for i, value := range values {
		if i%checkContextEvery == 0 && ctx.Err() != nil {
			return index.ErrPostings(ctx.Err())
		}
		if match(value) {
			matching = append(matching, lists[i])
		}
	}
	return mergeLists(ctx, matching)
}

// PostingsForAllLabelValues returns the series that have a label.
func (r *indexReader) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	_, lists := r.values(name)
	return mergeLists(ctx, lists)
}

func mergeLists(ctx context.Context, lists [][]uint32) index.Postings {
	its := make([]*refList, 0, len(lists))
	for _, list := range lists {
		if len(list) > 0 {
			its = append(its, newRefList(list))
		}
	}
	return index.Merge(ctx, its...)
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
	type entry struct {
		ref    uint32
		labels []byte
	}
	entries := make([]entry, len(refs))
	for i, ref := range refs {
		entries[i] = entry{ref: ref, labels: r.tv.view.labelsOf(ref)}
	}
	slices.SortFunc(entries, func(a, b entry) int { return compareLabels(a.labels, b.labels) })
	for i := range entries {
		refs[i] = entries[i].ref
	}
	return &sortedList{refs: refs, at: -1, r: r}
}

// ShardedPostings keeps the series of one shard of a selection, by the stable
// hash of their labels as TSDB blocks do.
func (r *indexReader) ShardedPostings(p index.Postings, shardIndex, shardCount uint64) index.Postings {
	refs, err := r.expand(p, func(ref uint32) bool {
		return labels.StableHash(labelsOf(r.tv.view.labelsOf(ref)))%shardCount == shardIndex
	})
	if err != nil {
		return index.ErrPostings(fmt.Errorf("expand postings: %w", err))
	}
	return newRefList(refs)
}

// Series gives a series' labels and its samples as spans that do not overlap.
func (r *indexReader) Series(position storage.SeriesRef, builder *labels.ScratchBuilder, metas *[]chunks.Meta) error {
	ref, err := r.ref(position)
	if err != nil {
		return err
	}
	v := r.tv.view
	builder.Reset()
	addLabels(builder, v.labelsOf(ref))
	if metas == nil {
		return nil
	}
	live := r.image(ref)
	parts, err := v.appendParts(nil, ref, &live)
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
