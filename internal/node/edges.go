package node

import (
	"fmt"
	"net/http"

	"github.com/prometheus/common/model"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/tenancy"
	"github.com/quorate/quorate/promql"
	"github.com/quorate/quorate/remote"
)

// edges builds the write and query edges over the router and returns what the
// public listener serves.
func (n *Node) edges() (http.Handler, error) {
	s := n.settings
	who := tenancy.Config{Enabled: s.MultiTenancy.Enabled, Header: s.MultiTenancy.Header}
	tenants := newTenantNames(n.meta.client)
	write, err := remote.NewHandler(remote.Config{
		Tenancy: who,
		Limits: remote.LabelLimits{
			MaxLabels:     s.Write.MaxLabelNames,
			MaxNameBytes:  int(s.Write.MaxLabelNameBytes),
			MaxValueBytes: int(s.Write.MaxLabelValueBytes),
			SortUnsorted:  s.Write.SortUnsortedLabels,
		},
		MaxWireBytes:     int64(s.Write.MaxWireBytes),
		MaxDecodedBytes:  int64(s.Write.MaxDecodedBytes),
		MaxInflightBytes: int64(s.Write.MaxInFlightBytes),
		Logger:           n.logger,
		Registerer:       n.options.Registry,
		Now:              n.options.Now,
	}, n.router, tenants)
	if err != nil {
		return nil, fmt.Errorf("write edge: %w", err)
	}
	n.queries, err = promql.New(promql.Config{
		Queryable:   n.router,
		Consistent:  func(c quorate.Consistency) promql.Queryable { return n.router.Reads(c) },
		Tenants:     tenants,
		Admin:       n.router,
		EnableAdmin: s.HTTP.EnableAdminAPI,
		Tenancy:     who,
		Logger:      n.logger,
		Registerer:  n.options.Registry,
		Gatherer:    n.options.Registry,
		Build:       promql.Build{Version: n.options.Version},
		Engine: promql.EngineConfig{
			Timeout:     s.Query.Timeout,
			MaxSamples:  s.Query.MaxSamples,
			Lookback:    s.Query.Lookback,
			Concurrency: s.Query.Concurrency,
		},
		Retention: model.Duration(s.Buckets.Retention).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("query edge: %w", err)
	}
	return n.publicHandler(n.options.Registry, write, n.queries.Register), nil
}
