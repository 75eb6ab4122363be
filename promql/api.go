package promql

import (
	"net/http"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/route"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/features"
)

// The paths under which the API is served: Prometheus' own, and the one that
// Mimir and Cortex offer.
const (
	Prefix      = "/api/v1"
	MimirPrefix = "/prometheus/api/v1"
)

// API answers Prometheus' HTTP API. It is safe for concurrent use.
type API struct {
	config  Config
	source  *queryable
	engine  *upstream.Engine
	parser  parser.Parser
	origin  *regexp.Regexp
	metrics *metrics
	handler http.Handler
	started time.Time
}

// New builds the API. Its error names the setting that is not valid.
func New(config Config) (*API, error) {
	config, origin, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	a := &API{
		config:  config,
		source:  &queryable{of: readOf},
		origin:  origin,
		metrics: m,
		started: time.Now(),
	}
	registry := features.NewRegistry()
	a.parser = parser.NewParser(ParserOptions())
	a.engine = upstream.NewEngine(a.engineOptions(registry))

	router := route.New().WithInstrumentation(func(pattern string, h http.HandlerFunc) http.HandlerFunc {
		if pattern == "/read" {
			h = checkedRead(h)
		}
		return a.endpoint(endpointName(pattern), h)
	})
	a.upstreamAPI(registry).Register(router)
	a.handler = impatient(a.routes(router), a.config.WriteStall)
	return a, nil
}

// ParserOptions is the PromQL that a Prometheus server speaks without feature
// flags: no experimental functions, range selectors or fill modifiers, but
// duration expressions, which the server switches on by itself.
func ParserOptions() parser.Options {
	return parser.Options{ExperimentalDurationExpr: true}
}

func (a *API) engineOptions(registry features.Collector) upstream.EngineOpts {
	step := a.config.Engine.SubqueryStep.Milliseconds()
	return upstream.EngineOpts{
		Logger:                   a.config.Logger,
		Reg:                      a.config.Registerer,
		MaxSamples:               a.config.Engine.MaxSamples,
		Timeout:                  a.config.Engine.Timeout,
		ActiveQueryTracker:       newTurns(a.config.Engine.Concurrency, a.metrics.waiting),
		LookbackDelta:            a.config.Engine.Lookback,
		NoStepSubqueryIntervalFn: func(int64) int64 { return step },
		// Both are always on in Prometheus since 2.33.
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		FeatureRegistry:      registry,
		Parser:               a.parser,
	}
}

// routes puts before upstream's router what this package answers itself.
func (a *API) routes(router *route.Router) http.Handler {
	mux := http.NewServeMux()
	own := func(pattern, endpoint string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, a.endpoint(endpoint, a.likeUpstream(h)))
	}
	own("GET /metadata", "metadata", a.serveMetadata)
	own("GET /status/tsdb", "status_tsdb", a.serveTSDBStatus)
	own("GET /status/buildinfo", "status_buildinfo", a.serveBuildInfo)
	own("POST /otlp/v1/metrics", "otlp", a.serveNotOffered)
	a.adminRoutes(mux, a.config.EnableAdmin && a.config.Admin != nil)
	// Grafana asks for the suggestions of a label by POST, with the parameters
	// in the URL; upstream knows only GET.
	mux.HandleFunc("POST /label/{name}/values", func(w http.ResponseWriter, r *http.Request) {
		router.ServeHTTP(w, asGet(r))
	})
	mux.Handle("/", router)
	return mux
}

// endpoint wraps the handler of one endpoint with what all of them share.
func (a *API) endpoint(name string, h http.HandlerFunc) http.HandlerFunc {
	return a.metrics.instrument(name, a.tenanted(h))
}

// asGet returns a POST request as the GET request with the same parameters,
// those of a form in the body included.
func asGet(r *http.Request) *http.Request {
	get := r.Clone(r.Context())
	// A body that is no form leaves the URL's parameters, as an empty one does.
	if err := get.ParseForm(); err == nil {
		get.URL.RawQuery = get.Form.Encode()
	}
	get.Method, get.Body, get.ContentLength = http.MethodGet, http.NoBody, 0
	return get
}

// endpointName turns the pattern of a route into the value of a metric's label:
// "/label/:name/values" is "label_values".
func endpointName(pattern string) string {
	var parts []string
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		switch {
		case strings.HasPrefix(part, ":"):
		case strings.HasPrefix(part, "*"):
			parts = append(parts, "options")
		default:
			parts = append(parts, strings.TrimSuffix(part, ".yaml"))
		}
	}
	return strings.Join(parts, "_")
}

// Register mounts the API under Prefix and MimirPrefix. More exact patterns of the same
// mux, such as the write path's, stand before it.
func (a *API) Register(mux *http.ServeMux) {
	for _, prefix := range []string{Prefix, MimirPrefix} {
		mux.Handle(prefix+"/", http.StripPrefix(prefix, a.handler))
	}
}

// Close releases the engine. The server that serves the API has stopped before,
// so no query runs.
func (a *API) Close() error { return a.engine.Close() }
