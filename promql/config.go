package promql

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/tenancy"
)

// The defaults of Config, all of them Prometheus' own but DefaultWriteStall:
// Prometheus lets a client that stops reading hold its query for ever.
const (
	DefaultWriteStall       = 30 * time.Second
	DefaultTimeout          = 2 * time.Minute
	DefaultMaxSamples       = 50_000_000
	DefaultLookback         = 5 * time.Minute
	DefaultSubqueryStep     = time.Minute
	DefaultConcurrency      = 20
	DefaultReadSamples      = 50_000_000
	DefaultReadConcurrency  = 10
	DefaultReadFrameBytes   = 1 << 20
	DefaultSearchLimit      = 10_000
	DefaultCORSOrigin       = ".*"
	defaultRetryAfter       = time.Second
	defaultStorageRetention = "30d"
)

// Config says what the query edge reads from and within which limits. Every
// limit's zero value means its default; no limit can be switched off.
type Config struct {
	// Queryable is what is read. Required.
	Queryable Queryable
	// Consistent returns what is read by requests that ask for a consistency of
	// their own. Nil refuses those but for the default one, which is what
	// Queryable reads at.
	Consistent func(quorate.Consistency) Queryable
	// Tenants maps a tenant's name to its number. Required.
	Tenants Tenants
	// Admin deletes what is stored. Nil offers no admin endpoints.
	Admin Admin
	// EnableAdmin answers the admin endpoints beside the others; AdminHandler
	// answers them in any case. It is Prometheus' --web.enable-admin-api.
	EnableAdmin bool
	// Tenancy says how requests name their tenant.
	Tenancy tenancy.Config
	// Logger takes what goes wrong behind an answer. Nil discards it.
	Logger *slog.Logger
	// Registerer takes the metrics of this package and, under Prometheus' own
	// names, those of its engine and remote-read handler. One Registerer
	// serves one API: the engine panics on a second. Nil registers nowhere.
	Registerer prometheus.Registerer
	// Gatherer is what status/self_metrics shows. Nil shows nothing.
	Gatherer prometheus.Gatherer
	// Build is what status/buildinfo says of this binary.
	Build Build
	// Engine limits the evaluation of PromQL.
	Engine EngineConfig
	// Read limits remote read.
	Read ReadConfig
	// SearchLimit is the largest limit= that the search endpoints accept.
	SearchLimit int
	// WriteStall is for how long a client may accept nothing of its answer
	// before it is cut off; until then it holds what its query holds: a view
	// and, of a remote read, a turn. How long a whole answer takes is not
	// bounded.
	WriteStall time.Duration
	// CORSOrigin is the regular expression, anchored at both ends, of the
	// origins from which browsers may call.
	CORSOrigin string
	// Retention is what status/runtimeinfo calls the storage's retention.
	Retention string
}

// Build describes the binary that answers.
type Build struct {
	// Version is Quorate's own version, Revision the commit it was built from
	// and Date the time of the build. Each may be empty.
	Version, Revision, Date string
}

// EngineConfig limits the evaluation of PromQL.
type EngineConfig struct {
	// Timeout ends a query; a request's own timeout= can only be shorter.
	Timeout time.Duration
	// MaxSamples is how many samples one query may hold in memory at a time.
	MaxSamples int
	// Lookback is how far before a step an instant selector looks for the
	// newest sample. A request may give another by lookback_delta=.
	Lookback time.Duration
	// SubqueryStep is the step of a subquery that names none.
	SubqueryStep time.Duration
	// Concurrency is how many queries are evaluated at once; more wait their turn.
	Concurrency int
}

// ReadConfig limits remote read.
type ReadConfig struct {
	// Samples is how many samples one answer of the sampled response type may
	// hold. Streamed answers have no such limit, since they are never whole in memory.
	Samples int
	// Concurrency is how many remote reads are answered at once; more wait.
	Concurrency int
	// FrameBytes is the largest frame of a streamed answer.
	FrameBytes int
}

// withDefaults checks the configuration and fills in what it leaves to the
// default. Its error is of kind Invalid and names the field and the rule.
func (c Config) withDefaults() (Config, *regexp.Regexp, error) {
	if c.Queryable == nil || c.Tenants == nil {
		return c, nil, quorate.Errorf(quorate.Invalid, "promql: Queryable and Tenants are required")
	}
	for _, f := range []struct {
		name  string
		value *int
		usual int
	}{
		{"Engine.MaxSamples", &c.Engine.MaxSamples, DefaultMaxSamples},
		{"Engine.Concurrency", &c.Engine.Concurrency, DefaultConcurrency},
		{"Read.Samples", &c.Read.Samples, DefaultReadSamples},
		{"Read.Concurrency", &c.Read.Concurrency, DefaultReadConcurrency},
		{"Read.FrameBytes", &c.Read.FrameBytes, DefaultReadFrameBytes},
		{"SearchLimit", &c.SearchLimit, DefaultSearchLimit},
	} {
		if err := orDefault(f.name, f.value, f.usual); err != nil {
			return c, nil, err
		}
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"Engine.Timeout", &c.Engine.Timeout, DefaultTimeout},
		{"Engine.Lookback", &c.Engine.Lookback, DefaultLookback},
		{"Engine.SubqueryStep", &c.Engine.SubqueryStep, DefaultSubqueryStep},
		{"WriteStall", &c.WriteStall, DefaultWriteStall},
	} {
		if err := orDefault(f.name, f.value, f.usual); err != nil {
			return c, nil, err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Gatherer == nil {
		c.Gatherer = prometheus.NewRegistry()
	}
	if c.Retention == "" {
		c.Retention = defaultStorageRetention
	}
	if c.CORSOrigin == "" {
		c.CORSOrigin = DefaultCORSOrigin
	}
	origin, err := regexp.Compile("^(?:" + c.CORSOrigin + ")$")
	if err != nil {
		return c, nil, quorate.Errorf(quorate.Invalid, "promql: CORSOrigin %q: %w", c.CORSOrigin, err)
	}
	return c, origin, nil
}

func orDefault[T ~int | ~int64](name string, value *T, usual T) error {
	if *value < 0 {
		return quorate.Errorf(quorate.Invalid, "promql: %s is %s; it must be positive, or zero for the default", name, fmt.Sprint(*value))
	}
	if *value == 0 {
		*value = usual
	}
	return nil
}
