package peer

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// codec passes bytes through gRPC: what is sent is an *outgoing, what comes an
// *incoming.
type codec struct{}

// outgoing is bytes to be sent. gRPC may read them after the call that sends
// them has returned.
type outgoing struct{ parts mem.BufferSlice }

// incoming is bytes that came. They are nobody else's.
type incoming struct{ b []byte }

// Name implements encoding.CodecV2; it is the content type's second half, by
// which gRPC of another kind is told apart.
func (codec) Name() string { return "quorate" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	out, ok := v.(*outgoing)
	if !ok {
		return nil, fmt.Errorf("peer: cannot send a %T", v)
	}
	return out.parts, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return fmt.Errorf("peer: cannot receive into a %T", v)
	}
	in.b = data.Materialize()
	return nil
}

// copied returns bytes that gRPC may read while the caller goes on to use b.
func copied(b []byte) mem.Buffer { return mem.Copy(b, mem.DefaultBufferPool()) }
