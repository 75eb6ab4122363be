package metasvc

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"github.com/quorate/quorate"
)

// maxTombstones bounds how many removed records are remembered. Dropping the
// oldest is part of Apply, so the number belongs to the state's format.
const maxTombstones = 4096

// counters are the numbers last given out, one sequence per kind. They only
// rise and are part of the snapshot, so no number is ever given out twice
// (PROTOCOL 1).
type counters struct {
	node, tenant, policy, bucket, set, replica, intent, deletion uint64
}

// state is the metadata at one index: a pure value that commands change. It
// reads no clock, no chance and no map order. Maps hold immutable records, so
// a clone copies pointers only.
type state struct {
	// index is that of the last entry applied.
	index   uint64
	last    counters
	cluster *Cluster

	nodes    map[quorate.NodeID]*Node
	tenants  map[quorate.TenantID]*Tenant
	policies map[quorate.PolicyID]*Policy
	buckets  map[quorate.BucketID]*BucketRecord
	sets     map[quorate.ReplicaSetID]*ReplicaSet
	// deletions are those on sealed sets, by number.
	deletions map[uint64]*DeletionRecord

	// tenantByName and bucketsOf are derived from the tables above. The slices
	// of bucketsOf are sorted by start and replaced, never changed in place.
	tenantByName map[string]*Tenant
	bucketsOf    map[quorate.PolicyID][]*BucketRecord

	// tombstones are the removed records by rising ModIndex; of those up to
	// index forgotten some are not remembered any more.
	tombstones []Tombstone
	forgotten  uint64

	// changes are what the entry being applied changed, taken by takeChanges:
	// of each record the last change, in the order of the first. changeAt is
	// where each record stands there.
	changes  []Change
	changeAt map[changeKey]int
}

type changeKey struct {
	kind RecordKind
	id   uint64
}

func newState() *state {
	return &state{
		nodes:        make(map[quorate.NodeID]*Node),
		tenants:      make(map[quorate.TenantID]*Tenant),
		policies:     make(map[quorate.PolicyID]*Policy),
		buckets:      make(map[quorate.BucketID]*BucketRecord),
		sets:         make(map[quorate.ReplicaSetID]*ReplicaSet),
		deletions:    make(map[uint64]*DeletionRecord),
		tenantByName: make(map[string]*Tenant),
		bucketsOf:    make(map[quorate.PolicyID][]*BucketRecord),
	}
}

// clone returns a copy that later commands do not change.
func (s *state) clone() *state {
	c := *s
	c.nodes = maps.Clone(s.nodes)
	c.tenants = maps.Clone(s.tenants)
	c.policies = maps.Clone(s.policies)
	c.buckets = maps.Clone(s.buckets)
	c.sets = maps.Clone(s.sets)
	c.deletions = maps.Clone(s.deletions)
	c.tenantByName = maps.Clone(s.tenantByName)
	c.bucketsOf = maps.Clone(s.bucketsOf)
	c.tombstones = slices.Clone(s.tombstones)
	c.changes, c.changeAt = nil, nil
	return &c
}

// takeChanges returns what the commands since the last call changed: of each
// record the last change, in the order of the first.
func (s *state) takeChanges() []Change {
	changes := s.changes
	s.changes, s.changeAt = nil, nil
	return changes
}

func (s *state) changed(kind RecordKind, id uint64, record Record) {
	s.note(Change{Index: s.index, Kind: kind, ID: id, Record: record})
}

// note notes a change in place of an earlier one of the same record, which
// nobody needs to see and which would hold memory until the entry is done.
func (s *state) note(c Change) {
	key := changeKey{c.Kind, c.ID}
	if i, known := s.changeAt[key]; known {
		s.changes[i] = c
		return
	}
	if s.changeAt == nil {
		s.changeAt = make(map[changeKey]int)
	}
	s.changeAt[key] = len(s.changes)
	s.changes = append(s.changes, c)
}

// The put methods store a record, which is the table's from then on, under
// the index of the entry being applied.

func (s *state) putCluster(c *Cluster) {
	c.ModIndex = s.index
	s.cluster = c
	s.changed(KindCluster, 0, c)
}

func (s *state) putNode(n *Node) {
	n.ModIndex = s.index
	s.nodes[n.ID] = n
	s.changed(KindNode, n.Number, n)
}

func (s *state) putTenant(t *Tenant) {
	t.ModIndex = s.index
	s.tenants[t.ID] = t
	s.tenantByName[t.Name] = t
	s.changed(KindTenant, uint64(t.ID), t)
}

func (s *state) putPolicy(p *Policy) {
	p.ModIndex = s.index
	s.policies[p.ID] = p
	s.changed(KindPolicy, uint64(p.ID), p)
}

func (s *state) putBucket(b *BucketRecord) {
	b.ModIndex = s.index
	s.indexBucket(b)
	s.changed(KindBucket, uint64(b.ID), b)
}

