package benchmarks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

var start = time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)

func workload(t testing.TB, series, rounds int) *benchmarks.Workload {
	t.Helper()
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{Series: series, Rounds: rounds, Start: start, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEverySampleArrivesOnceAndInOrder(t *testing.T) {
	const series, rounds = 1230, 6
	for _, test := range []struct {
		name string
		cfg  benchmarks.Config
	}{
		{"by remote write 1.0", benchmarks.Config{Protocol: benchmarks.RemoteWrite1}},
		{"by remote write 2.0", benchmarks.Config{Protocol: benchmarks.RemoteWrite2}},
		{"encoded live", benchmarks.Config{Live: true}},
		{"by remote write 2.0 encoded live", benchmarks.Config{Live: true, Protocol: benchmarks.RemoteWrite2}},
		{"in batches that cut targets", benchmarks.Config{Batch: 77}},
		{"over more connections than requests", benchmarks.Config{Batch: 1000, Concurrency: 9}},
		{"at a fixed rate", benchmarks.Config{Batch: 100, Rate: 50_000}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReceiver(t)
			cfg := test.cfg
			if cfg.Batch == 0 {
				cfg.Batch = 200
			}
			cfg.URLs = []string{r.URL + "/api/v1/write"}
			cfg.QueryURL = r.URL + "/api/v1/query"
			report, err := benchmarks.Run(t.Context(), cfg, workload(t, series, rounds))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.samples) != series {
				t.Errorf("%d series arrived, want %d", len(r.samples), series)
			}
			for labels, samples := range r.samples {
				if len(samples) != rounds {
					t.Fatalf("%d samples of %s, want %d", len(samples), labels, rounds)
				}
				for k, s := range samples {
					due := start.Add(time.Duration(k) * 15 * time.Second).UnixMilli()
					if s.Timestamp < due || s.Timestamp >= due+15_000 {
						t.Fatalf("sample %d of %s lies at %d, want within 15 s of %d", k, labels, s.Timestamp, due)
					}
				}
			}
			if got := report.New.Samples; got != series {
				t.Errorf("new phase acknowledged %d samples, want %d", got, series)
			}
			if got := report.Steady.Samples; got != series*(rounds-1) {
				t.Errorf("steady phase acknowledged %d samples, want %d", got, series*(rounds-1))
			}
			if report.ReadBack != series*rounds || report.Errors() != 0 {
				t.Errorf("read back %d with %d errors, want %d without", report.ReadBack, report.Errors(), series*rounds)
			}
		})
	}
}

