package promql

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/quorate/quorate"
)

// upstreamAPI builds Prometheus' own API over the tenant of the request. What a
// backend does not have (targets, rules, Alertmanagers, notifications, a local
// TSDB to administer) is there and empty, so that clients which list it find
// nothing instead of failing.
func (a *API) upstreamAPI(registry features.Collector) *apiv1.API {
	nothing := absent{}
	return apiv1.NewAPI(
		a.engine,
		a.source,
		nil, nil, // nothing is written through this API
		a.source,
		func(context.Context) apiv1.ScrapePoolsRetriever { return nothing },
		func(context.Context) apiv1.TargetRetriever { return nothing },
		func(context.Context) apiv1.AlertmanagerRetriever { return nothing },
		func() config.Config { return config.DefaultConfig },
		a.flags(),
		apiv1.GlobalURLOptions{},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		nothing,
		"",    // no directory of snapshots
		false, // the admin endpoints are this package's own
		true,  // search
		a.config.SearchLimit,
		a.config.Logger,
		func(context.Context) apiv1.RulesRetriever { return nothing },
		a.config.Read.Samples,
		a.config.Read.Concurrency,
		a.config.Read.FrameBytes,
		false, // no agent
		a.origin,
		a.runtimeInfo,
		&apiv1.PrometheusVersion{Version: APIVersion},
		func() []notifications.Notification { return []notifications.Notification{} },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		a.config.Gatherer,
		a.config.Registerer,
		nil,        // the usual statistics
		false, nil, // no remote write
		false, false, false, // no OTLP
		false, // no zero samples at start timestamps
		a.config.Engine.Lookback,
		false, // no type and unit labels
		false, // no metadata appended
		overrideStatus(apiv1.ErrorUnavailable),
		registry, // without one, /features answers 500
		apiv1.OpenAPIOptions{Version: APIVersion, MaxSearchLimit: a.config.SearchLimit},
		a.parser,
	)
}

// flags are the command-line flags that a Prometheus with these limits would
// have been given.
func (a *API) flags() map[string]string {
	return map[string]string{
		"enable-feature":                         "search-api",
		"query.lookback-delta":                   a.config.Engine.Lookback.String(),
		"query.max-concurrency":                  strconv.Itoa(a.config.Engine.Concurrency),
		"query.max-samples":                      strconv.Itoa(a.config.Engine.MaxSamples),
		"query.timeout":                          a.config.Engine.Timeout.String(),
		"storage.remote.read-concurrent-limit":   strconv.Itoa(a.config.Read.Concurrency),
		"storage.remote.read-max-bytes-in-frame": strconv.Itoa(a.config.Read.FrameBytes),
		"storage.remote.read-sample-limit":       strconv.Itoa(a.config.Read.Samples),
		"storage.tsdb.retention.time":            a.config.Retention,
		"web.enable-admin-api":                   strconv.FormatBool(a.config.EnableAdmin),
		"web.enable-lifecycle":                   "false",
		"web.enable-remote-write-receiver":       "true",
		"web.search.max-limit":                   strconv.Itoa(a.config.SearchLimit),
	}
}

// runtimeInfo says of this process what does not tell where it lives: every
// tenant may ask.
func (a *API) runtimeInfo() (apiv1.RuntimeInfo, error) {
	return apiv1.RuntimeInfo{
		StartTime:           a.started.UTC(),
		ServerTime:          time.Now().UTC(),
		ReloadConfigSuccess: true,
		LastConfigTime:      a.started.UTC(),
		GoroutineCount:      runtime.NumGoroutine(),
		GOMAXPROCS:          runtime.GOMAXPROCS(0),
		GOMEMLIMIT:          debug.SetMemoryLimit(-1), // a negative limit only reads it
		GOGC:                os.Getenv("GOGC"),
		GODEBUG:             os.Getenv("GODEBUG"),
		StorageRetention:    a.config.Retention,
	}, nil
}

// absent is everything that Prometheus has and a backend has not.
type absent struct{}

func (absent) ScrapePools() []string                          { return []string{} }
func (absent) TargetsActive() map[string][]*scrape.Target     { return nil }
func (absent) TargetsDropped() map[string][]*scrape.Target    { return nil }
func (absent) TargetsDroppedCounts() map[string]int           { return map[string]int{} }
func (absent) Alertmanagers() []*url.URL                      { return nil }
func (absent) DroppedAlertmanagers() []*url.URL               { return nil }
func (absent) RuleGroups() []*rules.Group                     { return nil }
func (absent) AlertingRules() []*rules.AlertingRule           { return nil }
func (absent) BlockMetas() ([]tsdb.BlockMeta, error)          { return []tsdb.BlockMeta{}, nil }
func (absent) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }

func (absent) ScrapePoolConfig(pool string) (*config.ScrapeConfig, error) {
	return nil, quorate.Errorf(quorate.NotFound, "scrape pool %q: this server scrapes nothing", pool)
}

func (absent) CleanTombstones() error      { return errNoAdmin() }
func (absent) Snapshot(string, bool) error { return errNoAdmin() }
func (absent) Delete(context.Context, int64, int64, ...*labels.Matcher) error {
	return errNoAdmin()
}

func (absent) Stats(string, int) (*tsdb.Stats, error) { return nil, errNoAdmin() }

func errNoAdmin() error {
	return quorate.Errorf(quorate.Unavailable, "admin APIs disabled")
}
