package metasvc

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate"
)

// Records are immutable: a change makes a new one. So the state machine, its
// snapshots, the change log and every Map share them without copying. ModIndex
// is the index of the metadata log entry that made the record what it is.

// Cluster is the record that the first metadata entry makes.
type Cluster struct {
	ID quorate.ClusterID
	// Created is when the cluster was made, in ms since the epoch.
	Created int64
	// Meta are the voters of the metadata group, ReplicaSet 0. The group's own
	// configuration is the truth; this copies it.
	Meta []Member
	// MetaJoining is the replica that is to join the metadata group next, nil
	// when none is.
	MetaJoining *Member
	ModIndex    uint64
}

// Replica returns the cluster's replica of the metadata group on a node: a
// voter or the one that joins.
func (c *Cluster) Replica(node quorate.NodeID) (Member, bool) {
	for _, m := range c.Meta {
		if m.Node == node {
			return m, true
		}
	}
	if m := c.MetaJoining; m != nil && m.Node == node {
		return *m, true
	}
	return Member{}, false
}

// Roles is the set of jobs that a node does.
type Roles uint8

const (
	// RoleMeta holds a replica of the metadata group.
	RoleMeta Roles = 1 << iota
	// RoleData holds replicas of ReplicaSets.
	RoleData
	// RoleGateway takes writes and queries.
	RoleGateway

	// AllRoles is what a node does unless told otherwise.
	AllRoles = RoleMeta | RoleData | RoleGateway
)

// String prints the roles as "meta,data,gateway".
func (r Roles) String() string {
	var names []string
	for _, one := range []struct {
		role Roles
		name string
	}{{RoleMeta, "meta"}, {RoleData, "data"}, {RoleGateway, "gateway"}} {
		if r&one.role != 0 {
			names = append(names, one.name)
		}
	}
	if rest := r &^ AllRoles; rest != 0 {
		names = append(names, fmt.Sprintf("Roles(%#x)", uint8(rest)))
	}
	return strings.Join(names, ",")
}

// NodeSpec is what a node says of itself when it joins.
type NodeSpec struct {
	ID    quorate.NodeID
	Roles Roles
	// Zone is the failure domain that replicas are spread over; empty is a zone too.
	Zone string
	// Address is host:port of the port between nodes; empty on a lone node.
	Address string
}

// NodeState is what a node is to the placement of replicas.
type NodeState uint8

const (
	// NodeActive takes new replicas as its roles say.
	NodeActive NodeState = iota + 1
	// NodeDraining takes no new replicas, and those it has are moved away.
	NodeDraining
	// NodeRemoved has no replica any more and never gets one again: whoever comes
	// back on its machine is another node (PROTOCOL 1).
	NodeRemoved
)

// String prints the state's name.
func (s NodeState) String() string {
	switch s {
	case NodeActive:
		return "active"
	case NodeDraining:
		return "draining"
	case NodeRemoved:
		return "removed"
	}
	return fmt.Sprintf("NodeState(%d)", uint8(s))
}

// Node is a member of the cluster.
type Node struct {
	NodeSpec
	// Number is the node's place in the order of admission, from 1, never reused.
	Number   uint64
	State    NodeState
	ModIndex uint64
}

// Placement says that a tenant's samples from From (ms, inclusive) until the
// next placement's From lie under Policy.
type Placement struct {
	Policy quorate.PolicyID
	From   int64
}

// Tenant is one tenant. A tenant deleted and created again under one name is
// another tenant, with another ID (PROTOCOL 1).
type Tenant struct {
	ID   quorate.TenantID
	Name string
	// Placements is the placement history by rising From; the first one's is
	// math.MinInt64, so that every timestamp has a policy.
	Placements []Placement
	// Retention is how old the tenant's samples may be where that is less than
	// its policy's; 0 leaves it to the policy. Older ones are not read, and are
	// left out of the files of buckets that are sealed from then on.
	Retention time.Duration
	// Created is when the tenant was made, in ms since the epoch.
	Created  int64
	ModIndex uint64
}

// PolicyAt returns the policy under which the tenant's sample at ts (ms) lies.
func (t *Tenant) PolicyAt(ts int64) quorate.PolicyID {
	for i := len(t.Placements) - 1; i > 0; i-- {
		if t.Placements[i].From <= ts {
			return t.Placements[i].Policy
		}
	}
	return t.Placements[0].Policy
}

// PlacementsOverlapping returns the part of the placement history that the
// closed range [mint, maxt] touches (PROTOCOL 11: reads consult every policy
// that overlaps their window). The result must not be changed.
func (t *Tenant) PlacementsOverlapping(mint, maxt int64) []Placement {
	first, end := 0, len(t.Placements)
	for first+1 < end && t.Placements[first+1].From <= mint {
		first++
	}
	for end > first+1 && t.Placements[end-1].From > maxt {
		end--
	}
	return t.Placements[first:end]
}

