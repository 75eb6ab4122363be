package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
)

// settingsIn returns the settings of a node on free loopback ports.
func settingsIn(dir string) config.Config {
	s := config.Default()
	s.DataDir = dir
	s.HTTP.Listen, s.Admin.Listen, s.Peer.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	return s
}

func startNode(t *testing.T, s config.Config) *Node {
	t.Helper()
	return startNodeAt(t, s, nil)
}

// startNodeAt starts a node with a clock of its own and waits until it is ready.
func startNodeAt(t testing.TB, s config.Config, now func() time.Time) *Node {
	t.Helper()
	return startNodeWith(t, s, Options{Now: now})
}

// startNodeWith starts a node with some options and waits until it is ready.
func startNodeWith(t testing.TB, s config.Config, options Options) *Node {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	options.Version, options.Registry = "test", registry
	options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := Start(t.Context(), s, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	testwait.Until(t, "the node to be ready", n.ready)
	return n
}

// request sends one request to the public listener and returns status and body.
func (n *Node) request(t testing.TB, method, path string, body io.Reader, headers ...string) (int, string) {
	t.Helper()
	return n.requestAt(t, n.HTTPAddr(), method, path, body, headers...)
}

// requestAt sends one request to an address and returns status and body.
func (n *Node) requestAt(t testing.TB, address, method, path string, body io.Reader, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// write sends samples of one series by remote write 1.0 and returns the status.
func (n *Node) write(t *testing.T, tenant string, labels map[string]string, samples ...prompb.Sample) (int, string) {
	t.Helper()
	series := prompb.TimeSeries{Samples: samples}
	for _, name := range sortedKeys(labels) {
		series.Labels = append(series.Labels, prompb.Label{Name: name, Value: labels[name]})
	}
	body, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return n.request(t, http.MethodPost, "/api/v1/write", bytes.NewReader(s2.EncodeSnappy(nil, body)),
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Scope-OrgID", tenant)
}

// query returns the instant vector of an expression at a time, as "labels value" lines.
func (n *Node) query(t *testing.T, tenant, expression string, at int64) []string {
	t.Helper()
	path := fmt.Sprintf("/api/v1/query?query=%s&time=%d.%03d", url.QueryEscape(expression), at/1000, at%1000)
	status, text := n.request(t, http.MethodGet, path, nil, "X-Scope-OrgID", tenant)
	if status != http.StatusOK {
		t.Fatalf("query %s: %d %s", expression, status, text)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	lines := make([]string, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		lines = append(lines, fmt.Sprint(r.Metric, " ", r.Value[1]))
	}
	return lines
}

// flushAll flushes every set.
func (n *Node) flushAll(t *testing.T) {
	t.Helper()
	if _, err := n.replicas.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}

func TestWhatIsWrittenIsReadBackAlsoAfterARestart(t *testing.T) {
	s := settingsIn(t.TempDir())
	now := time.Now().UnixMilli()
	n := startNode(t, s)
	for i := range int64(3) {
		at := now - 30_000 + i*10_000
		if status, text := n.write(t, "", map[string]string{"__name__": "m", "job": "a"}, prompb.Sample{Timestamp: at, Value: float64(i)}); status != http.StatusNoContent {
			t.Fatalf("write: %d %s", status, text)
		}
	}
	want := []string{"map[job:a] 3"}
	if got := n.query(t, "", "count_over_time(m[1m])", now); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for round := range 2 {
		if err := n.Close(); err != nil {
			t.Fatalf("close before restart %d: %v", round, err)
		}
		n = startNode(t, s)
		if got := n.query(t, "", "count_over_time(m[1m])", now); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("after restart %d: got %v, want %v", round, got, want)
		}
		n.flushAll(t) // the second restart is from files
	}
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	s := settingsIn(t.TempDir())
	s.MultiTenancy.Enabled = true
	n := startNode(t, s)
	now := time.Now().UnixMilli()
	for i, tenant := range []string{"a", "b"} {
		if status, text := n.write(t, tenant, map[string]string{"__name__": "m"}, prompb.Sample{Timestamp: now, Value: float64(i + 1)}); status != http.StatusNoContent {
			t.Fatalf("write: %d %s", status, text)
		}
	}
	for tenant, want := range map[string]string{"a": "[map[__name__:m] 1]", "b": "[map[__name__:m] 2]", "c": "[]"} {
		if got := fmt.Sprint(n.query(t, tenant, "m", now)); got != want {
			t.Errorf("tenant %s sees %v, want %v", tenant, got, want)
		}
	}
	if status, text := n.request(t, http.MethodGet, "/api/v1/query?query=m", nil); status != http.StatusBadRequest || !strings.Contains(text, "X-Scope-OrgID") {
		t.Errorf("a query without a tenant got %d %s", status, text)
	}
}

func TestTimesThatNoBucketMayCoverAreRefused(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	now := time.Now()
	series := map[string]string{"__name__": "m"}
	for name, tc := range map[string]struct {
		at   time.Time
		want int
		rule string
	}{
		"an hour ahead":             {now.Add(time.Hour), http.StatusBadRequest, "future bound"},
		"before the retention":      {now.Add(-31 * 24 * time.Hour), http.StatusBadRequest, "retention"},
		"a little ahead":            {now.Add(5 * time.Minute), http.StatusNoContent, ""},
		"old, within the retention": {now.Add(-10 * 24 * time.Hour), http.StatusNoContent, ""},
	} {
		status, text := n.write(t, "", series, prompb.Sample{Timestamp: tc.at.UnixMilli(), Value: 1})
		if status != tc.want || !strings.Contains(text, tc.rule) {
			t.Errorf("%s: %d %s; want %d naming %q", name, status, text, tc.want, tc.rule)
		}
	}
	old := now.Add(-10 * 24 * time.Hour).UnixMilli()
	if got := fmt.Sprint(n.query(t, "", "m", old)); got != "[map[__name__:m] 1]" {
		t.Errorf("the old sample reads back as %v", got)
	}
}

func TestProtocol16ALostMetadataLogIsNotReplacedByAnEmptyOne(t *testing.T) {
	s := settingsIn(t.TempDir())
	n := startNode(t, s)
	n.write(t, "", map[string]string{"__name__": "m"}, prompb.Sample{Timestamp: time.Now().UnixMilli(), Value: 1})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	removeAll(t, s.DataDir, "raft", "0-1")
	n, err := Start(context.WithoutCancel(t.Context()), s, Options{Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if err == nil {
		n.Close()
		t.Fatal("the node started without its metadata log")
	}
	if !strings.Contains(err.Error(), "never formed") {
		t.Fatalf("refused with %v", err)
	}
}
