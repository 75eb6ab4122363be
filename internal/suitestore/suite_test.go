package suitestore

import (
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate"
)

// upstreamCases is how many cases the suite of the pinned Prometheus has. It is
// here so that a suite that shrinks unnoticed is noticed.
const upstreamCases = 2243

func freshTenants() func() quorate.TenantID {
	var last atomic.Uint64
	return func() quorate.TenantID { return quorate.TenantID(last.Add(1)) }
}

// TestTheModelPassesTheUpstreamSuite shows that what fails elsewhere fails in
// the storage tested, not in how it is dressed up here.
func TestTheModelPassesTheUpstreamSuite(t *testing.T) {
	m := NewModel()
	cases := RunSuite(t, Opener(Config{Append: m.Append, Queryable: m, FreshTenant: freshTenants()}))
	if cases != upstreamCases {
		t.Errorf("the suite has %d cases, want %d", cases, upstreamCases)
	}
}
