package simulation

import (
	"context"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	firstSet quorate.ReplicaSetID = 7
	// replicaIDs is how many a set has: each node has one of its own in each.
	replicaIDs = 1000
	// bucketsPerRun is how many buckets a run's writers get through, about: as
	// many in a long run, since a set costs as much when it is idle.
	ticksPerMinute, bucketsPerRun = 240, 3
)

// replicaSet is the set of one bucket. Buckets follow each other without a gap,
// and each has one set, with a replica on every node that is a member.
type replicaSet struct {
	id     quorate.ReplicaSetID
	number int
	bounds quorate.Bounds
	// founders are the voters of its genesis.
	founders []raftset.Member
	// begun tells that a batch was acknowledged. Guarded by simulation.mu.
	begun bool
}

// bucketSpan is how much sample time a bucket has, in ms.
func (c *Config) bucketSpan() int64 {
	return tickMillis * max(6*maxTicks, int64(c.Length.Minutes()*ticksPerMinute/bucketsPerRun))
}

// member is what a node is, or would be, in the set.
func (set *replicaSet) member(n *node) raftset.Member {
	return raftset.Member{Node: n.id, Replica: quorate.ReplicaID(set.number*replicaIDs + n.number)}
}

// foundedOn tells whether a node has been a member from the beginning.
func (set *replicaSet) foundedOn(n *node) bool {
	return slices.Contains(set.founders, set.member(n))
}

func (set *replicaSet) genesis(n *node) raftset.Genesis {
	bounds := set.bounds
	if n.sim.cfg.mutant == boundless {
		bounds.Range = quorate.Forever
	}
	return raftset.Genesis{
		Set: set.id, Replica: set.member(n).Replica, Voters: set.founders, Payload: tsdbshard.GenesisPayload(bounds),
	}
}

// plan records the set of the next bucket, on the nodes that are in office. The
// lock is the caller's.
func (s *simulation) plan() *replicaSet {
	k := len(s.sets)
	span := s.cfg.bucketSpan()
	set := &replicaSet{id: firstSet + quorate.ReplicaSetID(k), number: k, bounds: quorate.Bounds{
		Version: 1, State: quorate.SetOpen, Range: quorate.TimeRange{Start: int64(k) * span, End: int64(k+1) * span},
	}}
	for _, n := range s.office {
		set.founders = append(set.founders, set.member(n))
	}
	s.sets = append(s.sets, set)
	return set
}

// reach tells that a writer gets to a sample time. The first that has two thirds
// of the last bucket behind it has the next set formed. A node that is down then
// forms its replica when it starts.
func (s *simulation) reach(ctx context.Context, t int64) {
	s.mu.Lock()
	for s.present < len(s.sets)-1 && t >= s.sets[s.present].bounds.Range.End {
		s.present++
	}
	var set *replicaSet
	var on []*node
	if last := s.sets[len(s.sets)-1].bounds.Range; t >= last.Start+2*(last.End-last.Start)/3 {
		set, on = s.plan(), slices.Clone(s.office)
	}
	s.mu.Unlock()
	if set == nil {
		return
	}
	s.trace.add("set %d is formed on %v, for %s", set.id, on, set.bounds.Range)
	for _, n := range on {
		s.forming.Go(func() { s.must(n.form(context.WithoutCancel(ctx), set)) })
	}
}

// allSets returns the sets so far, oldest first.
func (s *simulation) allSets() []*replicaSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sets)
}

// setAt returns the set that takes samples of a time.
func (s *simulation) setAt(t int64) *replicaSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[t/s.cfg.bucketSpan()]
}

// someSet is mostly the one that the foremost writer writes to, or any: an
// earlier one, or the next that nobody writes to yet.
func (s *simulation) someSet(c *chance) *replicaSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.happens(0.7) {
		return s.sets[s.present]
	}
	return pick(c, s.sets)
}

// foremost is the number of the set that the foremost writer writes to.
func (s *simulation) foremost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present
}

// acknowledged tells that a set has acknowledged a batch.
func (s *simulation) acknowledged(set *replicaSet) {
	s.mu.Lock()
	first := !set.begun && set.number > 0
	set.begun = true
	s.mu.Unlock()
	if first {
		s.count("rollovers", 1)
		s.trace.add("set %d has its first batch", set.id)
	}
}

// leading returns a replica that says it leads a set, the one of the latest term,
// nil if there is none.
func (s *simulation) leading(set *replicaSet) (leader *replica) {
	latest := uint64(0)
	for _, n := range s.members() {
		r := n.replica(set)
		if r == nil {
			continue
		}
		if term, leads := r.group.Leadership(); leads && term >= latest {
			leader, latest = r, term
		}
	}
	return leader
}

// handOver asks a leader to hand over, and counts what comes of it.
func (s *simulation) handOver(ctx context.Context, r *replica, to quorate.ReplicaID) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := r.group.TransferLeadership(ctx, to)
	if r.dead() {
		return
	}
	if err != nil {
		s.count("transfers failed", 1)
		s.trace.add("%s hands set %d over to replica %d: %v", r.node, r.set.id, to, err)
		return
	}
	s.count("transfers done", 1)
}
