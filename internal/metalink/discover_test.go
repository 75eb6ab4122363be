package metalink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// founder is a node of a test that has no cluster yet.
type founder struct {
	self    quorate.NodeID
	port    *fakePort
	greeter *Greeter
	config  DiscoverConfig

	mu      sync.Mutex // guards what follows
	cluster quorate.ClusterID
}

func (f *founder) setCluster(id quorate.ClusterID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cluster = id
}

func (f *founder) Cluster() quorate.ClusterID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cluster
}

// MetaNodes implements Directory: who founds has the metadata.
func (f *founder) MetaNodes() []MetaNode { return []MetaNode{{f.self, address(f.self.Name)}} }

// Leader implements Directory.
func (f *founder) Leader() quorate.NodeID { return f.self }

func fresh(net *network, self quorate.NodeID, expect int, names ...string) *founder {
	f := &founder{self: self, port: net.join(self)}
	f.greeter = NewGreeter(GreeterConfig{Self: self, Cluster: f.Cluster, Port: f.port})
	f.config = DiscoverConfig{Port: f.port, Greeter: f.greeter, Expect: expect}
	for _, name := range names {
		f.config.Addresses = append(f.config.Addresses, address(name))
	}
	return f
}

// found makes the node the founder of a cluster of its own.
func (f *founder) found() {
	f.setCluster(quorate.ClusterID{f.self.Name[len(f.self.Name)-1]})
	f.greeter.serve(f)
}

// decide runs Discover and does what it says; it returns the cluster the node
// is in, and whether it has founded it.
func (f *founder) decide(ctx context.Context, delay time.Duration) (cluster quorate.ClusterID, founded bool, err error) {
	d, err := Discover(ctx, f.config)
	if err != nil {
		return quorate.ClusterID{}, false, err
	}
	if d.Found {
		// To found takes a while, in which nobody may found another.
		if err := wait(ctx, delay); err != nil {
			return quorate.ClusterID{}, false, err
		}
		f.found()
	} else {
		f.setCluster(d.Cluster)
	}
	return f.Cluster(), d.Found, nil
}

func TestFreshNodesFoundExactlyOneCluster(t *testing.T) {
	names := []string{"n1", "n2", "n3"}
	for _, expect := range []int{2, 3} {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			for _, gap := range []time.Duration{0, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 20 * time.Second} {
				t.Run(fmt.Sprintf("expect=%d/order=%v/gap=%v", expect, order, gap), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						net := newNetwork()
						var mu sync.Mutex
						clusters := make(map[quorate.ClusterID]int)
						founders := 0
						var group sync.WaitGroup
						for _, i := range order {
							f := fresh(net, nodeID(names[i]), expect, names...)
							group.Go(func() {
								cluster, founded, err := f.decide(t.Context(), 3*time.Second)
								if err != nil {
									t.Error(err)
								}
								mu.Lock()
								defer mu.Unlock()
								clusters[cluster]++
								if founded {
									founders++
								}
							})
							pass(gap)
						}
						group.Wait()
						if len(clusters) != 1 || founders != 1 {
							t.Errorf("want one cluster founded once, got %v founded by %d", clusters, founders)
						}
					})
				})
			}
		}
	}
}

// TestFoundingUnderPartitions starts five nodes in any order while the network
// falls apart and heals, and the founder is slow: more than one cluster must
// never come of it, and one does once the network is whole.
func TestFoundingUnderPartitions(t *testing.T) {
	names := []string{"n1", "n2", "n3", "n4", "n5"}
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 1))
			net := newNetwork()
			var mu sync.Mutex
			var founded []string
			decided := 0
			var group sync.WaitGroup
			for _, i := range chance.Perm(len(names)) {
				f := fresh(net, nodeID(names[i]), 3, names...)
				delay := time.Duration(chance.IntN(10_000)) * time.Millisecond
				late := time.Duration(chance.IntN(3000)) * time.Millisecond
				group.Go(func() {
					pass(late)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
					defer cancel()
					_, first, err := f.decide(ctx, delay)
					if err != nil {
						t.Errorf("seed %d: %s: %v", seed, f.self.Name, err)
					}
					mu.Lock()
					defer mu.Unlock()
					decided++
					if first {
						founded = append(founded, f.self.Name)
					}
				})
			}
			for range 40 {
				pass(time.Duration(chance.IntN(500)) * time.Millisecond)
				if net.heal(); chance.IntN(4) > 0 {
					for range chance.IntN(8) {
						pair := chance.Perm(len(names))
						net.separate(names[pair[0]], names[pair[1]])
					}
				}
			}
			net.heal()
			group.Wait()
			if len(founded) != 1 || decided != len(names) {
				t.Errorf("seed %d: founded by %v, %d nodes decided", seed, founded, decided)
			}
		})
	}
}

func TestALateNodeJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		n2 := fresh(net, nodeID("n2"), 2, "n1", "n2", "n3")
		n2.found()
		// It has the smallest name, and another fresh node beside it.
		fresh(net, nodeID("n3"), 2, "n1", "n2", "n3")
		n1 := fresh(net, nodeID("n1"), 2, "n1", "n2", "n3")
		d, err := Discover(t.Context(), n1.config)
		if err != nil || d.Found || d.Cluster != n2.Cluster() || d.Leader != nodeID("n2") || len(d.Meta) != 1 || d.Meta[0] != n2.MetaNodes()[0] {
			t.Errorf("got %+v, %v", d, err)
		}
		// Without a number to expect it does the same.
		n1.config.Expect = 0
		if d, err = Discover(t.Context(), n1.config); err != nil || d.Cluster != n2.Cluster() {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}

func TestANodeThatSeesASmallerNameFoundsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		fresh(net, nodeID("n1"), 2) // it does not ask for promises, not yet
		fresh(net, nodeID("n3"), 2).greeter.promised = nodeID("n2")
		n2 := fresh(net, nodeID("n2"), 2, "n1", "n2", "n3")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if d, err := Discover(ctx, n2.config); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("want it to wait for n1, got %+v, %v", d, err)
		}
		net.set(func(n *network) { n.ports[address("n1")].down = true })
		if d, err := Discover(t.Context(), n2.config); err != nil || !d.Found {
			t.Errorf("want it to found without n1, got %+v, %v", d, err)
		}
	})
}

func TestALoneNodeFoundsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, expect := range []int{0, 1} {
			d, err := Discover(t.Context(), fresh(newNetwork(), nodeID("n1"), expect).config)
			if err != nil || !d.Found {
				t.Errorf("expect %d: got %+v, %v", expect, d, err)
			}
		}
	})
}

func TestProtocol16ANodeWithStateFoundsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		old := func(name string) *founder {
			f := fresh(net, nodeID(name), 2, "n1", "n2", "n3")
			f.greeter = NewGreeter(GreeterConfig{Self: f.self, State: true, Cluster: f.Cluster, Port: f.port})
			f.config.Greeter = f.greeter
			return f
		}
		n1, n2 := old("n1"), fresh(net, nodeID("n2"), 2, "n1", "n2", "n3")
		for _, f := range []*founder{n1, n2} { // n2 does not count n1
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if d, err := Discover(ctx, f.config); !errors.Is(err, context.DeadlineExceeded) || quorate.KindOf(err) != quorate.Unavailable {
				t.Errorf("%s: want it to wait, got %+v, %v", f.self.Name, d, err)
			}
		}
		n1.config.Addresses = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if d, err := Discover(ctx, n1.config); err == nil {
			t.Errorf("alone: want an error, got %+v", d)
		}
		n3 := fresh(net, nodeID("n3"), 2, "n1", "n2", "n3")
		d, err := Discover(t.Context(), n2.config) // who has no state still founds
		_ = n3
		if err == nil && d.Found {
			return
		}
		t.Errorf("got %+v, %v", d, err)
	})
}

func TestSettingsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name  string
		text  string
		setUp func(net *network) *founder
	}{
		{"half of the list is no majority", "at least 3", func(net *network) *founder {
			return fresh(net, nodeID("n1"), 2, "n1", "n2", "n3", "n4")
		}},
		{"half of the list, this node added", "at least 3", func(net *network) *founder {
			fresh(net, nodeID("n2"), 2, "n1", "n3", "n4").greeter.promised = nodeID("n1")
			return fresh(net, nodeID("n1"), 2, "n2", "n3", "n4")
		}},
		{"another node of this one's name", "n1/0100", func(net *network) *founder {
			fresh(net, quorate.NodeID{Name: "n1", Incarnation: quorate.Incarnation{2}}, 3, "n1")
			f := fresh(net, nodeID("n9"), 3, "n1", "n2", "n3")
			f.greeter.cfg.Self = nodeID("n1")
			return f
		}},
		{"nodes of two clusters", "two clusters", func(net *network) *founder {
			fresh(net, nodeID("n2"), 3).found()
			fresh(net, nodeID("n3"), 3).found()
			return fresh(net, nodeID("n1"), 3, "n1", "n2", "n3")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				d, err := Discover(ctx, test.setUp(newNetwork()).config)
				if err == nil || quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), test.text) {
					t.Errorf("want an error of kind invalid with %q, got %+v, %v", test.text, d, err)
				}
			})
		})
	}
}