// indexBucket stores a bucket in the table and in the order of its policy.
func (s *state) indexBucket(b *BucketRecord) {
	s.buckets[b.ID] = b
	list := s.bucketsOf[b.Policy]
	at, found := slices.BinarySearchFunc(list, b.Range.Start, func(b *BucketRecord, start int64) int {
		return cmp.Compare(b.Range.Start, start)
	})
	grown := make([]*BucketRecord, 0, len(list)+1)
	grown = append(append(grown, list[:at]...), b)
	if found {
		at++
	}
	s.bucketsOf[b.Policy] = append(grown, list[at:]...)
}

func (s *state) putSet(set *ReplicaSet) {
	set.ModIndex = s.index
	s.sets[set.ID] = set
	s.changed(KindReplicaSet, uint64(set.ID), set)
}

func (s *state) putDeletion(d *DeletionRecord) {
	d.ModIndex = s.index
	s.deletions[d.ID] = d
	s.changed(KindDeletion, d.ID, d)
}

// The remove methods take a record out of its table and leave a tombstone.

func (s *state) removeTenant(t *Tenant) {
	delete(s.tenants, t.ID)
	delete(s.tenantByName, t.Name)
	s.removed(KindTenant, uint64(t.ID), t.Name)
}

func (s *state) removeBucket(b *BucketRecord) {
	s.unindexBucket(b)
	s.removed(KindBucket, uint64(b.ID), "")
}

// unindexBucket undoes indexBucket.
func (s *state) unindexBucket(b *BucketRecord) {
	delete(s.buckets, b.ID)
	list := slices.Clone(s.bucketsOf[b.Policy])
	list = slices.DeleteFunc(list, func(other *BucketRecord) bool { return other.ID == b.ID })
	if len(list) > 0 {
		s.bucketsOf[b.Policy] = list
	} else {
		delete(s.bucketsOf, b.Policy)
	}
}

func (s *state) removeSet(set *ReplicaSet) {
	delete(s.sets, set.ID)
	s.removed(KindReplicaSet, uint64(set.ID), "")
}

func (s *state) removeDeletion(d *DeletionRecord) {
	delete(s.deletions, d.ID)
	s.removed(KindDeletion, d.ID, "")
}

func (s *state) removed(kind RecordKind, id uint64, name string) {
	s.bury(Tombstone{Kind: kind, ID: id, Name: name, ModIndex: s.index})
	s.note(Change{Index: s.index, Kind: kind, ID: id, Name: name, Removed: true})
}

// bury remembers a removal, and forgets the oldest that are over the limit.
func (s *state) bury(t Tombstone) {
	s.tombstones = append(s.tombstones, t)
	if over := len(s.tombstones) - maxTombstones; over > 0 {
		s.forgotten = s.tombstones[over-1].ModIndex
		s.tombstones = slices.Clone(s.tombstones[over:])
	}
}

// policyNamed returns the policy of a name, nil when there is none. Policies
// are few, so no index by name is kept.
func (s *state) policyNamed(name string) *Policy {
	for _, p := range s.policies {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// bucketAt returns the policy's bucket that covers ts, nil when none does.
func (s *state) bucketAt(policy quorate.PolicyID, ts int64) *BucketRecord {
	list := s.bucketsOf[policy]
	i := sort.Search(len(list), func(i int) bool { return list[i].Range.Start > ts })
	if i > 0 && list[i-1].Range.Contains(ts) {
		return list[i-1]
	}
	return nil
}

// byKey returns a table's records by rising key, the only order in which a
// table may be walked where the order shows.
func byKey[K cmp.Ordered, V any](table map[K]V) []V {
	out := make([]V, 0, len(table))
	for _, k := range slices.Sorted(maps.Keys(table)) {
		out = append(out, table[k])
	}
	return out
}

// nodesByNumber returns the nodes in the order of their admission.
func (s *state) nodesByNumber() []*Node {
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b *Node) int { return cmp.Compare(a.Number, b.Number) })
}

// changesSince returns all records changed after index from, and the removals
// after it. The result is complete only when from is at or past forgotten.
func (s *state) changesSince(from uint64) []Change {
	var out []Change
	add := func(mod uint64, kind RecordKind, id uint64, record Record) {
		if mod > from {
			out = append(out, Change{Index: mod, Kind: kind, ID: id, Record: record})
		}
	}
	for _, t := range s.tombstones {
		if t.ModIndex > from {
			out = append(out, Change{Index: t.ModIndex, Kind: t.Kind, ID: t.ID, Name: t.Name, Removed: true})
		}
	}
	if c := s.cluster; c != nil {
		add(c.ModIndex, KindCluster, 0, c)
	}
	for _, n := range s.nodes {
		add(n.ModIndex, KindNode, n.Number, n)
	}
	for _, p := range s.policies {
		add(p.ModIndex, KindPolicy, uint64(p.ID), p)
	}
	for _, t := range s.tenants {
		add(t.ModIndex, KindTenant, uint64(t.ID), t)
	}
	for _, b := range s.buckets {
		add(b.ModIndex, KindBucket, uint64(b.ID), b)
	}
	for _, set := range s.sets {
		add(set.ModIndex, KindReplicaSet, uint64(set.ID), set)
	}
	for _, d := range s.deletions {
		add(d.ModIndex, KindDeletion, d.ID, d)
	}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out
}
