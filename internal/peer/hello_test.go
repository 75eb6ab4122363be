package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// tryAll sends a node one of everything and returns the errors by what was sent.
func tryAll(t *testing.T, p *Port, to quorate.NodeID) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	_, errs["call"] = p.Call(t.Context(), to, "ping", nil)
	_, errs["greeting"] = p.Call(t.Context(), to, "hello", nil)
	recv, err := p.Stream(t.Context(), to, "ping", nil)
	if err == nil {
		_, err = recv()
	}
	errs["stream"] = err
	errs["message"] = await(t, post(p, to, laneControl, "m", patience)).err
	return errs
}

// answering lets a port answer everything.
func answering(p *Port) *Port {
	p.Handle("ping", constant("pong"))
	p.HandleStranger("hello", constant("welcome"))
	p.HandleStream("ping", func(_ context.Context, _ quorate.NodeID, _ []byte, send func([]byte) error) error {
		return send([]byte("pong"))
	})
	p.HandleMessages(echo)
	return p
}

func TestNodesOfAnotherClusterAreRefused(t *testing.T) {
	a := newAtlas()
	n1 := a.open(t, "n1")
	stranger := a.open(t, "x1", func(c *Config) { c.Cluster = func() quorate.ClusterID { return quorate.ClusterID{0xbb} } })
	answering(n1)
	answering(stranger)
	for _, way := range []struct {
		from *Port
		to   quorate.NodeID
	}{{stranger, nodeID("n1")}, {n1, nodeID("x1")}} {
		for what, err := range tryAll(t, way.from, way.to) {
			t.Run(what, func(t *testing.T) {
				wantErr(t, err, quorate.Unavailable, ErrRefused)
				if !notDoneOf(err) {
					t.Errorf("want proof that nothing was done, got %v", err)
				}
			})
		}
	}
	_, err := stranger.CallAddress(t.Context(), n1.Address(), "hello", nil)
	wantErr(t, err, quorate.Unavailable, ErrRefused)
	if n := testutil.ToFloat64(n1.metrics.refused); n != 5 {
		t.Errorf("want 5 refusals counted, got %v", n)
	}
}

func TestAnotherNodeAtTheAddressIsRefused(t *testing.T) {
	a := newAtlas()
	n1 := a.open(t, "n1")
	n2 := answering(a.open(t, "n2"))
	replaced := quorate.NodeID{Name: "n2", Incarnation: quorate.Incarnation{9}}
	for _, other := range []quorate.NodeID{nodeID("n3"), replaced} {
		a.move(other, n2.Address())
		for what, err := range tryAll(t, n1, other) {
			t.Run(what, func(t *testing.T) { wantErr(t, err, quorate.Unavailable, ErrRefused) })
		}
	}
	for what, err := range tryAll(t, n1, nodeID("n2")) {
		if err != nil {
			t.Errorf("%s to the right node: %v", what, err)
		}
	}
}

func TestNodesWithoutAClusterGetNoFurtherThanTheyMay(t *testing.T) {
	var mu sync.Mutex
	var joined quorate.ClusterID
	joining := func(c *Config) {
		c.Cluster = func() quorate.ClusterID { mu.Lock(); defer mu.Unlock(); return joined }
	}
	a := newAtlas()
	member, fresh := answering(a.open(t, "n1")), answering(a.open(t, "n2", joining))
	for _, way := range []struct {
		name string
		from *Port
		to   *Port
	}{{"from a fresh node", fresh, member}, {"to a fresh node", member, fresh}, {"among fresh nodes", fresh, fresh}} {
		t.Run(way.name, func(t *testing.T) {
			for what, err := range tryAll(t, way.from, way.to.cfg.Self) {
				if what == "greeting" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				wantErr(t, err, quorate.Unavailable, ErrRefused)
			}
			if answer, err := way.from.CallAddress(t.Context(), way.to.Address(), "hello", nil); err != nil || string(answer) != "welcome" {
				t.Errorf("got %q, %v", answer, err)
			}
			_, err := way.from.CallAddress(t.Context(), way.to.Address(), "ping", nil)
			wantErr(t, err, quorate.Unavailable, ErrRefused)
		})
	}
	mu.Lock()
	joined = testCluster
	mu.Unlock()
	for what, err := range tryAll(t, fresh, nodeID("n1")) {
		if err != nil {
			t.Errorf("%s of a node that has joined: %v", what, err)
		}
	}
}

func TestGarbageIsCutOff(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n1 := a.open(t, "n1", func(c *Config) { c.HandshakeTimeout = 200 * time.Millisecond })
	n2 := answering(a.open(t, "n2", func(c *Config) { c.HandshakeTimeout = 200 * time.Millisecond }))
	for _, garbage := range []string{
		"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("\xff", 1<<16),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\xff", 1000),
	} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", n2.Address())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, garbage); err != nil {
			t.Logf("cut off while it wrote: %v", err)
		}
		// The end is a reset or an end of file; that it comes is the point.
		if err := c.SetReadDeadline(time.Now().Add(testwait.Deadline)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%.20q: the connection was left open", garbage)
		}
		c.Close()
	}
	for what, err := range tryAll(t, n1, nodeID("n2")) {
		if err != nil {
			t.Errorf("%s after the garbage: %v", what, err)
		}
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	noLeaks(t)
	a := newAtlas()
	n2 := answering(a.open(t, "n2", func(c *Config) { c.MaxConnections = 10 }))
	var conns []net.Conn
	for range 100 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", n2.Address())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	testwait.For(t, "the limit to be reached", func() bool { return testutil.ToFloat64(n2.metrics.inbound) == 10 })
	for _, c := range conns {
		if n := testutil.ToFloat64(n2.metrics.inbound); n > 10 {
			t.Fatalf("%v connections are open, over the limit", n)
		}
		c.Close()
	}
	n1 := a.open(t, "n1")
	connect(t, n1, nodeID("n2"))
	testwait.For(t, "the connections to be closed", func() bool { return testutil.ToFloat64(n2.metrics.inbound) == 1 })
}

func TestConfigsThatCannotBe(t *testing.T) {
	good := func() Config {
		return Config{
			Cluster:  func() quorate.ClusterID { return testCluster },
			Self:     nodeID("n1"),
			Listener: listen(t, "127.0.0.1:0"),
			Resolve:  newAtlas().resolve,
		}
	}
	for name, spoil := range map[string]func(*Config){
		"cluster":           func(c *Config) { c.Cluster = nil },
		"self":              func(c *Config) { c.Self = quorate.NodeID{} },
		"listener":          func(c *Config) { c.Listener.Close(); c.Listener = nil },
		"resolve":           func(c *Config) { c.Resolve = nil },
		"message bytes":     func(c *Config) { c.MaxMessageBytes = -1 },
		"connections":       func(c *Config) { c.MaxConnections = -1 },
		"queue bytes":       func(c *Config) { c.MaxQueueBytes = -1 },
		"handshake timeout": func(c *Config) { c.HandshakeTimeout = -1 },
	} {
		cfg := good()
		spoil(&cfg)
		if p, err := Open(cfg); err == nil {
			t.Errorf("%s: want an error, got none", name)
			p.Close()
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("want an error that names %q, got %v", name, err)
		}
	}
}

func ExampleRemoteError() {
	fmt.Println(&RemoteError{Node: "n2", Text: "set 7: the disk is full"})
	// Output: node n2: set 7: the disk is full
}
