package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/metasvc"
)

// adminAPI serves /api/v1/admin/: what an operator has done at once that time
// would do, or cannot be left to tenants. Answers have the form of Prometheus'
// own API: {"status":"success","data":…}, or "error" with errorType and error.
type adminAPI struct {
	lifecycle *lifecycle.Manager
	client    *metasvc.Client
	now       func() time.Time
	logger    *slog.Logger
}

// register adds the endpoints to a listener's.
func (a *adminAPI) register(mux *http.ServeMux) {
	a.serve(mux, map[string]func(*http.Request) (any, error){
		"POST /api/v1/admin/flush":             a.flush,
		"POST /api/v1/admin/seal":              a.seal,
		"POST /api/v1/admin/tenants/retention": a.setRetention,
		"GET /api/v1/admin/sets":               a.sets,
	})
}

// serve adds endpoints to a listener's.
func (a *adminAPI) serve(mux *http.ServeMux, endpoints map[string]func(*http.Request) (any, error)) {
	for pattern, serve := range endpoints {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			data, err := serve(r)
			a.respond(w, r, data, err)
		})
	}
}

// adminAnswer is the form of every answer.
type adminAnswer struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (a *adminAPI) respond(w http.ResponseWriter, r *http.Request, data any, err error) {
	code, answer := http.StatusOK, adminAnswer{Status: "success", Data: data}
	if err != nil {
		code, answer = adminFailure(err)
		if code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
	}
	if r.Method != http.MethodGet {
		a.logger.Info("admin request", "path", r.URL.Path, "query", r.URL.RawQuery, "code", code, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client may be gone by now; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(answer)
}

// adminFailure says a failure in Prometheus' vocabulary.
func adminFailure(err error) (code int, answer adminAnswer) {
	code, kind := http.StatusInternalServerError, "internal"
	switch quorate.KindOf(err) {
	case quorate.Invalid, quorate.TooLarge, quorate.Unsupported:
		code, kind = http.StatusBadRequest, "bad_data"
	case quorate.NotFound:
		code, kind = http.StatusNotFound, "not_found"
	case quorate.Limited, quorate.Unavailable:
		code, kind = http.StatusServiceUnavailable, "unavailable"
	case quorate.Internal:
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			code, kind = http.StatusServiceUnavailable, "timeout"
		}
	}
	return code, adminAnswer{Status: "error", ErrorType: kind, Error: err.Error()}
}

// flushed is what a flush did.
type flushed struct {
	Sets    int     `json:"sets"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// flush flushes everything of this node that is not in files yet, the metadata
// too.
func (a *adminAPI) flush(r *http.Request) (any, error) {
	report, err := a.lifecycle.FlushAll(r.Context())
	if err != nil {
		return nil, err
	}
	return flushed{Sets: report.Sets, Bytes: report.Bytes, Seconds: report.Took.Seconds()}, nil
}

// setRetention sets how old one tenant's samples may get, where that is less
// than its policy's retention; 0s leaves it to the policy.
func (a *adminAPI) setRetention(r *http.Request) (any, error) {
	name, text := r.FormValue("tenant"), r.FormValue("retention")
	if name == "" || text == "" {
		return nil, quorate.Errorf(quorate.Invalid, "the parameters tenant and retention are both needed, as in tenant=team-a&retention=7d")
	}
	retention, err := model.ParseDuration(text)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "retention %q is not a duration such as 12h or 7d: %w", text, err)
	}
	tenant, found, err := a.client.Tenant(r.Context(), name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, quorate.Errorf(quorate.NotFound, "tenant %q does not exist", name)
	}
	if err := a.client.SetTenantRetention(r.Context(), tenant.ID, time.Duration(retention)); err != nil {
		return nil, err
	}
	return struct {
		Tenant    string `json:"tenant"`
		Retention string `json:"retention"`
	}{name, retention.String()}, nil
}

// parseTimeout reads ?timeout=, how long a request may wait; without it that is
// usual.
func parseTimeout(r *http.Request, usual time.Duration) (time.Duration, error) {
	text := r.FormValue("timeout")
	if text == "" {
		return usual, nil
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "timeout %q is not a duration such as 30s or 5m: %w", text, err)
	}
	return time.Duration(d), nil
}

// parseInstant reads a time as Prometheus' API does: RFC 3339, or seconds since
// the epoch, with a fraction or without. It returns milliseconds.
func parseInstant(name, text string) (int64, error) {
	if text == "" {
		return 0, quorate.Errorf(quorate.Invalid, "the parameter %s is missing: RFC 3339 or unix seconds", name)
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(seconds) < math.MaxInt64/1000 {
		return int64(math.Round(seconds * 1000)), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "%s %q is neither RFC 3339 nor unix seconds", name, text)
	}
	return at.UnixMilli(), nil
}
