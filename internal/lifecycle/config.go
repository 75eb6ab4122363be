package lifecycle

import (
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

const (
	defaultPageCacheBytes      = 64 << 20
	defaultFetchBytesPerSecond = 64 << 20
	defaultFetchers            = 2
)

// Config is what a Manager is made of. DataDir, Node, Host, Client and Replicas
// are required; the zero value of every other field means its default.
type Config struct {
	// DataDir is the node's data directory; see the package comment for what
	// lies below it.
	DataDir string
	// Node is this node.
	Node quorate.NodeID
	// Host holds the replicas' groups.
	Host *raftset.Host
	// Client is this node's way to the map.
	Client *metasvc.Client
	// Metadata returns this node's replica of the metadata group, to be flushed
	// with the others, nil while there is none. Nil for none ever.
	Metadata func() *raftset.Group
	// Replicas are where the router finds what is open.
	Replicas *router.Replicas
	// Flush says when replicas are flushed.
	Flush FlushLimits
	// Trash says how long what was given up is kept.
	Trash TrashLimits
	// Space says how much of the file system must be free for what.
	Space SpaceLimits
	// Free returns how many bytes the file system of a directory has left for
	// this process. Default: what the system says.
	Free func(dir string) (int64, error)
	// Scrub says how fast and how often files of samples are read again, to be
	// compared with their hashes. Default: never.
	Scrub ScrubLimits
	// PageCacheBytes is the memory for pages of blocks that all replicas
	// share. Default: 64 MiB.
	PageCacheBytes int64
	// Openers bounds how many replicas are opened, closed or moved at once.
	// Default: one for each CPU.
	Openers int
	// Workers bounds how many replicas' samples are read at once, for a
	// checksum or a canonical file. Default: 2, or 1 on a single CPU.
	Workers int
	// Peers is the way to the managers of other nodes. Nil where there are none:
	// then nothing is fetched, and sets have one replica.
	Peers router.Peers
	// FetchBytesPerSecond bounds what all fetches together take in, and what is
	// sent to all other nodes together. Default: 64 MiB/s.
	FetchBytesPerSecond int64
	// Fetchers bounds how many files are fetched at once. Default: 2.
	Fetchers int
	// Now is the wall clock, by which the trash ages. Default: time.Now.
	Now func() time.Time
	// Logger takes reports. Default: none.
	Logger *slog.Logger
	// Registerer takes the metrics. Default: none are registered.
	Registerer prometheus.Registerer

	// moment is called between the steps of a piece of work, which ends with
	// the error it returns: a crash, as tests see it.
	moment func(moment) error
}

// moment is a place between two steps of a piece of work.
type moment string

func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" || c.Host == nil || c.Client == nil || c.Replicas == nil {
		return c, errors.New("lifecycle: DataDir, Host, Client and Replicas must be set")
	}
	if c.PageCacheBytes <= 0 {
		c.PageCacheBytes = defaultPageCacheBytes
	}
	if c.Openers <= 0 {
		c.Openers = runtime.GOMAXPROCS(0)
	}
	if c.Workers <= 0 {
		c.Workers = min(2, runtime.GOMAXPROCS(0))
	}
	if c.FetchBytesPerSecond <= 0 {
		c.FetchBytesPerSecond = defaultFetchBytesPerSecond
	}
	if c.Fetchers <= 0 {
		c.Fetchers = defaultFetchers
	}
	c.Flush, c.Trash = c.Flush.withDefaults(), c.Trash.withDefaults()
	if c.Scrub.Every <= 0 {
		c.Scrub.Every = 7 * 24 * time.Hour
	}
	if c.Free == nil {
		c.Free = freeBytes
	}
	if c.Metadata == nil {
		c.Metadata = func() *raftset.Group { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.moment == nil {
		c.moment = func(moment) error { return nil }
	}
	return c, nil
}
