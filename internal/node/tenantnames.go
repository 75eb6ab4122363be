package node

import (
	"context"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/promql"
)

// tenantClient is what tenantNames needs of the metadata client;
// *metasvc.Client is one.
type tenantClient interface {
	Tenant(ctx context.Context, name string) (metasvc.Tenant, bool, error)
	EnsureTenant(ctx context.Context, name string) (metasvc.Tenant, error)
	ConfirmMap(ctx context.Context) error
	MapCurrent() bool
}

// tenantNames gives the edges the numbers of tenants.
type tenantNames struct {
	client tenantClient
	// confirmations are what reads of tenants that are not known wait for.
	confirmations *confirmations
}

func newTenantNames(client tenantClient) tenantNames {
	return tenantNames{client, newConfirmations(client.ConfirmMap)}
}

// EnsureTenant returns a tenant's number and creates the tenant if need be.
func (t tenantNames) EnsureTenant(ctx context.Context, name string) (quorate.TenantID, error) {
	tenant, err := t.client.EnsureTenant(ctx, name)
	return tenant.ID, err
}

// Tenant returns a tenant's number, if there is one of that name. A tenant that
// this node does not know may have been written to at another a moment ago: the
// map is confirmed then before a default or strong read is told that it has
// nothing. Without the metadata leader a strong one gets an error of kind
// Unavailable, and any other a warning.
func (t tenantNames) Tenant(ctx context.Context, name string, consistency quorate.Consistency) (promql.Tenant, error) {
	current := t.client.MapCurrent() // before the map is looked at
	tenant, err := t.known(ctx, name)
	if err != nil || tenant.Found {
		return tenant, err
	}
	if consistency == quorate.ConsistencyStrong || consistency == quorate.ConsistencyDefault && current {
		err := t.confirmations.confirm(ctx)
		if err == nil {
			return t.known(ctx, name)
		}
		if consistency == quorate.ConsistencyStrong {
			return promql.Tenant{}, quorate.Errorf(quorate.Unavailable, "tenant %q is not known to this node, and a strong read needs a current map of the cluster: %w", name, err)
		}
		current = false
	}
	if !current {
		tenant.Warnings = annotations.New().Add(router.ErrMapUnconfirmed)
	}
	return tenant, nil
}

func (t tenantNames) known(ctx context.Context, name string) (promql.Tenant, error) {
	tenant, found, err := t.client.Tenant(ctx, name)
	return promql.Tenant{ID: tenant.ID, Found: found}, err
}
