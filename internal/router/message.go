package router

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard"
)

// messageVersion is the version of every message between routers, and its first
// byte.
const messageVersion = 1

// errMessage is wrapped when another node's message does not make sense here,
// which is never the fault of a client, and errVersion when it is of another
// version: as soon as both nodes run one release it is understood.
var (
	errMessage = quorate.Errorf(quorate.Internal, "malformed message between routers")
	errVersion = quorate.Errorf(quorate.Unavailable, "message between routers of a version that is not spoken here")
)

// maxRefusalText bounds the text of a refusal.
const maxRefusalText = 16 << 10

func beginMessage() []byte { return []byte{messageVersion} }

// openMessage checks a message's version.
func openMessage(b []byte) (*cursor.Cursor, error) {
	c := &cursor.Cursor{B: b, Shortest: true}
	if v := c.U8(); !c.Bad && v != messageVersion {
		return nil, fmt.Errorf("%w: version %d (this binary knows %d)", errVersion, v, messageVersion)
	}
	return c, nil
}

// appendBool appends what readBool reads.
func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func readBool(c *cursor.Cursor) bool {
	b := c.U8()
	if b > 1 {
		c.Fail()
	}
	return b == 1
}

// appendNode appends a node's name and the 16 bytes of its incarnation.
func appendNode(dst []byte, node quorate.NodeID) []byte {
	return append(cursor.AppendBytes(dst, node.Name), node.Incarnation[:]...)
}

func readNode(c *cursor.Cursor) (node quorate.NodeID) {
	node.Name = c.String()
	copy(node.Incarnation[:], c.Take(uint64(len(node.Incarnation))))
	return node
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = cursor.AppendBytes(dst, s)
	}
	return dst
}

func readStrings(c *cursor.Cursor) []string {
	n := c.Count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = c.String()
	}
	return list
}

// readInt reads a number that is no more than an int32 has.
func readInt(c *cursor.Cursor) int {
	n := c.Uvarint()
	if n > math.MaxInt32 {
		c.Fail()
		return 0
	}
	return int(n)
}

// setRequest has a command carried out by the leader of a set: an encoded
// wire.Batch, an encoded wire.Deletion, or nothing where the method says it all.
type setRequest struct {
	Set     quorate.ReplicaSetID
	Command []byte
}

func (r setRequest) encode() []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(r.Command))
	b = binary.AppendUvarint(append(b, messageVersion), uint64(r.Set))
	return append(b, r.Command...)
}

func decodeSetRequest(b []byte) (r setRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Set = quorate.ReplicaSetID(c.Uvarint())
	if c.Bad {
		return r, c.Finish(errMessage, "request to a set")
	}
	r.Command = c.B
	return r, nil
}

// The kinds of outcomes.
const (
	outcomeDone    = 1 // the rest is the method's
	outcomeRefused = 2 // the rest is a refusal
)

// refusal is why a node did not do what it was asked, for a reason that it knows.
type refusal struct {
	// Node is who refuses; it does not travel.
	Node quorate.NodeID
	// Leader leads the set instead; zero when the node knows of none.
	Leader quorate.NodeID
	// Retriable tells that another attempt, there or elsewhere, may succeed.
	Retriable  bool
	Kind       quorate.ErrorKind
	RetryAfter time.Duration
	Text       string
}

// Error prints who refuses and why.
func (r *refusal) Error() string { return "node " + r.Node.Name + ": " + r.Text }

// asError returns the refusal with its kind, marked if it is retriable.
func (r *refusal) asError() error {
	err := error(&quorate.Error{Kind: r.Kind, Err: r, RetryAfter: r.RetryAfter})
	if r.Retriable {
		return retriable(err)
	}
	return err
}

func (r *refusal) append(dst []byte) []byte {
	dst = appendBool(append(dst, outcomeRefused), r.Retriable)
	known := r.Leader != (quorate.NodeID{})
	if dst = appendBool(dst, known); known {
		dst = appendNode(dst, r.Leader)
	}
	dst = binary.AppendUvarint(append(dst, byte(r.Kind)), uint64(max(r.RetryAfter, 0)/time.Millisecond))
	return cursor.AppendBytes(dst, r.Text[:min(len(r.Text), maxRefusalText)])
}

func readRefusal(c *cursor.Cursor) *refusal {
	r := &refusal{Retriable: readBool(c)}
	if readBool(c) {
		if r.Leader = readNode(c); r.Leader == (quorate.NodeID{}) {
			c.Fail()
		}
	}
	if r.Kind = quorate.ErrorKind(c.U8()); r.Kind > quorate.Unavailable {
		c.Fail()
	}
	retry := c.Uvarint()
	if retry > math.MaxInt32 {
		c.Fail()
	}
	r.RetryAfter = time.Duration(retry) * time.Millisecond
	if r.Text = c.String(); len(r.Text) > maxRefusalText {
		c.Fail()
	}
	return r
}

// outcome is the answer to a setRequest: it is done, and Payload is what came of
// it, or it was refused.
type outcome struct {
	Payload []byte
	Refusal *refusal // nil when it was done
}

func (o outcome) encode() []byte {
	if o.Refusal != nil {
		return o.Refusal.append(beginMessage())
	}
	return append(append(beginMessage(), outcomeDone), o.Payload...)
}

func decodeOutcome(b []byte) (o outcome, err error) {
	c, err := openMessage(b)
	if err != nil {
		return o, err
	}
	switch c.U8() {
	case outcomeDone:
		o.Payload = c.B
		return o, nil
	case outcomeRefused:
		o.Refusal = readRefusal(c)
	default:
		c.Fail()
	}
	return o, c.Finish(errMessage, "outcome")
}

// appendDeleteResult appends whether the set is sealed, then uvarint series.
func appendDeleteResult(dst []byte, r *tsdbshard.DeleteResult) []byte {
	return binary.AppendUvarint(appendBool(dst, r.Sealed), uint64(r.Series))
}

func decodeDeleteResult(b []byte) (*tsdbshard.DeleteResult, error) {
	c := &cursor.Cursor{B: b, Shortest: true}
	r := &tsdbshard.DeleteResult{Sealed: readBool(c), Series: readInt(c)}
	return r, c.Finish(errMessage, "result of a deletion")
}
