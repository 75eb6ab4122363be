package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/dashboards"
	"github.com/quorate/quorate/internal/testwait"
)

// Every metric that a dashboard asks for is there on a server that was used a
// little.
func TestDashboardsAskForWhatAServerExposes(t *testing.T) {
	names, err := dashboards.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, killSettings)
	now := time.Now()
	if status, text := (request{body: write1(t, sample1(now, "__name__", "used"))}).post(t, s); status/100 != 2 {
		t.Fatalf("status %d: %s", status, text)
	}
	if status, _ := (request{body: write1(t, sample1(now, "__name__", "no\xff"))}).post(t, s); status != 400 {
		t.Fatalf("status %d of a bad write", status)
	}
	if !s.has(t, "used", now) {
		t.Fatal("what was written is not there")
	}
	testwait.Until(t, "the first flush", every(100*time.Millisecond, func() error {
		if flushFiles(t, s.dir) == 0 {
			return errors.New("no flush file yet")
		}
		return nil
	}))
	status, body := get(t, s.url("/metrics"), "", nil)
	exposed := map[string]bool{}
	for line := range strings.Lines(string(body)) {
		if end := strings.IndexAny(line, "{ "); end > 0 && line[0] != '#' {
			exposed[line[:end]] = true
		}
	}
	for _, name := range names {
		if !exposed[name] {
			t.Errorf("a dashboard asks for %s, which /metrics (%d, %d names) does not have", name, status, len(exposed))
		}
	}
	t.Logf("%d metrics asked for, %d exposed", len(names), len(exposed))
}
