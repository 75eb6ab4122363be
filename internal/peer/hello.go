package peer

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

const (
	// helloKey is the gRPC header that carries the handshake; gRPC encodes
	// headers of this suffix.
	helloKey = "quorate-hello-bin"
	// protocolVersion is that of everything on the port.
	protocolVersion = 1
	// maxNameBytes bounds a node's name in a handshake.
	maxNameBytes = 1024
)

// hello is what goes ahead of every request: who asks whom.
type hello struct {
	// cluster is the sender's; zero while it has none.
	cluster quorate.ClusterID
	from    quorate.NodeID
	// to is whom the sender means; zero when it knows the address alone.
	to quorate.NodeID
}

var errHello = errors.New("damaged handshake")

// errVersion is found in the error of a handshake that another version wrote.
var errVersion = errors.New("unknown protocol version")

func encodeHello(h hello) []byte {
	dst := []byte{protocolVersion}
	dst = append(dst, h.cluster[:]...)
	dst = appendNode(dst, h.from)
	return appendNode(dst, h.to)
}

func appendNode(dst []byte, id quorate.NodeID) []byte {
	dst = cursor.AppendBytes(dst, id.Name)
	return append(dst, id.Incarnation[:]...)
}

// decodeHello reads what encodeHello wrote.
func decodeHello(b []byte) (hello, error) {
	c := cursor.Cursor{B: b, Shortest: true}
	if v := c.U8(); !c.Bad && v != protocolVersion {
		return hello{}, fmt.Errorf("%w %d; this binary speaks %d", errVersion, v, protocolVersion)
	}
	var h hello
	copy(h.cluster[:], c.Take(uint64(len(h.cluster))))
	h.from = takeNode(&c)
	h.to = takeNode(&c)
	if err := c.Finish(errHello, "handshake"); err != nil {
		return hello{}, err
	}
	if h.from.Name == "" {
		return hello{}, fmt.Errorf("%w: the sender has no name", errHello)
	}
	if h.to.Name == "" && h.to != (quorate.NodeID{}) {
		return hello{}, fmt.Errorf("%w: the addressed node has no name", errHello)
	}
	return h, nil
}

func takeNode(c *cursor.Cursor) quorate.NodeID {
	var id quorate.NodeID
	name := c.Bytes()
	if len(name) > maxNameBytes {
		c.Fail()
	}
	id.Name = string(name)
	copy(id.Incarnation[:], c.Take(uint64(len(id.Incarnation))))
	return id
}

// header returns the handshake as gRPC carries it.
func (h hello) header() metadata.MD {
	return metadata.MD{helloKey: []string{string(encodeHello(h))}}
}

// helloOf reads the handshake out of a request's headers.
func helloOf(md metadata.MD) (hello, error) {
	values := md.Get(helloKey)
	if len(values) != 1 {
		return hello{}, fmt.Errorf("%w: %d of them", errHello, len(values))
	}
	return decodeHello([]byte(values[0]))
}

// judge says why this node does not answer to a handshake. Strangers are
// nodes without a cluster, on either side: they get no further than the
// methods that are made for them, which they ask for at an address.
func (h hello) judge(self quorate.NodeID, cluster quorate.ClusterID) (stranger bool, err error) {
	addressed := h.to != (quorate.NodeID{})
	switch {
	case addressed && h.to != self:
		return false, fmt.Errorf("%s was asked for, and this is %s", h.to, self)
	case h.cluster != cluster && !h.cluster.IsZero() && !cluster.IsZero():
		return false, fmt.Errorf("%s belongs to cluster %s, and %s to cluster %s", h.from, h.cluster, self, cluster)
	}
	return h.cluster.IsZero() || cluster.IsZero(), nil
}
