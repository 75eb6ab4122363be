package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// patience is a timeout that no test waits for.
const patience = time.Minute

var testCluster = quorate.ClusterID{0xc1}

func nodeID(name string) quorate.NodeID {
	return quorate.NodeID{Name: name, Incarnation: quorate.Incarnation{1}}
}

// atlas is the map of a test: where each node listens.
type atlas struct {
	mu        sync.Mutex
	addresses map[quorate.NodeID]string
}

func newAtlas() *atlas { return &atlas{addresses: make(map[quorate.NodeID]string)} }

func (a *atlas) resolve(id quorate.NodeID) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	address, ok := a.addresses[id]
	return address, ok
}

func (a *atlas) move(id quorate.NodeID, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addresses[id] = address
}

// open opens a port on loopback and puts it on the map. Options change its
// configuration.
func (a *atlas) open(t testing.TB, name string, options ...func(*Config)) *Port {
	t.Helper()
	cfg := Config{
		Cluster:    func() quorate.ClusterID { return testCluster },
		Self:       nodeID(name),
		Resolve:    a.resolve,
		Registerer: prometheus.NewRegistry(),
	}
	for _, o := range options {
		o(&cfg)
	}
	if cfg.Listener == nil {
		cfg.Listener = listen(t, "127.0.0.1:0")
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	a.move(cfg.Self, p.Address())
	return p
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// noLeaks fails the test if goroutines of this package or of gRPC are left
// after its ports were closed. It is to be called first.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		// The test's own context is over.
		left := func() string {
			buf := make([]byte, 1<<20)
			for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				if strings.Contains(stack, "quorate/internal/peer.") && !strings.Contains(stack, "testing.tRunner") || strings.Contains(stack, "google.golang.org/grpc.") {
					return stack
				}
			}
			return ""
		}
		deadline := time.NewTimer(testwait.Deadline)
		defer deadline.Stop()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for left() != "" {
			select {
			case <-deadline.C:
				t.Errorf("a goroutine is left:\n%s", left())
				return
			case <-tick.C:
			}
		}
	})
}

// result is what done was called with.
type result struct {
	answer []byte
	err    error
}

// post sends a message and returns the channel that done's arguments come by.
// A second call of done makes the test panic.
func post(p *Port, to quorate.NodeID, lane uint8, message string, timeout time.Duration) <-chan result {
	c := make(chan result, 1)
	var once sync.Mutex
	p.Send(to, lane, []byte(message), timeout, func(answer []byte, err error) {
		if !once.TryLock() {
			panic("done was called twice")
		}
		c <- result{answer, err}
	})
	return c
}

func await(t testing.TB, c <-chan result) result {
	t.Helper()
	select {
	case r := <-c:
		return r
	case <-t.Context().Done():
	case <-time.NewTimer(testwait.Deadline).C:
	}
	t.Fatal("done was not called")
	return result{}
}

func echo(_ quorate.NodeID, message []byte, answer func([]byte)) {
	answer(append([]byte("re: "), message...))
}

// wantErr checks an error's kind and what it wraps.
func wantErr(t testing.TB, err error, kind quorate.ErrorKind, target error) {
	t.Helper()
	switch {
	case err == nil:
		t.Error("want an error, got none")
	case quorate.KindOf(err) != kind:
		t.Errorf("want kind %v, got %v: %v", kind, quorate.KindOf(err), err)
	case target != nil && !errors.Is(err, target):
		t.Errorf("want an error that wraps %q, got %v", target, err)
	}
}

func notDoneOf(err error) bool {
	var n interface{ NotDone() bool }
	return errors.As(err, &n) && n.NotDone()
}

func constant(answer string) Handler {
	return func(context.Context, quorate.NodeID, []byte) ([]byte, error) { return []byte(answer), nil }
}

// connect calls until the node answers, as anybody would who waits for a node
// that restarts.
func connect(t testing.TB, p *Port, to quorate.NodeID) {
	t.Helper()
	testwait.Until(t, fmt.Sprintf("an answer of %s", to.Name), func() error {
		_, err := p.Call(t.Context(), to, "ping", nil)
		return err
	})
}
