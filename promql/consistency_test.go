package promql_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

// consistentStore notes by which consistency it is read.
type consistentStore struct {
	promql.Queryable
	note func()
}

func (s consistentStore) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	s.note()
	return s.Queryable.Querier(ctx, tenant, mint, maxt)
}

func (s consistentStore) ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	s.note()
	return s.Queryable.ChunkQuerier(ctx, tenant, mint, maxt)
}

func (s consistentStore) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	s.note()
	return s.Queryable.ExemplarQuerier(ctx, tenant)
}

func (s consistentStore) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, error) {
	s.note()
	return s.Queryable.Metadata(ctx, tenant, family)
}

func (s consistentStore) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, error) {
	s.note()
	return s.Queryable.Stats(ctx, tenant, label, limit)
}

func TestARequestIsReadAtTheConsistencyItNames(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := serve(t, func(c *promql.Config) {
		under := c.Queryable
		c.Consistent = func(of quorate.Consistency) promql.Queryable {
			return consistentStore{under, func() {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, of.String())
			}}
		}
		c.Queryable = consistentStore{under, func() {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, "default")
		}}
	})
	take := func() []string {
		mu.Lock()
		defer mu.Unlock()
		all := slices.Compact(slices.Clone(seen))
		seen = nil
		return all
	}
	for _, path := range []string{
		"/query?query=up", "/query_range?query=up&start=1&end=2&step=1", "/series?match[]=up", "/labels", "/label/job/values",
		"/query_exemplars?query=up&start=1&end=2", "/metadata", "/status/tsdb",
	} {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		for given, want := range map[string]string{"": "default", "default": "default", "strong": "strong", "stale": "stale"} {
			for way, ask := range map[string]func() *reply{
				"header":    func() *reply { return s.get(t, "/api/v1"+path, promql.ConsistencyHeader, given) },
				"parameter": func() *reply { return s.get(t, "/api/v1"+path+join+"consistency="+given) },
			} {
				r := ask()
				if got := take(); r.code != http.StatusOK || !slices.Equal(got, []string{want}) {
					t.Errorf("%s with %q in the %s: %d, read at %v, want %s", path, given, way, r.code, got, want)
				}
			}
		}
	}
}

func TestAFormNamesAConsistency(t *testing.T) {
	var seen []quorate.Consistency
	s := serve(t, func(c *promql.Config) {
		under := c.Queryable
		c.Consistent = func(of quorate.Consistency) promql.Queryable {
			seen = append(seen, of)
			return under
		}
	})
	for _, r := range []*reply{
		s.post(t, "/api/v1/query", url.Values{"query": {"vector(1)"}, "consistency": {"stale"}}),
		s.post(t, "/api/v1/label/job/values", url.Values{"consistency": {"strong"}}),
	} {
		if r.code != http.StatusOK {
			t.Errorf("answer is %d %s", r.code, r.body)
		}
	}
	if want := []quorate.Consistency{quorate.ConsistencyStale, quorate.ConsistencyStrong}; !slices.Equal(seen, want) {
		t.Errorf("read at %v, want %v", seen, want)
	}
}

func TestAConsistencyThatIsNoneIsRefused(t *testing.T) {
	s := serve(t)
	s.get(t, "/api/v1/query?query=up&consistency=eventual").refuses(t, http.StatusBadRequest, "bad_data", `"eventual" is none of default, strong and stale`)
	s.get(t, "/api/v1/query?query=up", promql.ConsistencyHeader, "STRONG").refuses(t, http.StatusBadRequest, "bad_data", "default, strong and stale")
	s.get(t, "/api/v1/query?query=up&consistency=strong", promql.ConsistencyHeader, "stale").refuses(t, http.StatusBadRequest, "bad_data", "two consistencies")
	s.get(t, "/api/v1/query?query=up&consistency=strong").refuses(t, http.StatusBadRequest, "bad_data", "consistency strong is not offered")
	if r := s.get(t, "/api/v1/query?query=up&consistency=default"); r.code != http.StatusOK {
		t.Errorf("answer is %d %s", r.code, r.body)
	}
}
