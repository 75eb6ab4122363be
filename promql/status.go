package promql

import (
	"net/http"
	"runtime"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/util/annotations"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/quorate/quorate"
)

// APIVersion is the version of Prometheus whose API and engine answer here.
const APIVersion = "3.15.0"

// The bounds of limit= at status/tsdb, upstream's.
const (
	defaultStatsLimit = 10
	maxStatsLimit     = 10_000
)

// buildInfo is upstream's answer with two fields more. It has no "features",
// by which Grafana would take this server for a Mimir with a ruler's API.
type buildInfo struct {
	Version     string `json:"version"`
	Revision    string `json:"revision"`
	Branch      string `json:"branch"`
	BuildUser   string `json:"buildUser"`
	BuildDate   string `json:"buildDate"`
	GoVersion   string `json:"goVersion"`
	Application string `json:"application"`
	// ApplicationVersion is Quorate's own version.
	ApplicationVersion string `json:"applicationVersion"`
}

func (a *API) serveBuildInfo(w http.ResponseWriter, _ *http.Request) {
	a.respond(w, buildInfo{
		Version:            APIVersion,
		Revision:           a.config.Build.Revision,
		BuildDate:          a.config.Build.Date,
		GoVersion:          runtime.Version(),
		Application:        "Quorate",
		ApplicationVersion: a.config.Build.Version,
	}, nil)
}

// serveTSDBStatus answers status/tsdb for the tenant's open sets. Chunks are not
// what Quorate keeps samples in, so their count is 0.
func (a *API) serveTSDBStatus(w http.ResponseWriter, r *http.Request) {
	limit, err := intParam(r, "limit", defaultStatsLimit)
	if err != nil || limit < 1 || limit > maxStatsLimit {
		a.refuse(w, quorate.Errorf(quorate.Invalid, "limit %q is not a number from 1 to %d", r.FormValue("limit"), maxStatsLimit))
		return
	}
	stats, warnings, err := a.stats(r, limit)
	if err != nil {
		a.refuse(w, err)
		return
	}
	postings := stats.IndexPostingStats
	a.respond(w, apiv1.TSDBStatus{
		HeadStats: apiv1.HeadStats{
			NumSeries:     stats.NumSeries,
			MinTime:       stats.MinTime,
			MaxTime:       stats.MaxTime,
			NumLabelPairs: postings.NumLabelPairs,
		},
		SeriesCountByMetricName:     apiv1.TSDBStatsFromIndexStats(postings.CardinalityMetricsStats),
		LabelValueCountByLabelName:  apiv1.TSDBStatsFromIndexStats(postings.CardinalityLabelStats),
		MemoryInBytesByLabelName:    apiv1.TSDBStatsFromIndexStats(postings.LabelValueStats),
		SeriesCountByLabelValuePair: apiv1.TSDBStatsFromIndexStats(postings.LabelValuePairsStats),
	}, warnings)
}

func (*API) stats(r *http.Request, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	stats := &tsdb.Stats{}
	of, err := readOf(r.Context())
	warnings := of.tenant.Warnings
	if err == nil && of.tenant.Found {
		stats, warnings, err = of.source.Stats(r.Context(), of.tenant.ID, labels.MetricName, limit)
	}
	if err != nil {
		return nil, nil, err
	}
	if stats.IndexPostingStats == nil {
		stats.IndexPostingStats = &index.PostingsStats{}
	}
	return stats, warnings, nil
}

// intParam reads a whole number from a request's parameters.
func intParam(r *http.Request, name string, absent int) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "%s must be a number, not %q", name, s)
	}
	return n, nil
}
