package e2e

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// The kill test is worth as much as its check: it must see every way in which
// samples can go wrong.
func TestTheCheckSeesLossAndInvention(t *testing.T) {
	type sample struct {
		ts int64
		v  float64
	}
	w := &writer{number: 3, start: 1000, outcomes: []outcome{acked, unknown, acked}}
	at := func(tick int) sample { return sample{w.time(tick), w.value(5, tick)} }
	for name, c := range map[string]struct {
		samples        []sample
		lost, invented int
		says           string
	}{
		"all of it":                {[]sample{at(0), at(1), at(2)}, 0, 0, ""},
		"without the unknown":      {[]sample{at(0), at(2)}, 0, 0, ""},
		"the last one lost":        {[]sample{at(0), at(1)}, 1, 0, ""},
		"everything lost":          {nil, 2, 0, ""},
		"a sample twice":           {[]sample{at(0), at(0), at(1), at(2)}, 0, 1, "twice"},
		"a wrong value":            {[]sample{at(0), at(1), {w.time(2), 17}}, 1, 1, "has the value 17"},
		"another series' value":    {[]sample{at(0), at(1), {w.time(2), w.value(6, 2)}}, 1, 1, "has the value"},
		"a sample never sent":      {[]sample{at(0), at(1), at(2), at(3)}, 0, 1, "never sent"},
		"a sample between ticks":   {[]sample{at(0), {w.time(0) + 1, 1}, at(1), at(2)}, 0, 1, "never sent"},
		"a sample before all time": {[]sample{{0, 1}, at(0), at(1), at(2)}, 0, 1, "never sent"},
	} {
		t.Run(name, func(t *testing.T) {
			chunk := chunkenc.NewXORChunk()
			app, err := chunk.Appender()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range c.samples {
				app.Append(0, s.ts, s.v)
			}
			var total readBack
			ticks, err := w.checkSeries(5, chunk.Iterator(nil), &total)
			seen := make([][]bool, seriesPerWriter)
			for i := range seen {
				seen[i] = []bool{true, true, true}
			}
			seen[5] = ticks
			lost, _ := w.lost(seen)
			if lost != c.lost || total.invented != c.invented || total.samples != len(c.samples) {
				t.Errorf("lost %d, invented %d of %d; want %d and %d of %d", lost, total.invented, total.samples, c.lost, c.invented, len(c.samples))
			}
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
	if lost, _ := w.lost(make([][]bool, seriesPerWriter)); lost != 2*seriesPerWriter {
		t.Errorf("with no series there, %d are lost, want %d", lost, 2*seriesPerWriter)
	}
}
