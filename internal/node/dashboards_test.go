package node

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/dashboards"
)

func TestDashboardsNameOnlyMetricsThatARunningServerExposes(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	now := time.Now().UnixMilli()
	n.write(t, "", map[string]string{"__name__": "m"}, prompb.Sample{Timestamp: now, Value: 1})
	n.query(t, "", "m", now)
	n.flushAll(t)
	_, text := n.request(t, http.MethodGet, "/metrics", nil)
	names, err := dashboards.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Fatalf("the dashboards name %d metrics only: %v", len(names), names)
	}
	for _, name := range names {
		if !strings.Contains(text, "\n"+name+" ") && !strings.Contains(text, "\n"+name+"{") {
			t.Errorf("no metric %s on /metrics", name)
		}
	}
}
