package promql_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

// admin notes what it is asked for.
type admin struct {
	asked   []string
	failure error
}

func (a *admin) DeleteSeries(_ context.Context, tenant quorate.TenantID, mint, maxt int64, matchers ...*labels.Matcher) error {
	from, to := fmt.Sprint(mint), fmt.Sprint(maxt)
	if mint < math.MinInt64/2 {
		from = "ever"
	}
	if maxt > math.MaxInt64/2 {
		to = "ever"
	}
	a.asked = append(a.asked, fmt.Sprintf("delete of tenant %v from %s to %s: %v", tenant, from, to, matchers))
	return a.failure
}

func (a *admin) CleanTombstones(_ context.Context, tenant quorate.TenantID) error {
	a.asked = append(a.asked, fmt.Sprintf("clean tenant %v", tenant))
	return a.failure
}

// expects fails the test unless exactly this was asked for since the last call.
func (a *admin) expects(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(a.asked, want) {
		t.Errorf("asked for\n%q\nwant\n%q", a.asked, want)
	}
	a.asked = nil
}

func withAdmin(a *admin, enable bool) func(*promql.Config) {
	return func(c *promql.Config) { c.Admin, c.EnableAdmin = a, enable }
}

func TestDeleteSeriesTakesUpstreamsParameters(t *testing.T) {
	a := &admin{}
	s := serve(t, withAdmin(a, true))
	const path = "/api/v1/admin/tsdb/delete_series"
	for query, want := range map[string][]string{
		"match[]=up": {`delete of tenant 1 from ever to ever: [__name__="up"]`},
		"match[]=up{job=~%22a.*%22}&start=1.5&end=1970-01-01T00:00:03Z": {
			`delete of tenant 1 from 1500 to 3000: [job=~"a.*" __name__="up"]`,
		},
		"match[]=up&match[]={job!=%22a%22}&end=2": {
			`delete of tenant 1 from ever to 2000: [__name__="up"]`,
			`delete of tenant 1 from ever to 2000: [job!="a"]`,
		},
		"match[]=up&start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z": {
			`delete of tenant 1 from ever to ever: [__name__="up"]`,
		},
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			r := s.do(t, method, path+"?"+query, "")
			if r.code != http.StatusNoContent || r.body != "" {
				t.Errorf("%s ?%s is %d %q, want an empty 204", method, query, r.code, r.body)
			}
			a.expects(t, want...)
		}
	}
	if r := s.post(t, path, url.Values{"match[]": {"up"}}); r.code != http.StatusNoContent {
		t.Errorf("a form is answered %d %s", r.code, r.body)
	}
	a.expects(t, `delete of tenant 1 from ever to ever: [__name__="up"]`)
	if r := s.get(t, path+"?match[]=up"); r.code != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %d, want 405", r.code)
	}
	a.expects(t)
}

func TestNothingIsDeletedByARequestWithAnErrorInIt(t *testing.T) {
	a := &admin{}
	s := serve(t, withAdmin(a, true))
	for query, says := range map[string]string{
		"":                        "no match[] parameter provided",
		"match[]=up&match[]=up{":  "unexpected end of input",
		"match[]=up&start=monday": `invalid parameter "start": invalid time value for 'start': cannot parse "monday" to a valid timestamp`,
		"match[]=up&end=x":        `invalid parameter "end"`,
	} {
		s.do(t, http.MethodPost, "/api/v1/admin/tsdb/delete_series?"+query, "").refuses(t, http.StatusBadRequest, "bad_data", says)
	}
	a.expects(t)
}

func TestAdminEndpointsSpeakForOneTenant(t *testing.T) {
	a := &admin{}
	s := serve(t, multiTenant, withAdmin(a, true))
	of := func(tenant string) []string { return []string{"X-Scope-OrgID", tenant} }
	for _, path := range []string{"/admin/tsdb/delete_series?match[]=up", "/admin/tsdb/clean_tombstones"} {
		for _, prefix := range []string{promql.Prefix, promql.MimirPrefix} {
			for _, tenant := range []string{"green", "nobody"} {
				if r := s.do(t, http.MethodPost, prefix+path, "", of(tenant)...); r.code != http.StatusNoContent || r.body != "" {
					t.Errorf("%s for %s is %d %q, want an empty 204", path, tenant, r.code, r.body)
				}
			}
			s.do(t, http.MethodPost, prefix+path, "").refuses(t, http.StatusBadRequest, "bad_data", "X-Scope-OrgID is missing")
		}
	}
	a.expects(t,
		`delete of tenant 2 from ever to ever: [__name__="up"]`, `delete of tenant 2 from ever to ever: [__name__="up"]`,
		"clean tenant 2", "clean tenant 2")
}

func TestTheKindOfAnAdminErrorDecidesTheStatus(t *testing.T) {
	a := &admin{}
	s := serve(t, withAdmin(a, true))
	for _, c := range []struct {
		kind       quorate.ErrorKind
		code       int
		errorType  string
		retryAfter string
	}{
		{quorate.Unavailable, http.StatusServiceUnavailable, "unavailable", "1"},
		{quorate.Invalid, http.StatusBadRequest, "bad_data", ""},
		{quorate.Internal, http.StatusInternalServerError, "internal", ""},
	} {
		a.failure = quorate.Errorf(c.kind, "reason")
		for _, path := range []string{"/api/v1/admin/tsdb/delete_series?match[]=up&match[]=down", "/api/v1/admin/tsdb/clean_tombstones"} {
			r := s.do(t, http.MethodPost, path, "")
			r.refuses(t, c.code, c.errorType, "reason")
			if got := r.header.Get("Retry-After"); got != c.retryAfter {
				t.Errorf("Retry-After is %q, want %q", got, c.retryAfter)
			}
		}
		a.expects(t, `delete of tenant 1 from ever to ever: [__name__="up"]`, "clean tenant 1") // and no second selector
	}
}

func TestSnapshotsAreNotOffered(t *testing.T) {
	s := serve(t, withAdmin(&admin{}, true))
	s.do(t, http.MethodPost, "/api/v1/admin/tsdb/snapshot", "").refuses(t, http.StatusNotFound, "not_found", "export")
}

func TestAdminEndpointsAreOffUnlessEnabledAndAlwaysOnTheirOwnHandler(t *testing.T) {
	a := &admin{}
	s := serve(t, withAdmin(a, false))
	paths := []string{"/api/v1/admin/tsdb/delete_series?match[]=up", "/api/v1/admin/tsdb/clean_tombstones", "/prometheus/api/v1/admin/tsdb/clean_tombstones"}
	for _, path := range append(paths, "/api/v1/admin/tsdb/snapshot") {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			s.do(t, method, path, "").refuses(t, http.StatusServiceUnavailable, "unavailable", "admin APIs disabled")
		}
	}
	a.expects(t)
	s.Server = httptest.NewServer(s.api.AdminHandler())
	defer s.Server.Close()
	for _, path := range paths {
		if r := s.do(t, http.MethodPost, path, ""); r.code != http.StatusNoContent {
			t.Errorf("%s of the admin handler is %d %s, want 204", path, r.code, r.body)
		}
	}
	a.expects(t, `delete of tenant 1 from ever to ever: [__name__="up"]`, "clean tenant 1", "clean tenant 1")
	if r := s.get(t, "/api/v1/query?query=1"); r.code != http.StatusNotFound {
		t.Errorf("the admin handler answers a query with %d", r.code)
	}
}
