package benchmarks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// batchRange is the series of one request in every round. Its number is its
// place in the round.
type batchRange struct {
	number, first, last int
}

// sender is one connection. It owns the same series in all rounds, so that their
// samples leave in order. Its methods are called by one goroutine at a time.
type sender struct {
	cfg     Config
	url     string
	client  *http.Client
	batches []batchRange
	// requestsPerRound is the number of requests of all senders in a round.
	requestsPerRound int

	// streams make the bodies of batches when they are made live; otherwise
	// bodies holds them by round and batch.
	streams []*stream
	bodies  [][]body

	measured
	failures []string
}

// measured is what a sender counts in one phase.
type measured struct {
	samples, errors int // acknowledged samples; failed requests
	sent            int // samples sent
	sentBytes       int64
	rawBytes        int64
	latencies       []time.Duration
	delays          []time.Duration
	ends            []time.Time // of requests, when Config.Around is set
}

func (m *measured) add(o *measured) {
	m.samples += o.samples
	m.errors += o.errors
	m.sent += o.sent
	m.sentBytes += o.sentBytes
	m.rawBytes += o.rawBytes
	m.latencies = append(m.latencies, o.latencies...)
	m.delays = append(m.delays, o.delays...)
	m.ends = append(m.ends, o.ends...)
}

func newSender(cfg Config, url string) *sender {
	return &sender{
		cfg: cfg,
		url: url,
		client: &http.Client{
			Timeout: cfg.Timeout,
			// A transport of its own keeps the connection its own. Proxy is nil:
			// the environment has no say in where load goes.
			Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true, WriteBufferSize: 64 << 10},
			// A redirect could lead off loopback.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// prepare makes the streams, or with them all bodies of all rounds.
func (s *sender) prepare(ctx context.Context, w *Workload) error {
	if !s.cfg.Live {
		s.bodies = make([][]body, w.cfg.Rounds)
	}
	for _, b := range s.batches {
		stream := newStream(w, s.cfg.Protocol, b.first, b.last)
		if s.cfg.Live {
			s.streams = append(s.streams, stream)
			continue
		}
		for round := range s.bodies {
			if err := ctx.Err(); err != nil {
				return err
			}
			made := stream.next()
			made.compressed = bytes.Clone(made.compressed)
			s.bodies[round] = append(s.bodies[round], made)
		}
	}
	return nil
}

// send sends the sender's requests of the rounds from first up to last, which
// are due from begin on when there is a rate.
func (s *sender) send(ctx context.Context, begin time.Time, first, last int) error {
	var timer *time.Timer
	if s.cfg.Rate > 0 {
		timer = time.NewTimer(0)
		<-timer.C
		defer timer.Stop()
	}
	for round := first; round < last; round++ {
		for k, batch := range s.batches {
			due := begin
			if timer != nil {
				due = begin.Add(s.due((round-first)*s.requestsPerRound + batch.number))
				if err := waitUntil(ctx, timer, due); err != nil {
					return err
				}
			}
			if err := s.sendOne(ctx, s.body(round, k), due); err != nil {
				return err
			}
		}
	}
	return nil
}

// due is when the n-th request of a phase is due, from the phase's beginning.
func (s *sender) due(n int) time.Duration {
	return time.Duration(float64(n) * float64(s.cfg.Batch) / s.cfg.Rate * float64(time.Second))
}

func waitUntil(ctx context.Context, timer *time.Timer, at time.Time) error {
	timer.Reset(time.Until(at))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *sender) body(round, k int) body {
	if s.cfg.Live {
		return s.streams[k].next()
	}
	b := s.bodies[round][k]
	s.bodies[round][k].compressed = nil // sent once; let its memory go
	return b
}

// sendOne sends one request and counts it. It fails only when the run is to end.
func (s *sender) sendOne(ctx context.Context, b body, due time.Time) error {
	start := time.Now()
	err := s.post(ctx, b)
	end := time.Now()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.latencies = append(s.latencies, end.Sub(start))
	if !s.cfg.Around.IsZero() {
		s.ends = append(s.ends, end)
	}
	if s.cfg.Rate > 0 {
		s.delays = append(s.delays, end.Sub(due))
	}
	s.sent += b.samples
	s.sentBytes += int64(len(b.compressed))
	s.rawBytes += int64(b.rawBytes)
	if err == nil {
		s.samples += b.samples
		return nil
	}
	s.errors++
	s.failures = append(s.failures, err.Error())
	if s.errors >= s.cfg.MaxErrors {
		return fmt.Errorf("%w: %d on one connection, the last: %w", ErrTooManyErrors, s.errors, err)
	}
	return nil
}

func (s *sender) post(ctx context.Context, b body) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(b.compressed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", s.cfg.Protocol.contentType())
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "quorate-loadgen")
	req.Header.Set("X-Prometheus-Remote-Write-Version", s.cfg.Protocol.versionHeader())
	if s.cfg.Tenant != "" {
		req.Header.Set(s.cfg.TenantHeader, s.cfg.Tenant)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const enoughToExplain = 512
	text, err := io.ReadAll(io.LimitReader(resp.Body, enoughToExplain))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil { // or the connection is not used again
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return s.checkWritten(resp.Header, b.samples)
}

// checkWritten compares remote write 2.0's count of written samples, which its
// receivers must send, with what was sent.
func (s *sender) checkWritten(h http.Header, sent int) error {
	const name = "X-Prometheus-Remote-Write-Samples-Written"
	if s.cfg.Protocol != RemoteWrite2 {
		return nil
	}
	if written, err := strconv.Atoi(h.Get(name)); err != nil || written != sent {
		return fmt.Errorf("success with %s %q for %d samples", name, h.Get(name), sent)
	}
	return nil
}
