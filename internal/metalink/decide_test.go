package metalink

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// decider makes another tenant of whatever is proposed, or fails.
type decider struct{ err error }

func (d decider) Decide(context.Context, []byte) ([]byte, error) {
	return createTenant("decided"), d.err
}

// TestTheLeaderCompletesWhatIsProposed, whichever node it is proposed at.
func TestTheLeaderCompletesWhatIsProposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCity(t)
		c.createPolicy()
		wrong := quorate.Errorf(quorate.Unavailable, "its clock is wrong")
		for _, name := range []string{"n1", "n2", "n3"} {
			m := c.links[name]
			m.Attach(m.replica, m.machine, decider{})
		}
		n4 := c.newcomer("n4")
		var decided quorate.TenantID
		for _, at := range []*member{c.links["n1"], c.links["n2"], n4} {
			result, err := at.Propose(t.Context(), createTenant("asked"))
			tenant, ok := result.(metasvc.TenantResult)
			if !ok || err != nil || decided != 0 && tenant.Tenant != decided {
				t.Errorf("proposed at %s: %v, %v, want tenant %d", at.cfg.Self.Name, result, err, decided)
			}
			decided = tenant.Tenant
		}
		c.links["n1"].Attach(c.links["n1"].replica, c.links["n1"].machine, decider{wrong})
		for _, at := range []*member{c.links["n1"], c.links["n2"], n4} {
			if result, err := at.Propose(t.Context(), createTenant("asked")); quorate.KindOf(err) != quorate.Unavailable {
				t.Errorf("proposed at %s to a leader that may not decide: %v, %v", at.cfg.Self.Name, result, err)
			}
		}
	})
}
