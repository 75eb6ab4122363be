package metasvc

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// The encodings of the records, shared by commands, snapshots, the map file
// and the tenant cache. docs/format/metadata.md describes them; a change of
// any of them is a new version of what holds it.

func appendNodeID(dst []byte, id quorate.NodeID) []byte {
	dst = cursor.AppendBytes(dst, id.Name)
	return append(dst, id.Incarnation[:]...)
}

func readNodeID(r *reader) (id quorate.NodeID) {
	id.Name = r.String()
	r.fixed(id.Incarnation[:])
	return id
}

func appendMember(dst []byte, m Member) []byte {
	dst = appendNodeID(dst, m.Node)
	return binary.AppendUvarint(dst, uint64(m.Replica))
}

func readMember(r *reader) Member {
	return Member{Node: readNodeID(r), Replica: quorate.ReplicaID(r.Uvarint())}
}

func readMemberPointer(r *reader) *Member {
	m := readMember(r)
	return &m
}

func appendCluster(dst []byte, c *Cluster) []byte {
	dst = append(dst, c.ID[:]...)
	dst = binary.AppendVarint(dst, c.Created)
	dst = appendList(dst, c.Meta, appendMember)
	dst = appendOptional(dst, c.MetaJoining, func(dst []byte, m *Member) []byte { return appendMember(dst, *m) })
	return binary.AppendUvarint(dst, c.ModIndex)
}

func readCluster(r *reader) *Cluster {
	c := new(Cluster)
	r.fixed(c.ID[:])
	c.Created = r.Varint()
	c.Meta = readList(r, readMember)
	c.MetaJoining = readOptional(r, readMemberPointer)
	c.ModIndex = r.Uvarint()
	return c
}

func appendNodeSpec(dst []byte, n NodeSpec) []byte {
	dst = appendNodeID(dst, n.ID)
	dst = append(dst, byte(n.Roles))
	dst = cursor.AppendBytes(dst, n.Zone)
	return cursor.AppendBytes(dst, n.Address)
}

func readNodeSpec(r *reader) NodeSpec {
	return NodeSpec{ID: readNodeID(r), Roles: Roles(r.U8()), Zone: r.String(), Address: r.String()}
}

func appendNode(dst []byte, n *Node) []byte {
	dst = binary.AppendUvarint(dst, n.Number)
	dst = appendNodeSpec(dst, n.NodeSpec)
	dst = append(dst, byte(n.State))
	return binary.AppendUvarint(dst, n.ModIndex)
}

func readNode(r *reader) *Node {
	return &Node{Number: r.Uvarint(), NodeSpec: readNodeSpec(r), State: NodeState(r.U8()), ModIndex: r.Uvarint()}
}

func appendPlacement(dst []byte, p Placement) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Policy))
	return binary.AppendVarint(dst, p.From)
}

func readPlacement(r *reader) Placement {
	return Placement{Policy: quorate.PolicyID(r.Uvarint()), From: r.Varint()}
}

func appendTenant(dst []byte, t *Tenant) []byte {
	dst = cursor.AppendBytes(dst, t.Name)
	return appendTenantBody(dst, t)
}

func readTenant(r *reader) *Tenant {
	t := &Tenant{Name: r.String()}
	readTenantBody(r, t)
	return t
}

// appendTenantBody appends all of a tenant but the name: the tenant cache's
// value, whose key holds the name.
func appendTenantBody(dst []byte, t *Tenant) []byte {
	dst = binary.AppendUvarint(dst, uint64(t.ID))
	dst = appendList(dst, t.Placements, appendPlacement)
	dst = appendDuration(dst, t.Retention)
	dst = binary.AppendVarint(dst, t.Created)
	return binary.AppendUvarint(dst, t.ModIndex)
}

func readTenantBody(r *reader, t *Tenant) {
	t.ID = quorate.TenantID(r.Uvarint())
	t.Placements = readList(r, readPlacement)
	t.Retention = readDuration(r)
	t.Created = r.Varint()
	t.ModIndex = r.Uvarint()
}

func appendDuration(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(d/time.Millisecond))
}

