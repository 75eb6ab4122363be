package router

import (
	"encoding/binary"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
)

// pinMode says what a view of a set must be like. The numbers stand in messages.
type pinMode uint8

const (
	// pinConfirmed is of an open set: what its leader has confirmed now. The
	// sealed file is as good, where the map that asks is older.
	pinConfirmed pinMode = 1
	// pinFile is of a sealed set whose samples are whole in its file alone.
	pinFile pinMode = 2
	// pinSealed is of a sealed set: its file, or a replica that is still open and
	// has the same samples. There is nothing to confirm: nothing can be added.
	pinSealed pinMode = 3
	// pinStale is what the replica has.
	pinStale pinMode = 4
)

// lag is how far a stale view may be behind. The zero value is that of a view
// that is not stale.
type lag struct {
	// stale tells that the view was not confirmed.
	stale bool
	// known tells that the replica knows a leader.
	known bool
	// entries is how many entries of its log, or that it knew to be committed,
	// the replica had not applied.
	entries uint64
}

// pinRequest asks a node for views of its replicas of some sets.
type pinRequest struct{ Sets []pinOf }

// pinOf asks for a view of one set.
type pinOf struct {
	Set  quorate.ReplicaSetID
	Mode pinMode
	// Deletions are those that the map which asks has for a sealed set, of the
	// tenant that asks: the other node's map may be another.
	Deletions []wire.NumberedDeletion
}

func (r pinRequest) encode() []byte {
	b := binary.AppendUvarint(beginMessage(), uint64(len(r.Sets)))
	for _, s := range r.Sets {
		b = append(binary.AppendUvarint(b, uint64(s.Set)), byte(s.Mode))
		b = binary.AppendUvarint(b, uint64(len(s.Deletions)))
		for _, d := range s.Deletions {
			b = binary.AppendUvarint(b, d.ID)
			b = cursor.AppendBytes(b, d.Deletion.Append(nil))
		}
	}
	return b
}

func decodePinRequest(b []byte) (r pinRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Sets = make([]pinOf, c.Count(3))
	for i := range r.Sets {
		s := &r.Sets[i]
		s.Set, s.Mode = quorate.ReplicaSetID(c.Uvarint()), pinMode(c.U8())
		if s.Mode < pinConfirmed || s.Mode > pinStale {
			c.Fail()
		}
		for range c.Count(2) {
			id := c.Uvarint()
			d, err := wire.DecodeDeletion(c.Bytes())
			if err != nil {
				c.Fail()
				break
			}
			s.Deletions = append(s.Deletions, wire.NumberedDeletion{ID: id, Deletion: d})
		}
	}
	return r, c.Finish(errMessage, "request for views")
}

// pinAnswer answers for one set of a pinRequest, in whatever order they come.
type pinAnswer struct {
	Position int // in the request
	View     uint64
	Lag      lag
	Refusal  *refusal // nil when there is a view
}

func (a pinAnswer) encode() []byte {
	b := binary.AppendUvarint(beginMessage(), uint64(a.Position))
	if a.Refusal != nil {
		return a.Refusal.append(b)
	}
	b = binary.AppendUvarint(append(b, outcomeDone), a.View)
	b = appendBool(appendBool(b, a.Lag.stale), a.Lag.known)
	return binary.AppendUvarint(b, a.Lag.entries)
}

func decodePinAnswer(b []byte) (a pinAnswer, err error) {
	c, err := openMessage(b)
	if err != nil {
		return a, err
	}
	a.Position = readInt(c)
	switch c.U8() {
	case outcomeDone:
		a.View = c.Uvarint()
		a.Lag = lag{stale: readBool(c), known: readBool(c), entries: c.Uvarint()}
	case outcomeRefused:
		a.Refusal = readRefusal(c)
	default:
		c.Fail()
	}
	return a, c.Finish(errMessage, "answer with a view")
}
