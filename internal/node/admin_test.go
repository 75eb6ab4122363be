package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// movedClock is a wall clock that runs, and that tests set ahead.
type movedClock struct{ ahead atomic.Int64 }

func (c *movedClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *movedClock) move(by time.Duration) { c.ahead.Add(int64(by)) }

// admin200 sends a request to the admin listener, expects a status, and decodes
// the data of the answer.
func (n *Node) admin200(t testing.TB, method, path string, data any) {
	t.Helper()
	status, text := n.requestAt(t, n.AdminAddr(), method, path, nil)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	answer := struct {
		Status string
		Data   any
	}{Data: data}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// sealAt has the bucket that covers an instant sealed.
func (n *Node) sealAt(t testing.TB, at time.Time) sealedBucket {
	t.Helper()
	var bucket sealedBucket
	n.admin200(t, http.MethodPost, "/api/v1/admin/seal?start="+url.QueryEscape(at.UTC().Format(time.RFC3339)), &bucket)
	return bucket
}

func (n *Node) listSets(t *testing.T) (sets []listedSet) {
	t.Helper()
	n.admin200(t, http.MethodGet, "/api/v1/admin/sets", &sets)
	return sets
}

// hourly are settings with buckets of an hour, that wait for ever for what
// comes late, so that only admin requests seal.
func hourly(t *testing.T) config.Config {
	t.Helper()
	s := settingsIn(t.TempDir())
	s.Buckets.Span, s.Buckets.LateWindow, s.Buckets.Retention = time.Hour, time.Hour, 24*time.Hour
	return s
}

// mustWrite writes one sample for each of some jobs, which lie in both shards.
func (n *Node) mustWrite(t *testing.T, at time.Time, value float64) {
	t.Helper()
	for _, job := range []string{"a", "b", "c", "d"} {
		status, text := n.write(t, "", map[string]string{"__name__": "m", "job": job}, prompb.Sample{Timestamp: at.UnixMilli(), Value: value})
		if status != http.StatusNoContent {
			t.Fatalf("write at %v: %d %s", at, status, text)
		}
	}
}

const perJob = "sum by (job) (sum_over_time(m[3h])) + 1000 * sum by (job) (count_over_time(m[3h]))"

func TestABucketsLifeByAdminRequests(t *testing.T) {
	s := hourly(t)
	var clock movedClock
	n := startNodeAt(t, s, clock.now)
	start := clock.now().Truncate(time.Hour)
	written := start.Add(time.Second)
	n.mustWrite(t, written, 1)
	n.mustWrite(t, written.Add(time.Second), 2)
	clock.move(time.Hour)
	asked := clock.now()
	ask := func() string { return fmt.Sprint(n.query(t, "", perJob, asked.UnixMilli())) }
	before := ask()
	if !strings.Contains(before, "2003") {
		t.Fatalf("before the seal: %s", before)
	}

	first := n.sealAt(t, start)
	if len(first.Sets) != s.Buckets.Shards {
		t.Fatalf("sealed %+v, want %d sets", first, s.Buckets.Shards)
	}
	samples := uint64(0)
	for _, set := range first.Sets {
		samples += set.Samples
		if set.State != "sealed" || set.Checksum == "" || set.Samples > 0 && set.BytesPerSample <= 0 {
			t.Errorf("a sealed set is %+v", set)
		}
	}
	if samples != 8 {
		t.Errorf("the sealed sets have %d samples, want 8", samples)
	}
	if got := ask(); got != before {
		t.Errorf("after the seal: %s, before: %s", got, before)
	}
	if again := n.sealAt(t, start); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("sealed again: %+v, want what it is: %+v", again, first)
	}

	n.mustWrite(t, written.Add(10*time.Second), 4) // late
	late := ask()
	if !strings.Contains(late, "3007") {
		t.Errorf("with the late samples: %s", late)
	}
	overlays := 0
	for _, set := range n.listSets(t) {
		if set.Base != 0 && set.Serving == "log" && set.Leader {
			overlays++
		}
	}
	if overlays == 0 {
		t.Errorf("no overlay among %+v", n.listSets(t))
	}
	second := n.sealAt(t, start)
	if got := ask(); got != late {
		t.Errorf("after the seal of the overlays: %s, before: %s", got, late)
	}
	if fmt.Sprint(second) == fmt.Sprint(first) {
		t.Error("the late samples changed nothing of what is sealed")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = startNodeAt(t, s, clock.now)
	testwait.For(t, "the sealed sets to be open", func() bool {
		for _, set := range n.listSets(t) {
			if set.State == "sealed" && set.Serving != "file" {
				return false
			}
		}
		return true
	})
	if got := ask(); got != late {
		t.Errorf("after a restart: %s, before: %s", got, late)
	}

	clock.move(s.Buckets.Retention + time.Hour)
	// A jump of the clock drops nothing: time must have come to a bucket that was
	// planned ahead.
	next := clock.now().Truncate(time.Hour).Add(time.Hour)
	testwait.For(t, "the next bucket to be open", func() bool {
		b := n.meta.client.Map().Bucket(1, next.UnixMilli())
		return b != nil && b.State == metasvc.BucketOpen
	})
	clock.move(time.Hour)
	testwait.For(t, "the bucket to be dropped", func() bool {
		for _, set := range n.listSets(t) {
			if set.Start == first.Start {
				return false
			}
		}
		return len(trashOf(t, s.DataDir)) > 0
	})
	if got := n.query(t, "", perJob, asked.UnixMilli()); len(got) != 0 {
		t.Errorf("after the drop: %v", got)
	}
	status, text := n.write(t, "", metricM, sampleAt(written))
	if status != http.StatusBadRequest {
		t.Errorf("a write to dropped time got %d %s", status, text)
	}
}

func trashOf(t *testing.T, dataDir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dataDir, lifecycle.TrashDir))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestTheLateWindowSealsByItself(t *testing.T) {
	s := hourly(t)
	s.Buckets.LateWindow = time.Minute
	var clock movedClock
	n := startNodeAt(t, s, clock.now)
	start := clock.now().Truncate(time.Hour)
	n.mustWrite(t, start.Add(time.Second), 1)
	clock.move(time.Hour + 2*time.Minute)
	testwait.For(t, "the bucket to be sealed", func() bool {
		sealed := 0
		for _, set := range n.listSets(t) {
			if set.State == "sealed" && set.Serving == "file" && set.Start == quorate.FormatTime(start.UnixMilli()) {
				sealed++
			}
		}
		return sealed == s.Buckets.Shards
	})
	if got := n.query(t, "", "count(count_over_time(m[3h]))", clock.now().UnixMilli()); fmt.Sprint(got) != "[map[] 4]" {
		t.Errorf("after the seal: %v", got)
	}
}

