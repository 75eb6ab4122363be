package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
)

// output is a standard error that may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestAServerRunsUntilItIsToldToStop(t *testing.T) {
	restoreGOMAXPROCS(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stderr output
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"--data.dir=" + t.TempDir() + "/data", "--http.listen=127.0.0.1:0", "--admin.listen=127.0.0.1:0", "--log.format=json",
		}, io.Discard, &stderr, exitInTest)
	}()

	var address string
	listening := regexp.MustCompile(`"http":"(127\.0\.0\.1:\d+)"`)
	testwait.For(t, "the server to say where it listens", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, &stderr)
		default:
		}
		m := listening.FindStringSubmatch(stderr.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	testwait.Until(t, "the server to be ready", func() error {
		_, err := fetch(ctx, "http://"+address+"/-/ready")
		return err
	})
	metrics, err := fetch(ctx, "http://"+address+"/metrics")
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "go_build_info", "quorate_raft_groups"} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("run ended with %v", err)
	}
	if !strings.Contains(stderr.String(), `"msg":"stopped"`) {
		t.Errorf("it does not say that it has stopped:\n%s", &stderr)
	}
}

func fetch(ctx context.Context, url string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", errors.Join(errors.New(url+" answers "+resp.Status), err)
	}
	return string(text), err
}

func TestLogsHaveTheLevelAndFormatAskedFor(t *testing.T) {
	var text, lines bytes.Buffer
	plain, err := newLogger(config.Log{Level: "warn", Format: "text"}, &text)
	if err != nil {
		t.Fatal(err)
	}
	plain.Info("quiet")
	plain.Warn("loud", "set", 7)
	if got := text.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "level=WARN msg=loud set=7\n") {
		t.Errorf("text: %q", got)
	}
	structured, err := newLogger(config.Log{Level: "debug", Format: "json"}, &lines)
	if err != nil {
		t.Fatal(err)
	}
	structured.Debug("detail", "set", 7)
	var line map[string]any
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line["msg"] != "detail" || line["set"] != 7.0 {
		t.Errorf("json: %q: %v", &lines, err)
	}
}

func TestGOMAXPROCSIsRaisedUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	restoreGOMAXPROCS(t)
	for _, c := range []struct {
		environment  string
		before, want int
	}{
		{"", 1, 8},
		{"", 2, 8},
		{"", 4, 16},
		{"2", 2, 2},
	} {
		runtime.GOMAXPROCS(c.before)
		raiseGOMAXPROCS(c.environment)
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("with GOMAXPROCS=%q in the environment and %d cores: %d, want %d", c.environment, c.before, got, c.want)
		}
	}
}

func restoreGOMAXPROCS(t *testing.T) {
	t.Helper()
	before := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}
