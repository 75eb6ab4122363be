package config

import "time"

// Config is what an operator can set. Default returns the values of a single
// node that holds all roles; docs/config.md says what each field means.
type Config struct {
	NodeName     string
	DataDir      string
	HTTP         HTTP
	Admin        Admin
	Peer         Peer
	Cluster      Cluster
	MultiTenancy MultiTenancy
	Write        Write
	Query        Query
	Buckets      Buckets
	Flush        Flush
	Storage      Storage
	Raft         Raft
	Log          Log
}

// HTTP is the listener for writes, queries, health and metrics.
type HTTP struct {
	Listen        string
	AllowInsecure bool
	// WebConfigFile is an exporter-toolkit web configuration (TLS, basic
	// authentication); empty serves plain HTTP.
	WebConfigFile string
	// EnableAdminAPI serves the admin endpoints on this listener too.
	EnableAdminAPI bool
}

// Admin is the listener for profiles and the admin endpoints; it is always on
// loopback.
type Admin struct {
	Listen string
}

// Peer is the port between the nodes of a cluster.
type Peer struct {
	Listen string
	// Advertise is the address that other nodes are told; empty means the
	// address that the port is bound to.
	Advertise     string
	AllowInsecure bool
	// CertFile, KeyFile and CAFile are PEM files; all or none of them are set.
	CertFile string
	KeyFile  string
	CAFile   string
}

// Cluster says how the node finds its cluster and what it is there.
type Cluster struct {
	// Join are addresses of other nodes' ports, separated by commas; empty
	// founds a cluster of one's own at the first start.
	Join string
	// Expect is how many nodes must have found each other before the first of
	// them founds a cluster; 0 leaves it to others to have done that.
	Expect int
	Zone   string
	// Roles are some of meta, data and gateway, separated by commas.
	Roles        string
	ReplaceAfter time.Duration
	// ReadLease has leaders confirm reads by what voters have promised them.
	ReadLease bool
}

// MultiTenancy says whether, and by which header, requests name their tenant.
type MultiTenancy struct {
	Enabled bool
	Header  string
}

// Write bounds what one request, and all requests in flight together, may cost.
type Write struct {
	MaxWireBytes       Bytes
	MaxDecodedBytes    Bytes
	MaxInFlightBytes   Bytes
	MaxLabelNames      int
	MaxLabelNameBytes  Bytes
	MaxLabelValueBytes Bytes
	SortUnsortedLabels bool
}

// Query bounds what one query may cost and how many run at once.
type Query struct {
	Timeout     time.Duration
	MaxSamples  int
	Lookback    time.Duration
	Concurrency int
	// MaxRemoteBytes bounds what a query takes in from other nodes.
	MaxRemoteBytes Bytes
}

// Buckets is the policy by which time is cut into ReplicaSets.
type Buckets struct {
	Span        time.Duration
	Shards      int
	Replicas    int
	LateWindow  time.Duration
	Retention   time.Duration
	FutureBound time.Duration
}

// Flush says when a shard's memcache becomes a file: at the first of these
// bounds, and for a while when the server stops.
type Flush struct {
	MaxMemcacheBytes      Bytes
	MaxTotalMemcacheBytes Bytes
	MaxLogBytes           Bytes
	MaxAge                time.Duration
	ShutdownTimeout       time.Duration
}

// Storage says what is kept of files: their pages in memory, and for how long
// those that are not needed any more; and what is done when space gets short.
type Storage struct {
	PageCacheBytes Bytes
	TrashKeep      time.Duration
	MinFreeBytes   Bytes
	// The free space below which a node gets no replicas, takes no writes, and
	// stores nothing.
	LowSpaceBytes, FullSpaceBytes, ReserveSpaceBytes Bytes
	// How fast and how often files of samples are read again for a check.
	ScrubBytesPerSecond Bytes
	ScrubEvery          time.Duration
}

// Raft shapes the log of a ReplicaSet.
type Raft struct {
	SegmentBytes Bytes
}

// Log says what the server logs, and how.
type Log struct {
	Level  string
	Format string
}

// Default returns the settings of a server that was given none.
func Default() Config {
	const day = 24 * time.Hour
	return Config{
		NodeName:     "node-1",
		DataDir:      "./data",
		HTTP:         HTTP{Listen: "127.0.0.1:9240"},
		Admin:        Admin{Listen: "127.0.0.1:9242"},
		Peer:         Peer{Listen: "127.0.0.1:9241"},
		Cluster:      Cluster{Roles: "meta,data,gateway", ReplaceAfter: 10 * time.Minute},
		MultiTenancy: MultiTenancy{Header: "X-Scope-OrgID"},
		Write: Write{
			MaxWireBytes:       32 * MiB,
			MaxDecodedBytes:    64 * MiB,
			MaxInFlightBytes:   512 * MiB,
			MaxLabelNames:      128,
			MaxLabelNameBytes:  1 * KiB,
			MaxLabelValueBytes: 8 * KiB,
		},
		Query: Query{
			Timeout:        2 * time.Minute,
			MaxSamples:     50_000_000,
			Lookback:       5 * time.Minute,
			Concurrency:    20,
			MaxRemoteBytes: 512 * MiB,
		},
		Buckets: Buckets{
			Span:        day,
			Shards:      2,
			Replicas:    1,
			LateWindow:  2 * time.Hour,
			Retention:   30 * day,
			FutureBound: 10 * time.Minute,
		},
		Flush: Flush{
			MaxMemcacheBytes:      64 * MiB,
			MaxTotalMemcacheBytes: 256 * MiB,
			MaxLogBytes:           256 * MiB,
			MaxAge:                30 * time.Minute,
			ShutdownTimeout:       10 * time.Second,
		},
		Storage: Storage{PageCacheBytes: 64 * MiB, TrashKeep: day, MinFreeBytes: 2 * GiB, LowSpaceBytes: GiB, FullSpaceBytes: 512 * MiB, ReserveSpaceBytes: 128 * MiB, ScrubBytesPerSecond: 4 * MiB, ScrubEvery: 7 * day},
		Raft:    Raft{SegmentBytes: 8 * MiB},
		Log:     Log{Level: "info", Format: "text"},
	}
}