func TestAdminRequestsThatCannotBeServedSayWhy(t *testing.T) {
	n := startNode(t, hourly(t))
	now := time.Now()
	for name, tc := range map[string]struct {
		method, path string
		status       int
		says         string
	}{
		"no start":                   {http.MethodPost, "seal", 400, "start is missing"},
		"a start that is no time":    {http.MethodPost, "seal?start=yesterday", 400, `"yesterday" is neither RFC 3339 nor unix seconds`},
		"a bucket that is not over":  {http.MethodPost, fmt.Sprint("seal?start=", now.Unix()), 400, "is not over yet"},
		"a bucket that is not there": {http.MethodPost, "seal?start=1000000000.5", 404, "no bucket that covers 2001-09-09T01:46:40.5Z"},
		"an unknown policy":          {http.MethodPost, "seal?start=1&policy=gold", 404, `policy "gold" does not exist`},
		"a seal by GET":              {http.MethodGet, "seal?start=1", 405, ""},
		"a tenant that is missing":   {http.MethodPost, "tenants/retention?tenant=nobody&retention=1d", 404, `tenant "nobody" does not exist`},
		"no tenant":                  {http.MethodPost, "tenants/retention?retention=1d", 400, "tenant and retention are both needed"},
		"a retention of no duration": {http.MethodPost, "tenants/retention?tenant=a&retention=long", 400, `"long" is not a duration`},
	} {
		status, text := n.requestAt(t, n.AdminAddr(), tc.method, "/api/v1/admin/"+tc.path, nil)
		if status != tc.status || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), tc.says) {
			t.Errorf("%s: %d %s; want %d saying %q", name, status, text, tc.status, tc.says)
		}
	}
}

