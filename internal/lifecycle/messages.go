package lifecycle

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/metasvc"
)

// messageVersion is the version of every message between managers.
const messageVersion = 1

// maxNameBytes bounds the name in a request for a file.
const maxNameBytes = 128

// errMessage is wrapped when another node's message does not make sense here.
var errMessage = quorate.Errorf(quorate.Invalid, "malformed message")

func beginMessage() []byte { return []byte{messageVersion} }

// openMessage checks a message's version.
func openMessage(b []byte) (*cursor.Cursor, error) {
	c := &cursor.Cursor{B: b, Shortest: true}
	if v := c.U8(); !c.Bad && v != messageVersion {
		return nil, fmt.Errorf("%w: version %d (this binary knows %d)", errMessage, v, messageVersion)
	}
	return c, nil
}

// replicaRequest asks about one replica of a set, or about the one that the
// other node has, when Replica is 0.
type replicaRequest struct {
	Set     setID
	Replica quorate.ReplicaID
}

func (r replicaRequest) encode() []byte {
	b := binary.AppendUvarint(beginMessage(), uint64(r.Set))
	return binary.AppendUvarint(b, uint64(r.Replica))
}

func decodeReplicaRequest(b []byte) (r replicaRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Set, r.Replica = setID(c.Uvarint()), quorate.ReplicaID(c.Uvarint())
	return r, c.Finish(errMessage, "request about a replica")
}

// fileRequest asks for a file of a set from an offset on.
type fileRequest struct {
	Set    setID
	Name   string
	Offset uint64
}

func (r fileRequest) encode() []byte {
	b := binary.AppendUvarint(beginMessage(), uint64(r.Set))
	b = cursor.AppendBytes(b, r.Name)
	return binary.AppendUvarint(b, r.Offset)
}

func decodeFileRequest(b []byte) (r fileRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Set = setID(c.Uvarint())
	name := c.Bytes()
	if len(name) > maxNameBytes {
		c.Fail()
	}
	r.Name, r.Offset = string(name), c.Uvarint()
	return r, c.Finish(errMessage, "request for a file")
}

// fileHead comes before a file's pieces.
type fileHead struct {
	// Bytes is the length of the whole file.
	Bytes uint64
}

func (h fileHead) encode() []byte { return binary.AppendUvarint(beginMessage(), h.Bytes) }

func decodeFileHead(b []byte) (h fileHead, err error) {
	c, err := openMessage(b)
	if err != nil {
		return h, err
	}
	h.Bytes = c.Uvarint()
	return h, c.Finish(errMessage, "head of a file")
}

// readyAnswer tells how far the replica of a set on the other node is.
type readyAnswer struct {
	// Open tells that it runs on its log.
	Open bool
}

func (a readyAnswer) encode() []byte {
	open := byte(0)
	if a.Open {
		open = 1
	}
	return append(beginMessage(), open)
}

func decodeReadyAnswer(b []byte) (a readyAnswer, err error) {
	c, err := openMessage(b)
	if err != nil {
		return a, err
	}
	open := c.U8()
	if open > 1 {
		c.Fail()
	}
	a.Open = open == 1
	return a, c.Finish(errMessage, "answer about a replica")
}

// spaceAnswer tells how much room a node has.
type spaceAnswer struct{ Space metasvc.Space }

func (a spaceAnswer) encode() []byte { return append(beginMessage(), byte(a.Space)) }

func decodeSpaceAnswer(b []byte) (a spaceAnswer, err error) {
	c, err := openMessage(b)
	if err != nil {
		return a, err
	}
	if a.Space = metasvc.Space(c.U8()); a.Space > metasvc.SpaceExhausted {
		c.Fail()
	}
	return a, c.Finish(errMessage, "answer about space")
}

// seedAnswer has a seed of raftset's.
type seedAnswer struct{ Seed []byte }

func (a seedAnswer) encode() []byte { return cursor.AppendBytes(beginMessage(), a.Seed) }

func decodeSeedAnswer(b []byte) (a seedAnswer, err error) {
	c, err := openMessage(b)
	if err != nil {
		return a, err
	}
	a.Seed = c.Bytes()
	return a, c.Finish(errMessage, "answer with a seed")
}
