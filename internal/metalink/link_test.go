package metalink

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

func TestEveryNodeReachesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		c.newcomer("n4")
		for _, name := range []string{"n1", "n2", "n3", "n4"} {
			l := c.links[name]
			result, err := l.Propose(t.Context(), createTenant("of "+name))
			tenant := mustTenant(t, result, err)
			if at := l.machine.AppliedIndex(); at < tenant.Index {
				t.Errorf("%s: the tenant is of entry %d, and the node is at %d", name, tenant.Index, at)
			}
			if err := l.ConfirmRead(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if leader := l.Leader(); leader != nodeID("n1") {
				t.Errorf("%s: takes %v for the leader", name, leader)
			}
		}
		if n := c.net.count(methodPropose); n != 3 {
			t.Errorf("want the leader to need no call and the others one each, got %d", n)
		}
	})
}

func TestRefusalsTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		result, err := c.links["n2"].Propose(t.Context(), createTenant("of no policy"))
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := result.(*metasvc.Refusal); !ok || r.Reason == 0 {
			t.Errorf("want a refusal, got %v (%T)", result, result)
		}
	})
}

func TestTheLeaderIsFoundAgainAfterAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		result, err := n4.Propose(t.Context(), createTenant("a"))
		mustTenant(t, result, err)
		c.group.elect(nodeID("n3"))
		result, err = n4.Propose(t.Context(), createTenant("b"))
		mustTenant(t, result, err)
		if leader := n4.Leader(); leader != nodeID("n3") {
			t.Errorf("takes %v for the leader", leader)
		}
		// The old one tells who it is, so no more than two are asked.
		if n := c.net.count(methodPropose); n != 3 {
			t.Errorf("want 3 calls in all, got %d", n)
		}
		// The dead one is passed over, the next one knows.
		c.net.set(func(n *network) { n.ports[address("n3")].down = true })
		c.group.elect(nodeID("n2"))
		result, err = n4.Propose(t.Context(), createTenant("c"))
		mustTenant(t, result, err)
		if err := n4.ConfirmRead(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutALeaderOneRoundIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		c.group.elect(quorate.NodeID{})
		for _, name := range []string{"n1", "n2"} {
			began := time.Now()
			_, err := c.links[name].Propose(t.Context(), createTenant("a"))
			wantUnavailable(t, err)
			wantUnavailable(t, c.links[name].ConfirmRead(t.Context()))
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: an answer that is known at once took %v", name, took)
			}
		}
		// Two that take each other for the leader end the round as well.
		n2, n3 := nodeID("n2"), nodeID("n3")
		c.group.set(func(*ensemble) { c.links["n2"].replica.known, c.links["n3"].replica.known = &n3, &n2 })
		_, err := c.links["n1"].Propose(t.Context(), createTenant("a"))
		wantUnavailable(t, err)
	})
}

func TestAnOutcomeThatIsNotKnownIsNotProposedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		for name, lose := range map[string]func(bool){
			"the answer is lost": func(lost bool) { c.net.set(func(n *network) { n.dropAnswers["n1"] = lost }) },
			"the leader does not know": func(lost bool) {
				c.group.set(func(e *ensemble) {
					if e.failure = nil; lost {
						e.failure = raftset.ErrOutcomeUnknown
					}
				})
			},
		} {
			before := c.net.count(methodPropose)
			lose(true)
			_, err := n4.Propose(t.Context(), createTenant(name))
			wantUnavailable(t, err)
			if n := c.net.count(methodPropose) - before; n != 1 {
				t.Errorf("%s: want the proposal sent once, it was %d times", name, n)
			}
			lose(false)
			result, err := n4.Propose(t.Context(), createTenant(name))
			if r := mustTenant(t, result, err); r.Created {
				t.Errorf("%s: want the tenant made by the first proposal", name)
			}
		}
	})
}

func TestALeaderThatHangsIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		if err := n4.ConfirmRead(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.net.set(func(n *network) { n.hung["n1"] = true })
		c.group.elect(nodeID("n2"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := n4.ConfirmRead(ctx); err != nil {
			t.Errorf("want the new leader found within a map lease's renewal: %v", err)
		}
		// A proposal goes to the one that answered.
		result, err := n4.Propose(ctx, createTenant("a"))
		mustTenant(t, result, err)
	})
}

func TestAProposalIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.newcomer("n4")
		c.net.set(func(n *network) { n.hung["n1"], n.hung["n2"], n.hung["n3"] = true, true, true })
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := n4.Propose(ctx, createTenant("a")); return err },
			n4.ConfirmRead,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			began := time.Now()
			err := call(ctx)
			cancel()
			wantUnavailable(t, err)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
				t.Errorf("want the context's error after 300ms, got %v after %v", err, time.Since(began))
			}
		}
	})
}

func TestAnswersWaitForTheLocalStateMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n2 := c.links["n2"]
		c.group.set(func(*ensemble) { n2.replica.lags = true })
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := n2.Propose(ctx, createTenant("a")); return err },
			n2.ConfirmRead,
		} {
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			wantUnavailable(t, call(short))
			cancel()
			ended := make(chan error, 1)
			go func() { ended <- call(t.Context()) }()
			pass(time.Second)
			synctest.Wait()
			select {
			case err := <-ended:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			n2.replica.catchUp(t)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			c.group.set(func(*ensemble) { n2.replica.lags = true })
			result, err := c.links["n1"].Propose(t.Context(), createTenant("b"))
			mustTenant(t, result, err)
		}
		n2.replica.catchUp(t)
	})
}

