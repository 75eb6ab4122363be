package metasvc

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sort"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Bucket is a bucket as the map serves it: the record with its ReplicaSets at
// hand.
type Bucket struct {
	BucketRecord
	// Sets are the ReplicaSets by shard, open or sealed.
	Sets []*ReplicaSet
	// Overlays are the sets over them by shard, nil where there is none.
	Overlays []*ReplicaSet
}

// Writable returns the set that takes a shard's samples: the open set, or the
// overlay over the sealed one. It is nil while there is none: a bucket that is
// not open, a seal in dispute, or a sealed set whose overlay is missing or not
// ready, which EnsureOverlay mends.
func (b *Bucket) Writable(shard int) *ReplicaSet {
	if b.State != BucketOpen {
		return nil
	}
	if set := b.Sets[shard]; set.Writable() {
		return set
	}
	if overlay := b.Overlays[shard]; overlay != nil && overlay.Writable() {
		return overlay
	}
	return nil
}

// Readable returns the sets that have a shard's samples: the base, and the
// overlay over it, nil when there is none. Of samples of both with one
// timestamp the base's counts (PROTOCOL 15). An overlay is to be read as soon
// as the map has it open, also while it is pending: this node's having the map
// is what lets others write to it (PROTOCOL 8).
func (b *Bucket) Readable(shard int) (base, overlay *ReplicaSet) {
	overlay = b.Overlays[shard]
	if overlay != nil && overlay.State == ReplicaSetForming {
		overlay = nil
	}
	return b.Sets[shard], overlay
}

// Map is where everything lies, at one version. It is immutable and safe for
// concurrent use; what its methods return must not be changed. Whoever serves
// a request takes one Map and uses it throughout, since entries of different
// versions never mix (PROTOCOL 7).
type Map struct {
	// Version is the index of the metadata log up to which the map is exact; 0
	// is the empty map of a node that knows nothing yet.
	Version uint64
	// Cluster is nil before the first metadata entry.
	Cluster *Cluster

	tables *mapTables
	// slots are the tenants' versions; see tenantSlot.
	slots *tenantSlots
	// loaded is the state of the map file while the map is served from there,
	// else nil.
	loaded *state
}

// mapTables is what only changes of other things than tenants change, so that
// a new tenant costs no new tables.
type mapTables struct {
	nodes    []*Node // by number
	policies []*Policy
	// lines are the policies' buckets by rising policy.
	lines []bucketLine
	sets  []*ReplicaSet // by ID
	// byID are the buckets of lines.
	byID      map[quorate.BucketID]*Bucket
	deletions map[quorate.ReplicaSetID][]wire.NumberedDeletion
	// deletionIDs are all deletions, and whether they are pending.
	deletionIDs map[uint64]bool
}

// bucketLine is one policy's buckets by time. The ends stand apart so that the
// search touches a cache line or two, not one a bucket.
type bucketLine struct {
	policy  quorate.PolicyID
	ends    []int64
	buckets []*Bucket
	// past are the buckets that were cut and may have samples past their end.
	past []*Bucket
}

// newMap returns the map of a node that knows nothing yet.
func newMap() *Map {
	return &Map{tables: new(mapTables), slots: new(tenantSlots)}
}

// line returns a policy's buckets. Policies are few (MaxPolicies), so walking
// them beats hashing.
func (m *Map) line(policy quorate.PolicyID) *bucketLine {
	for i := range m.tables.lines {
		if l := &m.tables.lines[i]; l.policy == policy {
			return l
		}
	}
	return nil
}

