package promql_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

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

func (s consistentStore) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	s.note()
	return s.Queryable.Metadata(ctx, tenant, family)
}

func (s consistentStore) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
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

// warningStore warns with every answer.
type warningStore struct {
	promql.Queryable
	warnings annotations.Annotations
}

func (s warningStore) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	q, err := s.Queryable.ExemplarQuerier(ctx, tenant)
	return warningExemplars{q, s.warnings}, err
}

func (s warningStore) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	all, _, err := s.Queryable.Metadata(ctx, tenant, family)
	return all, s.warnings, err
}

func (s warningStore) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	stats, _, err := s.Queryable.Stats(ctx, tenant, label, limit)
	return stats, s.warnings, err
}

type warningExemplars struct {
	storage.ExemplarQuerier
	warnings annotations.Annotations
}

func (q warningExemplars) Warnings() annotations.Annotations { return q.warnings }

// What there is to warn of is in the answer, or in its header where upstream's
// answer has no place for it.
func TestAnswersCarryWhatThereIsToWarnOf(t *testing.T) {
	warnings := annotations.New().Add(errors.New("map_unconfirmed: for a test"))
	s := serve(t, multiTenant, func(c *promql.Config) { c.Queryable = warningStore{c.Queryable, warnings} })
	s.tenants.warnings = warnings
	for _, path := range []string{
		"/query?query=up", "/query_range?query=up&start=1&end=2&step=1", "/series?match[]=up", "/labels", "/label/job/values",
		"/query_exemplars?query=up&start=1&end=2", "/metadata", "/status/tsdb",
	} {
		for _, tenant := range []string{"green", "unknown"} {
			if tenant == "green" && !strings.HasPrefix(path, "/query_exemplars") && !strings.HasPrefix(path, "/metadata") && !strings.HasPrefix(path, "/status") {
				continue // the store's own series carry theirs, in a test of the router
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+promql.Prefix+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Scope-OrgID", tenant)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("%s of tenant %s: %d %s, %v", path, tenant, answer.StatusCode, body, err)
			}
			var envelope struct{ Warnings []string }
			if err := json.Unmarshal(body, &envelope); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			got := slices.Concat(envelope.Warnings, answer.Header.Values(promql.WarningHeader))
			if want := []string{"map_unconfirmed: for a test"}; !slices.Equal(got, want) {
				t.Errorf("%s of tenant %s warns of %q, want %q", path, tenant, got, want)
			}
		}
	}
}

// A deletion that found no tenant has deleted nothing: it may be there.
func TestADeletionOfATenantThatMayBeThereIsUnavailable(t *testing.T) {
	s := serve(t, multiTenant, func(c *promql.Config) { c.Admin, c.EnableAdmin = &admin{}, true })
	for _, tc := range []struct {
		warnings annotations.Annotations
		want     int
	}{{nil, http.StatusNoContent}, {annotations.New().Add(errors.New("map_unconfirmed")), http.StatusServiceUnavailable}} {
		s.tenants.warnings = tc.warnings
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+promql.Prefix+"/admin/tsdb/delete_series?match[]=up", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Scope-OrgID", "unknown")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != tc.want {
			t.Errorf("with warnings %v it is answered with %d, want %d", tc.warnings, answer.StatusCode, tc.want)
		}
	}
}
