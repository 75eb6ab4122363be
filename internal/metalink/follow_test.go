package metalink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/metasvc"
)

// clientOf opens a metasvc.Client over a node's link, as a node does.
func (c *city) clientOf(m *member) *metasvc.Client {
	c.t.Helper()
	client, err := metasvc.OpenClient(c.t.Context(), metasvc.ClientConfig{StateMachine: m.machine, Leader: m.Link, Cluster: testCluster})
	if err != nil {
		c.t.Fatal(err)
	}
	m.client.Store(client)
	c.t.Cleanup(func() {
		if err := client.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return client
}

func TestANodeWithoutAReplicaHasTheMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		client := c.clientOf(n4)
		if err := client.ConfirmMap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := client.Map(); m.Cluster == nil || m.Cluster.ID != testCluster || len(m.Nodes()) != 3 || m.Policy(1) == nil {
			t.Errorf("the map lacks something: %+v", m)
		}
		if _, err := n4.Join(t.Context(), spec("n4")); err != nil {
			t.Fatal(err)
		}
		if err := client.ConfirmMap(t.Context()); err != nil || client.Map().Node(nodeID("n4")) == nil {
			t.Errorf("want itself on the map, got %v, %v", client.Map().Nodes(), err)
		}
		// The map lease is kept all the while.
		for range 20 {
			pass(time.Second)
			if !client.MapCurrent() {
				t.Fatal("the map lease has run out")
			}
		}
		if nodes := n4.MetaNodes(); len(nodes) != 1 || nodes[0] != (MetaNode{nodeID("n1"), address("n1")}) {
			t.Errorf("want the map's voters, got %v", nodes)
		}
	})
}

func TestFollowGoesOnAtAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		// Whoever is left is left at once, not only when it is found to lag.
		propose := func(name string) {
			t.Helper()
			began := time.Now()
			defer func() {
				if took := time.Since(began); took > lagsAfter/2 {
					t.Errorf("%s: it took %v", name, took)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			result, err := n4.Propose(ctx, createTenant(name))
			mustTenant(t, result, err)
		}
		propose("a")
		// Whoever of the two is followed, its replica is gone, then its node.
		for _, name := range []string{"n2", "n3"} {
			c.links[name].Detach()
			c.group.set(func(*ensemble) { c.links[name].replica.lags = true })
		}
		propose("b")
		for _, name := range []string{"n2", "n3"} {
			c.links[name].replica.catchUp(t)
			c.links[name].Attach(c.links[name].replica, c.links[name].machine, nil)
		}
		c.links["n1"].Detach()
		c.group.set(func(*ensemble) { c.links["n1"].replica.lags = true })
		c.group.elect(nodeID("n2"))
		propose("c")
		if n4.machine.AppliedIndex() < c.links["n3"].machine.AppliedIndex() {
			t.Error("n4 is behind")
		}
	})
}

// TestASourceThatIsCutOffIsLeft: the node that is followed answers, and learns
// nothing any more.
func TestASourceThatIsCutOffIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		for _, lagging := range []string{"n1", "n2", "n3"} {
			leader := map[string]string{"n1": "n2", "n2": "n3", "n3": "n1"}[lagging]
			c.group.set(func(*ensemble) { c.links[lagging].replica.lags = true })
			c.group.elect(nodeID(leader))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			result, err := n4.Propose(ctx, createTenant("while "+lagging+" lags"))
			cancel()
			mustTenant(t, result, err)
			c.links[lagging].replica.catchUp(t)
		}
	})
}

func TestAPartitionEndsTheLeaseAndHealsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		client := c.clientOf(n4)
		if err := client.ConfirmMap(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.net.separate("n4", "n1", "n2", "n3")
		pass(metasvc.MapLease + time.Second)
		if client.MapCurrent() {
			t.Error("want the lease over")
		}
		result, err := c.links["n1"].Propose(t.Context(), createTenant("meanwhile"))
		tenant := mustTenant(t, result, err)
		c.net.heal()
		pass(3 * time.Second)
		if !client.MapCurrent() || n4.machine.AppliedIndex() < tenant.Index {
			t.Errorf("want a current map again, at entry %d; it is at %d", tenant.Index, n4.machine.AppliedIndex())
		}
	})
}

// TestANodeBecomesAMetadataNode: its client goes on to read the machine that it
// has always read, which is fed by the replica from then on.
func TestANodeBecomesAMetadataNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		n4 := c.newcomer("n4")
		result, err := n4.Propose(t.Context(), createTenant("a"))
		mustTenant(t, result, err)

		replica := c.group.replica(t, nodeID("n4"))
		c.group.set(func(*ensemble) { replica.lags = true })
		c.copyLog(replica)
		replica.catchUp(t)
		n4.Attach(replica, replica.machine, nil)
		c.net.separate("n4", "n1", "n2", "n3")
		c.group.elect(nodeID("n4"))
		result, err = n4.Propose(t.Context(), createTenant("b"))
		tenant := mustTenant(t, result, err)
		if n4.machine.AppliedIndex() < tenant.Index {
			t.Error("the followed machine does not have it")
		}
		if err := n4.ConfirmRead(t.Context()); err != nil {
			t.Error(err)
		}
		c.net.heal()
		result, err = c.links["n1"].Propose(t.Context(), createTenant("c"))
		mustTenant(t, result, err)

		n4.Detach()
		c.group.set(func(*ensemble) { replica.lags = true })
		c.group.elect(nodeID("n2"))
		result, err = n4.Propose(t.Context(), createTenant("d"))
		mustTenant(t, result, err)
	})
}

// copyLog gives a replica, as what it waits for, all that n1 has.
func (c *city) copyLog(g *fakeGroup) {
	c.t.Helper()
	batch, err := c.links["n1"].machine.Watch(0).Next(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := g.machine.Follow(batch); err != nil {
		c.t.Fatal(err)
	}
}

func TestAWatchThatAsksNonsenseIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		n4 := c.open("n4", newMachine(t))
		recv, err := n4.port.Stream(t.Context(), nodeID("n1"), methodWatch, []byte("garbage"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := recv(); err == nil {
			t.Errorf("want an error, got %q", b)
		}
	})
}
