package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/quorate/quorate/promql"
)

// Bounds of the HTTP server, so that a client that sends slowly holds a
// connection for a bounded time. Responses have none here: queries are bounded
// by their own timeout, and a client that stops reading by the query edge.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 60 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
)

// listener is one HTTP server on one address.
type listener struct {
	name   string
	socket net.Listener
	server *http.Server
	flags  *web.FlagConfig
	logger *slog.Logger
}

// bind takes the address of a listener, which serve answers on later. The name
// is that of the setting.
func bind(ctx context.Context, name, address, webConfig string, logger *slog.Logger) (*listener, error) {
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	addresses := []string{address}
	noSystemd := false
	return &listener{
		name:   name,
		socket: socket,
		server: &http.Server{
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		flags:  &web.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &noSystemd, WebConfigFile: &webConfig},
		logger: slog.New(atLeast{Handler: logger.Handler(), level: slog.LevelWarn}),
	}, nil
}

// atLeast passes on only records of a level or more: the toolkit that serves
// tells at each start what the settings say already.
type atLeast struct {
	slog.Handler

	level slog.Level
}

// Enabled tells whether a record of the level is passed on.
func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}

// WithAttrs keeps the level.
func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{Handler: h.Handler.WithAttrs(attrs), level: h.level}
}

// WithGroup keeps the level.
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{Handler: h.Handler.WithGroup(name), level: h.level}
}

func (l *listener) address() string { return l.socket.Addr().String() }

// serve answers by handler until shutdown; TLS and authentication are the web
// configuration's, by the Prometheus convention.
func (l *listener) serve(handler http.Handler) error {
	l.server.Handler = handler
	err := web.Serve(l.socket, l.server, l.flags, l.logger)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: serve on %s: %w", l.name, l.address(), err)
}

// shutdown stops accepting and waits for the requests under way, up to the
// context's end, after which their connections are cut.
func (l *listener) shutdown(ctx context.Context) error {
	defer l.socket.Close() //nolint:errcheck // still open only where serving never began
	err := l.server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%s: requests were cut off: %w", l.name, err), l.server.Close())
}

// publicHandler serves what clients use.
func (n *Node) publicHandler(registry *prometheus.Registry, write http.Handler, registerQueries func(*http.ServeMux)) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/api/v1/write", "/api/v1/push", "/api/v1/receive", "/prometheus/api/v1/write"} {
		mux.Handle(path, write)
	}
	registerQueries(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, EnableOpenMetrics: true}))
	mux.HandleFunc("GET /{$}", n.serveFrontPage)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "Quorate is healthy.")
	})
	if n.settings.HTTP.EnableAdminAPI {
		n.registerAdminAPI(mux)
	}
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := n.ready(); err != nil {
			http.Error(w, "Quorate is not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "Quorate is ready.")
	})
	return mux
}

// frontPage is for whoever opens the address in a browser.
const frontPage = `Quorate %s

/api/v1/write    remote write 1.0 and 2.0
/api/v1/read     remote read
/api/v1/query    PromQL, and the rest of Prometheus' HTTP API beside it
/metrics         metrics of this server
/-/ready         whether it takes writes; /-/healthy, whether it runs

A Grafana data source of type Prometheus takes this address as its URL.
`

func (n *Node) serveFrontPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, frontPage, n.options.Version)
}

func (n *Node) registerAdminAPI(mux *http.ServeMux) {
	admin := &adminAPI{lifecycle: n.replicas, client: n.meta.client, now: n.options.Now, logger: n.logger}
	admin.register(mux)
	(&clusterAdmin{adminAPI: admin, node: n}).register(mux)
}

// adminHandler serves the admin endpoints and profiles. It has a listener of its
// own, on a loopback address, since it asks nobody who they are: the endpoints
// change what tenants see, profiles cost CPU and show memory.
func (n *Node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	n.registerAdminAPI(mux)
	deletions := n.queries.AdminHandler()
	for _, prefix := range []string{promql.Prefix, promql.MimirPrefix} {
		mux.Handle(prefix+"/admin/tsdb/", deletions)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
