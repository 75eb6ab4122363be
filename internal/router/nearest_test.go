package router

import (
	"slices"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// What may be read anywhere is read here, else in this node's zone, else
// elsewhere; a node that has just not answered comes last.
func TestTheNearestReplicaIsAskedFirst(t *testing.T) {
	r := newRigOf(t, 3)
	admit := func(id quorate.NodeID, zone string) {
		r.leader.do(t, metasvc.AdmitNode{Node: metasvc.NodeSpec{ID: id, Roles: metasvc.AllRoles, Zone: zone, Address: "h:1"}})
	}
	admit(r.node, "here")
	admit(r.nodes[0], "there")
	admit(r.nodes[1], "here")
	admit(r.nodes[2], "there")
	testwait.For(t, "the map to have the zones", func() bool { return r.client.Map().Node(r.nodes[2]).Zone == "there" })
	of := func(nodes ...quorate.NodeID) *metasvc.ReplicaSet {
		set := &metasvc.ReplicaSet{State: metasvc.ReplicaSetSealed}
		for i, node := range nodes {
			set.Members = append(set.Members, metasvc.Member{Node: node, Replica: quorate.ReplicaID(i + 1)})
		}
		return set
	}
	order := func(set *metasvc.ReplicaSet) []quorate.NodeID { return r.searchNearest(r.client.Map(), set).waiting }
	far, near, farther := r.nodes[0], r.nodes[1], r.nodes[2]
	for _, tc := range []struct{ members, want []quorate.NodeID }{
		{[]quorate.NodeID{far, near, r.node}, []quorate.NodeID{r.node, near, far}},
		{[]quorate.NodeID{far, farther, near}, []quorate.NodeID{near, far, farther}},
		{[]quorate.NodeID{farther, far}, []quorate.NodeID{farther, far}},
	} {
		if got := order(of(tc.members...)); !slices.Equal(got, tc.want) {
			t.Errorf("of %v: %v, want %v", tc.members, got, tc.want)
		}
	}
	r.peerNotes.answered(near, false)
	if got := order(of(far, near, r.node)); !slices.Equal(got, []quorate.NodeID{r.node, far, near}) {
		t.Errorf("with the near one silent: %v", got)
	}
}
