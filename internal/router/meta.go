package router

import (
	"context"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// Meta is what the router needs of the metadata client.
type Meta interface {
	// TenantMap returns a tenant's record and the newest map of the same
	// version; its error is of kind NotFound for a number that was never given
	// or is gone.
	TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error)
	// EnsureBucket returns the policy's open bucket that covers ts (ms),
	// making it where need be. Its error is Invalid for time that no bucket
	// may cover and Unavailable where a budget or a leader is missing.
	EnsureBucket(ctx context.Context, policy quorate.PolicyID, ts int64) (*metasvc.Bucket, error)
	// ConfirmBounds asks the metadata leader for a set's bounds version.
	ConfirmBounds(ctx context.Context, set quorate.ReplicaSetID) (quorate.BoundsVersion, error)
}

// ClientMeta is the metadata client as a Meta.
type ClientMeta struct{ *metasvc.Client }

// TenantMap returns a tenant with the map of the same version.
func (m ClientMeta) TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error) {
	name, found := m.TenantName(id)
	if found {
		t, current, found, err := m.Client.TenantMap(ctx, name)
		if err != nil {
			return metasvc.Tenant{}, nil, err
		}
		if found && t.ID == id { // else deleted, and perhaps created again since
			return t, current, nil
		}
	}
	return metasvc.Tenant{}, nil, quorate.Errorf(quorate.NotFound, "tenant %v does not exist", id)
}
