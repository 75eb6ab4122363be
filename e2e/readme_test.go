package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// The addresses of the README: of a server that was told nothing, and of a
// Prometheus that was told no more than its configuration.
const (
	defaultHTTP       = "127.0.0.1:9240"
	defaultAdmin      = "127.0.0.1:9242"
	defaultPrometheus = "127.0.0.1:9090"
)

// A user who starts the binary and nothing else gets a server on the documented
// address, with its data in ./data.
func TestDefaultStart(t *testing.T) {
	dir, p := startDefault(t)
	for _, url := range []string{
		"http://" + defaultHTTP + "/-/healthy",
		"http://" + defaultHTTP + "/metrics",
		"http://" + defaultHTTP + "/api/v1/query?query=1%2B1&time=4",
		"http://" + defaultHTTP + "/prometheus/api/v1/status/buildinfo",
		"http://" + defaultAdmin + "/debug/pprof/cmdline",
	} {
		if status, body := get(t, url, "", nil); status != http.StatusOK {
			t.Errorf("%s answers %d: %.200s", url, status, body)
		}
	}
	profiles := "http://" + defaultHTTP + "/debug/pprof/"
	if status, _ := get(t, profiles, "", nil); status != http.StatusNotFound {
		t.Errorf("%s answers %d, want 404: profiles are for the loopback listener", profiles, status)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "identity")); err != nil {
		t.Error(err)
	}
	if code, took := p.terminate(t); code != 0 || took > maxDrain {
		t.Errorf("exit code %d after %v, want 0 within %v", code, took, maxDrain)
	}
}

// startDefault starts a server without any arguments.
func startDefault(t *testing.T) (dir string, p *process) {
	t.Helper()
	mustBeFree(t, defaultHTTP, defaultAdmin)
	dir = t.TempDir()
	p = startProcess(t, "quorate", dir, buildQuorate(t))
	p.waitReady(t, "http://"+defaultHTTP+"/-/ready")
	return dir, p
}

func mustBeFree(t *testing.T, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatalf("the defaults need their ports free: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What the README tells a reader to paste works: the configuration of
// Prometheus (with a shorter interval, to save time), each curl, promtool.
func TestTheReadmeWorksAsPasted(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	configs := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(content), -1)
	if len(configs) != 1 {
		t.Fatalf("the README has %d YAML blocks, want the one for Prometheus", len(configs))
	}
	config := strings.Replace(configs[0][1], "scrape_interval: 15s", "scrape_interval: 1s", 1)

	startDefault(t)
	mustBeFree(t, defaultPrometheus)
	prometheus, promtool := buildPrometheus(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "prometheus", dir, prometheus, "--web.listen-address="+defaultPrometheus)
	p.waitReady(t, "http://"+defaultPrometheus+"/-/ready")

	push := regexp.MustCompile(`(?m)^echo '(.+)' \| promtool (.+)$`).FindStringSubmatch(string(content))
	if push == nil {
		t.Fatal("the README pushes no sample with promtool")
	}
	cmd := exec.CommandContext(t.Context(), promtool, strings.Fields(push[2])...)
	cmd.Stdin = strings.NewReader(push[1] + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "FAILED") {
		t.Errorf("%s: %v\n%s", push[0], err, out)
	}

	var asked []string
	for _, m := range regexp.MustCompile(`(?m)^curl -s '([^']+)'$`).FindAllStringSubmatch(string(content), -1) {
		asked = append(asked, m[1])
		testwait.Until(t, "an answer to "+m[1], every(100*time.Millisecond, func() error {
			a := ask(t, m[1], "", nil)
			if a.Status != "success" || isEmpty(a) {
				return fmt.Errorf("%+v", a)
			}
			return nil
		}))
	}
	if len(asked) < 3 || !slices.ContainsFunc(asked, func(url string) bool { return strings.Contains(url, "query=up") }) {
		t.Errorf("the README asks %q", asked)
	}
}
