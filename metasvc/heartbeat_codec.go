package metasvc

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// heartbeatVersion is the version of an encoded Heartbeat, its first byte.
const heartbeatVersion = 2

// AppendHeartbeat appends an encoded heartbeat but its Received, which is the
// receiver's to know. The clock is cut to milliseconds.
func AppendHeartbeat(dst []byte, h Heartbeat) []byte {
	dst = append(dst, heartbeatVersion)
	dst = appendNodeID(dst, h.Node)
	dst = binary.AppendVarint(dst, h.Clock.UnixMilli())
	dst = binary.AppendUvarint(dst, h.MapVersion)
	dst = binary.AppendUvarint(dst, h.Free)
	dst = append(dst, byte(h.Space))
	return appendList(dst, h.Sets, func(dst []byte, s SetBeat) []byte {
		dst = appendSetID(dst, s.Set)
		dst = appendReplicaID(dst, s.Replica)
		dst = appendBool(dst, s.Leads)
		dst = binary.AppendUvarint(dst, s.Applied)
		dst = binary.AppendUvarint(dst, s.LastWrite)
		dst = appendBool(dst, s.Broken)
		return cursor.AppendBytes(dst, s.Why)
	})
}

// DecodeHeartbeat decodes what AppendHeartbeat appended. The error wraps
// ErrCorrupt or ErrUnknownVersion.
func DecodeHeartbeat(b []byte) (Heartbeat, error) {
	if len(b) == 0 {
		return Heartbeat{}, fmt.Errorf("%w: an empty heartbeat", ErrCorrupt)
	}
	if b[0] != heartbeatVersion {
		return Heartbeat{}, fmt.Errorf("%w: version %d of a heartbeat (this binary knows %d)", ErrUnknownVersion, b[0], heartbeatVersion)
	}
	r := newReader(b[1:])
	h := Heartbeat{Node: readNodeID(r), Clock: time.UnixMilli(r.Varint()), MapVersion: r.Uvarint(), Free: r.Uvarint(), Space: Space(r.U8())}
	if h.Space > SpaceExhausted {
		r.Fail()
	}
	h.Sets = readList(r, func(r *reader) SetBeat {
		return SetBeat{
			Set: readSetID(r), Replica: readReplicaID(r), Leads: r.bool(),
			Applied: r.Uvarint(), LastWrite: r.Uvarint(), Broken: r.bool(), Why: r.String(),
		}
	})
	if err := r.finish("heartbeat"); err != nil {
		return Heartbeat{}, err
	}
	return h, nil
}

// SetBeat is what a node says of its replica of one set.
type SetBeat struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
	// Leads tells that the replica leads its set.
	Leads bool
	// Applied is the index in the set's log up to which the replica has applied.
	Applied uint64
	// LastWrite is the index of the last entry that stored a sample.
	LastWrite uint64
	// Broken tells that the replica is given up by its node: its files are
	// missing or damaged, or its disk failed again. It is to be replaced.
	Broken bool
	// Why says what is wrong with a broken one.
	Why string
}
