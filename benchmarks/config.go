package benchmarks

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says how a workload is sent and what is measured meanwhile.
type Config struct {
	// URLs are the remote-write endpoints; connections are dealt out to them in
	// turn. At least one; loopback only.
	URLs []string
	// Protocol is the version of remote write; empty means RemoteWrite1.
	Protocol Protocol
	// Tenant goes into the header TenantHeader of each request; empty sends none.
	Tenant string
	// TenantHeader is empty for X-Scope-OrgID.
	TenantHeader string
	// Batch is the number of samples in a request; 0 means 2000.
	Batch int
	// Concurrency is the number of connections, each with one request in
	// flight; 0 means 4.
	Concurrency int
	// Rate is in samples a second; 0 sends as fast as answers come.
	Rate float64
	// Live encodes each request just before it is sent, inside the timed phase:
	// for workloads whose bodies do not fit into memory.
	Live bool
	// Timeout bounds one request; 0 means 60 s.
	Timeout time.Duration
	// MaxErrors ends the run; 0 means 100.
	MaxErrors int

	// Around is an instant, such as the border of two buckets: the report then
	// has the latencies of the minute before it and of the minute after it.
	Around time.Time

	// Server is what CPU time and memory are read from.
	Server Processes
	// MetricsURLs are the servers' /metrics; without any none is read. Loopback
	// only.
	MetricsURLs []string
	// LogBytesMetrics name counters on MetricsURLs whose sum is the number of
	// bytes that the servers wrote to their logs.
	LogBytesMetrics []string
	// Profiles are fetched during the steady phase, side by side.
	Profiles []Profile
	// ProfileFor is how long is profiled; 0 means 10 s.
	ProfileFor time.Duration
	// QueryURL is the server's instant query endpoint (/api/v1/query), asked at
	// the end whether all samples can be read back, each once; empty asks
	// nothing. Loopback only.
	QueryURL string
}

// Profile is a CPU profile to be fetched. Both fields are required.
type Profile struct {
	// URL is that of a server's profile (/debug/pprof/profile). Loopback only.
	URL string
	// Path is the file that it goes to.
	Path string
}

// validate fills in the defaults. Its error names the setting and the rule.
func (c Config) validate() (Config, error) {
	c.Protocol = defaultTo(c.Protocol, RemoteWrite1)
	c.TenantHeader = defaultTo(c.TenantHeader, "X-Scope-OrgID")
	c.Batch = defaultTo(c.Batch, 2000)
	c.Concurrency = defaultTo(c.Concurrency, 4)
	c.Timeout = defaultTo(c.Timeout, time.Minute)
	c.MaxErrors = defaultTo(c.MaxErrors, 100)
	c.ProfileFor = defaultTo(c.ProfileFor, 10*time.Second)
	switch {
	case len(c.URLs) == 0:
		return c, errors.New("no remote-write URL")
	case c.Protocol != RemoteWrite1 && c.Protocol != RemoteWrite2:
		return c, fmt.Errorf("protocol %q: want %q or %q", c.Protocol, RemoteWrite1, RemoteWrite2)
	case c.Batch < 1:
		return c, fmt.Errorf("batch of %d samples: want at least 1", c.Batch)
	case c.Concurrency < 1:
		return c, fmt.Errorf("concurrency %d: want at least 1", c.Concurrency)
	case c.Rate < 0:
		return c, fmt.Errorf("rate of %g samples a second: want 0 for the maximum, or more", c.Rate)
	case len(c.LogBytesMetrics) > 0 && len(c.MetricsURLs) == 0:
		return c, errors.New("log-bytes metrics without the metrics URL that has them")
	}
	urls := slices.Concat(c.URLs, c.MetricsURLs, []string{c.QueryURL})
	for _, p := range c.Profiles {
		if p.URL == "" || p.Path == "" {
			return c, errors.New("a profile needs both its URL and the file it goes to")
		}
		urls = append(urls, p.URL)
	}
	for _, u := range urls {
		if err := checkLoopback(u); err != nil {
			return c, err
		}
	}
	return c, nil
}

func defaultTo[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// checkLoopback keeps a load generator with a typing error off other people's
// servers.
func checkLoopback(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("URL %q: %w", raw, err)
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	if !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("URL %q: host %q is not loopback, and load goes nowhere else", raw, host)
	}
	return nil
}
