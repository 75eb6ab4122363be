package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrTooManyErrors is wrapped by Run's error when it gave up at
// Config.MaxErrors; the report that comes with it holds what was measured.
var ErrTooManyErrors = errors.New("too many requests failed")

// Run sends the whole workload and measures the server under it. A failed
// request is counted, not sent again. An error comes without a report when
// nothing could be measured, and with one when the run was cut short or the
// samples read back are not those acknowledged.
func Run(ctx context.Context, cfg Config, w *Workload) (*Report, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, workload: w, client: &http.Client{Timeout: cfg.Timeout}}
	defer r.client.CloseIdleConnections()
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("encode the workload: %w", err)
	}
	defer r.close()
	return r.measure(ctx)
}

// run is one run in progress.
type run struct {
	cfg      Config
	workload *Workload
	client   *http.Client // for metrics, profile and query; each sender has its own
	senders  []*sender
}

// prepare makes a sender for each connection, deals the requests of a round out
// to them in turn, and encodes all bodies unless they are to be made live.
func (r *run) prepare(ctx context.Context) error {
	for k := range r.cfg.Concurrency {
		r.senders = append(r.senders, newSender(r.cfg, r.cfg.URLs[k%len(r.cfg.URLs)]))
	}
	series := r.workload.cfg.Series
	requests := (series + r.cfg.Batch - 1) / r.cfg.Batch
	for b := range requests {
		s := r.senders[b%len(r.senders)]
		s.batches = append(s.batches, batchRange{
			number: b, first: b * r.cfg.Batch, last: min(series, (b+1)*r.cfg.Batch),
		})
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range r.senders {
		s.requestsPerRound = requests
		g.Go(func() error { return s.prepare(ctx, r.workload) })
	}
	return g.Wait()
}

func (r *run) close() {
	for _, s := range r.senders {
		s.client.CloseIdleConnections()
	}
}

func (r *run) measure(ctx context.Context) (*Report, error) {
	report := &Report{
		Protocol: r.cfg.Protocol, Series: r.workload.cfg.Series, Rounds: r.workload.cfg.Rounds,
		Batch: r.cfg.Batch, Concurrency: r.cfg.Concurrency, Rate: r.cfg.Rate,
		Start: r.workload.cfg.Start, LabelBytes: r.workload.LabelBytes(), ReadBack: -1,
	}
	var err error
	report.New, err = r.phase(ctx, 0, 1)
	if report.New == nil {
		return nil, err
	}
	if err == nil && r.workload.cfg.Rounds > 1 {
		profiled := r.profile(ctx)
		report.Steady, err = r.phase(ctx, 1, r.workload.cfg.Rounds)
		err = errors.Join(err, <-profiled)
	}
	report.Failures = r.failures()
	if err != nil {
		return report, err
	}
	if report.PeakRSSBytes, err = r.cfg.Server.PeakRSS(); err != nil {
		return report, err
	}
	if r.cfg.QueryURL != "" {
		err = r.readBack(ctx, report)
	}
	return report, err
}

// phase sends the rounds from first up to last and measures meanwhile.
func (r *run) phase(ctx context.Context, first, last int) (*Phase, error) {
	begin, err := r.reading(ctx)
	if err != nil {
		return nil, err
	}
	memory := watchMemory(r.cfg.Server)
	g, sending := errgroup.WithContext(ctx)
	for _, s := range r.senders {
		s.measured = measured{}
		g.Go(func() error { return s.send(sending, begin.at, first, last) })
	}
	failed := g.Wait()
	peak, err := memory.stop()
	if err != nil {
		return nil, err
	}
	end, err := r.reading(ctx)
	if err != nil {
		return nil, err
	}
	return r.summarise(begin, end, peak), failed
}

// reading is what is read before and after a phase.
type reading struct {
	at          time.Time
	server, own time.Duration // CPU time
	logBytes    float64
}

func (r *run) reading(ctx context.Context) (reading, error) {
	var now reading
	var err error
	if now.logBytes, err = r.logBytes(ctx); err != nil {
		return now, err
	}
	if now.server, err = r.cfg.Server.CPU(); err != nil {
		return now, err
	}
	if len(r.cfg.Server.PIDs) > 0 {
		if now.own, err = (Processes{PIDs: []int{os.Getpid()}}).CPU(); err != nil {
			return now, err
		}
	}
	now.at = time.Now()
	return now, nil
}

func (r *run) summarise(begin, end reading, peakRSS int64) *Phase {
	var all measured
	for _, s := range r.senders {
		all.add(&s.measured)
	}
	around := around(r.cfg.Around, &all) // before latencies are sorted
	p := &Phase{
		Around:              around,
		Requests:            len(all.latencies),
		Samples:             all.samples,
		Errors:              all.errors,
		WallSeconds:         end.at.Sub(begin.at).Seconds(),
		ServerCPUSeconds:    (end.server - begin.server).Seconds(),
		GeneratorCPUSeconds: (end.own - begin.own).Seconds(),
		LatencyMillis:       millis(summarise(all.latencies)),
		PeakRSSBytes:        peakRSS,
	}
	if r.cfg.Rate > 0 {
		delay := millis(summarise(all.delays))
		p.DelayMillis = &delay
	}
	p.SamplesPerSecond = float64(p.Samples) / p.WallSeconds
	if p.ServerCPUSeconds > 0 {
		p.SamplesPerCPUSecond = float64(p.Samples) / p.ServerCPUSeconds
	}
	if all.sent > 0 {
		p.SentBytesPerSample = float64(all.sentBytes) / float64(all.sent)
		p.RawBytesPerSample = float64(all.rawBytes) / float64(all.sent)
	}
	if p.Samples > 0 {
		p.LogBytesPerSample = (end.logBytes - begin.logBytes) / float64(p.Samples)
	}
	return p
}

func (r *run) failures() []string {
	const enough = 5
	var distinct []string
	seen := map[string]bool{}
	for _, s := range r.senders {
		for _, f := range s.failures {
			if !seen[f] && len(distinct) < enough {
				seen[f] = true
				distinct = append(distinct, f)
			}
		}
	}
	return distinct
}
