package benchmarks

import (
	"errors"
	"math"
	"testing"
	"time"
)

// Values returns series i's values in all rounds, for tests outside the package.
func Values(w *Workload, i int) []float64 {
	v := newValues(w, i, i+1)
	var all []float64
	for range w.cfg.Rounds {
		all = append(all, v.at(i))
		v.next()
	}
	return all
}

func TestCPUTicks(t *testing.T) {
	const tail = " S 1 1 1 0 -1 4194560 1 0 0 0 1234 66 0 0 20 0 1 0 100 1 1"
	for _, test := range []struct {
		name, stat string
		want       int64
		ok         bool
	}{
		{"an ordinary command", "7 (quorate)" + tail, 1300, true},
		{"a command with spaces and parentheses", "7 (a) (b) c)" + tail, 1300, true},
		{"a file cut short", "7 (quorate) S 1 1", 0, false},
		{"no command", "7 quorate S", 0, false},
		{"an empty file", "", 0, false},
		{"words for numbers", "7 (quorate) S 1 1 1 0 -1 4194560 1 0 0 0 x y 0 0", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := cpuTicks([]byte(test.stat))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %d, %v; want %d, ok %v", got, err, test.want, test.ok)
			}
		})
	}
}

func TestStatusField(t *testing.T) {
	const status = "Name:\tquorate\nVmHWM:\t  123456 kB\nVmRSS:\t    99 kB\nThreads:\t5\n"
	for _, test := range []struct {
		field string
		want  int64
		ok    bool
	}{
		{"VmHWM:", 123456, true},
		{"VmRSS:", 99, true},
		{"Threads:", 0, false},
		{"VmSwap:", 0, false},
	} {
		if got, err := statusField([]byte(status), test.field); got != test.want || (err == nil) != test.ok {
			t.Errorf("%s: got %d, %v; want %d, ok %v", test.field, got, err, test.want, test.ok)
		}
	}
}

func TestPercentilesAreRanks(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	for name, test := range map[string]struct {
		durations []time.Duration
		want      Latency
	}{
		"of none":    {nil, Latency{}},
		"of one":     {[]time.Duration{5}, Latency{5, 5, 5, 5}},
		"of two":     {[]time.Duration{9, 5}, Latency{5, 9, 9, 9}},
		"of hundred": {hundred, Latency{50, 90, 99, 100}},
	} {
		if got := summarise(test.durations); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestSumMetrics(t *testing.T) {
	const text = "# TYPE a counter\na{s=\"1\"} 2\na{s=\"2\"} 3\nb 4\n# TYPE g gauge\ng 8\n"
	for _, test := range []struct {
		names []string
		want  float64
		ok    bool
	}{
		{[]string{"a"}, 5, true},
		{[]string{"a", "b", "g"}, 17, true},
		{[]string{"a", "nothing"}, 0, false},
	} {
		if got, err := sumMetrics([]byte(text), test.names); got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: got %g, %v; want %g, ok %v", test.names, got, err, test.want, test.ok)
		}
	}
	if _, err := sumMetrics([]byte("{"), []string{"a"}); err == nil {
		t.Error("want an error for what is not the text format")
	}
}

func TestInstantValue(t *testing.T) {
	const vector = `{"status":"success","data":{"resultType":"vector","result":[%]}}`
	for _, test := range []struct {
		name, answer string
		want         int64
		ok           bool
	}{
		{"one result", `{"data":{"result":[{"value":[1,"42"]}]}}`, 42, true},
		{"a large one", `{"data":{"result":[{"value":[1,"1e+07"]}]}}`, 10_000_000, true},
		{"none", `{"data":{"result":[]}}`, 0, true},
		{"two", `{"data":{"result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}`, 0, false},
		{"a result without a value", `{"data":{"result":[{}]}}`, 0, false},
		{"no JSON", vector, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := instantValue([]byte(test.answer))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %d, %v; want %d, ok %v", got, err, test.want, test.ok)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range []Protocol{RemoteWrite1, RemoteWrite2} {
		b.Run(string(p), func(b *testing.B) {
			w, err := NewWorkload(WorkloadConfig{Series: 2000, Rounds: 1, Start: time.Unix(1795226400, 0)})
			if err != nil {
				b.Fatal(err)
			}
			s := newStream(w, p, 0, 2000)
			for b.Loop() {
				s.next()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/sample")
		})
	}
}

func TestTheMinutesAboutAnInstantAreSummarisedApart(t *testing.T) {
	border := time.Unix(1000, 0)
	var m measured
	for _, r := range []struct{ at, took int }{{-61, 9}, {-60, 1}, {-1, 3}, {0, 5}, {59, 7}, {60, 9}} {
		m.ends = append(m.ends, border.Add(time.Duration(r.at)*time.Second))
		m.latencies = append(m.latencies, time.Duration(r.took)*time.Millisecond)
	}
	if a := around(time.Time{}, &m); a != nil {
		t.Errorf("without an instant: got %+v, want nothing", a)
	}
	a := around(border, &m)
	if a.Before.Requests != 2 || a.Before.LatencyMillis.Max != 3 || a.After.Requests != 2 || a.After.LatencyMillis.P50 != 5 {
		t.Errorf("got %+v; want 2 requests of 1 and 3 ms before, 2 of 5 and 7 ms after", a)
	}
}

func TestEachGivesWhatIsSent(t *testing.T) {
	w, err := NewWorkload(WorkloadConfig{Series: 600, Rounds: 3, Start: time.Unix(0, 0), Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	want := newValues(w, 0, 600)
	n := 0
	err = w.Each(0, 600, func(round, series int, ts int64, v float64) error {
		if round != n/600 || series != n%600 || ts != w.Timestamp(series, round) || math.Float64bits(v) != math.Float64bits(want.at(series)) {
			t.Fatalf("sample %d: round %d, series %d, time %d, value %v", n, round, series, ts, v)
		}
		if n++; n%600 == 0 {
			want.next()
		}
		return nil
	})
	if err != nil || n != 1800 {
		t.Fatalf("%d samples, %v; want 1800", n, err)
	}
	stop := errors.New("stop")
	if err := w.Each(0, 600, func(int, int, int64, float64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the callback's error", err)
	}
}
