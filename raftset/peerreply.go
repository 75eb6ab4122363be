package raftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/cursor"
)

// Bits of the answer to entries.
const (
	replySuccess   = 1
	replyNoBackoff = 2
)

// promised is the answer to a heartbeat that asks for a promise: span is for how
// long after it left the replica votes for nobody else, in whole milliseconds; 0
// promises nothing.
type promised struct {
	raft.AppendEntriesResponse
	span time.Duration
}

// refusedError tells why a member did not answer what it was asked.
type refusedError struct {
	verdict verdict
	reason  string
}

// Error names the verdict.
func (e *refusedError) Error() string {
	if e.reason == "" {
		return "the member refuses: " + e.verdict.String()
	}
	return fmt.Sprintf("the member refuses: %s: %s", e.verdict, e.reason)
}

func refuse(v verdict) error { return &refusedError{verdict: v} }

// refusal encodes why a message is not answered.
func refusal(err error) []byte {
	v, reason := refusedFailed, err.Error()
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		v, reason = refused.verdict, refused.reason
	case errors.Is(err, errMalformed):
		v = refusedMalformed
	}
	if len(reason) > maxReasonBytes {
		reason = reason[:maxReasonBytes]
	}
	b := append(make([]byte, 0, peerFrame+len(reason)+2), peerVersion, byte(v))
	return sealRecord(cursor.AppendBytes(b, reason))
}

// openReply checks the frame of an answer; a refusal becomes an error.
func openReply(message []byte) (*cursor.Cursor, error) {
	v, c, err := openMessage(message)
	if err != nil {
		return nil, err
	}
	if verdict(v) == answered {
		return c, nil
	}
	reason := c.String()
	if err := c.Finish(errMalformed, "refusal"); err != nil {
		return nil, err
	}
	return nil, &refusedError{verdict: verdict(v), reason: reason}
}

// reply encodes what the library answered to a command.
func reply(response any) ([]byte, error) {
	b := append(make([]byte, 0, 32), peerVersion, byte(answered))
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		b = appendEntriesReply(b, r)
	case *promised:
		b = appendEntriesReply(b, &r.AppendEntriesResponse)
		b = binary.AppendUvarint(b, uint64(r.span/time.Millisecond))
	case *raft.RequestVoteResponse:
		b = appendFlag(binary.AppendUvarint(b, r.Term), r.Granted)
	case *raft.RequestPreVoteResponse:
		b = appendFlag(binary.AppendUvarint(b, r.Term), r.Granted)
	case *raft.InstallSnapshotResponse:
		b = appendFlag(binary.AppendUvarint(b, r.Term), r.Success)
	case *raft.TimeoutNowResponse, nil:
	default:
		return nil, fmt.Errorf("no encoding for a %T", response)
	}
	return sealRecord(b), nil
}

func appendEntriesReply(b []byte, r *raft.AppendEntriesResponse) []byte {
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLog)
	var bits byte
	if r.Success {
		bits |= replySuccess
	}
	if r.NoRetryBackoff {
		bits |= replyNoBackoff
	}
	return append(b, bits)
}

func readEntriesReply(c *cursor.Cursor, r *raft.AppendEntriesResponse) {
	r.Term, r.LastLog = c.Uvarint(), c.Uvarint()
	bits := c.U8()
	if bits > replySuccess|replyNoBackoff {
		c.Fail()
	}
	r.Success, r.NoRetryBackoff = bits&replySuccess != 0 && !c.Bad, bits&replyNoBackoff != 0
}

// readReply reads what reply wrote into a response of the same type.
func readReply(c *cursor.Cursor, response any) error {
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		readEntriesReply(c, r)
	case *promised:
		readEntriesReply(c, &r.AppendEntriesResponse)
		span := c.Uvarint()
		if span > uint64(maxPromise/time.Millisecond) {
			c.Fail()
			span = 0
		}
		r.span = time.Duration(span) * time.Millisecond
	case *raft.RequestVoteResponse:
		r.Term, r.Granted = c.Uvarint(), readFlag(c)
	case *raft.RequestPreVoteResponse:
		r.Term, r.Granted = c.Uvarint(), readFlag(c)
	case *raft.InstallSnapshotResponse:
		r.Term, r.Success = c.Uvarint(), readFlag(c)
	case *raft.TimeoutNowResponse, nil:
	default:
		return fmt.Errorf("no encoding for a %T", response)
	}
	return c.Finish(errMalformed, "answer")
}
