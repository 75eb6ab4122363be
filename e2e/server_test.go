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
}

// startServer starts a server with the settings given as YAML and waits until
// it is ready.
func startServer(t *testing.T, settings string) *server {
	t.Helper()
	s := &server{binary: buildQuorate(t), dir: t.TempDir(), address: freeAddress(t), admin: freeAddress(t)}
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
	s.process = startProcess(t, "quorate", s.dir, s.binary,
		"--config.file=quorate.yml", "--http.listen="+s.address, "--admin.listen="+s.admin)
}

func (s *server) url(path string) string { return "http://" + s.address + path }