// after returns the place of the first bucket that ends after ts. The newest
// buckets are asked for most and stand last, so a few steps from the end
// usually find it; a search over all does for the rest.
func (l *bucketLine) after(ts int64) int {
	const near = 4
	n := len(l.ends)
	for i := n; i > 0 && i > n-near; i-- {
		if l.ends[i-1] <= ts {
			return i
		}
	}
	lo, hi := 0, max(n-near+1, 0)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if l.ends[mid] <= ts {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Bucket returns the policy's bucket that covers ts (ms), planned ones
// included and dropped ones not, or nil. It allocates nothing and takes 8 to 21 ns.
func (m *Map) Bucket(policy quorate.PolicyID, ts int64) *Bucket {
	l := m.line(policy)
	if l == nil {
		return nil
	}
	if i := l.after(ts); i < len(l.buckets) && l.buckets[i].Range.Start <= ts {
		return l.buckets[i]
	}
	return nil
}

// BucketsOverlapping returns the policy's buckets that share an instant with
// the closed range [mint, maxt], by time, planned ones included and dropped
// ones not. It allocates nothing.
func (m *Map) BucketsOverlapping(policy quorate.PolicyID, mint, maxt int64) []*Bucket {
	l := m.line(policy)
	if l == nil || mint > maxt {
		return nil
	}
	first := l.after(mint)
	end := first
	for end < len(l.buckets) && l.buckets[end].Range.Start <= maxt {
		end++
	}
	return l.buckets[first:end]
}

// BucketsToRead returns the policy's buckets that may have samples of the closed
// range [mint, maxt]: those that share an instant with it, and before them those
// that were cut to before it and had taken samples of it (PROTOCOL 13), or may have:
// a set that is not told yet is read up to its old end. Which sets, ReadRange tells.
func (m *Map) BucketsToRead(policy quorate.PolicyID, mint, maxt int64) []*Bucket {
	overlapping := m.BucketsOverlapping(policy, mint, maxt)
	l := m.line(policy)
	if l == nil || mint > maxt {
		return nil
	}
	var past []*Bucket
	for _, b := range l.past {
		if b.Range.End <= mint && b.readEnd() > mint {
			past = append(past, b)
		}
	}
	if len(past) == 0 {
		return overlapping
	}
	return append(past, overlapping...)
}

// readEnd is the time (ms, exclusive) up to which any of the bucket's sets is to be
// read.
func (b *Bucket) readEnd() int64 {
	end := b.Range.End
	for _, set := range b.Sets { // an overlay reaches as far as its base
		end = max(end, set.ReadRange().End)
	}
	return end
}

// Buckets returns all buckets of a policy by time, but those being dropped.
func (m *Map) Buckets(policy quorate.PolicyID) []*Bucket {
	if l := m.line(policy); l != nil {
		return l.buckets
	}
	return nil
}

// Policies returns the policies by ID.
func (m *Map) Policies() []*Policy { return m.tables.policies }

// Policy returns a policy, nil when there is none.
func (m *Map) Policy(id quorate.PolicyID) *Policy {
	for _, p := range m.tables.policies {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// PolicyNamed returns the policy of a name, nil when there is none.
func (m *Map) PolicyNamed(name string) *Policy {
	for _, p := range m.tables.policies {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Nodes returns the nodes in the order of their admission.
func (m *Map) Nodes() []*Node { return m.tables.nodes }

// Node returns a node, nil when the cluster has none of that ID.
func (m *Map) Node(id quorate.NodeID) *Node {
	for _, n := range m.tables.nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// bucketOf returns the bucket of a set, nil when it is not there or dropped.
func (m *Map) bucketOf(set *ReplicaSet) *Bucket { return m.tables.byID[set.Bucket] }

// DeletionsOf returns the deletions that reads of a sealed set apply, by ID;
// none is nil. They are those of the newest map, whether or not every node is
// known to apply them: success is answered only when all do (PROTOCOL 8, 19).
// It allocates nothing; the result must not be changed.
func (m *Map) DeletionsOf(set quorate.ReplicaSetID) []wire.NumberedDeletion {
	return m.tables.deletions[set]
}

// Sets returns all ReplicaSets by ID, overlays and dropped ones included; the
// metadata group is not among them.
func (m *Map) Sets() []*ReplicaSet { return m.tables.sets }

// Set returns a ReplicaSet, nil when there is none.
func (m *Map) Set(id quorate.ReplicaSetID) *ReplicaSet {
	sets := m.tables.sets
	i := sort.Search(len(sets), func(i int) bool { return sets[i].ID >= id })
	if i < len(sets) && sets[i].ID == id {
		return sets[i]
	}
	return nil
}

// SetsOn yields the ReplicaSets that have a replica on a node or are to have
// one, by ID, each with that replica: a member's, or the one that joins there
// (Changing). Overlays and dropped ones are included.
func (m *Map) SetsOn(node quorate.NodeID) iter.Seq2[*ReplicaSet, quorate.ReplicaID] {
	return func(yield func(*ReplicaSet, quorate.ReplicaID) bool) {
		for _, s := range m.tables.sets {
			member, here := s.MemberOn(node)
			if !here && s.Intent != nil {
				member, _, _ = s.memberChange()
				here = member.Replica != 0 && member.Node == node
			}
			if here && !yield(s, member.Replica) {
				return
			}
		}
	}
}

// LeftOn yields the ReplicaSets that a replica of a node has left, by ID, each
// with that replica: its files are to be moved away, and that reported
// (Client.ReportLeft).
func (m *Map) LeftOn(node quorate.NodeID) iter.Seq2[*ReplicaSet, quorate.ReplicaID] {
	return func(yield func(*ReplicaSet, quorate.ReplicaID) bool) {
		for _, s := range m.tables.sets {
			for _, left := range s.Left {
				if left.Node == node && !yield(s, left.Replica) {
					return
				}
			}
		}
	}
}

// Loaded tells that the map is the copy of an earlier run and that nothing
// newer has been seen since.
func (m *Map) Loaded() bool { return m.loaded != nil }

// mirror is the map in the making: what a follower of the change log knows.
type mirror struct {
	version  uint64
	cluster  *Cluster
	nodes    map[uint64]*Node
	policies map[quorate.PolicyID]*Policy
	buckets  map[quorate.BucketID]*BucketRecord
	sets     map[quorate.ReplicaSetID]*ReplicaSet
	// deletions are decoded once, when they come.
	deletions map[uint64]mirroredDeletion
	slots     *tenantSlots
	tables    *mapTables // nil when they must be made anew
	// bySet and pending are the deletions as tables have them; they may name a
	// hundred thousand sets and are made anew only when a deletion changed.
	bySet   map[quorate.ReplicaSetID][]wire.NumberedDeletion
	pending map[uint64]bool
}

type mirroredDeletion struct {
	record  *DeletionRecord
	decoded wire.NumberedDeletion
}

func newMirror() *mirror {
	return &mirror{
		nodes:    make(map[uint64]*Node),
		policies: make(map[quorate.PolicyID]*Policy),
		buckets:  make(map[quorate.BucketID]*BucketRecord),
		sets:     make(map[quorate.ReplicaSetID]*ReplicaSet),

		deletions: make(map[uint64]mirroredDeletion),
		slots:     new(tenantSlots),
	}
}

// apply takes a batch in. Tables and slots of maps built before are not
// touched.
func (m *mirror) apply(b Batch) {
	if b.Whole {
		*m = *newMirror()
		m.slots = allSlots(b.To)
	}
	m.version = b.To
	slots, copied := m.slots, false
	for _, c := range b.Changes {
		if c.Kind != KindTenant {
			m.tables = nil
			if c.Kind == KindDeletion {
				m.bySet, m.pending = nil, nil
			}
			m.applyTables(c)
			continue
		}
		if !copied {
			fresh := *slots
			slots, copied = &fresh, true
		}
		name := c.Name
		if t, ok := c.Record.(*Tenant); ok {
			name = t.Name
		}
		slots[tenantSlot(name)] = b.To
	}
	m.slots = slots
}

func (m *mirror) applyTables(c Change) {
	if c.Removed {
		m.remove(c)
		return
	}
	switch r := c.Record.(type) {
	case *Cluster:
		m.cluster = r
	case *Node:
		m.nodes[r.Number] = r
	case *Policy:
		m.policies[r.ID] = r
	case *BucketRecord:
		m.buckets[r.ID] = r
	case *ReplicaSet:
		m.sets[r.ID] = r
	case *DeletionRecord:
		known := m.deletions[r.ID]
		if known.record == nil { // the body never changes
			known.decoded = r.decode()
		}
		known.record = r
		m.deletions[r.ID] = known
	}
}

// remove takes out what was removed; nodes and policies never are.
func (m *mirror) remove(c Change) {
	switch c.Kind {
	case KindBucket:
		delete(m.buckets, quorate.BucketID(c.ID))
	case KindReplicaSet:
		delete(m.sets, quorate.ReplicaSetID(c.ID))
	case KindDeletion:
		delete(m.deletions, c.ID)
	case KindCluster, KindNode, KindPolicy, KindTenant:
	}
}

// build returns the map of what was taken in.
func (m *mirror) build() *Map {
	if m.tables == nil {
		m.tables = m.buildTables()
	}
	return &Map{Version: m.version, Cluster: m.cluster, tables: m.tables, slots: m.slots}
}

func (m *mirror) buildTables() *mapTables {
	t := &mapTables{
		nodes:    byKey(m.nodes),
		policies: byKey(m.policies),
		sets:     byKey(m.sets),
		byID:     make(map[quorate.BucketID]*Bucket, len(m.buckets)),
	}
	all := slices.SortedFunc(maps.Values(m.buckets), func(a, b *BucketRecord) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Range.Start, b.Range.Start))
	})
	for _, r := range all {
		if r.State == BucketDropping {
			continue // nobody reads or writes it, and its sets go one by one
		}
		b := &Bucket{BucketRecord: *r, Sets: make([]*ReplicaSet, len(r.SetIDs)), Overlays: make([]*ReplicaSet, len(r.SetIDs))}
		for shard, id := range r.SetIDs {
			b.Sets[shard] = m.sets[id]
			b.Overlays[shard] = m.sets[r.OverlayIDs[shard]]
		}
		if n := len(t.lines); n == 0 || t.lines[n-1].policy != r.Policy {
			t.lines = append(t.lines, bucketLine{policy: r.Policy})
		}
		l := &t.lines[len(t.lines)-1]
		l.ends = append(l.ends, r.Range.End)
		l.buckets = append(l.buckets, b)
		if b.Cut && b.readEnd() > b.Range.End {
			l.past = append(l.past, b)
		}
		t.byID[b.ID] = b
	}
	if m.pending == nil && len(m.deletions) > 0 {
		m.buildDeletions()
	}
	t.deletions, t.deletionIDs = m.bySet, m.pending
	return t
}

func (m *mirror) buildDeletions() {
	m.bySet = make(map[quorate.ReplicaSetID][]wire.NumberedDeletion)
	m.pending = make(map[uint64]bool, len(m.deletions))
	for _, d := range byKey(m.deletions) {
		for _, set := range d.record.Sets {
			m.bySet[set] = append(m.bySet[set], d.decoded)
		}
		m.pending[d.record.ID] = d.record.Pending
	}
}

// mapOf builds the map of a whole state, as it was loaded from the map file.
func mapOf(s *state) *Map {
	m := newMirror()
	m.apply(Batch{To: s.index, Changes: s.changesSince(0), Whole: true})
	built := m.build()
	built.loaded = s
	return built
}
