package router

import (
	"context"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// Meta is what the router needs of the metadata client.
type Meta interface {
	// TenantMap returns a tenant's record and the newest map of the same
	// version; its error is of kind NotFound for a number that was never given
	// or is gone.
	TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error)
	// ConfirmMap makes the map as new as everything committed before the call.
	ConfirmMap(ctx context.Context) error
	// MapCurrent tells whether the map lease holds (PROTOCOL 7).
	MapCurrent() bool
	// AwaitMap waits until the map is another than seen and returns it.
	AwaitMap(ctx context.Context, seen *metasvc.Map) (*metasvc.Map, error)
	// ConfirmBounds asks the metadata leader for a set's bounds version.
	ConfirmBounds(ctx context.Context, set quorate.ReplicaSetID) (quorate.BoundsVersion, error)

	// EnsureBucket returns the policy's open bucket that covers ts (ms),
	// making it where need be. Its error is Invalid for time that no bucket
	// may cover and Unavailable where a budget or a leader is missing.
	EnsureBucket(ctx context.Context, policy quorate.PolicyID, ts int64) (*metasvc.Bucket, error)
	// EnsureOverlay returns the overlay that takes the late samples of a
	// sealed set, making it where need be.
	EnsureOverlay(ctx context.Context, sealed quorate.ReplicaSetID) (*metasvc.ReplicaSet, error)
	// RequestSeal has open sets sealed now.
	RequestSeal(ctx context.Context, sets []quorate.ReplicaSetID) error
	// Delete records a deletion on sealed sets and returns when it is
	// effective on every node (PROTOCOL 19).
	Delete(ctx context.Context, d wire.Deletion, sets []quorate.ReplicaSetID) (uint64, error)
}

// ClientMeta is the metadata client as a Meta.
type ClientMeta struct{ *metasvc.Client }

var _ Meta = ClientMeta{}

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
