package metasvc

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

const (
	// maxQuiet bounds how long a set must have been quiet to be sealed
	// (PROTOCOL 15).
	maxQuiet = 24 * time.Hour
	// minQuiet is how long it must at least have been: some passes.
	minQuiet = time.Minute
	// absentAfter is how long a node may say nothing and still be waited for by
	// the judge, and get replicas. A restart takes less; sealing is in no hurry.
	absentAfter = time.Minute
)

// planSeal wants those open sets sealed whose time has come: the bucket's end
// and late window are past, or somebody asked. Buckets of old time and overlays
// must be quiet besides, since it is not the clock that ends a backfill.
func planSeal(v view) (actions []Action, err error) {
	var failed error
	held := v.state.intentBytes()
buckets:
	for _, b := range byKey(v.state.buckets) {
		if b.State != BucketOpen {
			continue
		}
		var horizons []wire.Horizon // the same for all of its sets
		known := false
		for _, id := range slices.Concat(b.SetIDs, b.OverlayIDs) {
			set := v.state.sets[id]
			if set == nil || !set.Writable() || set.Intent != nil || !v.ripe(b, set) || v.awaitsDeletions(set) || v.moves(b, set) {
				continue
			}
			if !known {
				horizons, known = v.horizons(b), true
			}
			payload, err := v.sealPayload(horizons, set)
			if err == nil && len(payload) > maxIntentPayload {
				err = fmt.Errorf("its horizons and deletions take %d bytes, over the limit of %d", len(payload), maxIntentPayload)
			}
			if err != nil {
				failed = fmt.Errorf("seal set %d: %w", set.ID, err)
				continue
			}
			if held += len(payload); held > maxIntentBytes {
				break buckets // the next ones' turn is when these are sealed
			}
			actions = append(actions, action(LoopSeal, fmt.Sprintf("seal set %d of bucket %v", set.ID, b.Range),
				BeginIntent{Set: set.ID, Kind: IntentSeal, Term: v.term, Payload: payload}))
		}
	}
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, failed
}

// ripe tells whether the time of an open set to be sealed has come.
func (v view) ripe(b *BucketRecord, set *ReplicaSet) bool {
	p, now := v.state.policies[b.Policy], v.now.UnixMilli()
	if set.SealAsked && b.Range.End <= now {
		return true
	}
	if b.Range.End > now-p.LateWindow.Milliseconds() {
		return false
	}
	if set.Base == 0 && !b.OnDemand {
		return true
	}
	since, known := v.quiet[set.ID]
	return known && v.now.Sub(since) >= quietWindow(p.LateWindow, set.Generation)
}

// quietWindow is how long a set of a generation must have been quiet: the late
// window, doubled with each generation, so that a trickle of late samples does
// not rewrite a bucket each time. A policy without a late window has no pause
// between samples to wait for, but a set must be seen not to move.
func quietWindow(late time.Duration, generation int) time.Duration {
	late = max(late, minQuiet)
	for ; generation > 0 && late < maxQuiet; generation-- {
		late *= 2
	}
	return min(late, maxQuiet)
}

// awaitsDeletions tells whether a deletion on the set's base is not effective
// yet, which the seal must fold in.
func (v view) awaitsDeletions(set *ReplicaSet) bool {
	return set.Base != 0 && slices.ContainsFunc(v.state.deletionsOf(set.Base), func(d *DeletionRecord) bool { return d.Pending })
}

// moves tells whether a set is still to be cut, or does not lie with its base.
func (v view) moves(b *BucketRecord, set *ReplicaSet) bool {
	return outOfBounds(set, b) || set.Base != 0 && !togetherStill(v.state.sets[set.Base], set)
}

// sealPayload encodes whatever a set's canonical file depends on besides its
// log (PROTOCOL 14, 17).
func (v view) sealPayload(horizons []wire.Horizon, set *ReplicaSet) ([]byte, error) {
	var deletions []*DeletionRecord
	if set.Base != 0 {
		deletions = v.state.deletionsOf(set.Base)
	}
	for _, d := range deletions {
		// In the set's log, what does not decode would stop its replicas.
		if _, err := wire.DecodeDeletion(d.Body); err != nil {
			return nil, fmt.Errorf("deletion %d: %w", d.ID, err)
		}
	}
	return appendSealPayload(nil, horizons, deletions), nil
}

