package metasvc

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/quorate/quorate"
)

const (
	dumpMagic   = "QDMP"
	dumpVersion = 1
	dumpHeader  = len(dumpMagic) + 1 + len(quorate.ClusterID{}) + 8 + 8 // magic, version, cluster, index, taken
	dumpCRC     = 4
)

// epochShift is how far an index is shifted for its epoch, and counterShift how
// far a counter is for the part of it that a new epoch adds to.
const (
	epochShift   = 40
	counterShift = 32
)

// Epoch is how many times the metadata was restored before an entry of the
// metadata log: its index and its term begin with it. So whatever the group that
// was lost had still written, a record, a map or an answer of a later epoch is
// newer, and an ID that it had still given out is not given out again.
func Epoch(index uint64) uint64 { return index >> epochShift }

// Dump is the whole metadata at one index, to be read or to restore from.
type Dump struct {
	// Cluster is whose metadata it is.
	Cluster quorate.ClusterID
	// Index is that of the last metadata entry in it.
	Index uint64
	// Taken is when it was made, in ms since the epoch, by the clock of whoever
	// made it.
	Taken int64

	state *state
}

// Dump returns the metadata as they are in this state machine. The error is of
// kind NotFound when there are none yet.
func (m *StateMachine) Dump(taken time.Time) (*Dump, error) { return dumpOf(m.snapshot(), taken) }

func dumpOf(s *state, taken time.Time) (*Dump, error) {
	if s.cluster == nil {
		return nil, quorate.Errorf(quorate.NotFound, "there is no metadata of a cluster yet")
	}
	return &Dump{Cluster: s.cluster.ID, Index: s.index, Taken: taken.UnixMilli(), state: s}, nil
}

// Dump returns the metadata that this node has. Confirmed has the leader confirm
// first that they are all that is committed; the error is then of kind
// Unavailable where it does not.
func (c *Client) Dump(ctx context.Context, confirmed bool) (*Dump, error) {
	if confirmed {
		if err := c.ConfirmMap(ctx); err != nil {
			return nil, err
		}
	}
	return c.machine.Dump(c.cfg.Now())
}

// DumpOfMapFile returns what a node's copy of the map holds. The error wraps
// ErrCorrupt or ErrUnknownVersion.
func DumpOfMapFile(file []byte, taken time.Time) (*Dump, error) {
	s, err := decodeMapFile(file)
	if err != nil {
		return nil, err
	}
	return dumpOf(s, taken)
}

// Encode returns the dump as a file; docs/format/metadata.md has the layout.
func (d *Dump) Encode() []byte {
	b := append([]byte(dumpMagic), dumpVersion)
	b = append(b, d.Cluster[:]...)
	b = binary.LittleEndian.AppendUint64(b, d.Index)
	b = binary.LittleEndian.AppendUint64(b, uint64(d.Taken)) //nolint:gosec // two's complement, and back
	b = appendState(b, d.state)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeDump decodes what Encode returned. The error wraps ErrCorrupt or
// ErrUnknownVersion.
func DecodeDump(b []byte) (*Dump, error) {
	if len(b) < dumpHeader+dumpCRC || string(b[:len(dumpMagic)]) != dumpMagic {
		return nil, fmt.Errorf("%w: %d bytes are not a dump of the metadata", ErrCorrupt, len(b))
	}
	body := b[:len(b)-dumpCRC]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("%w: the dump's checksum is %08x, its bytes give %08x", ErrCorrupt, want, got)
	}
	at := len(dumpMagic)
	if v := body[at]; v != dumpVersion {
		return nil, fmt.Errorf("%w: dump version %d (this binary knows %d)", ErrUnknownVersion, v, dumpVersion)
	}
	d := &Dump{}
	at += 1 + copy(d.Cluster[:], body[at+1:])
	d.Index = binary.LittleEndian.Uint64(body[at:])
	d.Taken = int64(binary.LittleEndian.Uint64(body[at+8:])) //nolint:gosec // two's complement
	var err error
	if d.state, err = decodeState(body[dumpHeader:], d.Index); err != nil {
		return nil, err
	}
	if c := d.state.cluster; c == nil || c.ID != d.Cluster {
		return nil, fmt.Errorf("%w: the dump's state is not that of cluster %s", ErrCorrupt, d.Cluster)
	}
	return d, nil
}

// Restored is what the one replica of a restored metadata group begins with.
type Restored struct {
	// Member is the replica, under a number of its own.
	Member Member
	// Index and Term are where its log begins: both in an epoch after the dump's.
	Index, Term uint64
	// Payload describes the state there.
	Payload []byte
}

// Restore returns what a node begins with that is to be the only voter of a new
// metadata group: the dumped state, in the next epoch. All others' replicas of the
// metadata group are forgotten; their nodes and all else stay. Whoever had followed
// the group that was lost, however far, is given everything anew. The error is of
// kind Invalid for a node that the dump has as removed or that is none.
func (d *Dump) Restore(node NodeSpec) (Restored, error) {
	if r := node.check(); r != nil {
		return Restored{}, &quorate.Error{Kind: quorate.Invalid, Err: r}
	}
	s := d.state.clone()
	epoch := Epoch(s.index) + 1
	s.index = epoch << epochShift
	for _, n := range s.last.fields() {
		*n = (*n>>counterShift + 1) << counterShift
	}
	switch known := s.nodes[node.ID]; {
	case known == nil:
		s.last.node++
		s.putNode(&Node{NodeSpec: node, Number: s.last.node, State: NodeActive})
	case known.State == NodeRemoved:
		return Restored{}, quorate.Errorf(quorate.Invalid, "node %s was removed from the cluster", node.ID)
	}
	s.last.replica++
	member := Member{Node: node.ID, Replica: quorate.ReplicaID(s.last.replica)}
	cluster := *s.cluster
	cluster.Meta, cluster.MetaJoining = []Member{member}, nil
	s.putCluster(&cluster)
	// What the lost group had committed after the dump is nowhere recorded as
	// removed: nobody can be told of it but by the whole state.
	s.tombstones, s.forgotten = nil, s.index
	s.takeChanges()
	if err := s.check(); err != nil {
		return Restored{}, err
	}
	return Restored{Member: member, Index: s.index, Term: epoch << counterShift, Payload: appendState(nil, s)}, nil
}

// Node returns what the dump has of a node, nil when it has nothing.
func (d *Dump) Node(id quorate.NodeID) *Node { return d.state.nodes[id] }
