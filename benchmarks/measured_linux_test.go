package benchmarks_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

func TestWhatIsMeasuredOfTheServer(t *testing.T) {
	r := newReceiver(t)
	profile := filepath.Join(t.TempDir(), "cpu.pprof")
	report, err := benchmarks.Run(t.Context(), benchmarks.Config{
		URLs:            []string{r.URL + "/api/v1/write"},
		Server:          benchmarks.Processes{PIDs: []int{os.Getpid()}},
		MetricsURLs:     []string{r.URL + "/metrics"},
		LogBytesMetrics: []string{"log_bytes_total"},
		Profiles:        []benchmarks.Profile{{URL: r.URL + "/profile", Path: profile}},
		ProfileFor:      3 * time.Second,
	}, workload(t, 2000, 20))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*benchmarks.Phase{"new": report.New, "steady": report.Steady} {
		if p.LogBytesPerSample != 4 {
			t.Errorf("%s: %g log bytes a sample, want 4", name, p.LogBytesPerSample)
		}
		if p.PeakRSSBytes < 1<<20 || p.PeakRSSBytes > report.PeakRSSBytes {
			t.Errorf("%s: peak RSS %d of %d in the process' life", name, p.PeakRSSBytes, report.PeakRSSBytes)
		}
		if l := p.LatencyMillis; l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.Max {
			t.Errorf("%s: latencies %+v", name, l)
		}
	}
	// Server and generator are one process here.
	if s := report.Steady; s.ServerCPUSeconds <= 0 || s.SamplesPerCPUSecond <= 0 || s.GeneratorCPUSeconds <= 0 {
		t.Errorf("steady: server CPU %g s, %g samples/CPU s, generator CPU %g s", s.ServerCPUSeconds, s.SamplesPerCPUSecond, s.GeneratorCPUSeconds)
	}
	if got, err := os.ReadFile(profile); err != nil || string(got) != "a profile of 3 s" {
		t.Errorf("profile %q, %v", got, err)
	}
}
