package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// process is a child of the test. It is killed when the test ends, and its log
// is shown when the test has failed.
type process struct {
	name    string
	cmd     *exec.Cmd
	logFile string
	exited  chan struct{} // closed once the child is reaped; then cmd.ProcessState is set
}

// startProcess starts a binary in a directory with its output in a log file.
func startProcess(t *testing.T, name, dir, binary string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	// A test that runs into `go test -timeout` runs no cleanup; its children
	// must not outlive it.
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if deadline, ok := t.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second))
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &process{name: name, cmd: cmd, logFile: log.Name(), exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		defer cancel()
		// How it ended is judged by who ended it, from cmd.ProcessState.
		_ = errors.Join(cmd.Wait(), log.Close())
	}()
	t.Cleanup(func() {
		p.kill(t)
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.logTail(t))
		}
	})
	return p
}

// kill ends the process as a power cut would, and waits for it to be gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill %s: %v", p.name, err)
	}
	<-p.exited
}

// terminate asks the process to stop and returns its exit code and how long
// it took.
func (p *process) terminate(t *testing.T) (code int, took time.Duration) {
	t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("terminate %s: %v", p.name, err)
	}
	select {
	case <-p.exited:
	case <-t.Context().Done():
		t.Fatalf("%s did not stop after SIGTERM", p.name)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(start)
}

// exitCode waits for a process that ends by itself.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	testwait.For(t, p.name+" to exit", p.hasExited)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// residentBytes is the process' RSS.
func (p *process) residentBytes(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("%s has no VmRSS", p.name)
	return 0
}

func (p *process) log(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (p *process) logTail(t *testing.T) []byte {
	t.Helper()
	lines := bytes.SplitAfter(p.log(t), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-60):], nil)
}

// waitReady polls a readiness URL until it answers 200.
func (p *process) waitReady(t *testing.T, url string) {
	t.Helper()
	testwait.Until(t, p.name+" to be ready", every(20*time.Millisecond, func() error {
		if p.hasExited() {
			t.Fatalf("%s exited with code %d before it was ready:\n%s", p.name, p.cmd.ProcessState.ExitCode(), p.logTail(t))
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", url, resp.Status, bytes.TrimSpace(body))
		}
		return nil
	}))
}

// every makes an attempt that costs something run less often than the helper
// that waits for it polls.
func every(interval time.Duration, attempt func() error) func() error {
	var last time.Time
	err := errors.New("not tried yet")
	return func() error {
		if time.Since(last) >= interval {
			err = attempt()
			last = time.Now()
		}
		return err
	}
}

// nextPort counts the ports that freeAddress has looked at.
var nextPort atomic.Int32

// The ports from which freeAddress takes: none that the system gives to whoever
// connects, who may have one of those by the time that a server listens, or
// listens again.
const firstPort, lastPort = 12000, 32000

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	for range lastPort - firstPort {
		// Other test processes begin elsewhere.
		port := firstPort + (16*os.Getpid()+int(nextPort.Add(1)))%(lastPort-firstPort)
		l, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}
