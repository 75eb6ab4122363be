package node

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// Three nodes with three replicas have no node for what one of them is to lose:
// what an operator asks for then is answered with that, and costs nothing.
func TestADrainThatCannotGoOnSaysSo(t *testing.T) {
	nodes := startNodes(t, founders(t, 3)...)
	n := nodes[0]
	n.mustWrite(t, time.Now(), 1)
	for _, n := range nodes {
		n.awaitMetaVoters(t, 3)
	}
	var done changedNode
	n.admin200(t, http.MethodPost, "/api/v1/admin/nodes/drain?node=node-2", &done)
	if done.Replicas == 0 || done.Waiting != done.Replicas || done.State != "draining" {
		t.Errorf("the drain answers %+v", done)
	}
	var planned []listedAction
	testwait.Until(t, "the plan to show what waits", func() error {
		n.admin200(t, http.MethodGet, "/api/v1/admin/controllers/plan", &planned)
		for _, l := range planned {
			if l.Loop == metasvc.LoopDrain && strings.Contains(l.Error, "wait for a node") {
				return nil
			}
		}
		return fmt.Errorf("planned is %+v", planned)
	})
	var list []listedNode
	n.admin200(t, http.MethodGet, "/api/v1/admin/nodes", &list)
	for _, l := range list {
		if l.Meta == "" || l.Heard == "" || l.Heard == heardUnknown {
			t.Errorf("while node-2 drains: %+v", l)
		}
	}
	n.admin200(t, http.MethodPost, "/api/v1/admin/nodes/undrain?node=node-2", &done)

	set := n.meta.client.Map().Sets()[0].ID
	d := n.awaitSet(t, set, "the set to be well", func(d describedSet) bool { return allWell(d) && d.Leader != "" })
	path := fmt.Sprintf("/api/v1/admin/sets/transfer?set=%d&replica=", set)
	if status, text := n.requestAt(t, n.AdminAddr(), http.MethodPost, path+"9999", nil); status != http.StatusNotFound || !strings.Contains(text, "9999") || !strings.Contains(text, "@node-3") {
		t.Errorf("a transfer to nobody: %d %s", status, text)
	}
	at := slices.IndexFunc(d.Replicas, func(r listedReplica) bool { return r.Leader })
	var handed transferred
	n.admin200(t, http.MethodPost, path+fmt.Sprint(d.Replicas[at].Replica), &handed)
	if !handed.Already {
		t.Errorf("a transfer to who leads: %+v", handed)
	}

	leader := n.meta.link.Leader()
	away := slices.IndexFunc(nodes, func(n *Node) bool { return n.identity.Node != leader })
	if err := nodes[away].Close(); err != nil {
		t.Fatal(err)
	}
	other := nodes[(away+1)%len(nodes)]
	if status, text := other.requestAt(t, other.AdminAddr(), http.MethodPost, "/api/v1/admin/controllers/pause?loop=nope", nil); status != http.StatusNotFound || !strings.Contains(text, "it has cluster, policy") {
		t.Errorf("a pause of nothing: %d %s", status, text)
	}
}

func TestANodeThatWasNotHeardOfIsListedSo(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	admin := &clusterAdmin{adminAPI: &adminAPI{client: n.meta.client}, node: n}
	list := admin.listNodes(t.Context(), nil)
	if len(list) != 1 || !strings.HasPrefix(list[0].Heard, "not for ") || list[0].Leads != nil {
		t.Errorf("the leader has not heard of %+v", list)
	}
	if beats := heard([]metasvc.Heartbeat{{Confirmed: time.Now()}, {Received: time.Now()}}); len(beats) != 1 {
		t.Errorf("heard are %v", beats)
	}
}
