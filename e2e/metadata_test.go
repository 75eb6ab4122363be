package e2e

import (
	"testing"
	"time"

	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// Metadata of remote write 2.0 comes with each series and is told by family,
// whatever suffix the series has.
func TestMetadataOfRemoteWrite2(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	symbols := []string{"", "__name__", "jobs_total", "Jobs done.", "wait_seconds_bucket", "le", "+Inf", "Time waited.", "seconds"}
	samples := []writev2.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}}
	body := write2(t, symbols,
		writev2.TimeSeries{
			LabelsRefs: []uint32{1, 2}, Samples: samples,
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: 3},
		},
		writev2.TimeSeries{
			LabelsRefs: []uint32{1, 4, 5, 6}, Samples: samples,
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: 7, UnitRef: 8},
		})
	if status, text := (request{body: body, contentType: protobuf2}).post(t, s); status/100 != 2 {
		t.Fatalf("status %d: %s", status, text)
	}
	for metric, want := range map[string]string{
		"jobs_total":   `{"status":"success","data":{"jobs_total":[{"type":"counter","unit":"","help":"Jobs done."}]}}`,
		"wait_seconds": `{"status":"success","data":{"wait_seconds":[{"type":"histogram","unit":"seconds","help":"Time waited."}]}}`,
	} {
		status, body := s.ask(t, "/api/v1/metadata", params("metric", metric))
		if d := difference("$", parseJSON(t, want), parseJSON(t, body)); d != "" {
			t.Errorf("metadata of %s: %d, %s", metric, status, d)
		}
	}
}
