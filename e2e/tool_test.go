package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"
)

// ran is how a tool ended.
type ran struct {
	stdout, stderr string
	code           int
}

// runTool runs a binary to its end in a directory.
func runTool(t *testing.T, dir, binary string, args ...string) ran {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return ran{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mustRun is runTool of what must succeed.
func mustRun(t *testing.T, dir, binary string, args ...string) string {
	t.Helper()
	r := runTool(t, dir, binary, args...)
	if r.code != 0 {
		t.Fatalf("%s %v: exit code %d\n%s%s", binary, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}
