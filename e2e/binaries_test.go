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

// buildPrometheus returns the path of the real Prometheus' binary. A first
// build takes minutes.
func buildPrometheus(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("QUORATE_PROMETHEUS"); path != "" {
		return path
	}
	dir := t.TempDir()
	build(t, "../tools/prometheus", "./build.sh", dir)
	return filepath.Join(dir, "prometheus")
}

func build(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v in %s: %v\n%s", cmd.Args, dir, err, out)
	}
}