func TestPromises(t *testing.T) {
	g := NewGreeter(GreeterConfig{Self: nodeID("n2"), Cluster: func() quorate.ClusterID { return quorate.ClusterID{} }, Port: newNetwork().join(nodeID("n2"))})
	seek := func(from string, seeks bool) quorate.NodeID {
		t.Helper()
		b, err := g.answer(t.Context(), nodeID(from), encodeGreeting(seeks))
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeHello(b)
		if err != nil {
			t.Fatal(err)
		}
		return h.Promised
	}
	var nobody quorate.NodeID
	for _, step := range []struct {
		what string
		from string
		seek bool
		want quorate.NodeID
	}{
		{"one that does not ask", "n1", false, nobody},
		{"one of a larger name", "n3", true, nobody},
		{"the first", "n1", true, nodeID("n1")},
		{"one of a smaller name, too late", "n0", true, nodeID("n1")},
	} {
		if got := seek(step.from, step.seek); got != step.want {
			t.Errorf("%s: want the promise to %v, got %v", step.what, step.want, got)
		}
	}
	release := func(from string) {
		t.Helper()
		if err := g.release(nodeID(from)); err != nil {
			t.Error(err)
		}
	}
	if founds, err := g.found(); founds || err != nil {
		t.Errorf("a node that has promised to wait founds: %v, %v", founds, err)
	}
	release("n0")
	if got := seek("n3", false); got != nodeID("n1") {
		t.Errorf("released by another, got %v", got)
	}
	release("n1")
	for range 2 {
		if founds, err := g.found(); !founds || err != nil {
			t.Errorf("a node without a promise does not found: %v", err)
		}
	}
	release("n2")
	if got := seek("n0", true); got != nodeID("n2") {
		t.Errorf("a node that founds has promised %v", got)
	}
	if _, err := g.answer(t.Context(), nodeID("n1"), []byte{9}); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("want an error of kind invalid, got %v", err)
	}
}

// A promise that cannot be made to last is not told, and one that lasts binds the
// node when it is started anew.
func TestAPromiseOutlivesTheProcess(t *testing.T) {
	var kept quorate.NodeID
	full := errors.New("the disk is full")
	var fails error
	start := func() *Greeter {
		return NewGreeter(GreeterConfig{
			Self: nodeID("n2"), Cluster: func() quorate.ClusterID { return quorate.ClusterID{} }, Port: newNetwork().join(nodeID("n2")),
			Promised: kept,
			Keep: func(promised quorate.NodeID) error {
				if fails == nil {
					kept = promised
				}
				return fails
			},
		})
	}
	g := start()
	fails = full
	if _, err := g.answer(t.Context(), nodeID("n1"), encodeGreeting(true)); !errors.Is(err, full) || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a promise that was not kept was told: %v", err)
	}
	if founds, err := g.found(); founds || !errors.Is(err, full) {
		t.Errorf("it founds without a promise that lasts: %v, %v", founds, err)
	}
	fails = nil
	if _, err := g.answer(t.Context(), nodeID("n1"), encodeGreeting(true)); err != nil {
		t.Fatal(err)
	}
	g = start()
	if founds, err := g.found(); founds || err != nil || g.promise() != nodeID("n1") {
		t.Errorf("started anew it founds: %v, %v; it has promised %v", founds, err, g.promise())
	}
	fails = full
	if err := g.release(nodeID("n1")); !errors.Is(err, full) || g.promise() != nodeID("n1") {
		t.Errorf("the promise was taken back in memory alone: %v", err)
	}
	fails = nil
	if err := g.release(nodeID("n1")); err != nil || kept != (quorate.NodeID{}) {
		t.Errorf("taken back, %v is kept, %v", kept, err)
	}
	if founds, err := g.found(); !founds || err != nil || kept != nodeID("n2") {
		t.Errorf("it does not found: %v, %v", founds, err)
	}
	// It goes on with that after a crash, and asks for the promises of others.
	if founds, err := start().found(); !founds || err != nil {
		t.Errorf("started anew it does not found: %v, %v", founds, err)
	}
}
