package e2e

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// seriesSamples are the samples of each series, as texts "timestamp value".
type seriesSamples map[string][]string

// compareRemoteRead reads everything from both servers by both response types
// of remote read: four answers that must hold the same samples.
func compareRemoteRead(t *testing.T, w window, prometheus, quorate string) (series, differences int) {
	t.Helper()
	everything := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	from, to := w.start.Add(-time.Minute).UnixMilli(), w.end.Add(time.Minute).UnixMilli()
	sampled, chunked := prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS

	want := readSamples(t, prometheus, chunked, from, to, everything)
	if len(want) < 100 {
		t.Fatalf("remote read of Prometheus finds %d series", len(want))
	}
	for name, got := range map[string]seriesSamples{
		"Prometheus, sampled": readSamples(t, prometheus, sampled, from, to, everything),
		"Quorate, sampled":    readSamples(t, quorate, sampled, from, to, everything),
		"Quorate, chunked":    readSamples(t, quorate, chunked, from, to, everything),
	} {
		for _, d := range differentSamples(want, got) {
			differences++
			t.Errorf("remote read, %s: %s", name, d)
		}
	}
	return len(want), differences
}

func differentSamples(want, got seriesSamples) []string {
	var all []string
	for name, samples := range want {
		if d := difference(name, list(samples), list(got[name])); d != "" {
			all = append(all, d)
		}
	}
	for name := range got {
		if _, wanted := want[name]; !wanted {
			all = append(all, name+": is too much")
		}
	}
	return all
}

// readSamples reads series by remote read, with the response type it insists on.
func readSamples(t *testing.T, base string, kind prompb.ReadRequest_ResponseType, from, to int64, matchers ...*labels.Matcher) seriesSamples {
	t.Helper()
	result := seriesSamples{}
	set := remoteRead(t, base, "", kind, from, to, matchers...)
	for set.Next() {
		series := set.At()
		name := series.Labels().String()
		if _, twice := result[name]; twice {
			t.Errorf("remote read of %s: %s comes twice", base, name)
		}
		it := series.Iterator(nil)
		samples := []string{}
		for valueType := it.Next(); valueType != chunkenc.ValNone; valueType = it.Next() {
			samples = append(samples, sampleText(it, valueType))
		}
		if err := it.Err(); err != nil {
			t.Fatalf("remote read of %s: %s: %v", base, name, err)
		}
		result[name] = samples
	}
	if err := set.Err(); err != nil {
		t.Fatalf("remote read of %s: %v", base, err)
	}
	return result
}

// sampleText writes a sample as a text. All staleness markers read alike:
// Prometheus sends that of a histogram series as a float, but stores it as a
// histogram; the server keeps what was sent.
func sampleText(it chunkenc.Iterator, kind chunkenc.ValueType) string {
	switch kind {
	case chunkenc.ValHistogram:
		ts, h := it.AtHistogram(nil)
		if value.IsStaleNaN(h.Sum) {
			return fmt.Sprint(ts, " stale")
		}
		return fmt.Sprint(ts, " ", h)
	case chunkenc.ValFloatHistogram:
		ts, h := it.AtFloatHistogram(nil)
		if value.IsStaleNaN(h.Sum) {
			return fmt.Sprint(ts, " stale")
		}
		return fmt.Sprint(ts, " ", h)
	default:
		ts, v := it.At()
		if value.IsStaleNaN(v) {
			return fmt.Sprint(ts, " stale")
		}
		if math.IsNaN(v) {
			return fmt.Sprintf("%d NaN %016x", ts, math.Float64bits(v))
		}
		return fmt.Sprint(ts, " ", v)
	}
}

// remoteRead asks a server for series by remote read; an empty tenant sends no
// tenant header.
func remoteRead(t *testing.T, base, tenant string, kind prompb.ReadRequest_ResponseType, from, to int64, matchers ...*labels.Matcher) storage.SeriesSet {
	t.Helper()
	u, err := url.Parse(base + "/api/v1/read")
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	if tenant != "" {
		headers["X-Scope-OrgID"] = tenant
	}
	client, err := remote.NewReadClient("e2e", &remote.ClientConfig{
		URL:                   &configutil.URL{URL: u},
		Timeout:               model.Duration(2 * time.Minute),
		ChunkedReadLimit:      1 << 30,
		Headers:               headers,
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{kind},
	})
	if err != nil {
		t.Fatal(err)
	}
	query, err := remote.ToQuery(from, to, matchers, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := client.Read(t.Context(), query, true)
	if err != nil {
		t.Fatalf("remote read of %s as %s: %v", base, strings.ToLower(kind.String()), err)
	}
	return set
}