// TestEntriesWithoutMetadataAreNoLag: the leader's log has moved on by a fence,
// of which no state machine hears.
func TestEntriesWithoutMetadataAreNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.newcomer("n4")
		for _, leader := range []string{"n2", "n1", "n3"} {
			c.group.elect(nodeID(leader))
			for _, name := range []string{"n1", "n2", "n3"} {
				began := time.Now()
				if err := c.links[name].ConfirmRead(t.Context()); err != nil || time.Since(began) != 0 {
					t.Errorf("%s under %s: %v after %v", name, leader, err, time.Since(began))
				}
			}
			began := time.Now()
			if err := n4.ConfirmRead(t.Context()); err != nil || time.Since(began) > watchTick+awaitPause {
				t.Errorf("n4 under %s: %v after %v", leader, err, time.Since(began))
			}
		}
	})
}

func TestANodeThatKnowsNobodyAsksTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		for _, name := range []string{"n1", "n2", "n3"} {
			m := c.links[name]
			g := NewGreeter(GreeterConfig{Self: nodeID(name), Port: m.port, Cluster: func() quorate.ClusterID { return testCluster }})
			g.serve(m)
		}
		c.net.set(func(n *network) { n.ports[address("n2")].down = true })
		n4 := c.newcomer("n4", func(cfg *Config) { cfg.Meta, cfg.Addresses = nil, []string{address("n2"), address("n3")} })
		result, err := n4.Propose(t.Context(), createTenant("a"))
		mustTenant(t, result, err)
		if a, ok := n4.Address(nodeID("n1")); !ok || a != address("n1") {
			t.Errorf("want the leader's address learned, got %q, %v", a, ok)
		}
	})
}

func TestJoinAdmitsANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.newcomer("n4")
		c.group.elect(quorate.NodeID{})
		joined := make(chan metasvc.AdmitNodeResult, 1)
		go func() {
			result, err := n4.Join(t.Context(), spec("n4"))
			if err != nil {
				t.Error(err)
			}
			joined <- result
		}()
		pass(time.Second)
		c.group.elect(nodeID("n2"))
		if result := <-joined; result.Number != 4 {
			t.Errorf("want node 4, got %+v", result)
		}
		// The same node on another address is the same node.
		moved := spec("n4")
		moved.Address = "elsewhere:9241"
		if result, err := n4.Join(t.Context(), moved); err != nil || result.Number != 4 {
			t.Errorf("got %+v, %v", result, err)
		}
	})
}

func TestJoinIsForTheNodeItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.newcomer("n4")
		for name, command := range map[string][]byte{
			"another node":    metasvc.EncodeCommand(metasvc.AdmitNode{Node: spec("n5")}),
			"another command": createTenant("a"),
			"no command":      []byte("garbage"),
		} {
			_, err := n4.port.Call(t.Context(), nodeID("n1"), methodJoin, command)
			if quorate.KindOf(err) != quorate.Invalid || err == nil {
				t.Errorf("%s: want an error of kind invalid, got %v", name, err)
			}
		}
		if _, err := n4.port.Call(t.Context(), nodeID("n1"), methodPropose, []byte("garbage")); quorate.KindOf(err) != quorate.Invalid || err == nil {
			t.Errorf("want an error of kind invalid, got %v", err)
		}
		if _, err := n4.Join(t.Context(), metasvc.NodeSpec{ID: nodeID("n4")}); err == nil || quorate.KindOf(err) == quorate.Unavailable {
			t.Errorf("want what cannot be admitted refused, got %v", err)
		}
	})
}

func TestHeartbeatsReachTheLeaderOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.newcomer("n4")
		for _, name := range []string{"n1", "n4"} {
			c.start(func(ctx context.Context) error {
				return c.links[name].Beat(ctx, time.Second, func() metasvc.Heartbeat {
					return metasvc.Heartbeat{Node: nodeID(name), Clock: time.Now(), MapVersion: 7}
				})
			})
		}
		heard := func(at string) map[string]time.Time {
			times := make(map[string]time.Time)
			for _, beat := range c.links[at].beats.List() {
				if beat.MapVersion != 7 {
					t.Errorf("got the heartbeat %+v", beat)
				}
				times[beat.Node.Name] = beat.Received
			}
			return times
		}
		pass(2500 * time.Millisecond)
		if h := heard("n1"); len(h) != 2 || time.Since(h["n4"]) > time.Second {
			t.Errorf("want fresh heartbeats of n1 and n4, got %v", h)
		}
		c.group.elect(nodeID("n3"))
		pass(time.Second)
		if h := heard("n3"); len(h) != 2 {
			t.Errorf("want the new leader to hear n1 and n4, got %v", h)
		}
		// Nobody beats for another.
		beat := metasvc.AppendHeartbeat(nil, metasvc.Heartbeat{Node: nodeID("n2"), Clock: time.Now()})
		if _, err := c.links["n4"].port.Call(t.Context(), nodeID("n3"), methodHeartbeat, beat); quorate.KindOf(err) != quorate.Invalid || err == nil {
			t.Errorf("want an error of kind invalid, got %v", err)
		}
	})
}

func TestSeedComesOfAnyReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.newcomer("n4")
		if seed, err := n4.Seed(t.Context()); err != nil || string(seed) != "seed of n1" {
			t.Errorf("got %q, %v", seed, err)
		}
		c.links["n1"].Detach()
		c.net.set(func(n *network) { n.ports[address("n2")].down = true })
		if seed, err := n4.Seed(t.Context()); err != nil || string(seed) != "seed of n3" {
			t.Errorf("got %q, %v", seed, err)
		}
		c.links["n3"].Detach()
		_, err := n4.Seed(t.Context())
		wantUnavailable(t, err)
	})
}

func TestALinkThatLacksWhatItNeeds(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("want an error, got none")
	}
}
