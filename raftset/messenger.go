package raftset

import (
	"time"

	"github.com/quorate/quorate"
)

// Messenger carries the groups' messages to other nodes and brings back what
// they answer; at the other end Host.Deliver takes them in. Its methods may be
// called by many goroutines.
type Messenger interface {
	// Send queues one message for a node and does not wait for it. Messages of
	// one lane to one node arrive in order, or not at all. done is called exactly
	// once, with the answer or with the reason for which there is none: the
	// timeout passed, the node cannot be reached. It may be called by any
	// goroutine, before Send returns too; it does not block, and may call Send.
	// The message is the messenger's from then on, the answer the caller's.
	Send(to quorate.NodeID, lane uint8, message []byte, timeout time.Duration, done func(answer []byte, err error))
}

// The lanes of a Messenger. What is long must not hold up what is urgent.
const (
	// LaneControl is for votes, heartbeats and quorum rounds.
	LaneControl uint8 = 0
	// LaneData is for log entries.
	LaneData uint8 = 1
	// LaneBulk is for manifests, and for the wait until the files that one
	// names have been fetched.
	LaneBulk uint8 = 2
)
