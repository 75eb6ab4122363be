package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// The first byte of a request is the envelope's version; the first of a reply,
// and of each element of a stream, what it is.
const (
	envelopeVersion = 1

	replyData     = 0x10 // the rest is the body
	replyError    = 0x11 // the handler's error
	replyStarting = 0x12 // nothing handles the method; the rest is as in replyError
)

// maxErrorText bounds the text of an error that crosses the wire.
const maxErrorText = 64 << 10

var errEnvelope = errors.New("damaged envelope")

// appendRequest appends what stands before a request's body.
func appendRequest(dst []byte, method string) []byte {
	return cursor.AppendBytes(append(dst, envelopeVersion), method)
}

// decodeRequest reads a request; the body aliases b.
func decodeRequest(b []byte) (method string, body []byte, err error) {
	c := cursor.Cursor{B: b, Shortest: true}
	if v := c.U8(); !c.Bad && v != envelopeVersion {
		return "", nil, fmt.Errorf("request envelope of version %d is not known; this binary knows %d", v, envelopeVersion)
	}
	method = c.String()
	if c.Bad {
		return "", nil, fmt.Errorf("%w: the request ends early", errEnvelope)
	}
	return method, c.B, nil
}

// encodeError returns the reply that carries an error. Of the error survive
// its kind, RetryAfter (whole milliseconds, rounded up) and its text.
func encodeError(reply byte, err error) []byte {
	err = withKind(err)
	var retry time.Duration
	var kinded *quorate.Error
	if errors.As(err, &kinded) {
		retry = max(kinded.RetryAfter, 0)
	}
	text := err.Error()
	dst := []byte{reply, byte(quorate.KindOf(err))}
	dst = binary.AppendUvarint(dst, uint64((retry+time.Millisecond-1)/time.Millisecond))
	return append(dst, text[:min(len(text), maxErrorText)]...)
}

// RemoteError is the error with which a handler on another node answered. Its
// chain has the kind and RetryAfter that it had there.
type RemoteError struct {
	// Node answered.
	Node string
	// Text is the text that the error had there.
	Text string
}

// Error prints who answered and what.
func (e *RemoteError) Error() string { return "node " + e.Node + ": " + e.Text }

// decodeReply reads a reply: its body, which aliases b, or the error that it
// carries.
func decodeReply(b []byte, node string) ([]byte, error) {
	c := cursor.Cursor{B: b, Shortest: true}
	reply := c.U8()
	switch {
	case c.Bad:
		return nil, quorate.Errorf(quorate.Unavailable, "node %s: %w: the reply is empty", node, errEnvelope)
	case reply == replyData:
		return c.B, nil
	case reply != replyError && reply != replyStarting:
		return nil, quorate.Errorf(quorate.Unavailable, "node %s: reply of type %#x is not known", node, reply)
	}
	kind := quorate.ErrorKind(c.U8())
	retry := c.Uvarint()
	if c.Bad {
		return nil, quorate.Errorf(quorate.Unavailable, "node %s: %w: the error ends early", node, errEnvelope)
	}
	if kind > quorate.Unavailable {
		// A newer binary's kind: what it means is not known, so a retry must do.
		kind = quorate.Unavailable
	}
	err := &quorate.Error{
		Kind:       kind,
		Err:        &RemoteError{Node: node, Text: string(c.B[:min(len(c.B), maxErrorText)])},
		RetryAfter: time.Duration(min(retry, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond,
	}
	if reply == replyStarting {
		return nil, notDone{fmt.Errorf("%w: %w", ErrStarting, err)}
	}
	return nil, err
}
