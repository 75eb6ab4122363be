package promql

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/quorate/quorate"
)

// Admin deletes what a tenant has stored. It is safe for concurrent use, and
// its errors carry a quorate.ErrorKind.
type Admin interface {
	// DeleteSeries deletes the tenant's samples of the closed range [mint,
	// maxt], in milliseconds since the epoch, of the series that match all
	// matchers. When it returns nil, no query shows them any more.
	DeleteSeries(ctx context.Context, tenant quorate.TenantID, mint, maxt int64, matchers ...*labels.Matcher) error
	// CleanTombstones frees the space of what was deleted, and returns when
	// that is done.
	CleanTombstones(ctx context.Context, tenant quorate.TenantID) error
}

// adminPath is where Prometheus has these endpoints, below Prefix.
const adminPath = "/admin/tsdb"

// AdminHandler answers the endpoints of Prometheus' TSDB admin API, under
// Prefix and MimirPrefix, whatever Config.EnableAdmin says, for a listener that
// only operators reach. Everything else it answers with 404.
func (a *API) AdminHandler() http.Handler {
	endpoints := http.NewServeMux()
	a.adminRoutes(endpoints, a.config.Admin != nil)
	mux := http.NewServeMux()
	for _, prefix := range []string{Prefix, MimirPrefix} {
		mux.Handle(prefix+adminPath+"/", http.StripPrefix(prefix, endpoints))
	}
	return impatient(mux, a.config.WriteStall)
}

// adminRoutes answers the admin endpoints itself, since upstream's handlers
// have no context for CleanTombstones, and so no tenant, and would make a
// snapshot's directory here.
func (a *API) adminRoutes(mux *http.ServeMux, enabled bool) {
	for path, h := range map[string]http.HandlerFunc{
		adminPath + "/delete_series":    a.serveDeleteSeries,
		adminPath + "/clean_tombstones": a.serveCleanTombstones,
		adminPath + "/snapshot":         a.serveSnapshot,
	} {
		if !enabled {
			h = func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, errNoAdmin()) }
		}
		wrapped := a.endpoint(endpointName(path), a.likeUpstream(h))
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			mux.HandleFunc(method+" "+path, wrapped)
		}
	}
}

// serveDeleteSeries takes upstream's parameters: match[] selects series, and
// start and end bound the time that is deleted, all of it by default. It
// answers when all is deleted.
func (a *API) serveDeleteSeries(w http.ResponseWriter, r *http.Request) {
	request, err := a.parseDelete(r)
	if err != nil {
		a.refuse(w, err)
		return
	}
	tenant, err := tenantOf(r.Context())
	for _, matchers := range request.selectors {
		if err != nil || !tenant.Found {
			break
		}
		err = a.config.Admin.DeleteSeries(r.Context(), tenant.ID, request.mint, request.maxt, matchers...)
	}
	a.done(w, err)
}

// serveCleanTombstones answers when the space is free.
func (a *API) serveCleanTombstones(w http.ResponseWriter, r *http.Request) {
	tenant, err := tenantOf(r.Context())
	if err == nil && tenant.Found {
		err = a.config.Admin.CleanTombstones(r.Context(), tenant.ID)
	}
	a.done(w, err)
}

// serveSnapshot says that there are no snapshots: they would be files of all
// tenants, of this node alone.
func (a *API) serveSnapshot(w http.ResponseWriter, _ *http.Request) {
	a.refuse(w, quorate.Errorf(quorate.NotFound, "snapshots are not offered by this server: use the export command"))
}

// done answers as upstream does where there is nothing to say.
func (a *API) done(w http.ResponseWriter, err error) {
	if err != nil {
		a.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// deleteRequest are the parameters of delete_series.
type deleteRequest struct {
	mint, maxt int64
	selectors  [][]*labels.Matcher
}

// parseDelete reads all parameters before anything is deleted. Its error is of
// kind Invalid and, where upstream has one for it, of upstream's text.
func (a *API) parseDelete(r *http.Request) (d deleteRequest, err error) {
	if err := r.ParseForm(); err != nil {
		return d, quorate.Errorf(quorate.Invalid, "error parsing form values: %w", err)
	}
	if len(r.Form["match[]"]) == 0 {
		return d, quorate.Errorf(quorate.Invalid, "no match[] parameter provided")
	}
	if d.mint, err = timeParam(r, "start", apiv1.MinTime); err != nil {
		return d, err
	}
	if d.maxt, err = timeParam(r, "end", apiv1.MaxTime); err != nil {
		return d, err
	}
	for _, selector := range r.Form["match[]"] {
		matchers, err := a.parser.ParseMetricSelector(selector)
		if err != nil {
			return d, quorate.Errorf(quorate.Invalid, "invalid parameter %q: %w", "match[]", err)
		}
		d.selectors = append(d.selectors, matchers)
	}
	return d, nil
}

// timeParam reads a parameter that is a time, in milliseconds since the epoch.
func timeParam(r *http.Request, name string, absent time.Time) (int64, error) {
	s := r.FormValue(name)
	if s == "" {
		return timestamp.FromTime(absent), nil
	}
	t, err := parseTime(s)
	if err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "invalid parameter %q: invalid time value for '%s': %w", name, name, err)
	}
	return timestamp.FromTime(t), nil
}

// parseTime reads a time as upstream's API does, which does not export it:
// seconds since the epoch with decimals, RFC 3339, or the text of one of its
// own bounds, whose years the standard library prints and does not read.
func parseTime(s string) (time.Time, error) {
	if t, err := strconv.ParseFloat(s, 64); err == nil {
		seconds, fraction := math.Modf(t)
		fraction = math.Round(fraction*1000) / 1000
		return time.Unix(int64(seconds), int64(fraction*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, bound := range []time.Time{apiv1.MinTime, apiv1.MaxTime} {
		if s == bound.Format(time.RFC3339Nano) {
			return bound, nil
		}
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}
