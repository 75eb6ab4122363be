package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// maxDrain is how long a server may take to stop while writes come in.
const maxDrain = 10 * time.Second

func TestSIGTERMDrainsAndARestartServesTheSame(t *testing.T) {
	s := startServer(t, killSettings)
	l := newLoad(s.url("/api/v1/write"), 4, time.Now().Add(-2*time.Hour), "pear", "plum")
	for round := range 3 {
		var code int
		var took time.Duration
		l.during(t, func() {
			let(t, time.Second)
			code, took = s.terminate(t)
		})
		if code != 0 || took > maxDrain {
			t.Fatalf("round %d: exit code %d after %v, want 0 within %v", round, code, took, maxDrain)
		}
		s.start(t)
		s.waitReady(t, s.url("/-/ready"))
		found := l.check(t, s.url(""))
		found.report(t)
		ackedSamples, unknownSamples, _ := l.count()
		t.Logf("stopped in %v; %d samples acknowledged, %d of unknown outcome, %d read back, lost %d, invented %d",
			took.Round(time.Millisecond), ackedSamples, unknownSamples, found.samples, found.lost, found.invented)
		if ackedSamples < minRoundSamples {
			t.Errorf("only %d samples were acknowledged", ackedSamples)
		}
		if t.Failed() {
			return
		}
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	s := startServer(t, "")
	for name, c := range map[string]struct {
		args []string
		says string
		code int
	}{
		"a data directory in use": {[]string{"--data.dir=" + s.dir + "/data", "--http.listen=127.0.0.1:0", "--admin.listen=127.0.0.1:0", "--peer.listen=127.0.0.1:0"}, "in use by another process", 1},
		"an address in use":       {[]string{"--http.listen=" + s.address, "--admin.listen=127.0.0.1:0", "--peer.listen=127.0.0.1:0"}, "address already in use", 1},
		"a bad flag":              {[]string{"--log.level=loud"}, `--log.level: "loud" is none of`, 2},
		"a public address":        {[]string{"--http.listen=0.0.0.0:0"}, "allow_insecure", 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, "quorate", t.TempDir(), s.binary, c.args...)
			if code := p.exitCode(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if log := string(p.log(t)); !strings.Contains(log, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, log)
			}
		})
	}
	if status, body := get(t, s.url("/-/ready"), "", nil); status != http.StatusOK {
		t.Errorf("the first server answers %d %s", status, firstLine(body))
	}
}

// Acknowledged is readable at once: a query that comes after the answer to a
// write sees what was written.
func TestAWriteIsReadableOnceItIsAnswered(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	now := time.Now()
	for i := range 50 {
		name := fmt.Sprintf("fresh_%d", i)
		if status, text := (request{body: write1(t, sample1(now, "__name__", name))}).post(t, s); status/100 != 2 {
			t.Fatalf("status %d: %s", status, text)
		}
		if !s.has(t, name, now) {
			t.Fatalf("%s is not there right after its write was answered", name)
		}
	}
}
