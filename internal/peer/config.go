package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// Defaults of the limits.
const (
	// DefaultMaxMessageBytes leaves room for a log entry of the largest size
	// several times over.
	DefaultMaxMessageBytes = 80 << 20
	// DefaultMaxConnections is three connections each of more nodes than a
	// cluster has.
	DefaultMaxConnections = 512
	// DefaultMaxQueueBytes is several of Raft's largest batches.
	DefaultMaxQueueBytes = 64 << 20
	// DefaultHandshakeTimeout is long for a handshake even between continents.
	DefaultHandshakeTimeout = 5 * time.Second
)

// Config configures a Port.
type Config struct {
	// Cluster returns the cluster that this node belongs to; zero while it
	// belongs to none yet. It is asked for each request.
	Cluster func() quorate.ClusterID
	// Self is this node.
	Self quorate.NodeID
	// Listener takes the other nodes' connections. The Port closes it.
	Listener net.Listener
	// Resolve returns the host:port of another node's port. It is asked at each
	// call and each attempt to connect, so that a node that comes back on
	// another address is found.
	Resolve func(quorate.NodeID) (address string, ok bool)
	// TLS is what this node shows and demands on every connection; nil is
	// plaintext.
	TLS *TLS
	// Dial connects to an address. Nil dials TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// MaxMessageBytes bounds one message, request, reply or element of a
	// stream. Zero means DefaultMaxMessageBytes.
	MaxMessageBytes int
	// MaxConnections bounds how many connections of others are open; more wait
	// to be accepted. Zero means DefaultMaxConnections.
	MaxConnections int
	// MaxQueueBytes bounds the messages that wait in one lane to one node, and
	// the answers that wait for one lane of one node. Zero means
	// DefaultMaxQueueBytes.
	MaxQueueBytes int
	// HandshakeTimeout is how long a new connection may take to become one.
	// Zero means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration

	// Logger defaults to none.
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them unseen.
	Registerer prometheus.Registerer
}

// Validate checks the fields that are set.
func (c *Config) Validate() error {
	var errs []error
	if c.Cluster == nil {
		errs = append(errs, errors.New("cluster is nil"))
	}
	if c.Self.Name == "" {
		errs = append(errs, errors.New("self has no name"))
	}
	if c.Listener == nil {
		errs = append(errs, errors.New("listener is nil"))
	}
	if c.Resolve == nil {
		errs = append(errs, errors.New("resolve is nil"))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"message bytes", int64(c.MaxMessageBytes)},
		{"connections", int64(c.MaxConnections)},
		{"queue bytes", int64(c.MaxQueueBytes)},
		{"handshake timeout", int64(c.HandshakeTimeout)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("limit of %s is negative", f.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}

// withDefaults returns the configuration with every field set.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageBytes, DefaultMaxMessageBytes)
	setDefault(&c.MaxConnections, DefaultMaxConnections)
	setDefault(&c.MaxQueueBytes, DefaultMaxQueueBytes)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
