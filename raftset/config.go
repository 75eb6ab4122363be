package raftset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

const (
	defaultSegmentBytes     = 8 << 20
	minSegmentBytes         = 64 << 10
	maxSegmentBytes         = 256 << 20
	defaultQueueBytes       = 64 << 20
	defaultBatchBytes       = 1 << 20
	defaultInFlight         = 4
	defaultStallAfter       = 5 * time.Second
	defaultHeartbeatTimeout = time.Second
	defaultTrailingBytes    = 64 << 20

	// maxAppendEntries is how many entries the library hands to the state
	// machine, or sends to a peer, at once. Entries are batches already.
	maxAppendEntries = 16
	// maxCommandBytes bounds one command: an entry of two of them must fit what
	// raft-wal stores as one.
	maxCommandBytes = 16 << 20
)

// HostConfig says where a host's replicas live and how they behave. Dir is
// required; the zero value of every other field means its default.
type HostConfig struct {
	// Dir holds one directory for each replica.
	Dir string
	// Logger takes reports. Default: none.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: none are registered.
	Registerer prometheus.Registerer
	// LogStore opens the replicas' logs. Default: WAL().
	LogStore LogStoreFactory
	// Fatal is told when a write to a replica's files has been stuck for
	// StallAfter. The process should end: the write may still land, so that no
	// error can be returned for it, and while it lasts the group has a leader
	// that leads nothing. Default: the reason is logged, nothing else.
	Fatal func(reason error)
	// Exhausted tells that the disk has no room for entries any more: proposals
	// are refused with ErrNoSpace and the entries of leaders elsewhere with a
	// verdict, before anything is written, so that no log meets a full disk, which
	// would stop its replica. What elections and changes of leader write is a few
	// bytes, and is not refused. It is asked for each of them and must be quick.
	// Default: never.
	Exhausted func() bool
	// SegmentBytes is allocated for each log's tail, and is how coarsely logs
	// are deleted; 64 KiB to 256 MiB. Default: 8 MiB.
	SegmentBytes int
	// QueueBytes bounds the commands that wait in one group to be proposed;
	// more are refused with ErrOverloaded. Default: 64 MiB.
	QueueBytes int
	// BatchBytes bounds the commands that are joined into one log entry. One
	// command may be longer. Default: 1 MiB.
	BatchBytes int
	// InFlight bounds the entries of one group that are proposed and not yet
	// applied. Default: 4.
	InFlight int
	// StallAfter is when a write counts as stuck. Default: 5 s.
	StallAfter time.Duration
	// HeartbeatTimeout is also the election and the leader's lease timeout. It
	// is a constant of the cluster (PROTOCOL 27). Default: 1 s. Groups of one
	// voter elect their leader at once, whatever it is.
	HeartbeatTimeout time.Duration

	// Node is this node. It is needed by replicas that Join has made: they open
	// before any configuration names them.
	Node quorate.NodeID
	// Messenger carries messages to other nodes; what arrives from them is for
	// Deliver. Default: none, and sets have one voter, on this node.
	Messenger Messenger
	// Fetch gets what a manifest's payload names from another node: on a
	// follower that lags behind the log's start, before it installs the
	// manifest there. When it returns nil, the files are fsynced and whole. It
	// ends soon after ctx does. Default: a manifest needs nothing else.
	Fetch func(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, from quorate.NodeID, payload []byte) error
	// TrailingBytes of the log are kept past a flush, for members that lag, in
	// sets of more than one. Default: 64 MiB.
	TrailingBytes int
	// ReadLease lets leaders on this node confirm reads without asking others,
	// while a quorum of the voters has promised to elect nobody else. It relies
	// on clocks that go on while the process stands still, and run alike to one
	// in a thousand. Every node promises when asked, whatever its own setting.
	// Default: each read, or all that wait together, asks a majority.
	ReadLease bool

	// newTransport makes the transport of one group. Default: a loopback, or
	// with a Messenger one over that.
	newTransport func(g *Group) transport
	// publish publishes a file of a replica. Default: durable.WriteFile.
	publish publisher
}

// Validate checks the fields that are set.
func (c *HostConfig) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir is empty"))
	}
	if n := c.SegmentBytes; n != 0 && (n < minSegmentBytes || n > maxSegmentBytes) {
		errs = append(errs, fmt.Errorf("segment size of %d bytes is not between %d and %d", n, minSegmentBytes, maxSegmentBytes))
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"queue bytes", c.QueueBytes},
		{"batch bytes", c.BatchBytes},
		{"in-flight entries", c.InFlight},
		{"stall after", int(c.StallAfter)},
		{"trailing bytes", c.TrailingBytes},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", f.name))
		}
	}
	if c.BatchBytes > maxCommandBytes {
		errs = append(errs, fmt.Errorf("batch of %d bytes is over the limit of %d", c.BatchBytes, maxCommandBytes))
	}
	if d := c.HeartbeatTimeout; d != 0 && d < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("heartbeat timeout of %v is below 10ms", d))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("raftset: %w", err)
	}
	return nil
}

// withDefaults returns the configuration with every field set.
func (c HostConfig) withDefaults() HostConfig {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LogStore == nil {
		c.LogStore = WAL()
	}
	if c.Fatal == nil {
		logger := c.Logger
		c.Fatal = func(reason error) { logger.Error("disk is hung", "err", reason) }
	}
	if c.Exhausted == nil {
		c.Exhausted = func() bool { return false }
	}
	if c.newTransport == nil {
		c.newTransport = newLoopback
		if c.Messenger != nil {
			c.newTransport = newPeerTransport
		}
	}
	if c.publish == nil {
		c.publish = durable.WriteFile
	}
	setDefault(&c.SegmentBytes, defaultSegmentBytes)
	setDefault(&c.QueueBytes, defaultQueueBytes)
	setDefault(&c.BatchBytes, defaultBatchBytes)
	setDefault(&c.InFlight, defaultInFlight)
	setDefault(&c.TrailingBytes, defaultTrailingBytes)
	setDefault(&c.StallAfter, defaultStallAfter)
	setDefault(&c.HeartbeatTimeout, defaultHeartbeatTimeout)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// publisher publishes a whole file durably, as durable.WriteFile does.
type publisher func(path string, data []byte) error