func TestFlushSaysWhatItFlushed(t *testing.T) {
	n := startNode(t, hourly(t))
	n.mustWrite(t, time.Now(), 1)
	var report flushed
	n.admin200(t, http.MethodPost, "/api/v1/admin/flush", &report)
	if report.Sets < 2 || report.Bytes <= 0 || report.Seconds <= 0 {
		t.Errorf("the flush reports %+v", report)
	}
	for _, set := range n.listSets(t) {
		if set.Start > quorate.FormatTime(time.Now().UnixMilli()) {
			continue // late in the hour the next bucket's sets are told of the series
		}
		if set.LogBytes != 0 || set.MemcacheBytes != 0 {
			t.Errorf("after the flush a set is %+v", set)
		}
	}
}

func TestATenantsOwnRetentionHidesWhatIsOlder(t *testing.T) {
	n := startNode(t, hourly(t))
	now := time.Now()
	n.mustWrite(t, now.Add(-2*time.Hour), 1)
	n.mustWrite(t, now, 1)
	const counts = "sum(count_over_time(m[3h]))"
	if got := fmt.Sprint(n.query(t, "", counts, now.UnixMilli())); got != "[map[] 8]" {
		t.Fatalf("before: %s", got)
	}
	var set struct{ Tenant, Retention string }
	n.admin200(t, http.MethodPost, "/api/v1/admin/tenants/retention?tenant=anonymous&retention=1h", &set)
	if set.Retention != "1h" {
		t.Errorf("the answer is %+v", set)
	}
	if got := fmt.Sprint(n.query(t, "", counts, now.UnixMilli())); got != "[map[] 4]" {
		t.Errorf("after: %s", got)
	}
}

func TestTheAdminAPIIsOnThePublicListenerOnlyWhenAskedFor(t *testing.T) {
	s := hourly(t)
	n := startNode(t, s)
	if status, text := n.request(t, http.MethodPost, "/api/v1/admin/flush", nil); status == http.StatusOK {
		t.Errorf("the public listener flushed: %s", text)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s.HTTP.EnableAdminAPI = true
	n = startNode(t, s)
	if status, text := n.request(t, http.MethodPost, "/api/v1/admin/flush", nil); status != http.StatusOK {
		t.Errorf("asked to, it answers %d %s", status, text)
	}
}

func TestDeletedSeriesAreGoneFromOpenAndSealedBuckets(t *testing.T) {
	var clock movedClock
	n := startNodeAt(t, hourly(t), clock.now)
	start := clock.now().Truncate(time.Hour)
	n.mustWrite(t, start.Add(time.Second), 1)
	clock.move(time.Hour)
	n.sealAt(t, start)
	n.mustWrite(t, clock.now(), 1)
	const counts = "sum by (job) (count_over_time(m[3h]))"
	ask := func() string { return fmt.Sprint(n.query(t, "", counts, clock.now().UnixMilli())) }
	if got := ask(); strings.Count(got, "2") != 4 {
		t.Fatalf("before: %s", got)
	}
	status, text := n.requestAt(t, n.AdminAddr(), http.MethodPost, "/api/v1/admin/tsdb/delete_series?match[]="+url.QueryEscape(`m{job=~"a|b"}`), nil)
	if status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", status, text)
	}
	want := ask()
	if strings.Contains(want, "job:a") || strings.Contains(want, "job:b") || strings.Count(want, "2") != 2 {
		t.Errorf("after the deletion: %s", want)
	}
	if status, text := n.requestAt(t, n.AdminAddr(), http.MethodPost, "/api/v1/admin/tsdb/clean_tombstones", nil); status != http.StatusNoContent {
		t.Fatalf("clean: %d %s", status, text)
	}
	if got := ask(); got != want {
		t.Errorf("after cleaning: %s, want %s", got, want)
	}
	samples := uint64(0)
	for _, set := range n.listSets(t) {
		samples += set.Samples
	}
	if samples != 2 {
		t.Errorf("the sealed files have %d samples, want the 2 that are left", samples)
	}
}
