package node

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
)

// What an idle node costs: with its open sets alone, with 1,000 tenants, and
// with 200 sealed sets besides.
//
// 2 cores shared with other work, AMD EPYC, 5 s of idling each: 0.2 % of a core
// with 8 open sets alone, 0.3 % with the tenants, 0.2 % with the sealed sets;
// 3 to 4 kB of resident memory a tenant, 15 to 24 kB a sealed set of 50 series.
func BenchmarkIdleNode(b *testing.B) {
	const tenants, buckets, series = 1000, 100, 100
	for b.Loop() {
		s := settingsIn(b.TempDir())
		s.Buckets.Span, s.Buckets.LateWindow, s.Buckets.Retention = time.Hour, time.Second, 1000*time.Hour
		s.MultiTenancy.Enabled = true
		var clock movedClock
		n := startNodeAt(b, s, clock.now)
		idle(b) // the work of the start
		empty := idle(b)
		b.ReportMetric(empty.cpu, "%cpu-open-sets-alone")
		for i := range tenants {
			if _, err := n.meta.client.EnsureTenant(b.Context(), fmt.Sprintf("tenant-%d", i)); err != nil {
				b.Fatal(err)
			}
		}
		settled := func() bool {
			sealed := 0
			for _, set := range n.replicas.Sets() {
				if set.Serving == "file" {
					sealed++
				}
			}
			return sealed >= buckets*s.Buckets.Shards
		}
		withTenants := idle(b)
		b.ReportMetric(withTenants.cpu, "%cpu-1000-tenants")
		b.ReportMetric((withTenants.rss-empty.rss)/tenants, "rss-B/tenant")
		for range buckets {
			n.writeMany(b, "tenant-1", clock.now(), series)
			clock.move(time.Hour)
			n.sealAt(b, clock.now().Add(-time.Hour))
		}
		testwait.For(b, "200 sealed sets", settled)
		// The same process again, so that what sealing left behind does not count.
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		closed := idle(b)
		n = startNodeAt(b, s, clock.now)
		testwait.For(b, "the sealed sets to be open", settled)
		idle(b) // the work of the start
		all := idle(b)
		b.ReportMetric(all.cpu, "%cpu-200-sealed-sets")
		b.ReportMetric((all.rss-closed.rss)/(buckets*float64(s.Buckets.Shards)), "rss-B/sealed-set")
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// usage is what the process takes while it idles.
type usage struct {
	cpu float64 // percent of one core
	rss float64 // bytes, after a garbage collection
}

func idle(b *testing.B) usage {
	b.Helper()
	debug.FreeOSMemory()
	const watched = 5 * time.Second
	before := cpuTime(b)
	<-time.NewTimer(watched).C
	spent := cpuTime(b) - before
	debug.FreeOSMemory()
	return usage{cpu: 100 * float64(spent) / float64(watched), rss: float64(residentBytes(b))}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func residentBytes(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// writeMany writes one sample of each of many series.
func (n *Node) writeMany(b *testing.B, tenant string, at time.Time, series int) {
	b.Helper()
	var request prompb.WriteRequest
	for i := range series {
		request.Timeseries = append(request.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "series", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: float64(i)}},
		})
	}
	body, err := request.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	status, text := n.request(b, http.MethodPost, "/api/v1/write", bytes.NewReader(s2.EncodeSnappy(nil, body)),
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Scope-OrgID", tenant)
	if status != http.StatusNoContent {
		b.Fatalf("write at %v: %d %s", at, status, text)
	}
}

// How long a start takes that replays everything: the log of 100,000 series
// with 20 samples each, in two sets that nobody flushed.
//
// 2 cores shared with other work (load 16), AMD EPYC: 1.1 to 2.4 s, 0.8 to 1.8M
// samples a second, all of a start included.
func BenchmarkStartThatReplaysItsLog(b *testing.B) {
	const series, scrapes = 100_000, 20
	s := settingsIn(b.TempDir())
	s.Flush.MaxMemcacheBytes, s.Flush.MaxTotalMemcacheBytes = config.GiB, 2*config.GiB
	s.Flush.MaxLogBytes, s.Flush.ShutdownTimeout = config.GiB, 0
	n := startNodeAt(b, s, nil)
	now := time.Now()
	for i := range scrapes {
		n.writeMany(b, "", now.Add(time.Duration(i-scrapes)*time.Second), series)
	}
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n := startNodeAt(b, s, nil) // until it is ready
		b.StopTimer()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(series*scrapes*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}