// horizons lists the tenants whose own retention has taken part of a bucket.
func (v view) horizons(b *BucketRecord) (list []wire.Horizon) {
	p := v.state.policies[b.Policy]
	for _, t := range v.state.tenants {
		oldest := v.now.UnixMilli() - p.RetentionOf(t).Milliseconds()
		if t.Retention == 0 || t.Retention >= p.Retention || oldest <= b.Range.Start {
			continue
		}
		if slices.ContainsFunc(t.PlacementsOverlapping(b.Range.Start, b.Range.End-1), func(at Placement) bool { return at.Policy == b.Policy }) {
			list = append(list, wire.Horizon{Tenant: t.ID, Oldest: oldest})
		}
	}
	slices.SortFunc(list, func(a, b wire.Horizon) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list
}

// planJudge wants the seals judged whose reports have a verdict. Apply judges
// again; asking it only then keeps the log from filling.
func planJudge(v view) (actions []Action) {
	for _, set := range byKey(v.state.sets) {
		intent := set.Sealing()
		if intent == nil {
			continue
		}
		live := v.live(set)
		why := fmt.Sprintf("set %d is sealed", set.ID)
		switch record, disputed := set.verdict(live); {
		case record != nil:
		case disputed && set.State != ReplicaSetDisputed:
			why = fmt.Sprintf("set %d is in dispute", set.ID)
		default:
			continue
		}
		actions = append(actions, action(LoopJudge, why, JudgeSeal{Set: set.ID, Intent: intent.ID, Term: v.term, Live: live}))
	}
	return actions
}

// undecided lists the sets, rising, whose live members have all reported the
// seal without a majority that agrees. Unlike a dispute that is no verdict: the
// members that are away may bring a majority, or somebody who brings them back.
func (v view) undecided() (list []quorate.ReplicaSetID) {
	for _, set := range v.state.sets {
		if set.Sealing() == nil || set.State == ReplicaSetDisputed || len(set.Reports) == 0 || set.agreed() ||
			slices.ContainsFunc(v.live(set), func(id quorate.ReplicaID) bool { return !set.reported(id) }) {
			continue
		}
		list = append(list, set.ID)
	}
	slices.Sort(list)
	return list
}

// agreed tells whether a majority of the members has reported the same seal.
func (s *ReplicaSet) agreed() bool {
	return slices.ContainsFunc(s.Reports, func(candidate SealReport) bool {
		votes := 0
		for _, r := range s.Reports {
			if r.agrees(candidate) {
				votes++
			}
		}
		return votes > len(s.Members)/2
	})
}

// live lists the members of a set, rising, that may still report: those on
// nodes that were heard of within absentAfter, or of which that cannot be told
// yet because this leader is new (PROTOCOL 17).
func (v view) live(set *ReplicaSet) (list []quorate.ReplicaID) {
	for _, m := range set.Members {
		if !v.absent(m.Node) {
			list = append(list, m.Replica)
		}
	}
	slices.Sort(list)
	return list
}

// quietSets notes since when the progress of each set stands still, by this
// leader's clock and since it leads (PROTOCOL 17).
type quietSets struct {
	mu   sync.Mutex // guards what follows
	term uint64
	sets map[quorate.ReplicaSetID]standstill
}

type standstill struct {
	index uint64
	since time.Time
}

// observe takes in how far the sets have come at now. A set that is not
// reported loses its time.
func (q *quietSets) observe(term uint64, now time.Time, progress map[quorate.ReplicaSetID]uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := q.sets
	if q.term != term {
		before = nil
	}
	q.term = term
	q.sets = make(map[quorate.ReplicaSetID]standstill, len(progress))
	for id, index := range progress {
		s, known := before[id]
		if !known || s.index != index {
			s = standstill{index: index, since: now}
		}
		q.sets[id] = s
	}
}

// forget is called when this node does not lead.
func (q *quietSets) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sets = nil
}

// since returns since when each set is quiet.
func (q *quietSets) since() map[quorate.ReplicaSetID]time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	since := make(map[quorate.ReplicaSetID]time.Time, len(q.sets))
	for id, s := range q.sets {
		since[id] = s.since
	}
	return since
}
