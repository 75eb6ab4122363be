package metasvc

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
)

// stateVersion is the version of the encoded state, its first byte. Version 1
// knew nothing of sealing, version 2 of member changes; no release wrote them.
const stateVersion = 4

// appendState appends the whole state but its index, which stands beside it:
// in the manifest or in the map file's header. docs/format/metadata.md has the
// layout.
func appendState(dst []byte, s *state) []byte {
	dst = append(dst, stateVersion)
	for _, n := range s.last.fields() {
		dst = binary.AppendUvarint(dst, *n)
	}
	dst = appendBool(dst, s.cluster != nil)
	if s.cluster != nil {
		dst = appendCluster(dst, s.cluster)
	}
	dst = appendList(dst, s.nodesByNumber(), appendNode)
	dst = appendList(dst, byKey(s.policies), appendPolicy)
	dst = appendList(dst, byKey(s.tenants), appendTenant)
	dst = appendList(dst, byKey(s.buckets), appendBucket)
	dst = appendList(dst, byKey(s.sets), appendSet)
	dst = appendList(dst, byKey(s.deletions), appendDeletion)
	dst = binary.AppendUvarint(dst, s.forgotten)
	return appendList(dst, s.tombstones, appendTombstone)
}

// fields lists the counters in the order of their encoding.
func (c *counters) fields() []*uint64 {
	return []*uint64{&c.node, &c.tenant, &c.policy, &c.bucket, &c.set, &c.replica, &c.intent, &c.deletion}
}

// decodeState decodes what appendState appended, as the state at index. The
// empty payload is the genesis: a state without anything. A payload that
// decodes but breaks an invariant of the state is as corrupt as one that does
// not decode.
func decodeState(payload []byte, index uint64) (*state, error) {
	s := newState()
	s.index = index
	if len(payload) == 0 {
		return s, nil
	}
	if payload[0] != stateVersion {
		return nil, fmt.Errorf("%w: state version %d (this binary knows %d)", ErrUnknownVersion, payload[0], stateVersion)
	}
	r := newReader(payload[1:])
	for _, n := range s.last.fields() {
		*n = r.Uvarint()
	}
	if r.bool() {
		s.cluster = readCluster(r)
	}
	nodes := readList(r, readNode)
	policies := readList(r, readPolicy)
	tenants := readList(r, readTenant)
	buckets := readList(r, readBucket)
	sets := readList(r, readSet)
	deletions := readList(r, readDeletion)
	s.forgotten = r.Uvarint()
	s.tombstones = readList(r, readTombstone)
	if err := r.finish("state"); err != nil {
		return nil, err
	}
	var order orderCheck
	for _, n := range nodes {
		order.next("node", n.Number)
		s.nodes[n.ID] = n
	}
	order = orderCheck{err: order.err}
	for _, p := range policies {
		order.next("policy", uint64(p.ID))
		s.policies[p.ID] = p
	}
	order = orderCheck{err: order.err}
	for _, t := range tenants {
		order.next("tenant", uint64(t.ID))
		s.tenants[t.ID] = t
		s.tenantByName[t.Name] = t
	}
	order = orderCheck{err: order.err}
	for _, b := range buckets {
		order.next("bucket", uint64(b.ID))
		s.indexBucket(b)
	}
	order = orderCheck{err: order.err}
	for _, set := range sets {
		order.next("set", uint64(set.ID))
		s.sets[set.ID] = set
	}
	order = orderCheck{err: order.err}
	for _, d := range deletions {
		order.next("deletion", d.ID)
		s.deletions[d.ID] = d
	}
	if order.err != nil {
		return nil, order.err
	}
	if len(s.nodes) != len(nodes) {
		return nil, fmt.Errorf("%w: a node stands twice", ErrCorrupt)
	}
	return s, s.check()
}

// orderCheck refuses a table whose numbers do not rise: each state has one
// encoding.
type orderCheck struct {
	last uint64
	err  error
}

func (o *orderCheck) next(what string, id uint64) {
	if id <= o.last && o.err == nil {
		o.err = fmt.Errorf("%w: %s %d stands after %s %d", ErrCorrupt, what, id, what, o.last)
	}
	o.last = id
}

// frozen is the state at one index, ready to become a manifest's payload. It
// writes no file: the state is small and lives in the manifest itself, which
// carries the checksum.
type frozen struct{ state *state }

var _ quorate.Frozen = frozen{}

// Persist returns the encoded state.
func (f frozen) Persist(ctx context.Context, _ uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return appendState(nil, f.state), nil
}

// Published implements quorate.Frozen; there are no files to move readers to.
func (frozen) Published() {}

// Discard implements quorate.Frozen; there are no files to remove.
func (frozen) Discard() {}
