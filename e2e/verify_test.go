package e2e

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/testwait"
)

// Thresholds so small that an import leaves several blocks and a log behind.
const verifySettings = `
flush: {max_memcache_bytes: 64KiB, max_age: 1s}
raft: {segment_bytes: 64KiB}
`

var verifyLastLine = regexp.MustCompile(`^series=(\d+) samples=(\d+) bytes=(\d+) bytes_per_sample=\d+\.\d{3}$`)

// A directory that a server has filled and left is sound; with one bit of it
// changed, verify names the file.
func TestVerifyFindsDamage(t *testing.T) {
	_, promtool := buildPrometheus(t)
	blocks, w := makeBlocks(t, promtool)
	s := startServer(t, verifySettings)
	load := func() {
		mustRun(t, s.dir, s.binary, "import", "--url="+s.url(""), "--batch-samples=1000", "--state=", blocks)
	}
	load()
	testwait.For(t, "blocks to be written", func() bool { return flushFiles(t, s.dir) >= 2 })
	if r := runTool(t, s.dir, s.binary, "verify", "data"); r.code != 2 || !strings.Contains(r.stderr, "in use by a running server") {
		t.Errorf("of a directory in use: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	load() // for the logs, until the next flush
	if code, _ := s.terminate(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	before := fileStates(t, filepath.Join(s.dir, "data"))
	clean := mustRun(t, s.dir, s.binary, "verify", "-v", "data")
	lines := strings.Split(strings.TrimSpace(clean), "\n")
	last := lines[len(lines)-1]
	if !verifyLastLine.MatchString(last) || field(t, last, "series") < 20 || field(t, last, "samples") == 0 {
		t.Errorf("the last line is %q", last)
	}
	t.Log(last)
	if !strings.Contains(clean, "state=metadata") || !strings.Contains(clean, "state=open") {
		t.Errorf("-v prints\n%s", clean)
	}
	var report struct {
		Samples  int   `json:"samples"`
		Problems []any `json:"problems"`
	}
	if err := json.Unmarshal([]byte(mustRun(t, s.dir, s.binary, "verify", "--json", "data")), &report); err != nil || report.Samples != field(t, last, "samples") || report.Problems == nil {
		t.Errorf("--json prints %+v: %v", report, err)
	}
	for kind, path := range damageable(t, filepath.Join(s.dir, "data")) {
		t.Run(kind, func(t *testing.T) {
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// Behind the end of a log are zeros that are nobody's.
			used := len(bytes.TrimRight(whole, "\x00"))
			for _, at := range []int{0, used / 3, used - 1} {
				damaged := append([]byte(nil), whole...)
				damaged[at] ^= 0x10
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				r := runTool(t, s.dir, s.binary, "verify", "data")
				name, err := filepath.Rel(filepath.Join(s.dir, "data"), path)
				if err != nil {
					t.Fatal(err)
				}
				if r.code != 1 || !strings.Contains(r.stdout, "problem: "+name) {
					t.Errorf("bit %d of %s flipped: exit code %d\n%s%s", at, name, r.code, r.stdout, r.stderr)
				}
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a replica's directories gone", func(t *testing.T) {
		sets, err := filepath.Glob(filepath.Join(s.dir, "data", "raft", "[1-9]*"))
		if err != nil || len(sets) == 0 {
			t.Fatal("no replicas", err)
		}
		if err := os.Rename(sets[0], sets[0]+"x"); err != nil {
			t.Fatal(err)
		}
		if r := runTool(t, s.dir, s.binary, "verify", "data"); r.code != 1 || !strings.Contains(r.stdout, "its files are gone") {
			t.Errorf("exit code %d\n%s", r.code, r.stdout)
		}
		if err := os.Rename(sets[0]+"x", sets[0]); err != nil {
			t.Fatal(err)
		}
	})
	// What was put back is whole, and nothing of it was changed by looking.
	again := strings.TrimSpace(mustRun(t, s.dir, s.binary, "verify", "data"))
	if !strings.HasSuffix(clean, again+"\n") {
		t.Errorf("after all was put back: %s", again)
	}
	if len(fileStates(t, filepath.Join(s.dir, "data"))) != len(before) {
		t.Error("verify made or removed files")
	}
	s.start(t)
	s.waitReady(t, s.url("/-/ready"))
	if isEmpty(ask(t, s.url(""), "/api/v1/query", params("query", "mill_sacks_total", "time", w.at(0.9)))) {
		t.Error("the server has no samples any more")
	}
}

func TestVerifyOfWhatIsNoDataDirectory(t *testing.T) {
	binary := buildQuorate(t)
	if r := runTool(t, t.TempDir(), binary, "verify", "."); r.code != 2 || !strings.Contains(r.stderr, "no data directory") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// damageable are files of each kind.
func damageable(t *testing.T, data string) map[string]string {
	t.Helper()
	found, most := map[string]string{}, 200
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch name := d.Name(); {
		case strings.HasSuffix(name, ".qdelta"):
			found["delta block"] = path
		case strings.HasSuffix(name, ".wal"):
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if used := len(bytes.TrimRight(content, "\x00")); used > most {
				most, found["log"] = used, path
			}
		case name == "manifest" || name == "vote" || name == "lowwater" || name == "identity" || name == "segments":
			found[name] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"delta block", "log", "manifest", "vote", "lowwater", "identity", "segments"} {
		if found[kind] == "" {
			t.Fatalf("no file of the kind %q: the settings are too large", kind)
		}
	}
	return found
}
