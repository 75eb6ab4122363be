package node

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/suitestore"
)

// The suite's samples begin at the epoch: a node whose clock stands there,
// with buckets of a year, takes them all into one bucket.
const year = 366 * 24 * time.Hour

func TestUpstreamPromQLSuiteThroughARealRaftGroup(t *testing.T) {
	s := settingsIn(t.TempDir())
	s.Buckets.Span, s.Buckets.FutureBound, s.Buckets.Retention = year, year, 10*year
	s.Buckets.Shards = 2
	started := time.Now()
	n := startNodeAt(t, s, func() time.Time {
		return started.Add(time.Hour - started.Sub(time.UnixMilli(0))).Add(time.Since(started))
	})
	var tenants atomic.Int64
	fresh := func() quorate.TenantID {
		tenant, err := n.meta.client.EnsureTenant(t.Context(), fmt.Sprintf("suite-%d", tenants.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		return tenant.ID
	}
	cases := suitestore.RunSuite(t, suitestore.Opener(suitestore.Config{
		Append: n.router.Append, Queryable: n.router, FreshTenant: fresh,
	}))
	if cases < 2000 {
		t.Errorf("the suite has %d cases, want it whole (over 2,000)", cases)
	}
}
