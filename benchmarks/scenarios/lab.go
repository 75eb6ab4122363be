package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

// lab is where a scenario runs: a directory and the servers started in it.
type lab struct {
	quorate string
	dir     string
	port    int
	running []*server

	out      io.Writer
	printing error // the first that out answered
}

// printf prints a part of the report.
func (l *lab) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(l.out, format, args...); l.printing == nil {
		l.printing = err
	}
}

// close kills what still runs and removes the directory.
func (l *lab) close() {
	for _, s := range l.running {
		if s.command != nil {
			s.kill()
		}
	}
	os.RemoveAll(l.dir) //nolint:errcheck // a temporary directory
}

// server is one process.
type server struct {
	name    string
	command *exec.Cmd
	http    string // base URL
	admin   string // likewise
	log     string // file
}

// startQuorate starts the server under test on the lab's one data directory
// and returns when it is ready, with the time that took. Settings are lines of
// YAML.
func (l *lab) startQuorate(ctx context.Context, settings ...string) (*server, time.Duration, error) {
	config := filepath.Join(l.dir, "quorate.yaml")
	if err := os.WriteFile(config, []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		return nil, 0, err
	}
	listen, admin := "127.0.0.1:"+strconv.Itoa(l.port), "127.0.0.1:"+strconv.Itoa(l.port+1)
	return l.start(ctx, &server{name: "quorate", http: "http://" + listen, admin: "http://" + admin}, l.quorate,
		"--config.file", config, "--data.dir", filepath.Join(l.dir, "data"), "--http.listen", listen, "--admin.listen", admin)
}

// startPrometheus starts a real Prometheus over a directory of blocks, which it
// leaves as they are.
func (l *lab) startPrometheus(ctx context.Context, binary, blocks string) (*server, time.Duration, error) {
	config := filepath.Join(l.dir, "prometheus.yaml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		return nil, 0, err
	}
	listen := "127.0.0.1:" + strconv.Itoa(l.port+2)
	return l.start(ctx, &server{name: "prometheus", http: "http://" + listen}, binary,
		"--config.file", config, "--storage.tsdb.path", blocks, "--web.listen-address", listen,
		"--storage.tsdb.retention.time=3650d", "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--log.level=warn")
}

// start launches a server and returns when it is ready, with the time that took.
func (l *lab) start(ctx context.Context, s *server, binary string, args ...string) (*server, time.Duration, error) {
	began := time.Now()
	if err := l.launch(ctx, s, binary, args...); err != nil {
		return nil, 0, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, 0, err
	}
	return s, time.Since(began), nil
}

// launch starts a server's process.
func (l *lab) launch(ctx context.Context, s *server, binary string, args ...string) error {
	s.log = filepath.Join(l.dir, fmt.Sprintf("%s-%d.log", s.name, len(l.running)))
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	s.command = exec.CommandContext(ctx, binary, args...)
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		return err
	}
	l.running = append(l.running, s)
	return nil
}

// ready waits until a server takes writes.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := benchmarks.WaitReady(ctx, s.http+"/-/ready"); err != nil {
		return errors.Join(err, s.explain())
	}
	return nil
}

// explain returns the end of the server's log as an error.
func (s *server) explain() error {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err
	}
	const enough = 4000
	return fmt.Errorf("log of %s: %s", s.name, text[max(0, len(text)-enough):])
}

// kill ends the process at once and waits for it.
func (s *server) kill() {
	s.command.Process.Kill() //nolint:errcheck // it may be dead
	s.command.Wait()         //nolint:errcheck // of a killed process
	s.command = nil
}

// stop ends the process in good order.
func (s *server) stop() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.command.Wait()
	s.command = nil
	if err != nil {
		return errors.Join(fmt.Errorf("stop %s: %w", s.name, err), s.explain())
	}
	return nil
}

func (s *server) processes() benchmarks.Processes {
	return benchmarks.Processes{PIDs: []int{s.command.Process.Pid}}
}

// settledRSS returns the resident memory in bytes after a garbage collection
// that gives memory back.
func (s *server) settledRSS(ctx context.Context) (int64, error) {
	if s.admin != "" {
		for range 2 { // what the first frees, the second returns
			if _, err := s.call(ctx, http.MethodGet, s.admin+"/debug/pprof/heap?gc=1", nil); err != nil {
				return 0, err
			}
		}
	}
	return s.processes().RSS()
}

// call returns the body of a 2xx.
func (s *server) call(ctx context.Context, method, rawURL string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, rawURL, http.NoBody)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s answers %s: %.512s", method, rawURL, resp.Status, body)
	}
	return body, nil
}

// seal seals the bucket that starts at a time and returns what the server says
// of its sets.
func (s *server) seal(ctx context.Context, start time.Time) ([]sealedSet, error) {
	body, err := s.call(ctx, http.MethodPost, s.admin+"/api/v1/admin/seal?timeout=10m&start="+strconv.FormatInt(start.Unix(), 10), nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Sets []sealedSet `json:"sets"`
		} `json:"data"`
	}
	return answer.Data.Sets, json.Unmarshal(body, &answer)
}

// sealedSet is what the seal endpoint says of one set.
type sealedSet struct {
	Samples int64 `json:"samples"`
	Bytes   int64 `json:"bytes"`
}

// query asks an instant query for its one value.
func (s *server) query(ctx context.Context, expr string, at time.Time, header http.Header) (float64, error) {
	values := url.Values{"query": {expr}, "time": {strconv.FormatInt(at.Unix(), 10)}, "timeout": {"2m"}}
	body, err := s.call(ctx, http.MethodGet, s.http+"/api/v1/query?"+values.Encode(), header)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) != 1 {
		return 0, fmt.Errorf("query %s: %d results, want 1", expr, len(answer.Data.Result))
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(text, 64)
}

// diskUsage sums the lengths of the files below a directory whose name ends so.
func diskUsage(dir, suffix string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
