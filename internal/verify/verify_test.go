package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

const (
	bucketSpan   = time.Hour
	someSeries   = 20
	samplesAtOne = 30 // of a series, in one bucket
)

// running is a node whose clock can be moved.
type running struct {
	*node.Node
	dir   string
	clock atomic.Int64 // ns
}

func startNode(t *testing.T) *running {
	t.Helper()
	r := &running{dir: filepath.Join(t.TempDir(), "data")}
	// Early in the bucket: late in it the next one is warmed up.
	r.clock.Store(time.Now().Truncate(bucketSpan).Add(bucketSpan / 4).UnixNano())
	s := config.Default()
	s.DataDir = r.dir
	s.HTTP.Listen, s.Admin.Listen, s.Peer.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s.Buckets.Span, s.Buckets.LateWindow, s.Buckets.Shards = bucketSpan, time.Minute, 1
	s.Flush.ShutdownTimeout = 0
	s.Flush.MaxAge = time.Second
	n, err := node.Start(t.Context(), s, node.Options{
		Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Registry: prometheus.NewRegistry(), Now: func() time.Time { return time.Unix(0, r.clock.Load()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Node = n
	testwait.Until(t, "the node to be ready", func() error {
		status, err := r.do(t.Context(), http.MethodGet, "/-/ready", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return r
}

func (r *running) do(ctx context.Context, method, path string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.HTTPAddr()+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// write writes samples of all series around a time.
func (r *running) write(t *testing.T, at time.Time) {
	t.Helper()
	var request prompb.WriteRequest
	for i := range someSeries {
		s := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "some"}, {Name: "n", Value: fmt.Sprint(i)}}}
		for k := range samplesAtOne {
			s.Samples = append(s.Samples, prompb.Sample{Timestamp: at.UnixMilli() + int64(k), Value: float64(i * k)})
		}
		request.Timeseries = append(request.Timeseries, s)
	}
	body, err := request.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// A bucket may still have to be made.
	testwait.Until(t, "the samples to be taken", func() error {
		status, err := r.do(t.Context(), http.MethodPost, "/api/v1/write", s2.EncodeSnappy(nil, body))
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

func (r *running) close(t *testing.T) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// glob counts what matches below the data directory.
func (r *running) glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func check1(t *testing.T, dir string) Report {
	t.Helper()
	r, err := Run(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// filled is the data directory of a node that has an open bucket, flushed and
// with a log, and a sealed one.
func filled(t *testing.T) *running {
	t.Helper()
	r := startNode(t)
	start := time.Unix(0, r.clock.Load())
	r.write(t, start)
	testwait.For(t, "a flush", func() bool { return len(r.glob(t, "sets/*/*.qdelta")) > 0 })
	r.clock.Add(int64(3 * bucketSpan))
	testwait.For(t, "the bucket to be sealed and its log to be gone", func() bool {
		for _, path := range r.glob(t, "sets/*/sealed-*.qblock") {
			if _, err := os.Stat(filepath.Join(r.dir, "raft", filepath.Base(filepath.Dir(path)))); errors.Is(err, fs.ErrNotExist) {
				return true
			}
		}
		return false
	})
	r.write(t, time.Unix(0, r.clock.Load()))
	testwait.For(t, "another flush, and the first bucket's files to be gone", func() bool {
		deltas := r.glob(t, "sets/*/*.qdelta")
		return len(deltas) == 1 && len(r.glob(t, filepath.Join("sets", filepath.Base(filepath.Dir(deltas[0])), "sealed-*"))) == 0
	})
	r.write(t, time.Unix(0, r.clock.Load()).Add(-time.Second))
	r.close(t)
	return r
}

// One directory serves all of these: a seal takes seconds.
func TestADirectoryThatANodeLeft(t *testing.T) {
	r := filled(t)
	t.Run("is sound", r.isSound)
	t.Run("is not with a bit flipped", r.flipBits)
	t.Run("is not with something gone", r.takeAway)
	t.Run("is not with another sealed block instead", r.otherBlock)
	t.Run("is not with a log quarantined", r.setAside)
	if report := check1(t, r.dir); len(report.Problems) != 0 {
		t.Errorf("with everything back: %v", report.Problems)
	}
}

func (r *running) isSound(t *testing.T) {
	before := tree(t, r.dir)
	var done, total int64
	report, err := Run(t.Context(), Config{Dir: r.dir, Progress: func(d, all int64) { done, total = d, all }})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) != 0 {
		t.Fatalf("problems: %v", report.Problems)
	}
	if done != total || total == 0 {
		t.Errorf("the progress ends at %d of %d", done, total)
	}
	states := map[string]int{}
	for _, one := range report.Replicas {
		states[one.State]++
		if one.State != StateSealed && one.Index == 0 {
			t.Errorf("replica %s", one)
		}
	}
	if states[StateMetadata] != 1 || states[StateOpen] < 2 || states[StateSealed] < 1 {
		t.Errorf("the states are %v", states)
	}
	if report.Series < 2*someSeries || report.Samples < 2*someSeries*samplesAtOne || report.Bytes == 0 || report.BytesPerSample <= 0 {
		t.Errorf("the summary is %s of %v", report.Summary(), report.Replicas)
	}
	if report.Cluster == "" || !strings.HasPrefix(report.Node, "node-1/") {
		t.Errorf("it is of cluster %q, node %q", report.Cluster, report.Node)
	}
	if after := tree(t, r.dir); !slices.Equal(before, after) {
		t.Errorf("the check changed the directory:\n%q\n%q", before, after)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

// samples are one file of each kind and the name of the open replica.
func (r *running) samples(t *testing.T) (sealed, delta, open string) {
	t.Helper()
	sealed, delta = r.glob(t, "sets/*/sealed-*.qblock")[0], r.glob(t, "sets/*/*.qdelta")[0]
	return sealed, delta, filepath.Base(filepath.Dir(delta))
}

func (r *running) flipBits(t *testing.T) {
	sealed, delta, open := r.samples(t)
	for name, c := range map[string]struct {
		path string
		says string
	}{
		"a sealed block":      {sealed, ""},
		"a delta block":       {delta, ""},
		"a manifest":          {filepath.Join(r.dir, "raft", open, "manifest"), "checksum"},
		"a vote":              {filepath.Join(r.dir, "raft", open, "vote"), "checksum"},
		"the metadata's vote": {filepath.Join(r.dir, "raft", "0-1", "vote"), "checksum"},
		"the identity":        {filepath.Join(r.dir, "identity"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			file, err := filepath.Rel(r.dir, c.path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				at := i * (len(whole) - 1) / 5
				damaged := bytes.Clone(whole)
				damaged[at] ^= 0x10
				if err := os.WriteFile(c.path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				report := check1(t, r.dir)
				if !slices.ContainsFunc(report.Problems, func(f Finding) bool { return f.File == file && strings.Contains(f.What, c.says) && f.Remedy != "" }) {
					t.Errorf("byte %d: the problems are %v", at, report.Problems)
				}
			}
			if err := os.WriteFile(c.path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (r *running) takeAway(t *testing.T) {
	sealed, delta, open := r.samples(t)
	for name, c := range map[string]struct{ path, file, says string }{
		"a sealed block gone":  {sealed, relative(t, r.dir, sealed), "its files are gone"},
		"a delta block gone":   {delta, filepath.Join("sets", open), "no such file"},
		"a log's replica gone": {filepath.Join(r.dir, "raft", open), filepath.Join("raft", open), "its files are gone"},
		"the identity gone":    {filepath.Join(r.dir, "identity"), "identity", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			aside := filepath.Join(t.TempDir(), "aside")
			if err := os.Rename(c.path, aside); err != nil {
				t.Fatal(err)
			}
			report := check1(t, r.dir)
			if !slices.ContainsFunc(report.Problems, func(f Finding) bool { return f.File == c.file && strings.Contains(f.What, c.says) }) {
				t.Errorf("the problems are %v, want %q of %s", report.Problems, c.says, c.file)
			}
			if err := os.Rename(aside, c.path); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("another block under a sealed one's name", func(t *testing.T) {
		whole, err := os.ReadFile(sealed)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(delta)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(sealed, other, 0o600); err != nil {
			t.Fatal(err)
		}
		if report := check1(t, r.dir); len(report.Problems) != 1 || !strings.Contains(report.Problems[0].What, "hash") {
			t.Errorf("the problems are %v", report.Problems)
		}
		if err := os.WriteFile(sealed, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

func relative(t *testing.T, dir, path string) string {
	t.Helper()
	name, err := filepath.Rel(dir, path)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func about(list []Finding, file, says string) bool {
	return slices.ContainsFunc(list, func(f Finding) bool { return f.File == file && strings.Contains(f.What, says) && f.Remedy != "" })
}

func (r *running) otherBlock(t *testing.T) {
	sealed, _, _ := r.samples(t)
	other := filepath.Join(filepath.Dir(sealed), sealedPrefix+strings.Repeat("ab", 32)+sealedSuffix)
	move(t, sealed, other)
	report := check1(t, r.dir)
	move(t, other, sealed)
	if !about(report.Problems, relative(t, r.dir, sealed), "its files are gone") {
		t.Errorf("the problems are %v", report.Problems)
	}
}

func (r *running) setAside(t *testing.T) {
	sealed, _, open := r.samples(t)
	live, meta := filepath.Join(r.dir, "raft", open), filepath.Join(r.dir, "raft", "0-1")
	t.Run("alone", func(t *testing.T) {
		move(t, live, live+quarantineSuffix)
		report := check1(t, r.dir)
		move(t, live+quarantineSuffix, live)
		if !about(report.Problems, filepath.Join("raft", open), "quarantined") {
			t.Errorf("the problems are %v", report.Problems)
		}
	})
	t.Run("beside one in service", func(t *testing.T) {
		aside := live + quarantineSuffix
		if err := os.CopyFS(aside, os.DirFS(live)); err != nil {
			t.Fatal(err)
		}
		manifest, away := filepath.Join(live, "manifest"), filepath.Join(t.TempDir(), "manifest")
		whole := check1(t, r.dir)
		move(t, manifest, away)
		damaged := check1(t, r.dir)
		move(t, away, manifest)
		if err := os.RemoveAll(aside); err != nil {
			t.Fatal(err)
		}
		if len(whole.Problems) != 1 || !strings.HasPrefix(whole.Problems[0].File, filepath.Join("raft", open+quarantineSuffix)) {
			t.Errorf("the problems are %v, want the quarantined one's", whole.Problems)
		}
		if after := check1(t, r.dir); whole.Samples != after.Samples || len(whole.Replicas) != len(after.Replicas)+1 {
			t.Errorf("%d samples in %d replicas, want %d in one more than %d", whole.Samples, len(whole.Replicas), after.Samples, len(after.Replicas))
		}
		if !about(damaged.Problems, filepath.Join("raft", open, "manifest"), "") {
			t.Errorf("the problems are %v, want the manifest's", damaged.Problems)
		}
	})
	t.Run("beside the metadata's", func(t *testing.T) {
		aside, away := meta+quarantineSuffix, filepath.Join(t.TempDir(), "sealed")
		if err := os.CopyFS(aside, os.DirFS(meta)); err != nil {
			t.Fatal(err)
		}
		move(t, sealed, away)
		report := check1(t, r.dir)
		move(t, away, sealed)
		if err := os.RemoveAll(aside); err != nil {
			t.Fatal(err)
		}
		if !about(report.Problems, relative(t, r.dir, sealed), "its files are gone") {
			t.Errorf("the records are lost: %v", report.Problems)
		}
	})
}

func TestASealedReplicaWithoutItsBlock(t *testing.T) {
	key := replicaKey{set: 5, replica: 5}
	here := quorate.NodeID{Name: "here"}
	own := []metasvc.SealReport{{Replica: 5, Checksum: [32]byte{1}}}
	for name, c := range map[string]struct {
		sound           bool
		reports         []metasvc.SealReport
		problems, notes int
	}{
		"is lost without a sound log":              {problems: 1},
		"is lost where its samples are others":     {sound: true, reports: own, problems: 1},
		"builds it at the next start from its log": {sound: true, notes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			set := &metasvc.ReplicaSet{
				ID: 5, State: metasvc.ReplicaSetSealed, Sealed: &metasvc.SealRecord{},
				Members: []metasvc.Member{{Node: here, Replica: 5}}, Reports: c.reports,
			}
			run := &check{
				identity: identity{node: here}, sound: map[replicaKey]bool{key: c.sound}, canonical: map[replicaKey]bool{},
				records: records{sets: map[quorate.ReplicaSetID]*metasvc.ReplicaSet{5: set}},
			}
			run.missing([]found{{key: key, raft: "5-5", sets: "5-5"}})
			if len(run.report.Problems) != c.problems || len(run.report.Notes) != c.notes {
				t.Errorf("problems %v, notes %v", run.report.Problems, run.report.Notes)
			}
		})
	}
}

func TestADirectoryInUseIsNotChecked(t *testing.T) {
	r := startNode(t)
	if _, err := Run(t.Context(), Config{Dir: r.dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	r.close(t)
	if _, err := Run(t.Context(), Config{Dir: t.TempDir()}); !errors.Is(err, ErrNotDataDir) {
		t.Errorf("got %v, want ErrNotDataDir", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Config{Dir: r.dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

func TestWhatIsNotTheServersIsNoted(t *testing.T) {
	r := startNode(t)
	r.close(t)
	for _, path := range []string{"raft/lost+found", "sets/readme"} {
		if err := os.MkdirAll(filepath.Join(r.dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	report := check1(t, r.dir)
	if len(report.Problems) != 0 || len(report.Notes) != 2 {
		t.Errorf("problems %v, notes %v", report.Problems, report.Notes)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"version":1,"cluster_id":"571593a1bb04e1106ab68f6ef1f8675c","name":"node-1","incarnation":"8547333e6a92ba734077eab5cf11cec1"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, err := decodeIdentity(data); err == nil && id.node.Name == "" {
			t.Errorf("%q has no name", data)
		}
	})
}

func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprint(path, info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
