package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// server is one built Quorate with a data directory that outlives its processes.
type server struct {
	*process // the running one
	binary   string
	dir      string // data directory and configuration
	address  string
	admin    string
	peer     string   // of the port between nodes
	args     []string // more of them
	// netns is the network namespace that it runs in, empty for the test's own;
	// its admin endpoints are asked at its public address then.
	netns string
}

// startServer starts a server with the settings given as YAML and waits until
// it is ready.
func startServer(t *testing.T, settings string) *server {
	t.Helper()
	s := &server{binary: buildQuorate(t), dir: t.TempDir(), address: freeAddress(t), admin: freeAddress(t), peer: "127.0.0.1:0"}
	if err := os.WriteFile(filepath.Join(s.dir, "quorate.yml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.waitReady(t, s.url("/-/ready"))
	return s
}

// start starts a process on the data directory, which no other may be using.
func (s *server) start(t *testing.T) {
	t.Helper()
	binary, args := s.binary, append([]string{
		"--config.file=quorate.yml", "--http.listen=" + s.address, "--admin.listen=" + s.admin, "--peer.listen=" + s.peer,
	}, s.args...)
	if s.netns != "" { // which becomes the binary, under the same number
		binary, args = "ip", append([]string{"netns", "exec", s.netns, binary}, args...)
	}
	s.process = startProcess(t, "quorate", s.dir, binary, args...)
}

func (s *server) url(path string) string { return "http://" + s.address + path }
