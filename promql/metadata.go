package promql

import (
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/util/annotations"
)

// serveMetadata answers metadata for the tenant, with upstream's parameters:
// metric= names one family, limit= bounds the families (negative is no limit),
// limit_per_metric= the entries of each. Upstream may know several entries of a
// family, one per target; here the newest is the only one, so that the last
// parameter is checked and changes nothing.
func (a *API) serveMetadata(w http.ResponseWriter, r *http.Request) {
	limit, err := intParam(r, "limit", -1)
	if err == nil {
		_, err = intParam(r, "limit_per_metric", -1)
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	families, warnings, err := a.metadata(r)
	if err != nil {
		a.refuse(w, err)
		return
	}
	names := slices.Sorted(maps.Keys(families))
	if limit >= 0 && len(names) > limit {
		names = names[:limit]
	}
	data := make(map[string][]metadata.Metadata, len(names))
	for _, name := range names {
		data[name] = []metadata.Metadata{families[name]}
	}
	a.respond(w, data, warnings)
}

func (*API) metadata(r *http.Request) (map[string]metadata.Metadata, annotations.Annotations, error) {
	of, err := readOf(r.Context())
	if err != nil || !of.tenant.Found {
		return nil, of.tenant.Warnings, err
	}
	return of.source.Metadata(r.Context(), of.tenant.ID, r.FormValue("metric"))
}
