package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
)

// Queryable is what the query edge reads from. All methods are safe for
// concurrent use, and their errors carry a quorate.ErrorKind; a plain error
// counts as Internal. Times are in milliseconds since the Unix epoch.
type Queryable interface {
	// Querier opens one pinned view per ReplicaSet that the closed range
	// [mint, maxt] touches, merged over the sets. Its selects may run
	// concurrently and all see that view. ctx bounds the opening and every
	// read of the querier. Close releases the views; label names returned
	// before must stay valid after it, since upstream's handler of /labels
	// closes its querier before it writes its answer.
	Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error)
	// ChunkQuerier is Querier for encoded chunks: what streamed remote read
	// asks. Chunks must be in one of Prometheus' own encodings.
	ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error)
	// ExemplarQuerier opens a view for one Select, bounded by ctx. If the
	// result is an io.Closer, it is closed after that Select, and if it has a
	// method Warnings() annotations.Annotations, what that returns by then goes
	// with the answer.
	ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error)
	// Metadata returns what is known of a metric family, or of all families
	// when family is empty: one entry each.
	Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error)
	// Stats returns the cardinality of what the tenant has in open sets: the
	// limit largest of each statistic, series counted by the values of label.
	Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error)
}

// Tenant is what is known of a tenant's name.
type Tenant struct {
	// ID is the tenant's number. Found tells whether there is such a tenant.
	ID    quorate.TenantID
	Found bool
	// Warnings tell, of one that was not found, why it may be there all the
	// same: the metadata could not be asked.
	Warnings annotations.Annotations
}

// Tenants knows the tenants that exist. It is safe for concurrent use.
type Tenants interface {
	// Tenant returns what a read of a consistency is to know of a tenant's
	// name. A strong one is told for certain, or gets an error of kind
	// Unavailable.
	Tenant(ctx context.Context, name string, consistency quorate.Consistency) (Tenant, error)
}

// ForTenant returns upstream's view of one tenant's data: what an evaluation
// outside of a request reads from.
func ForTenant(source Queryable, tenant quorate.TenantID) storage.SampleAndChunkQueryable {
	of := reading{source, Tenant{ID: tenant, Found: true}}
	return &queryable{of: func(context.Context) (reading, error) { return of, nil }}
}
