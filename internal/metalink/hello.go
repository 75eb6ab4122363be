package metalink

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// version is the first byte of everything that this package sends itself.
const version = 1

// maxMetaNodes bounds the list of a Hello.
const maxMetaNodes = 64

var errDamaged = errors.New("damaged")

// MetaNode is a node that has a replica of the metadata group, or may have one,
// and where its port listens.
type MetaNode struct {
	ID      quorate.NodeID
	Address string
}

// Hello is what a node says of itself to whoever asks.
type Hello struct {
	Node quorate.NodeID
	// Cluster is the one it belongs to; zero while it belongs to none.
	Cluster quorate.ClusterID
	// State tells that its data directory has held something.
	State bool
	// Promised is the node whose cluster it waits for; zero while it has
	// promised nothing. It is the node itself once that founds.
	Promised quorate.NodeID
	// Meta are the nodes that it knows to hold metadata.
	Meta []MetaNode
	// Leader leads the metadata group as far as it knows; zero when it knows
	// of none.
	Leader quorate.NodeID
}

func appendNode(dst []byte, id quorate.NodeID) []byte {
	dst = cursor.AppendBytes(dst, id.Name)
	return append(dst, id.Incarnation[:]...)
}

func readNode(c *cursor.Cursor) quorate.NodeID {
	id := quorate.NodeID{Name: c.String()}
	copy(id.Incarnation[:], c.Take(uint64(len(id.Incarnation))))
	return id
}

// begin checks the version of something encoded here.
func begin(b []byte, what string) (*cursor.Cursor, error) {
	c := &cursor.Cursor{B: b, Shortest: true}
	if v := c.U8(); !c.Bad && v != version {
		return nil, fmt.Errorf("%s of version %d is not known; this binary knows %d", what, v, version)
	}
	return c, nil
}

func encodeHello(h Hello) []byte {
	dst := []byte{version}
	dst = appendNode(dst, h.Node)
	dst = append(dst, h.Cluster[:]...)
	dst = appendBool(dst, h.State)
	dst = appendNode(dst, h.Promised)
	dst = appendNode(dst, h.Leader)
	meta := h.Meta[:min(len(h.Meta), maxMetaNodes)]
	dst = binary.AppendUvarint(dst, uint64(len(meta)))
	for _, m := range meta {
		dst = cursor.AppendBytes(appendNode(dst, m.ID), m.Address)
	}
	return dst
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func readBool(c *cursor.Cursor) bool {
	switch c.U8() {
	case 0:
		return false
	case 1:
		return true
	}
	c.Fail()
	return false
}

func decodeHello(b []byte) (Hello, error) {
	c, err := begin(b, "hello")
	if err != nil {
		return Hello{}, err
	}
	h := Hello{Node: readNode(c)}
	copy(h.Cluster[:], c.Take(uint64(len(h.Cluster))))
	h.State = readBool(c)
	h.Promised = readNode(c)
	h.Leader = readNode(c)
	for range c.Count(1 + len(quorate.Incarnation{}) + 1) {
		h.Meta = append(h.Meta, MetaNode{ID: readNode(c), Address: c.String()})
	}
	if err := c.Finish(errDamaged, "hello"); err != nil {
		return Hello{}, err
	}
	if h.Node.Name == "" || len(h.Meta) > maxMetaNodes {
		return Hello{}, fmt.Errorf("%w: hello of a node without a name, or of %d metadata nodes", errDamaged, len(h.Meta))
	}
	return h, nil
}

// encodeGreeting returns the request of a hello: whether the asker would found
// a cluster, if it were promised to wait for it.
func encodeGreeting(seeks bool) []byte {
	return appendBool([]byte{version}, seeks)
}

func decodeGreeting(b []byte) (seeks bool, err error) {
	c, err := begin(b, "greeting")
	if err != nil {
		return false, err
	}
	seeks = readBool(c)
	return seeks, c.Finish(errDamaged, "greeting")
}
