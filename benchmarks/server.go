package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrReadBack is wrapped by Run's error when a query at the end found another
// number of samples than were acknowledged.
var ErrReadBack = errors.New("samples read back are not those acknowledged")

// WaitReady polls a URL until it answers 200 or ctx ends.
func WaitReady(ctx context.Context, rawURL string) error {
	if err := checkLoopback(rawURL); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := get(ctx, http.DefaultClient, rawURL, nil)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", rawURL, err)
		}
	}
}

// get returns the body of a 200.
func get(ctx context.Context, client *http.Client, rawURL string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, http.NoBody)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", rawURL, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %.512s", req.URL.Host+req.URL.Path, resp.Status, data)
	}
	return data, nil
}

// logBytes sums the configured counters over all their series on all servers.
func (r *run) logBytes(ctx context.Context) (float64, error) {
	if len(r.cfg.LogBytesMetrics) == 0 {
		return 0, nil
	}
	sum := 0.0
	for _, u := range r.cfg.MetricsURLs {
		data, err := get(ctx, r.client, u, nil)
		if err != nil {
			return 0, err
		}
		n, err := sumMetrics(data, r.cfg.LogBytesMetrics)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// profile starts to fetch the CPU profiles that are wanted. The outcome comes
// over the channel, once.
func (r *run) profile(ctx context.Context) <-chan error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range r.cfg.Profiles {
		g.Go(func() error { return r.fetchProfile(ctx, p) })
	}
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	return done
}

func (r *run) fetchProfile(ctx context.Context, p Profile) error {
	u, err := url.Parse(p.URL)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("seconds", strconv.Itoa(max(1, int(r.cfg.ProfileFor.Seconds()))))
	u.RawQuery = q.Encode()
	// The profile takes as long as it takes: no timeout but ctx.
	data, err := get(ctx, &http.Client{Transport: r.client.Transport}, u.String(), nil)
	if err != nil {
		return fmt.Errorf("CPU profile: %w", err)
	}
	if err := os.WriteFile(p.Path, data, 0o644); err != nil {
		return fmt.Errorf("CPU profile: %w", err)
	}
	return nil
}

// readBack counts the workload's samples on the server, metric by metric:
// count_over_time drops the name, and series of different metrics would collide.
func (r *run) readBack(ctx context.Context, report *Report) error {
	report.ReadBack = 0
	for _, m := range metrics {
		n, err := r.countSamples(ctx, m.name)
		if err != nil {
			return fmt.Errorf("read back %s: %w", m.name, err)
		}
		report.ReadBack += n
	}
	if report.ReadBack != int64(report.Acknowledged()) {
		return fmt.Errorf("%w: %d of %d", ErrReadBack, report.ReadBack, report.Acknowledged())
	}
	return nil
}

func (r *run) countSamples(ctx context.Context, metric string) (int64, error) {
	end := r.workload.End()
	span := end.Sub(r.workload.cfg.Start) + time.Second
	query := fmt.Sprintf("sum(count_over_time(%s{cluster=%q}[%dms]))", metric, clusterName(r.workload.cfg.Seed), span.Milliseconds())
	values := url.Values{"query": {query}, "time": {strconv.FormatInt(end.Unix(), 10)}}
	header := http.Header{}
	if r.cfg.Tenant != "" {
		header.Set(r.cfg.TenantHeader, r.cfg.Tenant)
	}
	data, err := get(ctx, r.client, r.cfg.QueryURL+"?"+values.Encode(), header)
	if err != nil {
		return 0, err
	}
	return instantValue(data)
}
