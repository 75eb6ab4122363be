package metasvc

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// DefaultPolicyName is the name of the policy that tenants get unless they are
// told another.
const DefaultPolicyName = "default"

// DefaultPolicy returns what the default policy says unless it is configured.
func DefaultPolicy() PolicySpec {
	return PolicySpec{
		Name:        DefaultPolicyName,
		Span:        24 * time.Hour,
		Shards:      2,
		Replicas:    1,
		LateWindow:  2 * time.Hour,
		Retention:   30 * 24 * time.Hour,
		FutureBound: 10 * time.Minute,
	}
}

// ClientConfig configures a Client. A field's zero value is its default;
// StateMachine and Leader have none.
type ClientConfig struct {
	// StateMachine is this node's replica of the metadata.
	StateMachine *StateMachine
	// Leader is the way to the leader of the metadata group.
	Leader Leader
	// Dir is where the node's copy of the map is kept; it is made when it is
	// missing. Empty keeps none.
	Dir string
	// Cluster is the cluster that this node belongs to. A copy of another
	// cluster's map stops the start. Zero takes any.
	Cluster quorate.ClusterID
	// DefaultPolicy names the policy of tenants that EnsureTenant creates.
	// Empty means DefaultPolicyName.
	DefaultPolicy string
	// TenantCacheBytes bounds the memory of the tenant cache. 0 and anything
	// less than 32 MiB mean 32 MiB, of which only what is used is touched.
	TenantCacheBytes int
	// MaxTenants is up to how many tenants EnsureTenant creates new ones, so
	// that names made up by a sender cannot fill the metadata. 0 means 100,000.
	MaxTenants int
	// MaxOnDemandBuckets is up to how many buckets of old time EnsureBucket
	// has made at its request. 0 means 64.
	MaxOnDemandBuckets int
	// MaxOverlays is up to how many sets of late samples over sealed ones,
	// which are not sealed themselves, EnsureOverlay has made at its request.
	// Tenants share a set, so they share the budget. 0 means 64.
	MaxOverlays int
	// FormTimeout is how long EnsureBucket and EnsureOverlay wait for what they
	// ensure, at most. 0 means 5 s.
	FormTimeout time.Duration
	// PersistEvery is the shortest time between two writes of the map file. 0
	// means 1 s.
	PersistEvery time.Duration
	// Now is the clock. Its readings carry monotonic time. Nil means time.Now.
	Now func() time.Time
	// Logger takes the client's log. Nil discards it.
	Logger *slog.Logger
	// Registerer takes the client's metrics. Nil takes none.
	Registerer prometheus.Registerer
}

func (cfg ClientConfig) withDefaults() (ClientConfig, error) {
	if cfg.StateMachine == nil || cfg.Leader == nil {
		return cfg, errors.New("metadata client: StateMachine and Leader must be set")
	}
	setDefault(&cfg.DefaultPolicy, DefaultPolicyName)
	setDefault(&cfg.MaxTenants, 100_000)
	setDefault(&cfg.MaxOnDemandBuckets, 64)
	setDefault(&cfg.MaxOverlays, 64)
	setDefault(&cfg.FormTimeout, 5*time.Second)
	setDefault(&cfg.PersistEvery, time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// ControllerConfig configures a Controller. A field's zero value is its
// default; StateMachine, Leader, Leadership, Cluster and Node have none.
type ControllerConfig struct {
	// StateMachine is this node's replica of the metadata.
	StateMachine *StateMachine
	// Leader is the way to the leader of the metadata group.
	Leader Leader
	// Leadership tells the metadata group's term and whether this node leads
	// in it. It is asked often and must be cheap.
	Leadership func() (term uint64, leader bool)
	// Cluster is the cluster that this node belongs to, minted by the first
	// node's first start.
	Cluster quorate.ClusterID
	// Node is this node.
	Node NodeSpec
	// MetaReplica is the first node's replica of the metadata group. 0 means 1.
	MetaReplica quorate.ReplicaID
	// DefaultPolicy is what the default policy is to say. It is created so, and
	// kept so while the cluster has one node; in a cluster of several, whose nodes
	// may be configured differently, AlterPolicy changes it. Its zero value means
	// DefaultPolicy().
	DefaultPolicy PolicySpec
	// Heartbeats returns the last heartbeat of each node, as this node received
	// them; its own says what its replicas are like. Nil means that there are none.
	Heartbeats func() []Heartbeat
	// MapVersion returns the version of this node's map, by which it serves requests
	// and which follows the state machine. Nil leaves it to the node's heartbeat.
	MapVersion func() uint64
	// Progress returns, of each set that somebody leads, the index in its log
	// of the last entry that stored a sample. Old buckets and overlays are
	// sealed when theirs has stood still; of a set that is missing it is not
	// known whether it has. Nil reports none.
	Progress func() map[quorate.ReplicaSetID]uint64
	// DropAfterLeading is how long this node must lead, with a clock that runs
	// evenly, before it drops what is past retention. 0 means 1 h.
	DropAfterLeading time.Duration
	// ReplaceAfter is how long a node must have been silent before its replicas
	// are replaced on others. 0 means 10 min.
	ReplaceAfter time.Duration
	// MaxMoves is how many sets' members change at once because the controller
	// wants it. 0 means 4.
	MaxMoves int
	// MaxMovesPerNode is how many replicas join at once on one node. 0 means 2.
	MaxMovesPerNode int
	// MetaGroup is the metadata group as this node's replica of it sees it. Nil
	// leaves the group as it is.
	MetaGroup MetaGroup
	// Now is the clock. Its readings carry monotonic time. Nil means time.Now.
	Now func() time.Time
	// Logger takes the controller's log. Nil discards it.
	Logger *slog.Logger
	// Registerer takes the controller's metrics. Nil takes none.
	Registerer prometheus.Registerer
}

func (cfg ControllerConfig) withDefaults() (ControllerConfig, error) {
	if cfg.StateMachine == nil || cfg.Leader == nil || cfg.Leadership == nil || cfg.Cluster.IsZero() {
		return cfg, errors.New("metadata controller: StateMachine, Leader, Leadership and Cluster must be set")
	}
	setDefault(&cfg.MetaReplica, 1)
	setDefault(&cfg.DropAfterLeading, time.Hour)
	setDefault(&cfg.ReplaceAfter, 10*time.Minute)
	setDefault(&cfg.MaxMoves, 4)
	setDefault(&cfg.MaxMovesPerNode, 2)
	if cfg.DefaultPolicy.equal(PolicySpec{}) {
		cfg.DefaultPolicy = DefaultPolicy()
	}
	if err := errors.Join(cfg.Node.Validate(), cfg.DefaultPolicy.Validate()); err != nil {
		return cfg, err
	}
	if cfg.Heartbeats == nil {
		cfg.Heartbeats = func() []Heartbeat { return nil }
	}
	if cfg.Progress == nil {
		cfg.Progress = func() map[quorate.ReplicaSetID]uint64 { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