func TestTheSameSeedGivesTheSameSamplesWhateverTheWay(t *testing.T) {
	send := func(cfg benchmarks.Config) *receiver {
		r := newReceiver(t)
		cfg.URLs = []string{r.URL + "/api/v1/write"}
		if _, err := benchmarks.Run(t.Context(), cfg, workload(t, 700, 3)); err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := send(benchmarks.Config{Batch: 300})
	if want := send(benchmarks.Config{Batch: 300, Concurrency: 1}).bodies; !slices.EqualFunc(want, send(benchmarks.Config{Batch: 300, Concurrency: 1}).bodies, bytes.Equal) {
		t.Error("two runs sent different bytes")
	}
	for name, cfg := range map[string]benchmarks.Config{
		"live":               {Batch: 300, Live: true},
		"other batches":      {Batch: 41},
		"remote write 2.0":   {Batch: 300, Protocol: benchmarks.RemoteWrite2},
		"another connection": {Batch: 300, Concurrency: 1},
	} {
		got := send(cfg)
		for labels, samples := range want.samples {
			for k, s := range samples {
				if g := got.samples[labels]; len(g) <= k || g[k].Timestamp != s.Timestamp || g[k].Value != s.Value {
					t.Fatalf("%s: sample %d of %s differs", name, k, labels)
				}
			}
		}
	}
}

func TestAFailedRequestIsCountedAndNamed(t *testing.T) {
	r := newReceiver(t)
	r.refuse = func(n int) int {
		if n == 3 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	report, err := benchmarks.Run(t.Context(), benchmarks.Config{
		URLs: []string{r.URL + "/api/v1/write"}, QueryURL: r.URL + "/api/v1/query", Batch: 100,
	}, workload(t, 500, 2))
	if err != nil {
		t.Fatal(err)
	}
	if report.Errors() != 1 || report.Acknowledged() != 900 || report.ReadBack != 900 {
		t.Errorf("%d errors, %d acknowledged, %d read back; want 1, 900, 900", report.Errors(), report.Acknowledged(), report.ReadBack)
	}
	if want := []string{"503 Service Unavailable: no such luck"}; !slices.Equal(report.Failures, want) {
		t.Errorf("failures %q, want %q", report.Failures, want)
	}
}

func TestARunIsCutShortWhenEverythingFails(t *testing.T) {
	r := newReceiver(t)
	r.refuse = func(int) int { return http.StatusInternalServerError }
	report, err := benchmarks.Run(t.Context(), benchmarks.Config{
		URLs: []string{r.URL + "/api/v1/write"}, Batch: 10, Concurrency: 1, MaxErrors: 4,
	}, workload(t, 500, 2))
	if !errors.Is(err, benchmarks.ErrTooManyErrors) {
		t.Errorf("error %v, want ErrTooManyErrors", err)
	}
	if report == nil || report.Errors() != 4 || len(r.requests) != 4 || report.Steady != nil {
		t.Errorf("report %+v after %d requests, want 4 errors in the first phase", report, len(r.requests))
	}
}

func TestSamplesThatAreNotThereAreNoticed(t *testing.T) {
	t.Run("by the query at the end", func(t *testing.T) {
		r := newReceiver(t)
		r.forget = true
		_, err := benchmarks.Run(t.Context(), benchmarks.Config{
			URLs: []string{r.URL + "/api/v1/write"}, QueryURL: r.URL + "/api/v1/query",
		}, workload(t, 100, 1))
		if !errors.Is(err, benchmarks.ErrReadBack) {
			t.Errorf("error %v, want ErrReadBack", err)
		}
	})
	t.Run("by remote write 2.0's count", func(t *testing.T) {
		r := newReceiver(t)
		r.miscount = -1
		report, err := benchmarks.Run(t.Context(), benchmarks.Config{
			URLs: []string{r.URL + "/api/v1/write"}, Protocol: benchmarks.RemoteWrite2,
		}, workload(t, 100, 1))
		if err != nil || report.Errors() != 1 {
			t.Errorf("report %+v, error %v; want one failed request", report, err)
		}
	})
}

func TestAFixedRateIsKeptAndLatenessIsNotHidden(t *testing.T) {
	r := newReceiver(t)
	slow := make(chan struct{})
	r.refuse = func(n int) int {
		if n == 2 {
			<-slow // all others are due meanwhile
		}
		return 0
	}
	release := time.AfterFunc(300*time.Millisecond, func() { close(slow) })
	defer release.Stop()
	report, err := benchmarks.Run(t.Context(), benchmarks.Config{
		URLs: []string{r.URL + "/api/v1/write"}, Batch: 10, Concurrency: 1, Rate: 10_000,
	}, workload(t, 1000, 1))
	if err != nil {
		t.Fatal(err)
	}
	if report.New.WallSeconds < 0.099 {
		t.Errorf("1000 samples at 10000/s took %g s, want 0.1 or more", report.New.WallSeconds)
	}
	if report.New.DelayMillis == nil || report.New.DelayMillis.P50 < 2*report.New.LatencyMillis.P50 {
		t.Errorf("half of the requests waited for one slow request, but delays are %+v and latencies %+v", report.New.DelayMillis, report.New.LatencyMillis)
	}
}

func TestTheTenantIsNamedInEachRequest(t *testing.T) {
	for _, test := range []struct{ name, header, want string }{
		{"by default", "", "X-Scope-Orgid"},
		{"in another header", "THANOS-TENANT", "Thanos-Tenant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReceiver(t)
			if _, err := benchmarks.Run(t.Context(), benchmarks.Config{
				URLs: []string{r.URL + "/api/v1/write"}, Tenant: "t1", TenantHeader: test.header,
			}, workload(t, 10, 2)); err != nil {
				t.Fatal(err)
			}
			for _, req := range r.requests {
				if got := req.Header.Get(test.want); got != "t1" {
					t.Errorf("%s is %q, want t1", test.want, got)
				}
			}
		})
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	good := benchmarks.Config{URLs: []string{"http://localhost:1/"}}
	for _, test := range []struct {
		name   string
		change func(*benchmarks.Config)
		want   string
	}{
		{"no URL", func(c *benchmarks.Config) { c.URLs = nil }, "no remote-write URL"},
		{"another machine", func(c *benchmarks.Config) { c.URLs[0] = "http://192.0.2.1/" }, `host "192.0.2.1" is not loopback`},
		{"another machine's metrics", func(c *benchmarks.Config) { c.MetricsURLs = []string{"http://example.org/metrics"} }, "not loopback"},
		{"a name that only begins like loopback", func(c *benchmarks.Config) { c.URLs[0] = "http://127.0.0.1.example.org/" }, "not loopback"},
		{"an unknown protocol", func(c *benchmarks.Config) { c.Protocol = "3.0" }, `protocol "3.0"`},
		{"a negative rate", func(c *benchmarks.Config) { c.Rate = -1 }, "rate of -1"},
		{"a negative batch", func(c *benchmarks.Config) { c.Batch = -1 }, "batch of -1"},
		{"negative concurrency", func(c *benchmarks.Config) { c.Concurrency = -1 }, "concurrency -1"},
		{"log bytes of nowhere", func(c *benchmarks.Config) { c.LogBytesMetrics = []string{"x"} }, "without the metrics URL"},
		{"a profile to nowhere", func(c *benchmarks.Config) { c.Profiles = []benchmarks.Profile{{URL: "http://localhost/"}} }, "profile needs both"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := good
			cfg.URLs = slices.Clone(good.URLs)
			test.change(&cfg)
			if _, err := benchmarks.Run(t.Context(), cfg, workload(t, 1, 1)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestAProcessThatIsGone(t *testing.T) {
	_, err := benchmarks.Run(t.Context(), benchmarks.Config{
		URLs: []string{"http://localhost:1/"}, Server: benchmarks.Processes{PIDs: []int{1 << 30}},
	}, workload(t, 1, 1))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want one that says the process does not exist", err)
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	r := newReceiver(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.refuse = func(n int) int {
		if n == 5 {
			cancel()
		}
		return 0
	}
	if _, err := benchmarks.Run(ctx, benchmarks.Config{URLs: []string{r.URL + "/api/v1/write"}, Batch: 1}, workload(t, 1000, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestAReportIsATableOrJSON(t *testing.T) {
	r := newReceiver(t)
	report, err := benchmarks.Run(t.Context(), benchmarks.Config{URLs: []string{r.URL + "/api/v1/write"}}, workload(t, 100, 3))
	if err != nil {
		t.Fatal(err)
	}
	var table, object bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WriteJSON(&object)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"100 series x 3 rounds from 2026-11-21T02:00:00Z", "\n| new | ", "\n| steady | "} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	var fields map[string]any
	if err := json.Unmarshal(object.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"new", "steady", "peak_rss_bytes", "read_back", "label_bytes_per_series"} {
		if _, ok := fields[want]; !ok {
			t.Errorf("the object has no %q, but %q", want, slices.Sorted(maps.Keys(fields)))
		}
	}
}

func TestWaitReady(t *testing.T) {
	t.Run("returns when the server answers 200", func(t *testing.T) {
		r := newReceiver(t)
		if err := benchmarks.WaitReady(t.Context(), r.URL+"/metrics"); err != nil {
			t.Error(err)
		}
	})
	t.Run("gives up with the context", func(t *testing.T) {
		r := newReceiver(t)
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
		defer cancel()
		if err := benchmarks.WaitReady(ctx, r.URL+"/nothing"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("error %v, want one that says 404", err)
		}
	})
}
