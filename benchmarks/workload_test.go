package benchmarks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

func TestSeriesAreShapedLikeScrapedTargets(t *testing.T) {
	w := workload(t, 100_000, 1)
	if got := w.LabelBytes(); got < 255 || got > 259 {
		t.Errorf("%.1f label bytes a series, want 257", got)
	}
	distinct := map[string]map[string]bool{}
	seen := map[string]bool{}
	var labels []benchmarks.Label
	for i := range 100_000 {
		labels = w.Labels(labels[:0], i)
		if n := len(labels); n < 12 || n > 13 {
			t.Fatalf("series %d has %d labels, want 12 or 13", i, n)
		}
		if !slices.IsSortedFunc(labels, func(a, b benchmarks.Label) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatalf("labels of series %d are not sorted: %v", i, labels)
		}
		var key strings.Builder
		for _, l := range labels {
			if l.Value == "" {
				t.Fatalf("series %d has an empty %s", i, l.Name)
			}
			if distinct[l.Name] == nil {
				distinct[l.Name] = map[string]bool{}
			}
			distinct[l.Name][l.Value] = true
			key.WriteString(l.Name + "\xff" + l.Value + "\xff")
		}
		seen[key.String()] = true
	}
	if len(seen) != 100_000 {
		t.Errorf("%d distinct series, want 100000", len(seen))
	}
	for name, want := range map[string]int{"__name__": 50, "job": 10, "instance": 200, "pod": 200, "le": 10, "cluster": 1} {
		if got := len(distinct[name]); got != want {
			t.Errorf("%d values of %s, want %d", got, name, want)
		}
	}
}

func TestInstancesOfAMillionSeriesDiffer(t *testing.T) {
	w := workload(t, 1_000_000, 1)
	instances := map[string]bool{}
	for i := 0; i < 1_000_000; i += 500 {
		instances[w.Labels(nil, i)[4].Value] = true
	}
	if len(instances) != 2000 {
		t.Errorf("%d instances, want 2000", len(instances))
	}
}

func TestValuesMoveAsTheirKindSays(t *testing.T) {
	r := newReceiver(t)
	const rounds = 60
	if _, err := benchmarks.Run(t.Context(), benchmarks.Config{URLs: []string{r.URL + "/api/v1/write"}}, workload(t, 1000, rounds)); err != nil {
		t.Fatal(err)
	}
	moves, total := 0, 0
	buckets := map[string][]float64{} // histogram → last values
	for labels, samples := range r.samples {
		name, _, _ := strings.Cut(strings.TrimPrefix(labels, `__name__="`), `"`)
		counter := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum")
		for k := 1; k < len(samples); k++ {
			delta := samples[k].Value - samples[k-1].Value
			switch {
			case counter && delta < 0:
				t.Fatalf("counter falls: %s", labels)
			case name == "build_info" && delta != 0:
				t.Fatalf("constant moves: %s", labels)
			case strings.HasSuffix(name, "_bytes") && int64(samples[k].Value)%4096 != 0:
				t.Fatalf("%g is no multiple of 4096: %s", samples[k].Value, labels)
			case strings.HasSuffix(name, "_bucket"):
				total++
				if delta != 0 {
					moves++
				}
			}
		}
		if before, rest, ok := strings.Cut(labels, `,le="`); ok {
			_, after, _ := strings.Cut(rest, `"`)
			buckets[before+after] = append(buckets[before+after], samples[rounds-1].Value)
		}
	}
	if share := float64(moves) / float64(total); share < 0.02 || share > 0.2 {
		t.Errorf("buckets move in %.0f %% of the rounds, want them to move rarely", 100*share)
	}
	if len(buckets) != 16 {
		t.Errorf("%d histograms, want 16", len(buckets))
	}
	for histogram, values := range buckets {
		if len(values) != 10 {
			t.Errorf("%d buckets of %s, want 10", len(values), histogram)
		}
	}
}

func TestBucketsStayCumulative(t *testing.T) {
	w := workload(t, 500, 40)
	for series := range 500 {
		labels := w.Labels(nil, series)
		if !strings.HasSuffix(labels[0].Value, "_bucket") || series%10 == 0 {
			continue
		}
		lower, upper := benchmarks.Values(w, series-1), benchmarks.Values(w, series)
		for k := range lower {
			if lower[k] > upper[k] {
				t.Fatalf("round %d: bucket %v holds %g, less than the %g of the one below", k, labels, upper[k], lower[k])
			}
		}
	}
}

func TestRequestsHaveTheSizesOfTheReferenceWorkload(t *testing.T) {
	for _, test := range []struct {
		protocol             benchmarks.Protocol
		rawMin, rawMax       float64
		packedMin, packedMax float64
	}{
		{benchmarks.RemoteWrite1, 340, 360, 25, 40},
		{benchmarks.RemoteWrite2, 45, 60, 12, 20},
	} {
		r := newReceiver(t)
		report, err := benchmarks.Run(t.Context(), benchmarks.Config{URLs: []string{r.URL + "/api/v1/write"}, Protocol: test.protocol}, workload(t, 10_000, 3))
		if err != nil {
			t.Fatal(err)
		}
		raw, packed := report.Steady.RawBytesPerSample, report.Steady.SentBytesPerSample
		t.Logf("remote write %s: %.1f bytes a sample, %.1f compressed", test.protocol, raw, packed)
		if raw < test.rawMin || raw > test.rawMax || packed < test.packedMin || packed > test.packedMax {
			t.Errorf("remote write %s: %.1f bytes a sample, %.1f compressed; want %g to %g, %g to %g", test.protocol,
				raw, packed, test.rawMin, test.rawMax, test.packedMin, test.packedMax)
		}
	}
}

func TestRecentStart(t *testing.T) {
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, test := range []struct {
		name, now, want string
		rounds          int
	}{
		{"ends now", "2026-11-21T12:00:00Z", "2026-11-21T11:34:45Z", 100},
		{"ends at midnight when it would cross it", "2026-11-21T00:10:00Z", "2026-11-20T23:34:45Z", 100},
		{"crosses midnight when it is longer than a day", "2026-11-21T12:00:00Z", "2026-11-20T10:59:45Z", 6000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := benchmarks.RecentStart(at(test.now), test.rounds, 15*time.Second); !got.Equal(at(test.want)) {
				t.Errorf("got %s, want %s", got.Format(time.RFC3339), test.want)
			}
		})
	}
}

func TestWorkloadsThatCannotBe(t *testing.T) {
	for name, cfg := range map[string]benchmarks.WorkloadConfig{
		"0 series":      {Rounds: 1, Start: start},
		"0 rounds":      {Series: 1, Start: start},
		"interval 1ms":  {Series: 1, Rounds: 1, Start: start, Interval: time.Millisecond},
		"start time is": {Series: 1, Rounds: 1},
	} {
		if _, err := benchmarks.NewWorkload(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one that names %q", err, name)
		}
	}
}
