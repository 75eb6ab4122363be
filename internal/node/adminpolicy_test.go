package node

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

func TestAPolicyOfAClusterIsAlteredByCommand(t *testing.T) {
	n := startNode(t, hourly(t))
	alter := func(parameters string, wantStatus int, says string) {
		t.Helper()
		status, text := n.requestAt(t, n.AdminAddr(), http.MethodPost, "/api/v1/admin/policies/alter?"+parameters, nil)
		if status != wantStatus || !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), says) {
			t.Errorf("%s: %d %s; want %d saying %q", parameters, status, text, wantStatus, says)
		}
	}
	alter("policy=default&retention=90d", 400, "lone node")
	other := metasvc.NodeSpec{ID: quorate.NodeID{Name: "other", Incarnation: quorate.NewIncarnation()}, Roles: metasvc.RoleGateway}
	if _, err := n.meta.client.Join(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	alter("policy=gold&retention=90d", 404, `policy "gold" does not exist`)
	alter("policy=default", 400, "nothing")
	alter("policy=default&replicas=10", 400, "outside 1 to 9")
	alter("policy=default&span=91d&retention=90d", 400, "buckets.span is more than buckets.retention")
	alter("policy=default&retention=90d&future_bound=5m", 200, `"retention":"90d"`)
	p := n.meta.client.Map().PolicyNamed(metasvc.DefaultPolicyName)
	if p.Retention != 90*24*time.Hour || p.FutureBound != 5*time.Minute || p.Span != time.Hour || p.Reach == 0 {
		t.Errorf("the policy is %+v", p)
	}
}
