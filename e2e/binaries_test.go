package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// buildQuorate returns the path of the server's binary. Go's build cache makes
// a build that changes nothing take about a second.
func buildQuorate(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("QUORATE_BINARY"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "quorate")
	build(t, "..", "go", "build", "-o", path, "./cmd/quorate")
	return path
}

// buildPrometheus returns the paths of the real Prometheus' binaries. A first
// build takes minutes.
func buildPrometheus(t *testing.T) (prometheus, promtool string) {
	t.Helper()
	prometheus, promtool = os.Getenv("QUORATE_PROMETHEUS"), os.Getenv("QUORATE_PROMTOOL")
	if prometheus != "" && promtool != "" {
		return prometheus, promtool
	}
	dir := t.TempDir()
	build(t, "../tools/prometheus", "./build.sh", dir)
	return filepath.Join(dir, "prometheus"), filepath.Join(dir, "promtool")
}

func build(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v in %s: %v\n%s", cmd.Args, dir, err, out)
	}
}
