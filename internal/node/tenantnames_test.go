package node

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
)

// laggingClient knows a tenant only once its map was confirmed.
type laggingClient struct {
	lease    bool
	unled    bool
	asked    atomic.Int64
	followed atomic.Bool
}

func (c *laggingClient) Tenant(context.Context, string) (metasvc.Tenant, bool, error) {
	if c.followed.Load() {
		return metasvc.Tenant{ID: 7}, true, nil
	}
	return metasvc.Tenant{}, false, nil
}

func (*laggingClient) EnsureTenant(context.Context, string) (metasvc.Tenant, error) {
	return metasvc.Tenant{ID: 7}, nil
}

func (c *laggingClient) ConfirmMap(context.Context) error {
	c.asked.Add(1)
	if c.unled {
		return quorate.Errorf(quorate.Unavailable, "no leader")
	}
	c.followed.Store(true)
	return nil
}

func (c *laggingClient) MapCurrent() bool { return c.lease }

// The first write of a tenant was acknowledged at another node, and this one's
// watch of the metadata lags.
func TestATenantThatTheMapDoesNotKnowYetIsAskedFor(t *testing.T) {
	for name, tc := range map[string]struct {
		client                           *laggingClient
		consistency                      quorate.Consistency
		found, warned, unavailable, asks bool
	}{
		"default":                     {client: &laggingClient{lease: true}, found: true, asks: true},
		"strong":                      {client: &laggingClient{lease: true}, consistency: quorate.ConsistencyStrong, found: true, asks: true},
		"stale":                       {client: &laggingClient{lease: true}, consistency: quorate.ConsistencyStale},
		"default, the leader is gone": {client: &laggingClient{lease: true, unled: true}, warned: true, asks: true},
		"strong, the leader is gone":  {client: &laggingClient{lease: true, unled: true}, consistency: quorate.ConsistencyStrong, unavailable: true, asks: true},
		"default, the lease ran out":  {client: &laggingClient{unled: true}, warned: true},
		"strong, the lease ran out":   {client: &laggingClient{unled: true}, consistency: quorate.ConsistencyStrong, unavailable: true, asks: true},
		"stale, the lease ran out":    {client: &laggingClient{unled: true}, consistency: quorate.ConsistencyStale, warned: true},
	} {
		t.Run(name, func(t *testing.T) {
			tenant, err := newTenantNames(tc.client).Tenant(t.Context(), "new", tc.consistency)
			_, warned := tenant.Warnings[router.ErrMapUnconfirmed.Error()]
			if unavailable := err != nil && quorate.KindOf(err) == quorate.Unavailable; tenant.Found != tc.found || warned != tc.warned || unavailable != tc.unavailable {
				t.Errorf("got %+v, %v", tenant, err)
			}
			if asks := tc.client.asked.Load() > 0; asks != tc.asks {
				t.Errorf("the metadata leader was asked: %v, want %v", asks, tc.asks)
			}
		})
	}
}

func TestTenantsThatDoNotExistCostTheMetadataLeaderLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		c := newConfirmations(func(context.Context) error {
			asked.Add(1)
			<-time.NewTimer(time.Millisecond).C
			return nil
		})
		began := time.Now()
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() {
				for range 20 {
					if err := c.confirm(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		clients.Wait()
		took := time.Since(began)
		if most := int64(took/confirmPause) + 1; asked.Load() > most || asked.Load() < 20 {
			t.Errorf("the leader was asked %d times in %v, want 20 to %d", asked.Load(), took, most)
		}
	})
}

// A confirmation that was asked for before the call says nothing to it, and one
// whose asker went away is asked for anew.
func TestAConfirmationIsNeverOlderThanTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		c := newConfirmations(func(ctx context.Context) error {
			begun = append(begun, time.Now())
			select {
			case <-time.NewTimer(time.Second).C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var first sync.WaitGroup
		first.Go(func() {
			if c.confirm(ctx) == nil {
				t.Error("it was confirmed to one that had gone away")
			}
		})
		synctest.Wait()
		called := time.Now()
		if err := c.confirm(t.Context()); err != nil {
			t.Errorf("another one's patience ended this one's wait: %v", err)
		}
		first.Wait()
		if len(begun) != 2 || !begun[1].After(called) {
			t.Errorf("confirmations were begun at %v, the call was at %v", begun, called)
		}
	})
}
