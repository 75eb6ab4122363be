package benchmarks

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Report is what a run measured.
type Report struct {
	Protocol    Protocol `json:"protocol"`
	Series      int      `json:"series"`
	Rounds      int      `json:"rounds"`
	Batch       int      `json:"batch"`
	Concurrency int      `json:"concurrency"`
	// Rate is in samples a second; 0 is the maximum.
	Rate float64 `json:"rate"`
	// Start is the time of the first round's samples.
	Start time.Time `json:"start"`
	// LabelBytes is the mean of a series' label names and values.
	LabelBytes float64 `json:"label_bytes_per_series"`
	// New is the first round, Steady are all others; Steady is missing when
	// there is one round.
	New    *Phase `json:"new"`
	Steady *Phase `json:"steady,omitempty"`
	// PeakRSSBytes is the largest resident memory that each server process ever
	// had, summed.
	PeakRSSBytes int64 `json:"peak_rss_bytes"`
	// ReadBack is the number of samples that a query found at the end; -1 if
	// none was asked.
	ReadBack int64 `json:"read_back"`
	// Failures are the first few distinct errors.
	Failures []string `json:"failures,omitempty"`
}

// Phase is what was measured while one part of the workload was sent. CPU times
// and memory are 0 when no process was given.
type Phase struct {
	Requests int `json:"requests"`
	// Samples were acknowledged by a 2xx; Errors are requests without one.
	Samples     int     `json:"samples"`
	Errors      int     `json:"errors"`
	WallSeconds float64 `json:"wall_seconds"`
	// SamplesPerSecond is acknowledged samples by wall time.
	SamplesPerSecond float64 `json:"samples_per_second"`
	// ServerCPUSeconds is user and system time of all server processes.
	ServerCPUSeconds    float64 `json:"server_cpu_seconds"`
	SamplesPerCPUSecond float64 `json:"samples_per_server_cpu_second"`
	// GeneratorCPUSeconds is the load generator's own.
	GeneratorCPUSeconds float64 `json:"generator_cpu_seconds"`
	// LatencyMillis is from the first byte of a request to the last of its answer.
	LatencyMillis Millis `json:"latency_ms"`
	// DelayMillis, at a fixed rate, counts from when the request was due: a
	// server that falls behind cannot hide it by slowing the generator down.
	DelayMillis *Millis `json:"delay_ms,omitempty"`
	// Around has the latencies about Config.Around, if it was set.
	Around *Around `json:"around,omitempty"`
	// PeakRSSBytes is the largest resident memory seen during the phase, looked
	// at ten times a second.
	PeakRSSBytes int64 `json:"peak_rss_bytes"`
	// SentBytesPerSample is compressed, RawBytesPerSample is not.
	SentBytesPerSample float64 `json:"sent_bytes_per_sample"`
	RawBytesPerSample  float64 `json:"raw_bytes_per_sample"`
	// LogBytesPerSample is what the server's metrics say; 0 if not asked.
	LogBytesPerSample float64 `json:"log_bytes_per_sample,omitempty"`
}

// Millis are latencies in milliseconds.
type Millis struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Around compares the requests that ended in the minute before an instant with
// those of the minute after it.
type Around struct {
	Before MinuteOf `json:"before"`
	After  MinuteOf `json:"after"`
}

// MinuteOf is what is known of the requests of one minute.
type MinuteOf struct {
	Requests      int    `json:"requests"`
	LatencyMillis Millis `json:"latency_ms"`
}

// around summarises the minutes about an instant; nil when there is none.
func around(instant time.Time, all *measured) *Around {
	if instant.IsZero() {
		return nil
	}
	var before, after []time.Duration
	for i, end := range all.ends {
		switch d := end.Sub(instant); {
		case -time.Minute <= d && d < 0:
			before = append(before, all.latencies[i])
		case 0 <= d && d < time.Minute:
			after = append(after, all.latencies[i])
		}
	}
	return &Around{
		Before: MinuteOf{Requests: len(before), LatencyMillis: millis(summarise(before))},
		After:  MinuteOf{Requests: len(after), LatencyMillis: millis(summarise(after))},
	}
}

