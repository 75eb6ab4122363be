package tsdbshard

import (
	"slices"
	"sort"

	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// tombstone is one delete entry as a shard keeps it until no piece is left
// that has samples from before it. It never changes.
type tombstone struct {
	index      uint64 // of the entry
	mint, maxt int64  // ms, both inclusive
	series     refRuns
}

// Bytes that a tombstone and each of its runs take, roughly.
const (
	tombstoneBytes = 64
	refRunBytes    = 8
)

func (t *tombstone) bytes() int64 { return tombstoneBytes + refRunBytes*int64(len(t.series)) }

// refRun is the refs from first on, before end.
type refRun struct{ first, end uint32 }

// refRuns is a set of refs: runs in ascending order that do not touch.
type refRuns []refRun

// add adds a ref that is greater than all in the set.
func (r refRuns) add(ref uint32) refRuns {
	if last := len(r) - 1; last >= 0 && r[last].end == ref {
		r[last].end++
		return r
	}
	return append(r, refRun{first: ref, end: ref + 1})
}

func (r refRuns) has(ref uint32) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i].end > ref })
	return i < len(r) && r[i].first <= ref
}

func (r refRuns) count() int {
	n := 0
	for _, run := range r {
		n += int(run.end - run.first)
	}
	return n
}

// tombstoneList is the tombstones of a shard in the order of their entries. It
// is replaced, never changed in place.
type tombstoneList []*tombstone

// after returns those of entries past an index: what masks a piece whose
// interval ends there (PROTOCOL 19).
func (l tombstoneList) after(index uint64) tombstoneList {
	i := sort.Search(len(l), func(i int) bool { return l[i].index > index })
	return l[i:]
}

// until returns those of entries up to an index.
func (l tombstoneList) until(index uint64) tombstoneList { return l[:len(l)-len(l.after(index))] }

// of returns those that delete from a series.
func (l tombstoneList) of(ref uint32) tombstoneList {
	var of tombstoneList
	for _, t := range l {
		if t.series.has(ref) {
			of = append(of, t)
		}
	}
	return of
}

func (l tombstoneList) bytes() (n int64) {
	for _, t := range l {
		n += t.bytes()
	}
	return n
}

// intervals returns the time that the tombstones, all of one series, delete.
func (l tombstoneList) intervals() tombstones.Intervals {
	var in tombstones.Intervals
	for _, t := range l {
		in = in.Add(tombstones.Interval{Mint: t.mint, Maxt: t.maxt})
	}
	return in
}

// keepExemplars removes from a series' exemplars what the tombstones, all of
// that series, delete: everything up to the end of their range. Only so do all
// replicas agree. A replica keeps the newest MaxExemplars of each piece and
// cannot know which older ones another has still, so a delete must leave what
// the rule of MaxExemplars leaves: the newest of a series, from some point on.
func (l tombstoneList) keepExemplars(list []exemplarRow) []exemplarRow {
	if len(l) == 0 {
		return list
	}
	last := l[0].maxt
	for _, t := range l[1:] {
		last = max(last, t.maxt)
	}
	return slices.DeleteFunc(list, func(e exemplarRow) bool { return e.t <= last })
}

// deletes tells whether intervals, ascending, have a timestamp.
func deletes(in tombstones.Intervals, t int64) bool {
	i := sort.Search(len(in), func(i int) bool { return in[i].Maxt >= t })
	return i < len(in) && in[i].Mint <= t
}
