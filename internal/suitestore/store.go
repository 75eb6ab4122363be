package suitestore

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"testing"

	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/promql"
)

// AppendFunc stores a write request of a tenant. The request is valid during
// the call. The router's Append is one.
type AppendFunc func(ctx context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error)

// Config is what a storage is dressed up from.
type Config struct {
	// Append takes what the suite loads. After it returns, a query must find it.
	Append AppendFunc
	// Queryable answers what the suite asks.
	Queryable promql.Queryable
	// FreshTenant returns a tenant that has nothing stored yet.
	FreshTenant func() quorate.TenantID
}

// Opener returns the function by which the suite opens its storages: each the
// data of a fresh tenant. Closing one closes nothing of what is behind.
func Opener(c Config) func(testing.TB) storage.Storage {
	hi, lo := maphash.MakeSeed(), maphash.MakeSeed()
	return func(testing.TB) storage.Storage {
		tenant := c.FreshTenant()
		return &store{
			SampleAndChunkQueryable: promql.ForTenant(c.Queryable, tenant),
			tenant:                  tenant,
			append:                  c.Append,
			key: func(labels []byte) wire.SeriesKey {
				return wire.SeriesKey{Hi: maphash.Bytes(hi, labels), Lo: maphash.Bytes(lo, labels)}
			},
		}
	}
}

// store is one tenant's data as a storage.Storage.
type store struct {
	storage.SampleAndChunkQueryable
	tenant quorate.TenantID
	append AppendFunc
	// key hashes canonical labels as one sender's bytes would be; its seeds
	// are the opener's, so that a series keeps its key for ever.
	key func(labels []byte) wire.SeriesKey
}

// AppenderV2 collects rows and appends them as one request at Commit.
func (s *store) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &appender{ctx: ctx, store: s, byLabels: map[string]*rows{}}
}

// Appender refuses everything: the suite loads by AppenderV2.
func (s *store) Appender(context.Context) storage.Appender { return onlyV2{} }

// StartTime is before every sample.
func (s *store) StartTime() (int64, error) { return math.MinInt64, nil }

// Close leaves the tenant's data to the storage behind.
func (s *store) Close() error { return nil }

func (s *store) commit(ctx context.Context, req *wire.WriteRequest) error {
	want := wire.WriteResult{Floats: len(req.Values), Histograms: len(req.Histograms), Exemplars: len(req.Exemplars)}
	got, err := s.append(ctx, s.tenant, req)
	if err != nil {
		return fmt.Errorf("append for tenant %s: %w", s.tenant, err)
	}
	got.Duplicates = 0
	if got != want {
		return fmt.Errorf("append for tenant %s stored %+v, want %+v", s.tenant, got, want)
	}
	return nil
}