// PolicySpec says how data is placed. All durations have millisecond grain.
type PolicySpec struct {
	Name string
	// Span is the length of a bucket; buckets align to its multiples in UTC.
	Span time.Duration
	// Shards is how many ReplicaSets a bucket has, 1 to MaxShards.
	Shards int
	// Replicas is how many members a ReplicaSet has, 1 to MaxReplicas.
	Replicas int
	// LateWindow is how long after its end a bucket takes late samples.
	LateWindow time.Duration
	// Retention is how old samples may be.
	Retention time.Duration
	// FutureBound is how far ahead of the clock a sample may be.
	FutureBound time.Duration
	// Zones are the zones that replicas may lie in, sorted; none means any.
	Zones []string
}

func (p PolicySpec) equal(q PolicySpec) bool {
	return p.Name == q.Name && p.Span == q.Span && p.Shards == q.Shards && p.Replicas == q.Replicas &&
		p.LateWindow == q.LateWindow && p.Retention == q.Retention && p.FutureBound == q.FutureBound &&
		slices.Equal(p.Zones, q.Zones)
}

// NoHorizon is the horizon of a policy none of whose buckets was dropped.
const NoHorizon = math.MinInt64

// Policy is one placement policy.
type Policy struct {
	PolicySpec
	ID quorate.PolicyID
	// Horizon is the end (ms) of the newest bucket that retention has dropped,
	// or NoHorizon. It only rises, and no bucket is made of time before it
	// again (PROTOCOL 15), however long retention becomes.
	Horizon int64
	// Reach is the time (ms) that no sample can have reached which was taken under
	// a larger future bound than that of now; 0 when there was none. A cut is not
	// before it (PROTOCOL 13).
	Reach    int64
	ModIndex uint64
}

// RetentionOf returns how old a tenant's samples may be under the policy: the
// tenant's own retention where it is shorter, else the policy's.
func (p *Policy) RetentionOf(t *Tenant) time.Duration {
	if t.Retention > 0 && t.Retention < p.Retention {
		return t.Retention
	}
	return p.Retention
}

// BucketState is a bucket's place in its life.
type BucketState uint8

const (
	// BucketPlanned has ReplicaSets that are not all formed yet, or waits to
	// become effective. Nothing is written to it.
	BucketPlanned BucketState = iota + 1
	// BucketOpen takes writes (PROTOCOL 10) and answers queries, also when its
	// sets are sealed: its late samples go to their overlays then.
	BucketOpen
	// BucketDropping is past its policy's retention. Nothing is read from it
	// or written to it any more; its sets are dropped as soon as every node
	// knows of that.
	BucketDropping
)

// String prints the state's name.
func (s BucketState) String() string {
	switch s {
	case BucketPlanned:
		return "planned"
	case BucketOpen:
		return "open"
	case BucketDropping:
		return "dropping"
	}
	return fmt.Sprintf("BucketState(%d)", uint8(s))
}

// BucketRecord is one bucket as the metadata log knows it.
type BucketRecord struct {
	ID     quorate.BucketID
	Policy quorate.PolicyID
	Range  quorate.TimeRange
	State  BucketState
	// HashVersion is the version of the shard hash that routes into it (PROTOCOL 12).
	HashVersion uint8
	// OnDemand marks a bucket made because samples for old time arrived.
	OnDemand bool
	// Pending marks a change in time that queries can already see, which takes
	// effect only once every node has a map of version Announced (PROTOCOL 8):
	// a planned bucket opens, or a dropping one's sets are dropped.
	Pending bool
	// Cut tells that the bucket's end was moved to before the end of its span,
	// for the next bucket to begin there (PROTOCOL 13).
	Cut bool
	// SetIDs are its ReplicaSets by shard; their number is the shard count.
	SetIDs []quorate.ReplicaSetID
	// OverlayIDs are the overlays over them by shard, 0 where there is none.
	OverlayIDs []quorate.ReplicaSetID
	// Planned is the clock (ms) of whoever planned the bucket. One that starts
	// after it was planned ahead, and so not by a clock that had just jumped.
	Planned int64
	// Announced is the index of the entry that planned the bucket or began to
	// drop it.
	Announced uint64
	ModIndex  uint64
}

// RecordKind tells the tables of the state apart.
type RecordKind uint8

// The tables of the state.
const (
	KindCluster RecordKind = iota + 1
	KindNode
	KindTenant
	KindPolicy
	KindBucket
	KindReplicaSet
	KindDeletion
)

// String prints the kind's name.
func (k RecordKind) String() string {
	switch k {
	case KindCluster:
		return "cluster"
	case KindNode:
		return "node"
	case KindTenant:
		return "tenant"
	case KindPolicy:
		return "policy"
	case KindBucket:
		return "bucket"
	case KindReplicaSet:
		return "set"
	case KindDeletion:
		return "deletion"
	}
	return fmt.Sprintf("RecordKind(%d)", uint8(k))
}

// Tombstone is what stays of a record that was removed.
type Tombstone struct {
	Kind RecordKind
	// ID is the record's number within its kind.
	ID uint64
	// Name is the name a tenant had.
	Name     string
	ModIndex uint64
}
