package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// A real Prometheus scrapes itself, the server and the shop, and writes all of
// it to the server; then both must give the same answers to the same questions,
// and the server must give them again after a restart. Prometheus' own answers
// are what is right.
func TestRealPrometheusAnswersEqual(t *testing.T) {
	for name, c := range map[string]struct{ protobuf, settings string }{
		// Restarts from the log alone.
		"remote write 1.0": {remoteWrite1, "flush: {shutdown_timeout: 0s}\n"},
		// Answers from flush files and memory, restarts from flush files and log.
		"remote write 2.0": {remoteWrite2, "flush: {max_memcache_bytes: 512KiB, max_age: 10s}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answersEqual(t, c.protobuf, c.settings)
		})
	}
}

func answersEqual(t *testing.T, protobuf, settings string) {
	quorate := startServer(t, settings)
	shop := startShop(t)
	prometheus := startPrometheus(t, quorate.address, shop.address, protobuf)

	w := window{start: time.Now()}
	let(t, scrapeDuration(t))
	known := ask(t, prometheus.url(""), "/api/v1/metadata", nil) // gone with the targets
	let(t, 2*time.Second)                                        // longer than metadata_config.send_interval
	w.end = time.Now()
	prometheus.stopScraping(t)
	waitUntilSent(t, prometheus)

	compareAll(t, "after "+w.end.Sub(w.start).Round(time.Second).String()+" of scraping", w, known, prometheus, quorate)
	if code, _ := quorate.terminate(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	quorate.start(t)
	quorate.waitReady(t, quorate.url("/-/ready"))
	flushes := flushFiles(t, quorate.dir)
	if strings.Contains(settings, "max_age") != (flushes > 0) {
		t.Errorf("%d flush files with the settings %q", flushes, settings)
	}
	compareAll(t, fmt.Sprintf("after a restart from %d flush files and the log", flushes), w, known, prometheus, quorate)
}

// compareAll asks everything of both servers and prints the figures.
func compareAll(t *testing.T, when string, w window, known answer, prometheus *realPrometheus, quorate *server) {
	t.Helper()
	protobuf := prometheus.config.Protobuf
	asked, differences := 0, 0
	for _, q := range questions(w, prometheus.config.CustomBuckets()) {
		asked++
		if problem := compare(t, q, prometheus.url(""), quorate.url("")); problem != "" {
			differences++
			t.Errorf("%s: %s %v: %s", when, q.path, q.params, problem)
		}
	}
	families, missing := 0, 0
	if protobuf == remoteWrite1 || metadataSent(t, prometheus) > 0 {
		families, missing = compareMetadata(t, known, quorate.url(""))
	}
	series, unequal := compareRemoteRead(t, w, prometheus.url(""), quorate.url(""))
	t.Logf("%s %s: %d queries, %d differences; metadata of %d families, %d differences; remote read of %d series by both response types, %d differences",
		protobuf, when, asked, differences, families, missing, series, unequal)
}

func scrapeDuration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("QUORATE_E2E_DURATION")
	if text == "" {
		text = "30s"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("QUORATE_E2E_DURATION: %v", err)
	}
	return d
}

// let gives other processes time to do something.
func let(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
	if t.Context().Err() != nil {
		t.Fatal("the test is over")
	}
}

// waitUntilSent waits until Prometheus appends no more (staleness markers come
// two intervals after the last scrape) and has sent all it has, and fails when
// it has dropped anything on the way.
func waitUntilSent(t *testing.T, p *realPrometheus) {
	t.Helper()
	const quiet = 5 * time.Second
	var appended float64
	var since time.Time
	testwait.Until(t, "Prometheus to have sent everything", every(200*time.Millisecond, func() error {
		m, err := metricValues(t, p.url(""))
		if err != nil {
			return err
		}
		if now := m["prometheus_tsdb_head_samples_appended_total"]; now != appended {
			appended, since = now, time.Now()
		}
		highest, sent := m["prometheus_remote_storage_queue_highest_timestamp_seconds"], m["prometheus_remote_storage_queue_highest_sent_timestamp_seconds"]
		pending := m["prometheus_remote_storage_samples_pending"] + m["prometheus_remote_storage_exemplars_pending"] + m["prometheus_remote_storage_histograms_pending"]
		switch {
		case appended == 0 || highest == 0:
			return fmt.Errorf("nothing was scraped or sent yet")
		case time.Since(since) < quiet:
			return fmt.Errorf("samples are still being appended")
		case sent < highest || pending != 0:
			return fmt.Errorf("sent up to %.3f of %.3f, %v pending", sent, highest, pending)
		}
		for _, kind := range []string{"samples", "exemplars", "histograms", "metadata"} {
			for _, fate := range []string{"failed", "dropped"} {
				name := "prometheus_remote_storage_" + kind + "_" + fate + "_total"
				if m[name] != 0 {
					t.Fatalf("%s is %v", name, m[name])
				}
			}
		}
		return nil
	}))
}

// compare asks both servers and returns what is wrong with the second's answer.
func compare(t *testing.T, q question, prometheus, quorate string) string {
	t.Helper()
	want := canonical(t, ask(t, prometheus, q.path, q.params), q.ordered)
	got := canonical(t, ask(t, quorate, q.path, q.params), q.ordered)
	switch {
	case want.Status != "success":
		return "Prometheus itself answers " + want.Error
	case got.Status != want.Status || got.Error != want.Error:
		return fmt.Sprintf("status %s: %s", got.Status, got.Error)
	case isEmpty(want) && !q.mayBeEmpty:
		return "Prometheus itself finds nothing"
	}
	if d := difference("data", want.Data, got.Data); d != "" {
		return d
	}
	if d := difference("warnings", list(want.Warnings), list(got.Warnings)); d != "" {
		return d
	}
	return difference("infos", list(want.Infos), list(got.Infos))
}

func list(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}

// metadataSent is how many entries of metadata Prometheus says it has sent.
// By remote write 2.0 that is none at all in Prometheus 3.14: the feature
// metadata-wal-records reaches the scraper but not the storage, so that the log
// from which the sender reads holds no metadata. TestMetadataOfRemoteWrite2
// sends its own.
func metadataSent(t *testing.T, p *realPrometheus) float64 {
	t.Helper()
	m, err := metricValues(t, p.url(""))
	if err != nil {
		t.Fatal(err)
	}
	return m["prometheus_remote_storage_metadata_total"]
}

// compareMetadata checks that the server knows of each family what Prometheus
// knew while it scraped. Targets that describe a family in different words are
// left out: the server keeps one description. It may know more, since remote
// write 2.0 also describes the series that Prometheus makes itself.
func compareMetadata(t *testing.T, known answer, quorate string) (families, differences int) {
	t.Helper()
	want, ok := known.Data.(map[string]any)
	if !ok || len(want) < 100 {
		t.Fatalf("Prometheus knows the metadata of %d families", len(want))
	}
	got, ok := ask(t, quorate, "/api/v1/metadata", nil).Data.(map[string]any)
	if !ok {
		t.Fatal("the server's metadata is no object")
	}
	for family, entries := range want {
		if described, ok := entries.([]any); ok && len(described) > 1 {
			continue
		}
		families++
		one := ask(t, quorate, "/api/v1/metadata", params("metric", family)).Data
		for _, d := range []string{
			difference("all."+family, entries, got[family]),
			difference("one", map[string]any{family: entries}, one),
		} {
			if d != "" {
				differences++
				t.Errorf("/api/v1/metadata: %s", d)
			}
		}
	}
	return families, differences
}