func millis(l Latency) Millis {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return Millis{P50: ms(l.P50), P90: ms(l.P90), P99: ms(l.P99), Max: ms(l.Max)}
}

// Errors returns the number of failed requests of all phases.
func (r *Report) Errors() int {
	n := r.New.Errors
	if r.Steady != nil {
		n += r.Steady.Errors
	}
	return n
}

// Acknowledged returns the number of samples that were answered with a 2xx.
func (r *Report) Acknowledged() int {
	n := r.New.Samples
	if r.Steady != nil {
		n += r.Steady.Samples
	}
	return n
}

// WriteJSON writes the report as one indented JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteTable writes the report as a Markdown table with a line about the
// workload above it.
func (r *Report) WriteTable(w io.Writer) error {
	rate := "maximum rate"
	if r.Rate > 0 {
		rate = fmt.Sprintf("%.0f samples/s", r.Rate)
	}
	if _, err := fmt.Fprintf(w, "remote write %s, %d series x %d rounds from %s, %d samples a request, %d connections, %s, %.0f label bytes a series\n\n"+
		"| phase | samples/s | server CPU s | samples/server CPU s | µs/sample | p50/p90/p99/max ms | errors | peak RSS MB | sent B/sample (raw) | log B/sample | generator CPU s |\n"+
		"|---|---|---|---|---|---|---|---|---|---|---|\n",
		r.Protocol, r.Series, r.Rounds, r.Start.UTC().Format(time.RFC3339), r.Batch, r.Concurrency, rate, r.LabelBytes); err != nil {
		return err
	}
	if err := r.New.writeRow(w, "new"); err != nil {
		return err
	}
	if r.Steady != nil {
		if err := r.Steady.writeRow(w, "steady"); err != nil {
			return err
		}
	}
	return r.writeNotes(w)
}

func (p *Phase) writeRow(w io.Writer, name string) error {
	micros := 0.0
	if p.SamplesPerCPUSecond > 0 {
		micros = 1e6 / p.SamplesPerCPUSecond
	}
	l := p.LatencyMillis
	_, err := fmt.Fprintf(w, "| %s | %.0f | %.2f | %.0f | %.2f | %.1f/%.1f/%.1f/%.1f | %d | %.0f | %.1f (%.1f) | %.2f | %.2f |\n",
		name, p.SamplesPerSecond, p.ServerCPUSeconds, p.SamplesPerCPUSecond, micros,
		l.P50, l.P90, l.P99, l.Max, p.Errors, float64(p.PeakRSSBytes)/1e6,
		p.SentBytesPerSample, p.RawBytesPerSample, p.LogBytesPerSample, p.GeneratorCPUSeconds)
	return err
}

func (r *Report) writeNotes(w io.Writer) error {
	notes := ""
	if r.Steady != nil && r.Steady.DelayMillis != nil {
		d := r.Steady.DelayMillis
		notes += fmt.Sprintf("steady, from when each request was due: p50/p90/p99/max %.1f/%.1f/%.1f/%.1f ms\n", d.P50, d.P90, d.P99, d.Max)
	}
	if r.PeakRSSBytes > 0 {
		notes += fmt.Sprintf("peak RSS of the server's life: %.0f MB\n", float64(r.PeakRSSBytes)/1e6)
	}
	if r.ReadBack >= 0 {
		notes += fmt.Sprintf("read back: %d of %d acknowledged samples\n", r.ReadBack, r.Acknowledged())
	}
	for _, f := range r.Failures {
		notes += "failure: " + f + "\n"
	}
	if notes == "" {
		return nil
	}
	_, err := io.WriteString(w, "\n"+notes)
	return err
}