// readDuration reads a number of milliseconds.
func readDuration(r *reader) time.Duration {
	ms := r.Uvarint()
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		r.Fail()
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// readSmall reads a number that is far below 2^31 in any valid record.
func readSmall(r *reader) int {
	n := r.Uvarint()
	if n > math.MaxInt32 {
		r.Fail()
		return 0
	}
	return int(n)
}

func appendPolicySpec(dst []byte, p PolicySpec) []byte {
	dst = cursor.AppendBytes(dst, p.Name)
	dst = appendDuration(dst, p.Span)
	dst = binary.AppendUvarint(dst, uint64(p.Shards))
	dst = binary.AppendUvarint(dst, uint64(p.Replicas))
	dst = appendDuration(dst, p.LateWindow)
	dst = appendDuration(dst, p.Retention)
	dst = appendDuration(dst, p.FutureBound)
	return appendList(dst, p.Zones, cursor.AppendBytes[string])
}

func readPolicySpec(r *reader) PolicySpec {
	return PolicySpec{
		Name:        r.String(),
		Span:        readDuration(r),
		Shards:      readSmall(r),
		Replicas:    readSmall(r),
		LateWindow:  readDuration(r),
		Retention:   readDuration(r),
		FutureBound: readDuration(r),
		Zones:       readList(r, (*reader).String),
	}
}

func appendPolicy(dst []byte, p *Policy) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.ID))
	dst = appendPolicySpec(dst, p.PolicySpec)
	dst = binary.AppendVarint(dst, p.Horizon)
	dst = binary.AppendVarint(dst, p.Reach)
	return binary.AppendUvarint(dst, p.ModIndex)
}

func readPolicy(r *reader) *Policy {
	return &Policy{ID: quorate.PolicyID(r.Uvarint()), PolicySpec: readPolicySpec(r), Horizon: r.Varint(), Reach: r.Varint(), ModIndex: r.Uvarint()}
}

func appendRange(dst []byte, tr quorate.TimeRange) []byte {
	dst = binary.AppendVarint(dst, tr.Start)
	return binary.AppendVarint(dst, tr.End)
}

func readRange(r *reader) quorate.TimeRange {
	return quorate.TimeRange{Start: r.Varint(), End: r.Varint()}
}

func appendSetID(dst []byte, id quorate.ReplicaSetID) []byte {
	return binary.AppendUvarint(dst, uint64(id))
}

func readSetID(r *reader) quorate.ReplicaSetID { return quorate.ReplicaSetID(r.Uvarint()) }

func appendBucket(dst []byte, b *BucketRecord) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.ID))
	dst = binary.AppendUvarint(dst, uint64(b.Policy))
	dst = appendRange(dst, b.Range)
	dst = append(dst, byte(b.State), b.HashVersion)
	dst = appendBool(dst, b.OnDemand)
	dst = appendBool(dst, b.Pending)
	dst = appendBool(dst, b.Cut)
	dst = appendList(dst, b.SetIDs, appendSetID)
	dst = appendList(dst, b.OverlayIDs, appendSetID)
	dst = binary.AppendVarint(dst, b.Planned)
	dst = binary.AppendUvarint(dst, b.Announced)
	return binary.AppendUvarint(dst, b.ModIndex)
}

func readBucket(r *reader) *BucketRecord {
	return &BucketRecord{
		ID:          quorate.BucketID(r.Uvarint()),
		Policy:      quorate.PolicyID(r.Uvarint()),
		Range:       readRange(r),
		State:       BucketState(r.U8()),
		HashVersion: r.U8(),
		OnDemand:    r.bool(),
		Pending:     r.bool(),
		Cut:         r.bool(),
		SetIDs:      readList(r, readSetID),
		OverlayIDs:  readList(r, readSetID),
		Planned:     r.Varint(),
		Announced:   r.Uvarint(),
		ModIndex:    r.Uvarint(),
	}
}

func appendTombstone(dst []byte, t Tombstone) []byte {
	dst = append(dst, byte(t.Kind))
	dst = binary.AppendUvarint(dst, t.ID)
	dst = cursor.AppendBytes(dst, t.Name)
	return binary.AppendUvarint(dst, t.ModIndex)
}

func readTombstone(r *reader) Tombstone {
	return Tombstone{Kind: RecordKind(r.U8()), ID: r.Uvarint(), Name: r.String(), ModIndex: r.Uvarint()}
}
