package peer

import (
	"runtime"

	"google.golang.org/grpc/mem"
)

const (
	// coalesceBytes is how large a frame of several messages may get: as much
	// as a buffer of gRPC's pool holds.
	coalesceBytes = 32 << 10
	// copyBytes is up to which size a message is copied into the frame rather
	// than handed to gRPC as it lies: a copy costs less than a part of its own.
	copyBytes = 8 << 10
)

// framer gathers messages, or answers, that wait at the same time into one
// frame after the other. It is used by one goroutine.
type framer struct {
	messages []numbered
	bytes    int // of the frame, large bodies left out
	full     bool
}

// gather lets the goroutines that are ready to run go first: whatever they have
// to send goes with the frame that is about to be made. Whoever wakes a writer
// would else be followed by it at once, and every message have its own frame.
func gather() { runtime.Gosched() }

// add adds a message; false tells that the frame is full without it.
func (f *framer) add(id uint64, body []byte) bool {
	if f.full {
		return false
	}
	need := maxHead
	if len(body) <= copyBytes {
		need += len(body)
	}
	if len(f.messages) > 0 && f.bytes+need > coalesceBytes {
		f.full = true
		return false
	}
	f.messages = append(f.messages, numbered{id, body})
	f.bytes += need
	// A large body is the last of its frame, where it needs no copy.
	f.full = len(body) > copyBytes
	return true
}

// frame returns what was gathered, nil if that is nothing, and begins anew.
func (f *framer) frame(m *laneMetrics) *outgoing {
	if len(f.messages) == 0 {
		return nil
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(1 + f.bytes)
	b := append((*buffer)[:0], frameVersion)
	var large []byte
	for _, n := range f.messages {
		b = appendHead(b, n.id, len(n.body))
		if len(n.body) > copyBytes {
			large = n.body
		} else {
			b = append(b, n.body...)
		}
	}
	*buffer = b
	m.frames.Inc()
	m.sentBytes.Add(float64(len(b) + len(large)))
	clear(f.messages)
	*f = framer{messages: f.messages[:0]}
	parts := mem.BufferSlice{mem.NewBuffer(buffer, pool)}
	if large != nil {
		parts = append(parts, mem.SliceBuffer(large))
	}
	return &outgoing{parts}
}
